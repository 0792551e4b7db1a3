"""`umlfs run`: boots a guest, runs a command in it, and leaves nothing: no process, mount, socket or file."""

import contextlib
import json
import os
import pathlib
import re
import signal
import subprocess
import tempfile
import termios
from concurrent.futures import ThreadPoolExecutor

import pytest

import umlfs_cli
from run_site import Terminal, one_line, read_until
from umlfs_cli import PATIENCE, USERS, identity, mounts_below, program

ROUNDS = int(os.environ.get('UMLFS_RUN_ROUNDS', '20'))     # runs in a row; 8 guests at once for every 20
PANIC = 'echo last words; echo c >/proc/sysrq-trigger; sleep 1000'
HELP_COLUMNS = 80
# The signal waits until the program does: perl alone looks for it before it sleeps, and not after.
WAITS_FOR_RESIZE = ("perl -MPOSIX -e '$| = 1; $SIG{WINCH} = sub { system \"stty size\" };"
                    ' sigprocmask(SIG_BLOCK, POSIX::SigSet->new(28)); print "rea", "dy\\n"; sigsuspend(POSIX::SigSet->new)'
                    "'")


# --- output and status -------------------------------------------------------------------------------------------

@pytest.mark.parametrize('user', USERS)
def test_output_errors_and_status_are_the_commands(site, user):
    result = site.script('echo err >&2; id -u; seq 1 20000; stat -c %u:%a /etc/shadow /bin/su; exit 7', user=user)
    assert (result.status, result.stderr) == (7, 'err\n'), result
    assert result.stdout.splitlines() == ['0', *map(str, range(1, 20001)), '0:640', '0:4755']


def test_output_and_errors_to_one_place_keep_their_order(site):
    script = 'for i in $(seq 1 200); do echo o$i; echo e$i >&2; done'
    with site.start(site.base, '--', 'sh', '-c', script, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        seen = process.stdout.read().decode()
    assert seen.split() == [f'{kind}{i}' for i in range(1, 201) for kind in 'oe']


def test_output_comes_while_the_command_runs(site):
    with site.start(site.base, '--', 'sh', '-c', 'echo ready; sleep 1000', stdout=subprocess.PIPE) as process:
        read_until(process.stdout, b'ready\n')
        assert process.poll() is None
        process.terminate()


@pytest.mark.parametrize('words, status, why', [
    (['sh', '-c', 'kill -SEGV $$'], 128 + signal.SIGSEGV, ''),
    (['/does/not/exist'], 127, 'umlfs: guest: /does/not/exist: No such file or directory\n'),
    (['/etc/passwd/x'], 127, 'umlfs: guest: /etc/passwd/x: Not a directory\n'),
    (['/etc/passwd'], 126, 'umlfs: guest: /etc/passwd: Permission denied\n'),
], ids=['signal', 'absent', 'below a file', 'not executable'])
def test_other_ends_count_as_in_a_shell(site, words, status, why):
    assert site.run(site.base, '--', *words) == (status, '', why)


def test_a_timeout_ends_the_guest(site):
    result = site.script('echo busy; sleep 1000 & while :; do :; done', '--timeout', '5s')
    assert (result.status, result.stdout) == (124, 'busy\n'), result
    assert result.stderr == 'umlfs: run: ended after 5.0 s, as --timeout says\n'


def test_a_panic_is_seen_and_shown(site):
    log = f'{site.place.path}/log'
    result = site.script(PANIC, '--log', log)
    assert (result.status, result.stdout) == (125, 'last words\n'), result
    assert re.search(f'^umlfs: guest: Kernel panic - not syncing: sysrq triggered crash: {log} has all it said$', result.stderr, re.M), result
    assert 'write_sysrq_trigger' in result.stderr
    text = pathlib.Path(log).read_text()
    assert 'Linux version' in text and 'Kernel panic' in text
    os.unlink(log)


def test_a_kernel_that_finds_no_first_process_has_failed(site):
    result = site.run('--append', 'rdinit=/absent', site.base, '--', 'true')
    assert result.status == 125, result
    assert re.search('^umlfs: guest: Kernel panic.*: --log FILE keeps all it said$', result.stderr, re.M), result


@pytest.mark.parametrize('flags, why', [([], '--log FILE keeps all it said'), (['--log', '/dev/null'], '/dev/null has all it said')], ids=['', 'log'])
def test_a_guest_that_powers_off_before_the_command_ends_has_failed(site, flags, why):
    result = site.script('echo o >/proc/sysrq-trigger; sleep 1000', *flags)
    assert result.status == 125 and result.stderr.endswith(f': the guest ended without a status: {why}\n'), result


# --- interrupted -------------------------------------------------------------------------------------------------

@pytest.mark.parametrize('number, user', [(signal.SIGINT, 'ordinary'), (signal.SIGTERM, USERS[0]),
                                          (signal.SIGHUP, 'ordinary'), (signal.SIGQUIT, 'ordinary'), (signal.SIGKILL, 'ordinary')])
def test_a_signal_ends_guest_mount_and_session(site, number, user):
    with site.start(site.base, '--', 'sh', '-c', 'sleep 1000 & echo ready; sleep 1000', user=user,
                    stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        read_until(process.stdout, b'ready\n')
        assert mounts_below(site.place.path) and os.listdir(site.tmp)
        process.send_signal(number)
        assert process.wait(PATIENCE) == -number
        assert process.stderr.read() == b''      # its end: the keeper, who has it too, has ended
    assert site.left() == []


def test_a_signal_while_it_boots_leaves_nothing_either(site):
    read_end, write_end = os.pipe()
    with site.start('--log', '/proc/self/fd/%d' % write_end, site.base, '--', 'true', pass_fds=[write_end],
                    user=USERS[0]) as process, open(read_end, 'rb', buffering=0) as log:
        os.close(write_end)
        read_until(log, b'Linux version')
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == -signal.SIGTERM


@pytest.mark.parametrize('name', ['stdout', 'stderr'])
def test_a_closed_output_ends_the_guest(site, name):
    script = 'exec yes' if name == 'stdout' else 'exec yes >&2'
    with site.start(site.base, '--', 'sh', '-c', script, **{name: subprocess.PIPE}) as process:
        stream = getattr(process, name)
        stream.read(1)
        stream.close()
        assert process.wait(PATIENCE) == -signal.SIGPIPE


def test_the_guests_kernel_gets_no_descriptor_of_the_host_and_leaves_no_core(site):
    (read_end, write_end), (other, more) = os.pipe(), os.pipe()
    with site.start('--json-status-fd', str(write_end), site.base, '--', 'sh', '-c', 'echo ready; sleep 1000',
                    pass_fds=[write_end, other, more], stdout=subprocess.PIPE) as process, open(read_end) as events:
        os.close(write_end)
        read_until(process.stdout, b'ready\n')
        pid = json.loads(events.readline())['pid']
        pipes = {os.readlink(f'/proc/self/fd/{fd}') for fd in (read_end, other)}
        seen = set()
        for fd in os.listdir(f'/proc/{pid}/fd'):
            with contextlib.suppress(FileNotFoundError):    # the guest lives
                seen.add(os.readlink(f'/proc/{pid}/fd/{fd}'))
        limits = pathlib.Path(f'/proc/{pid}/limits').read_text()
        process.terminate()
    os.close(other)
    os.close(more)
    assert not pipes & seen and re.search('^Max core file size +0 +0 ', limits, re.MULTILINE), (pipes, seen, limits)


# --- options -----------------------------------------------------------------------------------------------------

def test_the_command_gets_what_the_options_say(site):
    with tempfile.TemporaryDirectory(dir=site.place.path) as host:
        os.chmod(host, 0o777)
        for name, text in (('in', 'from the host\n'), ('passwd', 'root:x:0:0::/root:/bin/sh\nann:x:77:78::/home:/bin/sh\n'),
                           ('tool', '#!/bin/sh\necho tool "$@"\n')):
            path = pathlib.Path(host, name)
            path.write_text(text)
            path.chmod(0o755)
        result = site.script(
            'echo "$A|$PATH_TOO|$HOME|$USER"; pwd; id; cat /srv/a/b/in; echo out >/srv/a/b/out; touch /srv/ro/no; '
            '/usr/local/new/tool x; hostname; uname -n; cat /proc/cmdline; grep MemTotal: /proc/meminfo; '
            'echo there >/dev/shm/x; cat /dev/shm/x; tty',
            '--env', 'A=b c', '--env', 'PATH_TOO==', '--chdir', '/usr/lib', '--user', 'ann', '--share', f'{host}:/srv/a/b',
            '--share', f'{host}:/srv/ro:ro', '--file', f'{host}/tool:/usr/local/new/tool',
            '--file', f'{host}/passwd:/etc/passwd', '--mem', '200M', '--append', 'some.word="a b" other=1')
        lines = result.stdout.splitlines()
        assert lines[:6] == ['b c|=|/home|ann', '/usr/lib', 'uid=77(ann) gid=78 groups=78', 'from the host', 'tool x',
                             lines[5]], result
        assert 100_000 < int(re.search(r'MemTotal: +(\d+) kB', result.stdout).group(1)) < 200 * 1024
        assert ' some.word="a b" other=1' in result.stdout
        assert 'there\n' in result.stdout and 'not a tty' in result.stdout
        assert "touch: cannot touch '/srv/ro/no': Read-only file system" in result.stderr, result
        assert pathlib.Path(host, 'out').read_text() == 'out\n'
    assert not os.path.exists(f'{site.base}/usr/local/new')


def test_the_guest_sees_nothing_of_the_host_but_root_and_shares(site):
    result = site.script('mkdir /mnt/x; for at in /root/.. /etc /; do mount -t hostfs none /mnt/x -o $at && ls /mnt/x; done; '
                         'ls / | wc -l')
    assert 'umlfs-place' not in result.stdout and 'boot.log' not in result.stdout, result


def test_json_tells_what_happened(site):
    read_end, write_end = os.pipe()
    result = site.run('--json-status-fd', str(write_end), site.base, '--', 'sh', '-c', 'exit 3', pass_fds=[write_end])
    os.close(write_end)
    with open(read_end) as stream:
        started, ended = map(json.loads, stream)
    assert result.status == 3 and started['event'] == 'started' and started['directory'].startswith(site.tmp)
    assert 0 <= ended.pop('run_seconds') < ended.pop('boot_seconds') + PATIENCE
    assert re.match(r'\d+\.\d+', ended.pop('kernel'))
    assert ended == {'event': 'ended', 'reason': 'exit', 'status': 3, 'session': None}


def test_a_dry_run_prints_the_command_line_and_makes_nothing(site):
    result = site.run('--dry-run', '--mem', '99M', '--append', "a='b c'", site.base, '--', 'true')
    assert (result.status, result.stderr) == (0, '')
    assert re.fullmatch(r"TMPDIR=\S+ (LD_PRELOAD=\S+ )?/\S+ mem=99M initrd=\S+ hostfs=\S+ .*'a='\\''b' 'c'\\'''\n",
                        result.stdout), result


def test_the_roots_own_init_can_be_booted(site):
    result = site.run('--init', '/bin/sh', site.base, '--', '-c',
                      'echo process $$; echo to the console >/dev/console; echo o >/proc/sysrq-trigger; read x </dev/tty0')
    assert (result.status, result.stdout) == (0, 'process 1\nto the console\n'), result
    result = site.run('--init', '/sbin/absent', site.base)
    assert (result.status, result.stderr) == (127, 'umlfs: guest: /sbin/absent: No such file or directory\n'), result


def test_verbose_says_what_is_done(site):
    result = site.run('-v', site.base, '--', 'true')
    assert re.fullmatch(r'umlfs: kernel /\S+, Linux \d\S+\n(umlfs: kernels before 6.13 [^\n]+\n)?'
                        r'umlfs: a session for this run only, on [^\n]+\numlfs: its umid is umlfs-run-\w+\n'
                        r'umlfs: booted in [\d.]+ s\n', result.stderr), result


@pytest.mark.parametrize('flags, status, kept', [
    (['--keep', 'always'], 0, True), (['--keep', 'on-failure'], 1, True), (['--keep', 'on-failure'], 0, False),
    (['--keep', 'never'], 1, False)], ids=lambda value: value[1] if isinstance(value, list) else str(value))
def test_a_session_can_be_kept(site, flags, status, kept):
    result = site.script(f'echo by the guest >/made; exit {status}', *flags)
    assert result.status == status
    found = re.fullmatch(r'umlfs: the session stays: (\S+)\n', result.stderr)
    assert bool(found) == kept, result
    if kept:
        assert mounts_below(site.place.path) == [] and site.processes() == []
        mounted = site.place.mount(site.base, found[1])
        assert mounted.do(pathlib.Path(mounted / 'made').read_text) == 'by the guest\n'
        mounted.umount()
        directory = os.path.dirname(found[1])
        assert sorted(os.listdir(directory)) == ['kept', 'session']
        umlfs_cli.remove_tree(directory)


def test_a_timeout_is_a_failure_that_keeps_the_session(site):
    result = site.script('echo by the guest >/made; exec sleep 1000', '--keep', 'on-failure', '--timeout', '10s')
    assert result.status == 124
    kept = re.search(r'^umlfs: the session stays: (\S+)$', result.stderr, re.MULTILINE)[1]
    assert site.status(kept)['entries'] > 0
    umlfs_cli.remove_tree(os.path.dirname(kept))


def test_ending_a_run_by_hand_is_no_failure_that_keeps_the_session(site):
    with site.start('--keep', 'on-failure', site.base, '--', 'sh', '-c', 'echo ready; sleep 1000', stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE) as process:
        read_until(process.stdout, b'ready\n')
        process.terminate()
        assert process.stderr.read() == b'' and process.wait(PATIENCE) == -signal.SIGTERM


# --- sessions ----------------------------------------------------------------------------------------------------

def test_a_session_is_reset_afterwards(site):
    session = site.session('reset')
    script = 'cat /made; rm -r /made /etc/apt; touch /new'
    assert site.run(session, '--', 'sh', '-c', script)[:2] == (0, 'made before\n')
    assert mounts_below(site.place.path) == [] and site.status(session)['entries'] == 0
    mounted = site.place.mount(site.base, session)
    assert site.run(session, '--', 'sh', '-c', script)[:2] == (0, 'made before\n')
    assert mounted.do(os.path.exists, mounted / 'made') and not mounted.do(os.path.exists, mounted / 'new')
    assert mounts_below(site.place.path) != []
    mounted.umount()


def test_a_run_can_start_from_any_snapshot(site):
    session = site.session('snapshots')
    site.place.run('reset', session, '@base')
    assert site.run('--snapshot', 'one', session, '--', 'cat', '/made')[:2] == (0, 'made before\n')
    assert json.loads(site.place.run('list', '--json', session))['standing'] == 'one'
    assert 'two' in one_line(site.run('--snapshot', 'two', session, '--', 'true'))
    assert mounts_below(site.place.path) == []


def test_changes_that_no_snapshot_holds_are_not_thrown_away(site):
    session = site.session('changed')
    assert site.run('--keep', 'always', session, '--', 'touch', '/more')[0] == 0
    assert 'has changes that no snapshot holds' in one_line(site.run(session, '--', 'true'))
    assert site.status(session)['entries'] > 0


def test_a_session_is_one_runs_at_a_time(site):
    session = site.session('busy')
    with site.start(session, '--', 'sh', '-c', 'echo ready; sleep 1000', stdout=subprocess.PIPE) as process:
        read_until(process.stdout, b'ready\n')
        assert 'another `umlfs run` is using it' in one_line(site.run(session, '--', 'true'))
        process.terminate()
    assert site.run(session, '--', 'true')[0] == 0


# --- a terminal --------------------------------------------------------------------------------------------------

def test_without_a_command_there_is_a_shell_with_job_control(site):
    with Terminal(site, site.base) as terminal:
        terminal.wait_for('# ')
        assert termios.tcgetattr(terminal.theirs) != terminal.before
        terminal.type('stty size; echo "$TERM $(tty)"\r')
        terminal.wait_for('33 101\r\n')
        terminal.wait_for('vt220 /dev/tty0\r\n')
        terminal.type('echo r""eady; cat\r')            # bash makes the terminal what programs expect before it runs one
        terminal.wait_for('ready\r\n')
        terminal.type('one\r')
        terminal.wait_for('one\r\none\r\n')
        terminal.type('\x1a')                           # Ctrl-Z, then Ctrl-C: for the guest's shell, not for us
        terminal.wait_for('Stopped')
        terminal.wait_for('# ')
        terminal.type('fg\r')
        terminal.wait_for('cat\r\n')
        terminal.type('two\r')                          # only who has the terminal gets it
        terminal.wait_for('two\r\ntwo\r\n')
        terminal.type('\x03')
        terminal.wait_for('# ')
        terminal.type('echo "interrupted=$?"\r')
        terminal.wait_for('interrupted=130\r\n')
        terminal.type(WAITS_FOR_RESIZE + '\r')
        terminal.wait_for('ready\r\n')
        terminal.resize(40, 120)
        terminal.wait_for('40 120\r\n')
        terminal.type('exit 9\r')
        assert terminal.ended() == 9


@pytest.mark.parametrize('end', ['escape', 'signal', 'panic'])
def test_the_terminal_is_restored_whatever_happens(site, end):
    with Terminal(site, '--tty', site.base, '--', 'sh', '-c', 'stty -echo; echo ready; exec sh') as terminal:
        terminal.wait_for('ready\r\n')
        if end == 'escape':
            terminal.type('\x1d\x1d\x1d')
        elif end == 'signal':
            terminal.process.terminate()
        else:
            terminal.type('echo c >/proc/sysrq-trigger\r')
        assert terminal.ended() == {'escape': 125, 'signal': -signal.SIGTERM, 'panic': 125}[end]


def test_ctrl_c_ends_a_command(site):
    with Terminal(site, site.base, '--', 'sh', '-c', 'echo ready; sleep 1000') as terminal:
        terminal.wait_for('ready\r\n')
        terminal.type('\x03')
        assert terminal.ended() == -signal.SIGINT


# --- many --------------------------------------------------------------------------------------------------------

def test_many_guests_run_at_once_from_one_base(site):
    rounds = range(ROUNDS // 20 * 8)
    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(lambda n: site.script(f'cat /made; echo {n} >/made; cat /made; exit {n % 100}'), rounds))
    assert [(r.status, r.stdout) for r in results] == [(n % 100, f'{n}\n') for n in rounds]


def test_runs_in_a_row_leave_nothing(site):
    for _ in range(ROUNDS):
        assert site.run(site.base, '--', 'true') == (0, '', '')
        assert site.left() == []


def test_git_bisect_finds_the_bad_commit(site):
    with tempfile.TemporaryDirectory(dir=site.place.path) as repository:
        os.chown(repository, *umlfs_cli.ids('ordinary'))

        def git(*words):
            who = ['-c', 'user.name=a', '-c', 'user.email=a@b']
            options = identity('ordinary') | site.options({'cwd': repository, 'env': {'HOME': repository}})
            return subprocess.run(['git', *who, *words], check=True, capture_output=True, text=True, **options).stdout

        git('init', '-q')
        for n in range(4):
            site.place.do(pathlib.Path(repository, 'n').write_text, f'{n}\n')
            git('add', 'n')
            git('commit', '-q', '-m', f'number {n}')
        git('bisect', 'start', 'HEAD', 'HEAD~3')
        found = git('bisect', 'run', program(), 'run', '--share', '.:/mnt', site.base, '--', 'grep', '-q', '[01]', '/mnt/n')
        assert 'is the first bad commit' in found and 'number 2' in found, found


def test_the_base_stays_untouched(site):
    def state():
        found = {}
        for top, dirs, files in os.walk(site.base):
            for name in dirs + files:
                st = os.lstat(os.path.join(top, name))
                found[top, name] = (st.st_mode, st.st_size, st.st_mtime_ns)
        return found

    before = state()
    assert site.script('rm -rf /usr/share /var; touch /etc/new; chmod 0 /etc/passwd; echo x >>/etc/fstab')[0] == 0
    assert state() == before


# --- what cannot be ----------------------------------------------------------------------------------------------

@pytest.mark.parametrize('words', [
    [], ['{base}'], ['{tmp}/absent', '--', 'true'], ['/etc/passwd', '--', 'true'], ['--nonsense', '{base}', '--', 'true'],
    ['{base}', '--', ''], ['--kernel', '/bin/true', '{base}', '--', 'true'], ['--kernel', 'absent', '{base}', '--', 'true'],
    ['--kernel', '/etc/passwd', '{base}', '--', 'true'], ['--mem', 'much', '{base}', '--', 'true'],
    ['--timeout', '0', '{base}', '--', 'true'], ['--timeout', '5x', '{base}', '--', 'true'],
    ['--keep', 'perhaps', '{base}', '--', 'true'], ['--env', 'A', '{base}', '--', 'true'],
    ['--chdir', 'tmp', '{base}', '--', 'true'], ['--share', '/tmp', '{base}', '--', 'true'],
    ['--share', '/absent:/mnt', '{base}', '--', 'true'], ['--share', '/etc/passwd:/mnt', '{base}', '--', 'true'],
    ['--file', '/etc:/mnt', '{base}', '--', 'true'], ['--log', '/absent/log', '{base}', '--', 'true'],
    ['--json-status-fd', '77', '{base}', '--', 'true'], ['--snapshot', 'one', '{base}', '--', 'true'],
    ['--tty', '{base}', '--', 'true'], ['--init', 'sbin/init', '{base}'],
], ids=lambda words: ' '.join(words) or 'nothing')
def test_bad_input_is_one_line(site, words):
    one_line(site.run(*(word.format(base=site.base, tmp=site.tmp) for word in words)))


@pytest.mark.parametrize('flags, why', [
    (['--user', 'nobody-at-all'], '--user nobody-at-all: no such user'),
    (['--chdir', '/absent'], '--chdir /absent: No such file or directory'),
], ids=lambda value: value[0] if isinstance(value, list) else '')
def test_what_only_the_guest_can_know_is_one_line_too(site, flags, why):
    result = site.run(*flags, site.base, '--', 'true')
    assert result.status == 125 and result.stderr.startswith(f'umlfs: guest: {why}'), result
    assert result.stderr.count('\n') == 1


def test_a_temporary_directory_that_no_command_line_can_hold_is_refused(site):
    with tempfile.TemporaryDirectory(dir=site.place.path, prefix='a b') as directory:
        os.chmod(directory, 0o777)
        assert 'set TMPDIR to another' in one_line(site.run(site.base, '--', 'true', env={'TMPDIR': directory}))
        assert os.listdir(directory) == []


def test_a_server_that_is_killed_ends_the_run(site):
    with site.start(site.base, '--', 'sh', '-c', 'echo ready; sleep 1000', stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE) as process:
        read_until(process.stdout, b'ready\n')
        pid = json.loads(site.place.run('status', '--json', mounts_below(site.place.path)[0][2]))['pid']
        os.kill(pid, signal.SIGKILL)
        assert process.wait(PATIENCE) == 125
        assert b'umlfs: ' in process.stderr.read()


def test_help_fits_a_terminal():
    result = umlfs_cli.run('run', '--help')
    assert result.status == 0 and max(map(len, result.stdout.splitlines())) <= HELP_COLUMNS, result.stdout
    for flag in re.findall(r'^  (--[a-z-]+|-\w)', result.stdout, re.M):
        assert one_line(umlfs_cli.run('run', flag)) if flag != '-v' else True
