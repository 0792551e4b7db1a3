"""A mount with -o posix is to what processes hold as a plain directory is: working directories, locks, watches, limits, handles."""

import ctypes
import fcntl
import os
import resource
import signal
import stat
import struct
import subprocess

import pytest

from calls import (FALLOC_KEEP_SIZE, FALLOC_PUNCH_HOLE, RENAME_EXCHANGE, RENAME_NOREPLACE, UTIME_NOW, call_all, facts, fallocate, forked,
                   on, open_and_close, opened, outcome, renameat2, utimensat)
from places import in_process
from side_by_side import ACTORS, GROUP, OTHER, OWNER, Case, Thing, pair, room, things
from umlfs_cli import ROOT

pytestmark = pytest.mark.skipif(not ROOT, reason='needs root')

libc = ctypes.CDLL(None, use_errno=True)


def checked(result):
    if result < 0:
        raise OSError(ctypes.get_errno(), 'a call')
    return result


# --- working directories ---------------------------------------------------------------------------------------

def from_a_lost_directory(path, call, *args):
    """The call's answer in a directory that was renamed and removed."""
    top = os.open('.', os.O_PATH)
    os.chdir(path)
    os.rename(f'../{os.path.basename(path)}', '../moved')
    os.rmdir('../moved')
    try:
        return outcome(call, *args)
    finally:
        os.fchdir(top)
        os.close(top)


def mode_and_links(path):
    st = os.stat(path)
    return st.st_mode, st.st_nlink


def chdir_up():
    os.chdir('..')
    return sorted(os.listdir('.'))


def test_a_working_directory_that_is_gone(pair):
    calls = [(os.getcwd,), (os.listdir, '.'), (mode_and_links, '.'), (chdir_up,), (os.mkdir, 'new'), (os.symlink, 'a', 'new'),
             (os.mkfifo, 'new'),
             (open_and_close, 'new', os.O_RDWR | os.O_CREAT), (open_and_close, 'new', os.O_RDONLY), (os.rename, '.', 'new'),
             (os.rename, 'a', 'b'),
             (os.rename, '../y', 'y'), (os.link, '../y', 'y'), (os.chmod, '.', 0o700), (os.chown, '.', -1, GROUP),
             (utimensat, '.', UTIME_NOW, UTIME_NOW),
             (os.rmdir, '.'), (os.rmdir, '../moved'), (os.mkdir, '../moved'), (os.setxattr, '.', 'user.name', b'value')]
    pair.must_be_alike(Case(actor, [Thing('d', 'dir', 0o777, OWNER, GROUP), Thing('d/x', 'dir', 0o755, OWNER, GROUP),
                       *things('file', 'd/y', 0o644, OWNER, GROUP)],
                            (from_a_lost_directory, 'd/x', *call))
                       for actor in ('root', 'owner') for call in calls)


# --- locks and leases ------------------------------------------------------------------------------------------

def ofd_lock(fd, command, kind, start, length):
    """A lock of an open file description; what fcntl() put into its struct flock."""
    answer = fcntl.fcntl(fd, command, struct.pack('hhqqi4x', kind, os.SEEK_SET, start, length, 0))
    return struct.unpack('hhqqi4x', answer)


def locks(path):
    with opened(path, os.O_RDWR) as one, opened(path, os.O_RDWR) as other:
        get, put = fcntl.F_OFD_GETLK, fcntl.F_OFD_SETLK
        steps = [(fcntl.flock, one, fcntl.LOCK_EX), (fcntl.flock, other, fcntl.LOCK_SH | fcntl.LOCK_NB), (fcntl.flock, one, fcntl.LOCK_SH),
                 (fcntl.flock, other, fcntl.LOCK_SH | fcntl.LOCK_NB), (fcntl.flock, one, fcntl.LOCK_EX | fcntl.LOCK_NB),
                 (ofd_lock, one, put, fcntl.F_WRLCK, 0, 10), (ofd_lock, other, put, fcntl.F_WRLCK, 5, 10),
                 (ofd_lock, other, get, fcntl.F_RDLCK, 5, 10),
                 (ofd_lock, other, put, fcntl.F_RDLCK, 10, 10), (ofd_lock, one, put, fcntl.F_UNLCK, 0, 0),
                 (ofd_lock, other, put, fcntl.F_WRLCK, 0, 0)]
        return call_all([lambda step=step: step[0](*step[1:]) for step in steps])


def locked_by_another(path):
    """What a second process gets while this one has a record lock, and after a descriptor of the file was closed here."""
    def answer():
        with opened(path, os.O_RDWR) as fd:
            os._exit(outcome(fcntl.lockf, fd, fcntl.LOCK_EX | fcntl.LOCK_NB, 5, 3) is None)

    def ask():
        return os.waitpid(forked(answer), 0)[1]

    with opened(path, os.O_RDWR) as fd:
        fcntl.lockf(fd, fcntl.LOCK_EX, 10)
        first = ask()
        with opened(path):
            pass
        return first, ask()


def leases(path, flags, kind):
    with opened(path, flags) as fd:
        return call_all([lambda: fcntl.fcntl(fd, fcntl.F_SETLEASE, kind), lambda: fcntl.fcntl(fd, fcntl.F_GETLEASE),
                         lambda: fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_UNLCK)])


def test_locks_and_leases(pair):
    pair.must_be_alike([Case(actor, [*things(kind, 'x', 0o666, OWNER, GROUP)], (call, 'x', *args))
                        for actor in ('root', 'owner', 'other') for kind in ('file', 'linked')
                        for call, *args in [(locks,), (locked_by_another,),
                                            *((leases, flags, kind) for flags in (os.O_RDONLY, os.O_RDWR)
                                            for kind in (fcntl.F_RDLCK, fcntl.F_WRLCK))]])


# --- watches ---------------------------------------------------------------------------------------------------

IN_ALL = 0xfff


def events(directory, calls):
    """What inotify tells of calls in a directory: [(mask, is it about two names of one rename, name)]."""
    fd = checked(libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC))
    try:
        checked(libc.inotify_add_watch(fd, os.fsencode(directory), IN_ALL))
        answers = call_all([lambda call=call: call[0](*call[1:]) for call in calls])
        try:
            data = os.read(fd, 1 << 16)
        except BlockingIOError:
            data = b''
    finally:
        os.close(fd)
    found, at = [], 0
    while at < len(data):
        _, mask, cookie, length = struct.unpack_from('iIII', data, at)
        found.append((mask, cookie != 0, data[at + 16:at + 16 + length].rstrip(b'\0')))
        at += 16 + length
    return answers, found


def test_watches_are_told(pair):
    calls = [[(os.mkdir, 'd/new'), (os.rmdir, 'd/new')], [(os.unlink, 'd/x'), (os.rmdir, 'd')]]
    calls += [[call] for call in (
        (os.rename, 'd/x', 'd/y'), (os.rename, 'd/x', 'y'), (os.rename, 'e', 'd/x'), (os.rename, 'd', 'f'),
        (renameat2, 'd/x', 'e', RENAME_EXCHANGE), (renameat2, 'd/x', 'e', RENAME_NOREPLACE), (os.link, 'd/x', 'd/y'), (os.link, 'd/x', 'y'),
        (os.unlink, 'd/x'), (os.symlink, 'a', 'd/new'), (os.listdir, 'd'), (os.chmod, 'd/x', 0o600), (os.chmod, 'd', 0o700), (os.chown, 'd/x', 1, 1),
        (os.truncate, 'd/x', 3), (os.setxattr, 'd/x', 'user.name', b'value'), (utimensat, 'd/x', UTIME_NOW, UTIME_NOW),
        (open_and_close, 'd/x', os.O_RDONLY), (open_and_close, 'd/new', os.O_RDWR | os.O_CREAT), (open_and_close, 'd/x', os.O_RDWR | os.O_TRUNC),
        (on, 'd/x', os.O_RDWR, os.write, b'more'), (on, 'd/x', os.O_RDWR, os.read, 3), (on, 'd/x', os.O_RDWR, os.ftruncate, 1),
        (on, 'd/x', os.O_RDWR, fallocate, 0, 0, 100))]
    pair.must_be_alike(Case('root', [Thing('d', 'dir', 0o777), *things('file', 'd/x'), *things('file', 'e')], (events, 'd', call))
                       for call in calls)


# --- limits ----------------------------------------------------------------------------------------------------

def below_a_limit(path, call, *args):
    """The call's answer in a process whose files may have 1,000 bytes, and the file then."""
    def answer():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
        return outcome(call, path, *args), os.stat(path).st_size

    return in_process((0, 0), '.', answer)


def pwrite(path, size, offset):
    return on(path, os.O_RDWR, os.pwrite, b'x' * size, offset)


def test_files_that_may_not_be_longer(pair):
    """Allocating is left out: ext4 changes a file's times when it refuses that."""
    calls = [(pwrite, 100, 950), (pwrite, 100, 1000), (pwrite, 1, 999), (pwrite, 2000, 0), (pwrite, 0, 2000), (os.truncate, 1000),
             (os.truncate, 1001),
             (on, os.O_RDWR, fallocate, FALLOC_KEEP_SIZE, 0, 5000),
             (on, os.O_RDWR, fallocate, FALLOC_KEEP_SIZE | FALLOC_PUNCH_HOLE, 0, 5000), (on, os.O_RDWR | os.O_APPEND, os.write, b'x' * 990)]
    pair.must_be_alike(Case(actor, [*things(kind, 'x', 0o666, OWNER, GROUP)], (below_a_limit, 'x', *call))
                       for actor in ('root', 'other') for kind in ('file', 'empty') for call in calls)


# --- who a process is ------------------------------------------------------------------------------------------

def as_another(path, call, *args):
    """The call's answer while the process is OTHER for file systems only."""
    def answer():
        libc.setfsgid(OTHER)
        libc.setfsuid(OTHER)
        return outcome(call, path, *args)

    return in_process((0, 0), '.', answer)


def test_a_process_that_is_another_for_files_only(pair):
    calls = [(open_and_close, os.O_RDONLY), (open_and_close, os.O_RDWR), (open_and_close, os.O_RDWR | os.O_CREAT), (os.chmod, 0o600),
             (os.chown, OTHER, OTHER),
             (os.truncate, 3), (os.unlink,), (os.mkdir,), (os.mkfifo,), (utimensat, UTIME_NOW, UTIME_NOW), (pwrite, 3, 0)]
    pair.must_be_alike(Case('root', [Thing('d', 'dir', mode), *made], (as_another, path, *call))
                       for mode in (0o755, 0o777, 0o1777) for uid in (0, OTHER)
                       for made, path in (([*things('file', 'd/x', 0o644, uid, 0)], 'd/x'), ([], 'd/new')) for call in calls)


def who_a_program_is(path, owner, mode):
    """Who `id` says it is, as a program with this owner and mode."""
    with open('/usr/bin/id', 'rb') as source, open(path, 'wb') as target:
        target.write(source.read())
    os.chown(path, *owner)
    os.chmod(path, mode)
    told = [subprocess.run([path, which], capture_output=True, text=True, check=False, user=OWNER, group=GROUP, extra_groups=[])
    for which in ('-u', '-g')]
    return [(result.returncode, result.stdout) for result in told]


def test_programs_take_their_owner(pair):
    pair.must_be_alike(Case('root', [], (who_a_program_is, './program', owner, mode))
                       for owner in ((OTHER, OTHER), (0, 0)) for mode in (0o755, 0o4755, 0o2755, 0o6755, 0o2745, 0o4711))


def test_what_sticky_directories_protect(pair):
    calls = [(open_and_close, 'd/x', os.O_RDWR | os.O_CREAT | os.O_NONBLOCK), (open_and_close, 'd/x', os.O_RDONLY | os.O_NONBLOCK),
             (kind_of, 'd/x'),
             (os.link, 'd/x', 'd/y'), (os.chmod, 'd/x', 0o600)]
    pair.must_be_alike(Case(actor, [Thing('d', 'dir', mode, dir_owner, 0), *things(kind, 'd/x', 0o666, owner, 0)], call)
                       for actor in ('root', 'owner') for mode in (0o777, 0o1777, 0o1775) for dir_owner in (0, OWNER, OTHER)
                       for owner in (0, OWNER, OTHER)
                       for kind in ('file', 'fifo', 'to-file') for call in calls)


def kind_of(path):
    return stat.S_IFMT(os.stat(path).st_mode)


# --- capabilities of files -------------------------------------------------------------------------------------

CAPABILITY = bytes.fromhex('0000000200040000000000000000000000000000')     # vfs_cap_data: revision 2, CAP_NET_BIND_SERVICE


def capability_after(path, call, *args):
    """Whether a file's capability survives a call that root makes."""
    os.setxattr(path, 'security.capability', CAPABILITY)
    return outcome(call, path, *args), outcome(os.getxattr, path, 'security.capability')


def to_and_fro(path):
    os.rename(path, 'elsewhere')
    os.rename('elsewhere', path)


def test_capabilities_go_with_what_they_vouch_for(pair):
    calls = [(pwrite, 3, 0), (pwrite, 0, 0), (os.truncate, 3), (os.truncate, 18), (on, os.O_RDWR, os.ftruncate, 3),
             (on, os.O_RDWR, fallocate, 0, 0, 100),
             (open_and_close, os.O_RDWR), (open_and_close, os.O_RDWR | os.O_TRUNC), (os.chown, 1, 1), (os.chown, -1, -1), (os.chmod, 0o600),
             (to_and_fro,), (utimensat, UTIME_NOW, UTIME_NOW), (os.setxattr, 'security.capability', b'nonsense'), (os.link, 'other')]
    pair.must_be_alike(Case('root', [*things('file', 'x', 0o755)], (capability_after, 'x', *call)) for call in calls)


# --- descriptors -----------------------------------------------------------------------------------------------

def through_o_path(path, call, *args):
    with opened(path, os.O_PATH | os.O_NOFOLLOW) as fd:
        return outcome(call, fd, *args)


def through_proc(fd, call, *args):
    return call(f'/proc/self/fd/{fd}', *args)


def chown_itself(fd, uid, gid):
    checked(libc.fchownat(fd, b'', uid, gid, 0x1000))      # AT_EMPTY_PATH


def facts_of(fd):
    return facts(os.fstat(fd))


def test_descriptors_that_only_name(pair):
    calls = [(os.read, 1), (os.write, b'x'), (os.fchmod, 0o600), (os.fchown, 1, 1), (os.ftruncate, 0), (facts_of,), (os.listdir,),
             (os.fsync,),
             (through_proc, os.chmod, 0o611), (through_proc, open_and_close, os.O_RDWR | os.O_NONBLOCK), (through_proc, os.truncate, 3),
             (through_proc, os.chown, OWNER, GROUP), (chown_itself, OTHER, OTHER), (through_proc, os.setxattr, 'user.name', b'value')]
    pair.must_be_alike(Case(actor, [*things(kind, 'x', 0o644, OWNER, GROUP)], (through_o_path, 'x', *call))
                       for actor in ACTORS for kind in ('file', 'dir', 'fifo', 'to-file', 'dangling') for call in calls)
