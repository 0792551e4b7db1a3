"""`umlfs umount` and signals end a mount and its daemon, and keep what was changed; what is in use stays mounted."""

import concurrent.futures
import fcntl
import json
import os
import pathlib
import re
import select
import signal
import socket
import subprocess
import time

import pytest

from calls import overwrite, read_file
from holders import USES, holder, uses_of
from umlfs_cli import PATIENCE, differences, ends, kill_and_wait, mounts_below, needs_root, run, small_archive, wait_pid

LOOKS_ELSEWHERE = 1     # seconds after which an unmount that waits has looked for other mounts


@pytest.mark.parametrize('how', ['session', 'mountpoint', 'alias', 'fusermount3'])
def test_umount_ends_the_daemon_and_keeps_the_changes(place, base, how):
    mounted = place.mount(base)
    mounted.do(overwrite, mounted / 'etc/new', b'new')
    state, pid = mounted.dump(), mounted.pid
    if how == 'fusermount3':
        place.do(subprocess.run, ['fusermount3', '-u', mounted.path], check=True)
    else:
        assert run('unmount' if how == 'alias' else 'umount', mounted.session if how == 'session' else mounted.path,
                   user=place.user) == (0, '', '')
    assert wait_pid(pid, PATIENCE if how == 'fusermount3' else 0)
    assert mounts_below(place.path) == []
    assert sorted(os.listdir(mounted.session)) == sorted(set(os.listdir(mounted.session)) - {'control'})
    assert differences(place.mount(base).dump(), state) == []


def test_umount_returns_when_the_daemon_has_ended_and_a_session_can_be_mounted_again(place):
    base = place.imported_base()
    for _ in range(20):
        mounted = place.mount(base)
        mounted.do(overwrite, mounted / 'etc/new', os.urandom(100000))
        pid = mounted.pid
        mounted.umount()
        assert wait_pid(pid, 0)


@pytest.mark.parametrize('use', USES)
def test_umount_of_what_is_in_use_names_the_process_and_changes_nothing(place, base, use):
    mounted = place.mount(base)
    script, used = uses_of(mounted.path)[use]
    state, pid = mounted.dump(), mounted.pid
    with holder(place, script, mounted.path) as process:
        for what in mounted.session, mounted.path:
            line = place.refused('umount', what)
            assert re.search(rf'\b{process.pid} \(sh\)', line) and line.endswith(f'{used}: end it first'), line
        assert mounted.pid == pid
        assert differences(mounted.dump(), state) == []
        process.communicate('go\n', PATIENCE)
    mounted.umount()


@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGINT, signal.SIGHUP], ids=lambda s: s.name)
def test_a_signal_ends_the_daemon_cleanly(place, base, number):
    mounted = place.mount(base)
    mounted.do(overwrite, mounted / 'etc/new', b'new')
    state, pid = mounted.dump(), mounted.pid
    kill_and_wait(pid, number)
    assert mounts_below(place.path) == []
    assert 'control' not in os.listdir(mounted.session)
    result = run('mount', base, mounted.session, user=place.user)
    assert (result.status, result.stderr) == (0, ''), 'the next mount found something to mend'
    assert differences(mounted.dump(), state) == []


def test_a_signal_in_the_foreground_exits_with_0(place, base):
    with place.start('mount', '-f', base, place / 'session', stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        try:
            process.stdout.readline()
            process.terminate()
            assert ends(process) == 0
            assert process.stderr.read() == b''
        finally:
            process.kill()


def test_sigterm_ends_a_mount_that_is_in_use(place, base):
    mounted = place.mount(base)
    with holder(place, 'cd "$1/etc"', mounted.path):
        kill_and_wait(mounted.pid, signal.SIGTERM)
        assert mounts_below(place.path) == []
        assert place.mount(base).do(read_file, mounted / 'etc/hostname') == b'guest\n'


def in_flight(path):
    """An open file that is in no process's table: two sockets, and a descriptor of it on its way from one to the other."""
    ours, theirs = socket.socketpair()
    fd = os.open(path, os.O_RDONLY)
    try:
        socket.send_fds(ours, [b'x'], [fd])
    finally:
        os.close(fd)
    return ours, theirs


def test_umount_waits_for_a_use_that_is_nobodys_and_passes(place):
    """As that of a process that looks at another one's files through /proc at this moment."""
    mounted = place.mount(place.imported_base())
    ours, theirs = mounted.do(in_flight, mounted / 'etc/hostname')
    with ours, theirs, place.start('umount', mounted.session, stderr=subprocess.PIPE) as process:
        end = time.monotonic() + PATIENCE
        while b'poll' not in read_file(f'/proc/{process.pid}/wchan') and process.poll() is None:
            assert time.monotonic() < end
        theirs.close()
        assert (process.wait(PATIENCE), process.stderr.read()) == (0, b'')
    assert mounts_below(place.path) == []


def test_umount_of_what_stays_in_use_by_nobody_says_so(place):
    mounted = place.mount(place.imported_base())
    ours, theirs = mounted.do(in_flight, mounted / 'etc/hostname')
    with ours, theirs:
        assert place.refused('umount', mounted.session) == f'{mounted}: cannot be unmounted: Device or resource busy'
    mounted.umount()


def test_umount_does_not_wait_for_who_has_the_session_next(place, base):
    """Somebody is in line for the lock before it."""
    mounted = place.mount(base)
    with open(f'{mounted.session}/lock', 'rb') as lock, concurrent.futures.ThreadPoolExecutor(1) as pool:
        next_one = pool.submit(fcntl.flock, lock, fcntl.LOCK_EX)
        while f'-> FLOCK  ADVISORY  WRITE {os.getpid()} ' not in pathlib.Path('/proc/locks').read_text():
            assert not next_one.done()
        mounted.umount()
        next_one.result(PATIENCE)


def at_once(place, *commands):
    """(status, lines on standard error) of each."""
    started = [place.start(*words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) for words in commands]
    said = [process.communicate(timeout=PATIENCE)[1].decode() for process in started]
    return list(zip([process.returncode for process in started], said))


def test_two_umounts_at_once_end_one_mount(place, base):
    for _ in range(20):
        mounted = place.mount(base)
        ended = at_once(place, ['umount', mounted.session], ['umount', mounted.session])
        assert (0, '') in ended, ended
        for status, said in ended:
            assert status == 0 or re.fullmatch(r'umlfs: [^\n]+: nothing of umlfs is mounted there[^\n]*\n', said), ended
        assert mounts_below(place.path) == []


def test_a_mount_that_is_unmounted_at_once_says_so(place, base):
    for _ in range(20):
        session = place / 'session'
        with place.start('mount', base, session, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as mounting:
            while run('umount', session, user=place.user).status != 0 and mounting.poll() is None:
                pass
            stdout, stderr = mounting.communicate(timeout=PATIENCE)
        if mounting.returncode == 0:
            assert stdout == os.fsencode(f'{session}/rootfs\n')
            run('umount', session, user=place.user)
        else:
            assert stderr == os.fsencode(f'umlfs: {session}: unmounted before it answered\n')
        assert mounts_below(place.path) == []


@needs_root
@pytest.mark.parametrize('user', ['root'], indirect=True)
def test_umount_of_what_is_also_mounted_elsewhere_says_where(place, base):
    """The daemon goes on for it."""
    mounted = place.mount(base)
    pid = mounted.pid
    os.mkdir(place / 'other')
    subprocess.run(['mount', '--bind', mounted / 'etc', place / 'other'], check=True)
    try:
        said = place.refused('umount', mounted.session)
        assert said == f'{mounted.session}: unmounted, but also mounted at {place / "other"}: unmount that, too'
        assert os.path.exists(f'/proc/{pid}')
    finally:
        subprocess.run(['umount', place / 'other'], check=True)
    assert wait_pid(pid)
    assert mounts_below(place.path) == []


@needs_root
@pytest.mark.parametrize('user', ['root'], indirect=True)
def test_umount_names_what_is_mounted_below(place, base):
    mounted = place.mount(base)
    subprocess.run(['mount', '-t', 'tmpfs', 'none', mounted / 'tmp'], check=True)
    try:
        assert place.refused('umount', mounted.session) == f'{mounted}: in use by a mount: {mounted / "tmp"}: unmount that first'
    finally:
        subprocess.run(['umount', mounted / 'tmp'], check=True)
    mounted.umount()


def wait_unmounted(directory):
    """The kernel tells of changes of the table: proc_pid_mountinfo(5)."""
    changes = select.poll()
    with open('/proc/self/mountinfo', encoding='utf-8') as table:
        changes.register(table, select.POLLPRI)
        while mounts_below(directory):
            assert changes.poll(PATIENCE * 1000)


def test_umount_takes_no_later_mount_for_its_own(place, base):
    """What is mounted next gets the number of the device, while the daemon of the one before is still at work."""
    mounted = place.mount(base)
    pid = mounted.pid
    os.kill(pid, signal.SIGSTOP)
    with place.start('umount', mounted.session, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        try:
            wait_unmounted(mounted.session)
            place.mount(base, 'later')
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(LOOKS_ELSEWHERE)
        finally:
            os.kill(pid, signal.SIGCONT)
        assert (process.communicate(timeout=PATIENCE), process.returncode) == ((b'', b''), 0)


@needs_root
@pytest.mark.parametrize('user', ['root'], indirect=True)
def test_umount_tells_for_whom_it_waits(place):
    mounted = place.mount(place.imported_base())
    words = ['unshare', '--mount', '--propagation', 'private', 'sh', '-c', 'echo ready; read -r line']
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as namespace:
        assert namespace.stdout.readline() == b'ready\n'
        with place.start('umount', mounted.session, stderr=subprocess.PIPE, text=True) as process:
            said = process.stderr.readline()
            namespace.stdin.close()
            assert (process.wait(PATIENCE), process.stderr.read()) == (0, '')
    assert re.fullmatch(rf'umlfs: {mounted.session}: unmounted, but process \d+ has it in another mount namespace: [^\n]+\n', said)


# --- a session that was moved while it was mounted ------------------------------------------------------------------

PLACES = {'own': None, 'elsewhere': 'mountpoint'}


@pytest.fixture(params=PLACES)
def moved(request, place):
    """(the Mount, the session's new path, where the mount is now)"""
    mountpoint = PLACES[request.param] and place / PLACES[request.param]
    if mountpoint:
        place.do(os.mkdir, mountpoint)
    mounted = place.mount(place.imported_base(), mountpoint=mountpoint)
    place.do(os.rename, mounted.session, place / 'moved')
    return mounted, place / 'moved', mountpoint or place / 'moved/rootfs'


@pytest.mark.parametrize('what', ['session', 'mountpoint'])
def test_a_session_that_was_moved_is_unmounted(place, moved, what):
    mounted, session, mountpoint = moved
    pid = json.loads(place.run('status', '--json', session))['pid']
    overwritten = f'{mountpoint}/etc/new'
    place.do(overwrite, overwritten, b'new')
    result = run('umount', session if what == 'session' else mountpoint, user=place.user)
    known = what == 'session' or mountpoint == f'{session}/rootfs'
    assert result.status == 0 and (result.stderr == '') == known, result
    assert mounts_below(place.path) == [] and wait_pid(pid, 0 if known else PATIENCE)
    again = place.mount(place / 'base', 'moved')
    assert again.do(read_file, again / 'etc/new') == b'new'


@pytest.mark.parametrize('command', ['umount', 'reset'])
def test_a_session_that_was_moved_is_seen_to_be_in_use(place, moved, command):
    _, session, mountpoint = moved
    with holder(place, 'cd "$1/etc"', mountpoint) as process:
        assert re.search(rf'\b{process.pid} \(sh\)', place.refused(command, session))


def test_a_signal_unmounts_a_session_that_was_moved(place, moved):
    _, session, _ = moved
    kill_and_wait(json.loads(place.run('status', '--json', session))['pid'], signal.SIGTERM)
    assert mounts_below(place.path) == []


def test_another_session_where_one_was_has_nothing_of_its_mount(place, moved):
    mounted, session, mountpoint = moved
    line = f'{mounted.session}: nothing of umlfs is mounted there: `umlfs status` lists what is mounted'
    place.mount(place / 'base', 'session').umount()
    assert place.refused('umount', mounted.session) == line
    assert place.do(read_file, f'{mountpoint}/etc/hostname') == b'guest\n'
    other = place.mount(place / 'base', 'session')
    place.run('umount', session)
    assert [path for path, _, _ in mounts_below(place.path)] == [other.path]


def test_a_copy_of_a_session_is_not_taken_for_one_that_was_moved(place, moved):
    _, session, mountpoint = moved
    place.do(os.mkdir, place / 'copy')
    place.do(subprocess.run, ['cp', '-a', *(f'{session}/{name}' for name in ('lock', 'manifest', 'layers', 'base.index')), place / 'copy'],
             check=True)
    assert 'nothing of umlfs is mounted there' in place.refused('umount', place / 'copy')
    assert place.do(read_file, f'{mountpoint}/etc/hostname') == b'guest\n'


def test_the_base_of_a_session_that_was_moved_is_not_replaced(place, moved):
    """With a mountpoint of its own nothing leads to it but the lock that its daemon has on the base."""
    mounted, session, mountpoint = moved
    archive = small_archive(place / 'a.tar')
    said = place.refused('import', '--force', archive, place / 'base')
    known = mountpoint == f'{session}/rootfs'
    assert said.startswith(f'{place / "base"}: is the base of {session if known else "a session"}'), said
    assert place.do(read_file, f'{mountpoint}/etc/hostname') == b'guest\n'
    place.run('umount', session)
    place.run('import', '--force', archive, place / 'base')


def test_what_is_left_of_a_session_that_was_moved_is_detached(place, moved):
    _, session, mountpoint = moved
    kill_and_wait(json.loads(place.run('status', '--json', session))['pid'])
    result = run('mount', place / 'base', session, user=place.user)
    assert result.status == 0 and result.stderr == f'umlfs: {mountpoint}: the daemon of this mount was dead: detached\n'


@needs_root
def test_umount_of_another_user_s_mount_names_him(place):
    """Root may."""
    mounted = place.mount(place.imported_base())
    other = {'root': 'ordinary', 'ordinary': 'root'}[place.user]
    os.chmod(mounted.session, 0o755)
    result = run('umount', mounted.path, user=other)
    if other == 'root':
        assert result == (0, '', '')
    else:
        assert result == (1, '', f'umlfs: {mounted}: user 0 has mounted it: unmount it as that user\n')
