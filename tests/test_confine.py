"""Keeping out: what a daemon has given up, what it keeps open, and who unmounts when it may not."""

import contextlib
import ctypes
import errno
import json
import os
import re
import signal
import struct
import subprocess
import time

import pytest

from calls import overwrite, read_file
from umlfs_cli import (PATIENCE, ROOT, Mount, as_root, children, identity, ids, kill_and_wait, mounts_below, program, run,
                       wait_pid)

CAP_DAC_OVERRIDE = 1
LANDLOCK_CREATE_RULESET = 444   # the number is the same on all machines
PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 22, 2


def landlock_version():
    """0 when this kernel has none."""
    return max(0, ctypes.CDLL(None).syscall(LANDLOCK_CREATE_RULESET, None, 0, 1))


def threads(pid):
    """/proc/PID/task/*/status as dictionaries."""
    for thread in os.listdir(f'/proc/{pid}/task'):
        with open(f'/proc/{pid}/task/{thread}/status', encoding='utf-8') as stream:
            yield dict(line.rstrip('\n').split(':\t', 1) for line in stream)


def descriptors(pid):
    """{number: what it is} of a process."""
    found = {}
    for fd in os.listdir(f'/proc/{pid}/fd'):
        with contextlib.suppress(FileNotFoundError):        # a file that was open for a moment
            found[int(fd)] = os.readlink(f'/proc/{pid}/fd/{fd}')
    return found


def fails(place, function, *args):
    """The errno of a call as the place's user."""
    with pytest.raises(OSError) as caught:
        place.do(function, *args)
    return caught.value.errno


# --- what was given up -------------------------------------------------------------------------------------------

def test_every_thread_of_a_daemon_has_given_up_its_privileges(place, base):
    mounted = place.mount(base)
    mounted.do(read_file, mounted / 'etc/hostname')
    seen = list(threads(mounted.pid))
    assert len(seen) >= 7    # two that take turns, three for the control socket, one or more for reads, and for syncs
    for status in seen:
        assert status['NoNewPrivs'] == '1'
        for kind in 'CapPrm', 'CapEff', 'CapInh', 'CapAmb':
            assert int(status[kind], 16) & ~(1 << CAP_DAC_OVERRIDE) == 0, (kind, status[kind])
    assert mounted.status()['confined'] == (landlock_version() > 0)


def redirect_content(session, outside):
    """From now on the session's content lies elsewhere: what only a daemon that is not confined would follow."""
    layer = f'{session}/layers/{max(os.listdir(f"{session}/layers"), key=int)}'
    os.rename(f'{layer}/content', outside)
    os.symlink(outside, f'{layer}/content')


def test_a_running_daemon_reaches_nothing_outside(place):
    """It is led out of its session by a symlink. With fewer descriptors than files it must open them anew."""
    if not landlock_version():
        pytest.skip('this kernel has no Landlock')
    place.noisy = True
    mounted = place.mount(place.imported_base())
    mounted.do(overwrite, mounted / 'etc/inside', b'inside')
    place.run('snapshot', mounted.session, 'one')
    mounted.do(overwrite, mounted / 'etc/other', b'other')
    assert mounted.do(read_file, mounted / 'etc/other') == b'other'
    place.do(redirect_content, mounted.session, place / 'outside')
    before = os.listdir(place / 'outside')
    assert fails(place, overwrite, mounted / 'etc/new', b'new') == errno.EACCES
    assert fails(place, overwrite, mounted / 'etc/hostname', b'copied up') == errno.EACCES
    assert os.listdir(place / 'outside') == before
    assert mounted.do(read_file, mounted / 'etc/inside') == b'inside'


def without_landlock():
    """For subprocess: the process and its children have a kernel without landlock_create_ruleset(2). Needs CAP_SYS_ADMIN."""
    code = [(0x20, 0, 0, 0), (0x15, 0, 1, LANDLOCK_CREATE_RULESET), (0x06, 0, 0, 0x50000 | errno.ENOSYS),
            (0x06, 0, 0, 0x7fff0000)]
    instructions = ctypes.create_string_buffer(b''.join(struct.pack('HBBI', *step) for step in code))
    filter_program = struct.pack('HxxxxxxP', len(code), ctypes.addressof(instructions))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.c_char_p(filter_program), 0, 0) != 0:
        raise OSError(ctypes.get_errno(), 'PR_SET_SECCOMP')


@as_root
def test_a_kernel_without_landlock_is_in_the_status(place, base):
    mounted = place.mount(base, preexec_fn=without_landlock)
    assert mounted.status()['confined'] is False
    assert re.search(r'^confined +no: this kernel has no Landlock$', place.run('status', mounted.session), re.MULTILINE)
    assert {status['NoNewPrivs'] for status in threads(mounted.pid)} == {'1'}
    mounted.do(overwrite, mounted / 'etc/new', b'new')
    mounted.umount()


def test_confinement_is_in_the_status(place, base):
    mounted = place.mount(base)
    text = place.run('status', mounted.session)
    assert re.search(r'^confined +(yes|no: .+)$', text, re.MULTILINE), text
    mounted.umount()
    assert 'confined' not in json.loads(place.run('status', '--json', mounted.session))


# --- descriptors -------------------------------------------------------------------------------------------------

def check_descriptors(place, pid, base, free=()):
    """free: the numbers that lead where whoever started the daemon wanted."""
    own = re.compile(rf'/dev/(null|fuse)|socket:.*|anon_inode:.*|{re.escape(base)}|{re.escape(place.path)}/session(/.*)?')
    for number, what in descriptors(pid).items():
        assert number in free or own.fullmatch(what), (number, what)
    for child in children(pid):
        end = time.monotonic() + PATIENCE
        while len(kept := descriptors(child)) < 6:      # the device is sent to it, and comes when it looks
            assert time.monotonic() < end, kept
        assert [kept.pop(number) for number in range(3)] == ['/dev/null'] * 3
        assert sorted(what.split(':')[0] for what in kept.values()) == ['/dev/fuse', 'anon_inode', 'socket'], kept


def test_a_daemon_keeps_only_its_own_descriptors(place, base):
    ours, theirs = os.pipe()
    try:
        run_options = {'pass_fds': [theirs], 'stdin': theirs}
        assert run('mount', base, place / 'session', user=place.user, **run_options).status == 0
    finally:
        os.close(ours)
        os.close(theirs)
    check_descriptors(place, Mount(place, place / 'session', '').pid, base)


def test_what_tells_the_kernel_of_a_reset_holds_nothing_that_a_dead_daemon_has_to_let_go_of(place, base):
    mounted = place.mount(base)
    mounted.do(os.mkdir, mounted / 'new')
    place.run('reset', mounted.session)
    pid = mounted.pid
    held = [sorted(descriptors(int(thread)).values()) for thread in os.listdir(f'/proc/{pid}/task')]
    assert held.count(['/dev/fuse', 'anon_inode:[eventfd]']) == 2, held     # it is expired, and it is evicted


def test_a_daemon_in_the_foreground_keeps_only_its_own_descriptors(place, base):
    ours, theirs = os.pipe()
    with place.start('mount', '-f', base, place / 'session', stdout=subprocess.PIPE, pass_fds=[theirs]) as process:
        try:
            process.stdout.readline()
            check_descriptors(place, process.pid, base, free=(0, 1, 2))
            process.terminate()
            assert process.wait(PATIENCE) == 0
        finally:
            process.kill()
            os.close(ours)
            os.close(theirs)


def test_a_daemon_may_be_started_without_any_descriptor(place, base):
    subprocess.run(['sh', '-c', 'exec "$0" mount "$1" "$2" <&- >&- 2>&-', program(), base, place / 'session'], check=False,
                   timeout=PATIENCE, **identity(place.user))
    mounted = Mount(place, place / 'session', place / 'session/rootfs')
    assert mounted.do(read_file, mounted / 'etc/hostname') == b'guest\n'
    mounted.umount()
    assert mounts_below(place.path) == []


# --- who unmounts ------------------------------------------------------------------------------------------------

def test_a_killed_daemon_leaves_a_dead_mount_and_no_process(place, base):
    """A guest that goes on must get errors, and not write to what lies under the mount."""
    mounted = place.mount(base)
    pid = mounted.pid
    others = children(pid)
    assert len(others) == 1
    kill_and_wait(pid)
    assert wait_pid(others[0], 10)
    assert fails(place, overwrite, mounted / 'new', b'new') == errno.ENOTCONN
    assert 'dead' in run('umount', mounted.session, user=place.user).stderr
    assert os.listdir(mounted.path) == []


def test_the_unmounter_ends_with_the_mount(place, base):
    mounted = place.mount(base)
    others = children(mounted.pid)
    mounted.umount()
    assert len(others) == 1 and wait_pid(others[0], 0)


def test_signals_to_the_whole_group_end_a_foreground_daemon_cleanly(place, base):
    """As a terminal sends them."""
    for number in signal.SIGINT, signal.SIGTERM, signal.SIGHUP:
        with place.start('mount', '-f', base, place / 'session', stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                         start_new_session=True) as process:
            try:
                process.stdout.readline()
                for pid in [process.pid, *children(process.pid)]:
                    os.kill(pid, number)
                assert process.wait(PATIENCE) == 0
                assert process.stderr.read() == b''
            finally:
                process.kill()
        assert mounts_below(place.path) == []


def test_a_daemon_whose_unmounter_was_killed_ends_all_the_same(place, base):
    place.noisy = True
    mounted = place.mount(base)
    pid = mounted.pid
    kill_and_wait(children(pid)[0])
    assert mounted.do(read_file, mounted / 'etc/hostname') == b'guest\n'
    kill_and_wait(pid, signal.SIGTERM)
    assert 'umlfs umount' in mounted.log()
    place.run('umount', mounted.session)
    assert mounts_below(place.path) == []
    place.mount(base).umount()
    assert mounts_below(place.path) == []


@pytest.mark.skipif(not ROOT, reason='needs root')
@as_root
def test_another_users_mount_in_its_place_is_left_alone(place, base):
    """The daemon's mount goes by force, another of umlfs comes in its place, and then the daemon ends."""
    mountpoint = place / 'mnt'
    os.mkdir(mountpoint)
    os.chown(mountpoint, *ids('ordinary'))
    first = place.mount(base, 'first', mountpoint)
    with open(first / 'etc/hostname', 'rb'):
        subprocess.run(['umount', '-l', mountpoint], check=True)    # in use: its daemon goes on
        second = place.mount(base, 'second', mountpoint)
        kill_and_wait(json.loads(place.run('status', '--json', first.session))['pid'], signal.SIGTERM)
        assert [session for _, _, session in mounts_below(place.path)] == [second.session]
    second.umount()
