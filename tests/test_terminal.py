"""What commands show on a terminal and nowhere else: colours, and how far they are."""

import fcntl
import os
import pty
import re
import select
import socket
import struct
import subprocess
import termios

import pytest

from umlfs_cli import NO_LEAK_CHECK, PATIENCE, identity, program, write_archive

pytestmark = pytest.mark.parametrize('user', ['ordinary'], indirect=True)

SEQUENCE = re.compile('\x1b\\[[0-9;]*m')
RED, GREEN, YELLOW, CYAN = (f'\x1b[1;3{number}m' for number in (1, 2, 3, 6))
END = '\x1b[0m'
TERMINAL = {'TERM': 'xterm', 'NO_COLOR': ''}
ENTRIES = 200
# As if the disk took 10 ms for each file: so each of these commands takes seconds, as it does with a large base.
SLOWLY = ['strace', '-f', '-qq', '-o', '/dev/null', '-e', 'trace=openat,openat2', '-e', 'inject=openat,openat2:delay_enter=10000']


def read_all(fd):
    """All that comes, until the other side has been closed by all who had it."""
    text = b''
    while select.select([fd], [], [], PATIENCE)[0]:
        try:
            text += os.read(fd, 65536)
        except OSError:     # EIO: that is how a terminal ends
            break
    return text.decode(errors='surrogateescape')


def on_terminal(place, *words, on=('stdout', 'stderr'), env=None, before=()):
    """(exit status, what the terminal shows) of the program with these streams on a terminal; the others are read and dropped."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack('HHHH', 24, 80, 0, 0))
    streams = {name: theirs if name in on else subprocess.DEVNULL for name in ('stdout', 'stderr')}
    env = {name: value for name, value in {**os.environ, **TERMINAL, **(env or {})}.items() if value is not None}
    with subprocess.Popen([*before, program(), *words], stdin=subprocess.DEVNULL, cwd='/', env=env, **streams,
                          **identity(place.user)) as process:
        os.close(theirs)
        shown = read_all(ours)
    os.close(ours)
    return process.returncode, shown.replace('\r\n', '\n')


@pytest.fixture
def session(place):
    """A session with a change of every kind, on a snapshot."""
    mounted = place.mount(place.imported_base())

    def change():
        os.unlink(mounted / 'home/user/notes')
        os.chmod(mounted / 'etc/hostname', 0o600)
        os.rename(mounted / 'home/user/empty', mounted / 'home/user/moved')
        os.mkdir(mounted / 'new')

    place.run('snapshot', mounted.session, 'clean')
    mounted.do(change)
    return mounted.session


# --- colours -----------------------------------------------------------------------------------------------------

def test_diff_colours_its_letters(place, session):
    status, shown = on_terminal(place, 'diff', session)
    assert status == 1 and SEQUENCE.sub('', shown) == run_diff(place, session)
    assert {line.split(' ')[0] for line in shown.splitlines()} == {
        f'{YELLOW}M{END}', f'{RED}D{END}', f'{CYAN}R{END}', f'{GREEN}A{END}'}, shown


def run_diff(place, *words, **env):
    done = subprocess.run([program(), 'diff', *words], capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False,
                          env={**os.environ, **TERMINAL, **env}, **identity(place.user))
    assert (done.returncode, done.stderr) == (1, ''), done
    return done.stdout


@pytest.mark.parametrize('env', [{'NO_COLOR': '1'}, {'TERM': 'dumb'}, {'TERM': None}, {'TERM': ''}],
                         ids=lambda env: ' '.join(f'{name}={value}' for name, value in env.items()))
def test_who_wants_no_colours_gets_none(place, session, env):
    for words in ['diff', session], ['list', session], ['doctor', '/bin/false'], ['status', '/absent']:
        assert SEQUENCE.search(on_terminal(place, *words)[1]), words
        assert '\x1b' not in on_terminal(place, *words, env=env)[1], words


def test_what_is_no_terminal_gets_none(place, session):
    for words in ['diff', session], ['list', session], ['doctor', '/bin/false']:
        assert '\x1b' not in place.start(*words, stdout=subprocess.PIPE, env={**os.environ, **TERMINAL}).communicate()[0].decode()
    assert on_terminal(place, 'status', '/absent', on=['stdout']) == (1, '')


def test_colours_can_be_chosen(place, session):
    assert SEQUENCE.search(run_diff(place, '--color=always', session, NO_COLOR='1'))
    assert not SEQUENCE.search(run_diff(place, '--color', 'auto', session))
    assert '\x1b' not in on_terminal(place, 'diff', '--color=never', session)[1]
    assert SEQUENCE.search(on_terminal(place, 'diff', '--color=auto', session)[1])
    place.refused('diff', '--color', 'sometimes', session, status=2)


def test_errors_are_red_and_warnings_yellow(place, session):
    status, shown = on_terminal(place, 'status', '/absent', on=['stderr'])
    assert status == 1 and shown.startswith(f'{RED}umlfs:{END} /absent: '), shown
    status, shown = on_terminal(place, 'mount', on=['stderr'])
    assert status == 2 and shown.startswith(f'{RED}umlfs:{END} mount: '), shown

    def listen():
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as one:
            one.bind(f'{session}/rootfs/socket')

    place.do(listen)
    status, shown = on_terminal(place, 'export', session, '/dev/null', on=['stderr'])
    assert f'{YELLOW}umlfs:{END} warning: socket: ' in shown, shown


def test_list_colours_where_the_session_stands(place, session):
    status, shown = on_terminal(place, 'list', session)
    assert (status, SEQUENCE.findall(shown)) == (0, [GREEN, END]) and f'\n{GREEN}*   clean' in shown, shown
    place.run('reset', '--force', session, '@base')
    assert f'\n{GREEN}* @base{END}\n' in on_terminal(place, 'list', session)[1]


def test_doctor_colours_its_verdicts(place):
    status, shown = on_terminal(place, 'doctor', '/bin/false')
    assert status == 1 and f'{RED}fail {END}  kernel ' in shown and f'{GREEN}ok   {END}  ptrace ' in shown, shown


# --- how far it is -----------------------------------------------------------------------------------------------

@pytest.fixture
def large(place):
    """{command: arguments} for many entries: an archive of them, a base of it, a session that has written to all."""
    members = [(f'{number:04}', {'mode': 0o644}, b'%d' % number) for number in range(ENTRIES)]
    archive = write_archive(place / 'many.tar', members)
    mounted = place.mount(place.imported_base('many', archive))

    def write_more():
        for name, _, _ in members:
            with open(mounted / name, 'a') as stream:
                stream.write('more')

    mounted.do(write_more)
    mounted.umount()
    return {'import': [archive, place / 'new'], 'export': [mounted.session, place / 'out.tar'],
            'commit': [mounted.session, place / 'new'], 'verify': [place / 'many']}


@pytest.mark.parametrize('command', ['import', 'export', 'commit', 'verify'])
def test_what_takes_long_shows_how_far_it_is_on_a_terminal(place, large, command):
    status, shown = on_terminal(place, command, *large[command], on=['stderr'], before=SLOWLY, env=NO_LEAK_CHECK)
    line = r'\r[\d.]+ [KMG]?i?B( of [\d.]+ [KMG]?i?B)?, \d+ entries, [\d.]+ [KMG]?i?B/s\x1b\[K'
    assert status == 0 and re.fullmatch(rf'({line})+\r\x1b\[K([^\r\n]+ entries, [^\r\n]+\n)?', shown), (status, shown)


@pytest.mark.parametrize('command', ['import', 'export', 'commit', 'verify'])
def test_nothing_of_it_goes_elsewhere(place, large, command):
    done = subprocess.run([*SLOWLY, program(), command, *large[command]], stdin=subprocess.DEVNULL, capture_output=True, text=True, cwd='/',
                          check=True, env={**os.environ, **TERMINAL, **NO_LEAK_CHECK}, **identity(place.user))
    assert '\r' not in done.stdout + done.stderr and '\x1b' not in done.stdout + done.stderr
