"""What the program, its manual pages and its completions say of commands and options is the same, in real shells and for real readers."""

import os
import pathlib
import pty
import re
import select
import subprocess
import tempfile
import termios

import pytest

from umlfs_cli import PATIENCE, ROOT, program, run, succeed

TOOLS = pathlib.Path(__file__).resolve().parent.parent / 'tools'
COMMANDS = re.findall(r'^  ([a-z]+) +[a-z]', succeed('--help').split('\n\n')[2], re.MULTILINE) if 'UMLFS' in os.environ else []
SHELLS = {'bash': 'umlfs', 'zsh': '_umlfs', 'fish': 'umlfs.fish'}

every_command = pytest.mark.parametrize('command', COMMANDS)


def made(name):
    return pathlib.Path(os.environ['UMLFS_HELP']) / name


def flags_of(command):
    """{'-q', '--quiet', ...}: what stands at the start of a line of help."""
    heads = re.findall(r'^  (-\S.*?)(?:  |$)', succeed(command, '--help'), re.MULTILINE)
    return {flag for head in heads for flag in re.findall(r'(?:^|(?<=, ))--?[a-z][a-z-]*', head)} | {'-h', '--help'}


def long_flags_of(command):
    return {flag for flag in flags_of(command) if flag.startswith('--')}


def read_page(name):
    """As a reader sees it, without bold and underlining."""
    text = subprocess.run(['mandoc', '-Tutf8', '-Owidth=200', made(name)], stdout=subprocess.PIPE, check=True).stdout.decode()
    return re.sub('.\b', '', text)


def section(page, name):
    return re.search(rf'^{name}\n(.*?)^(?=\S|\Z)', page, re.MULTILINE | re.DOTALL)[1]


# --- the program's own help --------------------------------------------------------------------------------------

def test_there_are_commands():
    assert {'import', 'mount', 'run'} <= set(COMMANDS)


@pytest.mark.parametrize('words', [[], *([command] for command in COMMANDS)], ids=lambda words: ' '.join(words) or 'umlfs')
def test_help_fits_a_terminal(words):
    assert [line for line in succeed(*words, '--help').split('\n') if len(line) > 80] == []
    assert [line for line in run(*words, '--no-such').stderr.split('\n') if len(line) > 80] == []


@pytest.mark.parametrize('command, told', [
    ('diff', '[--assert GLOB]... SESSION'),     # not of more than one GLOB each: a shell would give SESSION the second
    ('diff', "--assert '/root/** /etc/**'"),
    ('run', 'without it `-- bash` ends at once'),
    ('run', '--share HOST:GUEST[:ro|:rw] a directory of the host in the guest, live; :ro: read-only. Made where the root has none, a change that `umlfs diff` shows'),
    ('run', "--init PATH boot the root's own init; COMMAND is its arguments. Status 0 when it powers the guest off"),
])
def test_help_tells_what_is_easily_taken_wrongly(command, told):
    assert told in ' '.join(succeed(command, '--help').split())


@every_command
def test_options_in_the_help_are_taken(command):
    for flag in flags_of(command):
        assert 'unknown option' not in run(command, flag).stderr


def test_every_option_is_in_the_help():
    seen = 0
    for source in TOOLS.glob('*.c'):
        text = source.read_text()
        taken = {f'--{one or other}' for one, other in
                 re.findall(r'\{\.name = "([a-z-]+)", \.(?:has_arg|val)|WITH\("([a-z-]+)"', text)} - {'--help'}
        commands = re.findall(r'\.name = "([a-z]+)",\s+(?:\.alias = "[a-z]+",\s+)?\.usage', text)
        if taken:
            assert taken <= set().union(*map(long_flags_of, commands)), source
            seen += len(taken)
    assert seen > 30


@pytest.mark.parametrize('tool', ['bench', 'deb', 'demo', 'fuzz', 'setup', 'test'])
def test_the_tools_tell_how_they_are_used_and_do_nothing(tool):
    for flag in '--help', '-h':
        done = subprocess.run([TOOLS / tool, flag], capture_output=True, text=True, check=False, timeout=PATIENCE)
        assert (done.returncode, done.stderr) == (0, ''), done
        assert f'usage: tools/{tool}' in done.stdout and 'set -e' not in done.stdout
    assert subprocess.run([TOOLS / tool, '--no-such'], capture_output=True, check=False, timeout=PATIENCE).returncode != 0


# --- manual pages ------------------------------------------------------------------------------------------------

PAGES = ['umlfs.1', 'umlfs.5', 'mount.fuse.umlfs.8', *(f'umlfs-{command}.1' for command in COMMANDS)]


@pytest.mark.parametrize('name', PAGES)
def test_pages_are_clean(name):
    lint = subprocess.run(['mandoc', '-Tlint', made(name)], capture_output=True, text=True, check=False)
    assert lint.stdout + lint.stderr == ''
    shown = subprocess.run(['man', '--warnings', '-E', 'UTF-8', '-l', '-Tutf8', '-Z', made(name)], capture_output=True, text=True,
                           env=os.environ | {'LC_ALL': 'C.UTF-8', 'MANROFFSEQ': ''}, check=True)
    assert shown.stderr == '' and not re.search('@[a-z]+( [^ @]+)?@', read_page(name))


@every_command
def test_a_page_has_the_options_of_its_command_and_no_others(command):
    page = read_page(f'umlfs-{command}.1')
    told = {flag for line in section(page, 'OPTIONS').split('\n') if re.match(r' {5,7}-\S', line)
            for flag in re.findall(r'(?:^ {5,7}|(?<=, ))(--?[a-z][a-z-]*)', line)}
    assert told == flags_of(command)
    assert set(re.findall(r'--[a-z][a-z-]+', section(page, 'SYNOPSIS'))) <= told


def test_the_first_page_tells_of_every_command():
    assert re.findall(r'^ +umlfs-([a-z]+)\(1\)', section(read_page('umlfs.1'), 'COMMANDS'), re.MULTILINE) == COMMANDS


def test_all_that_import_reads_is_told():
    library = TOOLS.parent / 'fs'
    names = {name for source in library.glob('import_*.c')
             for name in re.findall(r'archive_read_support_(?:filter|format)_([a-z0-9]+)', source.read_text())} - {'raw', 'empty'}
    told = {{'7zip': '7-Zip', 'iso9660': 'ISO 9660'}.get(name, name) for name in names}
    part = re.search(r'^### Import$(.*?)^#', (TOOLS.parent / 'README.md').read_text(), re.MULTILINE | re.DOTALL)[1]
    assert len(told) > 10
    for text in succeed('import', '--help'), read_page('umlfs-import.1'), part:
        assert {name for name in told if not re.search(rf'\b{name}\b', ' '.join(text.split()))} == set()


def test_no_page_refers_to_one_that_is_not_there():
    for name in PAGES:
        for other in re.findall(r'\b((?:umlfs|mount\.fuse\.umlfs)[a-z-]*)\((\d)\)', read_page(name)):
            assert '.'.join(other) in PAGES, name


def test_every_json_key_is_in_the_manual():
    page = section(read_page('umlfs.5'), 'JSON')
    for command in COMMANDS:
        for text in re.findall(r'--json  +(.*?)(?:\n\n|\n  -|\Z)', succeed(command, '--help'), re.DOTALL):
            keys = {key for body in re.findall(r'\{(.*)\}', ' '.join(text.split())) for key in re.findall(r'[a-z_]{2,}', body)}
            prose = set('is to and are or of the kind number seconds values in hexadecimal octal major minor null with not has no'.split())
            assert {key for key in keys - prose if not re.search(rf'\b{key}\b', page)} == set(), command


def test_the_mount_helpers_page_tells_of_its_options():
    page = section(read_page('mount.fuse.umlfs.8'), 'OPTIONS')
    options = re.findall(r'(?:FIELD|PASS)\("([a-z_=]+)', (TOOLS / 'mount_main.c').read_text())
    assert len(options) > 8 and [option for option in options if option not in page] == []


SHELL_SECONDS = 20  # of silence


# --- completion --------------------------------------------------------------------------------------------------

BASH = '''
source "$1"; shift
complete -p umlfs >/dev/null || exit 3
COMP_WORDS=(umlfs "$@"); COMP_CWORD=$#
_umlfs
printf '%s\\n' "${COMPREPLY[@]}"
'''


def zsh_answers(words):
    """What is listed on a terminal when somebody types this and asks for the choices with control-D."""
    line = ' '.join(words)
    setup = (f'fpath=({made("").as_posix()} $fpath); autoload -U compinit; compinit -D -u; '
             'LISTMAX=9999; unsetopt list_types; setopt list_rows_first; zstyle ":completion:*" list-separator --; PS1=re""ady:\n')
    master, slave = pty.openpty()
    termios.tcsetwinsize(slave, (1000, 300))
    with subprocess.Popen(['zsh', '-f', '-i'], stdin=slave, stdout=slave, stderr=slave, start_new_session=True,
                          env=os.environ | {'TERM': 'dumb', 'PATH': shell_path()}) as shell:
        try:
            os.close(slave)
            os.write(master, setup.encode())
            read_until(master, 'ready:')
            os.write(master, f'{line}\x04'.encode())
            text = read_until(master, 'ready:')  # again, below the choices
        finally:
            shell.kill()
            os.close(master)
    return re.findall(r'(?<!\S)[^\s]+', text.partition(line)[2])


def read_until(fd, needle):
    text = ''
    while needle not in text:
        assert select.select([fd], [], [], SHELL_SECONDS)[0], text
        text += os.read(fd, 65536).decode(errors='replace')
    return text


def shell_path():
    return f'{os.path.dirname(program())}:{os.environ["PATH"]}'


def answers(shell, *words, cwd='/'):
    """What a shell offers for the last word. fish makes folders in its home."""
    if shell == 'zsh':
        return zsh_answers(words)
    with tempfile.TemporaryDirectory(prefix='umlfs-home-') as home:
        return answers_of_command(shell, words, cwd, home)


def answers_of_command(shell, words, cwd, home):
    env = os.environ | {'PATH': shell_path(), 'HOME': home}
    env = {name: value for name, value in env.items() if not name.startswith('XDG_')}
    if shell == 'bash':
        command = ['bash', '--norc', '-c', BASH, 'bash', made('umlfs'), *words[1:]]
    else:
        command = ['fish', '--no-config', '-c', f'source {made("umlfs.fish")}; complete -C "{" ".join(words)}"']
    done = subprocess.run(command, capture_output=True, text=True, env=env, cwd=cwd, check=True, timeout=PATIENCE)
    assert done.stderr == ''
    return [line.split('\t')[0] for line in done.stdout.splitlines()]


@pytest.mark.parametrize('shell', SHELLS)
def test_completion_knows_every_command(shell):
    assert set(COMMANDS) <= set(answers(shell, 'umlfs', ''))
    assert 'mount' in answers(shell, 'umlfs', 'mo')


@pytest.mark.parametrize('shell', SHELLS)
@every_command
def test_completion_knows_every_option(shell, command):
    offered = set(answers(shell, 'umlfs', command, '--'))
    assert {word for word in offered if re.fullmatch(r'--[a-z-]+', word) and word != '--'} == long_flags_of(command)


@pytest.mark.parametrize('shell', SHELLS)
def test_completion_knows_what_some_options_take(shell):
    assert {'never', 'on-failure', 'always'} <= set(answers(shell, 'umlfs', 'run', '--keep', ''))
    assert {'posix', 'xattr', 'ro'} <= set(answers(shell, 'umlfs', 'mount', '-o', ''))


@pytest.mark.parametrize('user', ['root' if ROOT else 'ordinary'], indirect=True)
@pytest.mark.parametrize('shell', SHELLS)
def test_completion_knows_snapshots_and_directories(place, shell):
    session = place.mount(place.imported_base()).session
    for name in 'before', 'after':
        place.run('snapshot', session, name)
    for words in ['reset', session], ['delete', session], ['diff', session], ['run', '--snapshot']:
        more = [] if words[0] != 'run' else [session]
        if more and shell == 'zsh' or more and shell == 'fish':
            continue    # they complete at the end of the line
        assert {'before', 'after'} <= set(complete_at(shell, words, more)), words
    assert any('session' in word for word in answers(shell, 'umlfs', 'status', f'{place.path}/ses'))


@pytest.mark.parametrize('user', ['root' if ROOT else 'ordinary'], indirect=True)
@pytest.mark.parametrize('shell', SHELLS)
@pytest.mark.parametrize('command', ['export', 'commit'])
def test_completion_knows_states_of_a_session(place, shell, command):
    session = place.mount(place.imported_base()).session
    for name in 'before', 'after':
        place.run('snapshot', session, name)
    before = '' if shell == 'zsh' else f'{session}@'        # it lists what differs
    assert {f'{before}before', f'{before}after'} <= set(answers(shell, 'umlfs', command, f'{session}@'))
    assert f'{before}before' in answers(shell, 'umlfs', command, f'{session}@be') or shell == 'zsh'
    assert any('session' in word for word in answers(shell, 'umlfs', command, f'{place.path}/ses'))


def test_bash_completes_a_state_although_it_cuts_words_at_it(place):
    """With what readline gives: words cut at '@', of which the last one alone is replaced."""
    session = place.mount(place.imported_base()).session
    place.run('snapshot', session, 'before')
    script = BASH.replace('COMP_WORDS=(umlfs "$@"); COMP_CWORD=$#',
                          'COMP_LINE=$1; shift; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1))')
    for cut, behind in ([session, '@'], ''), ([session, '@', 'be'], 'be'):
        line = f'umlfs export {session}@{behind}'
        done = subprocess.run(['bash', '--norc', '-c', script, 'bash', made('umlfs'), line, 'umlfs', 'export', *cut], check=True,
                              capture_output=True, text=True, env=os.environ | {'PATH': shell_path()})
        assert done.stdout.split() == ['before'], done


def complete_at(shell, words, behind):
    if not behind:
        return answers(shell, 'umlfs', *words, '')
    script = BASH.replace('COMP_CWORD=$#', f'COMP_CWORD={len(words) + 1}')
    done = subprocess.run(['bash', '--norc', '-c', script, 'bash', made('umlfs'), *words, '', *behind], capture_output=True, text=True,
                          env=os.environ | {'PATH': shell_path()}, check=True)
    return done.stdout.split()
