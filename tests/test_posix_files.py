"""A mount with -o posix answers every call of every user as a plain directory of the host does: tables of files and attributes."""

import itertools
import mmap
import os
import socket
import stat

import pytest

from calls import (AT_SYMLINK_NOFOLLOW, FALLOC_KEEP_SIZE, FALLOC_PUNCH_HOLE, FALLOC_ZERO_RANGE, UTIME_NOW,
                   UTIME_OMIT, call_all, facts, fallocate, on, open_and_close, opened, outcome, utimensat)
from side_by_side import ACTORS, GROUP, KINDS, OTHER, OWNER, Case, Pair, Thing, modes_for, pair, room, things
from umlfs_cli import ROOT

pytestmark = pytest.mark.skipif(not ROOT, reason='needs root')

product = itertools.product
USERS = list(ACTORS)
WAYS = [os.O_RDONLY, os.O_WRONLY, os.O_RDWR]
REAL = [kind for kind in KINDS if kind != 'nothing']


def subsets(flags):
    """Every sum of some of the flags."""
    return [sum(some) for n in range(len(flags) + 1) for some in itertools.combinations(flags, n)]


# --- opening ---------------------------------------------------------------------------------------------------

def test_opening_every_kind_with_every_flag(pair):
    flags = subsets([os.O_CREAT, os.O_EXCL, os.O_TRUNC, os.O_DIRECTORY, os.O_NOFOLLOW])
    alone = [os.O_APPEND | os.O_NOATIME, os.O_PATH, os.O_PATH | os.O_NOFOLLOW]
    pair.must_be_alike(Case('root', [*things(kind, 'x')], (open_and_close, 'x', way | more | os.O_NONBLOCK, 0o640))
                       for kind in KINDS for way in WAYS for more in flags + alone)


def test_opening_with_every_mode(pair):
    pair.must_be_alike(Case(actor, [*things(kind, 'x', mode, OWNER, GROUP)], (open_and_close, 'x', way | more | os.O_NONBLOCK, 0o640))
                       for actor in USERS for mode in modes_for(actor) for kind in ('file', 'to-file', 'fifo', 'char', 'dir')
                       for way in WAYS for more in (0, os.O_TRUNC, os.O_CREAT))


def listen(path):
    with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as client:
        server.bind(path)
        server.listen()
        client.connect(path)
        return facts(os.lstat(path))


def connect(path):
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(path)


def through_fifo(path):
    with opened(path, os.O_RDONLY | os.O_NONBLOCK) as reader, opened(path, os.O_WRONLY | os.O_NONBLOCK) as writer:
        answer = os.write(writer, b'through'), os.read(reader, 100)
    os.utime(path)      # what goes through a FIFO is the kernel's business: no file server hears of it
    return answer


def test_sockets_and_fifos(pair):
    pair.must_be_alike(Case(actor, [Thing('d', 'dir', mode), *things(kind, 'x', mode, OWNER, GROUP)], call)
                       for actor in USERS for kind in ('socket', 'fifo', 'file', 'dangling') for mode in (0o777, 0o600)
                       for call in [(listen, 'd/socket'), (listen, 'x'), (connect, 'x'), (through_fifo, 'x')]
                       if call[0] != through_fifo or kind == 'fifo')


# --- making ----------------------------------------------------------------------------------------------------

def mknod(path, kind, mode):
    os.mknod(path, kind | mode, os.makedev(1, 3))


def mkdir(path, kind, mode):
    os.mkdir(path, mode)


def symlink(path, kind, mode):
    os.symlink('anywhere', path)


def creat(path, kind, mode):
    with opened(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, mode) as fd:
        return os.write(fd, b'mine'), os.fstat(fd).st_mode


MAKING = [(mknod, stat.S_IFREG), (mknod, stat.S_IFIFO), (mknod, stat.S_IFSOCK), (mknod, stat.S_IFCHR), (mknod, stat.S_IFBLK),
          (mknod, stat.S_IFDIR), (mknod, 0), (mkdir, 0), (symlink, 0), (creat, 0)]


def test_owner_and_mode_of_what_is_made(pair):
    pair.must_be_alike(Case(actor, [Thing('d', 'dir', above, OWNER, group)], (call, 'd/new', kind, mode), umask)
                       for actor in USERS for above in (0o777, 0o2777, 0o3775) for group in (GROUP, OTHER)
                       for call, kind in MAKING
                       for mode, umask in ((0o644, 0o022), (0o7777, 0o077), (0o2755, 0), (0, 0)))


def test_devices_of_every_number(pair):
    pair.must_be_alike(Case('root', [], (os.mknod, 'new', kind | 0o600, os.makedev(major, minor)))
                       for kind in (stat.S_IFCHR, stat.S_IFBLK) for major, minor in
                       [(0, 0), (1, 2), (255, 255), (256, 256), (4095, 1048575), (0, 1048575), (4095, 0)])


# --- owners and modes ------------------------------------------------------------------------------------------

def fchown(path, uid, gid):
    on(path, os.O_RDONLY | os.O_NONBLOCK, os.fchown, uid, gid)


def fchmod(path, mode):
    on(path, os.O_RDONLY | os.O_NONBLOCK, os.fchmod, mode)


def test_chown(pair):
    pair.must_be_alike(Case(actor, [*things(kind, 'x', mode, OWNER, GROUP)], (call, 'x', uid, gid))
                       for actor in USERS for kind in ('file', 'dir', 'fifo', 'char', 'to-file', 'dangling')
                       for mode in (0o6775, 0o6744) for uid in (-1, OWNER, OTHER) for gid in (-1, GROUP, OTHER)
                       for call in (os.chown, os.lchown, fchown) if kind in ('file', 'dir') or call != fchown)


def test_chown_of_what_belongs_to_the_group_of_others(pair):
    pair.must_be_alike(Case(actor, [*things(kind, 'x', mode, OWNER, group)], (call, 'x', uid, gid))
                       for actor in ('owner', 'root') for kind in ('file', 'dir', 'fifo') for mode in (0o6775, 0o6744, 0o2644)
                       for group in (GROUP, OTHER) for uid in (-1, OWNER) for gid in (-1, GROUP) for call in (os.chown, fchown)
                       if kind != 'fifo' or call != fchown)


def test_chmod(pair):
    pair.must_be_alike(Case(actor, [*things(kind, 'x', before, uid, gid)], (call, 'x', mode))
                       for actor in USERS for kind in ('file', 'dir', 'fifo', 'socket', 'block', 'to-dir', 'dangling')
                       for before in (0o644, 0o6711) for uid, gid in ((OWNER, GROUP), (OWNER, OTHER))
                       for mode in (0o640, 0o7777, 0o2755, 0o1644, 0)
                       for call in (os.chmod, fchmod) if kind in ('file', 'dir') or call != fchmod)


def append(path, data):
    return on(path, os.O_WRONLY | os.O_APPEND, os.write, data)


def write(path, data):
    return on(path, os.O_WRONLY, os.write, data)


def ftruncate(path, size):
    return on(path, os.O_RDWR, os.ftruncate, size)


def allocate(path, mode, offset, length):
    on(path, os.O_RDWR, fallocate, mode, offset, length)


def copy_range(path):
    with opened(path, os.O_RDWR) as fd:
        return os.copy_file_range(fd, fd, 4, 0, 100)


def through_map(path):
    with opened(path, os.O_RDWR) as fd, mmap.mmap(fd, 4) as view:
        view[:4] = b'maps'
        view.flush()


def set_user_xattr(path):
    os.setxattr(path, 'user.name', b'value')


WRITING = [(write, b''), (write, b'x'), (write, b'x' * 9000), (append, b''), (append, b'more'), (os.truncate, 18), (os.truncate, 3),
           (os.truncate, 0), (os.truncate, 70000), (ftruncate, 18), (ftruncate, 3), (ftruncate, 0), (ftruncate, 100),
           (open_and_close, os.O_WRONLY | os.O_TRUNC), (open_and_close, os.O_WRONLY | os.O_CREAT | os.O_TRUNC),
           (open_and_close, os.O_RDWR), (allocate, 0, 0, 18), (allocate, 0, 5, 9000), (allocate, FALLOC_KEEP_SIZE, 0, 9000),
           (allocate, FALLOC_KEEP_SIZE | FALLOC_PUNCH_HOLE, 0, 4), (allocate, FALLOC_ZERO_RANGE, 0, 4),
           (allocate, FALLOC_PUNCH_HOLE, 0, 4), (allocate, 0, 0, 0), (allocate, 0, -1, 5), (allocate, 0, 5, -1),
           (copy_range,), (set_user_xattr,)]


def test_writing_takes_privileges_away(pair):
    pair.must_be_alike(Case(actor, [*things(kind, 'x', mode, OWNER, GROUP)], (call, 'x', *args))
                       for actor in USERS for kind in ('file', 'empty') for mode in (0o666, 0o6777, 0o4666, 0o6755, 0o2666, 0o6766)
                       for call, *args in WRITING)


def test_allocating_more_than_a_file_can_have(pair):
    """Without set-user-id: for FUSE the kernel takes it away first, because only the server knows how long a file can be."""
    pair.must_be_alike(Case(actor, [*things('file', 'x', 0o666)], (allocate, 'x', mode, offset, length))
                       for actor in USERS for mode in (0, FALLOC_KEEP_SIZE, FALLOC_ZERO_RANGE)
                       for offset, length in (((1 << 63) - 2, 1), ((1 << 63) - 1, 9), (1 << 62, 1), (5, (1 << 63) - 1)))


# --- times -----------------------------------------------------------------------------------------------------

def test_utimensat(pair):
    times = [UTIME_NOW, UTIME_OMIT, (1_500_000_000, 123_456_789)]
    pair.must_be_alike(Case(actor, [*things(kind, 'x', mode, uid, GROUP)], (utimensat, 'x', atime, mtime, flags))
                       for actor in USERS for kind, mode in (('file', 0o644), ('file', 0o666), ('file', 0o2666), ('dir', 0o777),
                                                            ('to-file', 0o666), ('dangling', 0o777))
                       for uid in (OWNER, 0) for flags in (0, AT_SYMLINK_NOFOLLOW)
                       for atime, mtime in product(times, repeat=2))


def test_utimensat_with_odd_times(pair):
    times = [UTIME_NOW, UTIME_OMIT, (5_000_000_000, 0), (-(1 << 31) + 1, 999_999_999), (1, 1_000_000_000), (1, -1), (1 << 33, 5)]
    pair.must_be_alike(Case(actor, [*things(kind, 'x', 0o666, OWNER, GROUP)], (utimensat, 'x', atime, mtime, flags))
                       for actor in ('owner', 'other') for kind in ('file', 'dir', 'dangling')
                       for flags in (0, AT_SYMLINK_NOFOLLOW, 1 << 20)
                       for atime, mtime in product(times, repeat=2))


# --- without a name --------------------------------------------------------------------------------------------

def after_unlink(path, calls):
    with opened(path, os.O_RDWR) as fd:
        os.unlink(path)
        return call_all([lambda call=call, args=args: call(fd, *args) for call, *args in calls]), facts(os.fstat(fd))


def after_rmdir(path, calls):
    with opened(path, os.O_RDONLY) as fd:
        os.rmdir(path)
        return call_all([lambda call=call, args=args: call(fd, *args) for call, *args in calls]), os.fstat(fd).st_nlink


def link_again(fd, path):
    os.link(f'/proc/self/fd/{fd}', path, follow_symlinks=True)


def make_below(fd, how):
    if how == 'dir':
        os.mkdir('new', dir_fd=fd)
    elif how == 'file':
        os.close(os.open('new', os.O_RDWR | os.O_CREAT, dir_fd=fd))
    else:
        os.stat(how, dir_fd=fd)


def stamps(fd, ns):
    os.utime(fd, ns=(ns, ns))
    return os.fstat(fd).st_mtime_ns


FILE_CALLS = [(os.write, b'written'), (os.ftruncate, 3), (os.ftruncate, 100), (os.pread, 100, 0), (os.fchmod, 0o4711), (os.fchown, -1, GROUP),
              (stamps, 5), (fallocate, 0, 0, 5000), (link_again, 'again'), (os.fsync,)]
DIR_CALLS = [(os.listdir,), (os.fchmod, 0o700), (os.fchown, -1, GROUP), (stamps, 5), (make_below, 'dir'), (make_below, 'file'),
             (make_below, 'new'), (make_below, '.'), (os.fsync,)]


def test_what_has_no_name_any_more(pair):
    cases = [Case(actor, [Thing('d', 'dir', 0o777), *things(kind, 'd/x', None, OWNER, GROUP)], (how, 'd/x', [call]))
             for actor in ('root', 'owner') for kinds, how, calls in ((('file', 'linked'), after_unlink, FILE_CALLS),
                                                                      (('dir',), after_rmdir, DIR_CALLS))
             for kind in kinds for call in calls]
    pair.must_be_alike(cases)


# --- programs --------------------------------------------------------------------------------------------------

def while_it_runs(path, call, *args):
    """path becomes a copy of cat, which runs during the call."""
    with open('/bin/cat', 'rb') as source, open(path, 'wb') as target:
        target.write(source.read())
    read_end, write_end = os.pipe()
    pid = os.posix_spawn(path, ['cat'], {}, file_actions=[(os.POSIX_SPAWN_DUP2, read_end, 0), (os.POSIX_SPAWN_CLOSE, write_end)])
    try:
        return outcome(call, path, *args)
    finally:
        os.close(write_end)
        os.close(read_end)
        os.waitpid(pid, 0)


def while_it_is_written(path):
    with opened(path, os.O_WRONLY):
        return outcome(os.posix_spawn, path, ['x'], {})


def test_programs_that_run(pair):
    calls = [(open_and_close, way | more) for way in WAYS for more in (0, os.O_TRUNC, os.O_CREAT, os.O_APPEND)]
    calls += [(os.truncate, 5), (os.truncate, 0), (os.chmod, 0o755), (os.unlink,), (os.rename, 'y'), (os.link, 'y'), (os.chown, OWNER, GROUP)]
    pair.must_be_alike([Case(actor, [Thing('d', 'dir', 0o777), *things('file', 'd/x', 0o777)], (while_it_runs, 'd/x', *call))
                        for actor in ('root', 'other') for call in calls] +
                       [Case('root', [*things('file', 'x', 0o777)], (while_it_is_written, 'x'))])


# --- extended attributes ---------------------------------------------------------------------------------------

def xattrs(path, name):
    return call_all([lambda: os.setxattr(path, name, b'value', follow_symlinks=False),
                     lambda: os.setxattr(path, name, b'', os.XATTR_CREATE, follow_symlinks=False),
                     lambda: os.getxattr(path, name, follow_symlinks=False),
                     lambda: name in os.listxattr(path, follow_symlinks=False),
                     lambda: os.removexattr(path, name, follow_symlinks=False),
                     lambda: os.removexattr(path, name, follow_symlinks=False)])


def test_extended_attributes(pair):
    pair.must_be_alike(Case(actor, [*things(kind, 'x', mode, OWNER, GROUP)], (xattrs, 'x', name))
                       for actor in USERS for kind in ('file', 'dir', 'dangling', 'fifo') for mode in (0o644, 0o666, 0o1777, 0o400)
                       for name in ('user.name', 'trusted.name', 'security.name', 'user.', 'nonsense', 'user.' + 'n' * 251))


# --- a mount that takes no changes -----------------------------------------------------------------------------

def test_a_mount_that_takes_no_changes(room):
    calls = [(os.mkdir, 'new'), (os.mkdir, 'x'), (os.rmdir, 'x'), (os.unlink, 'x'), (os.unlink, 'new'), (os.rename, 'x', 'y'), (os.rename, 'new', 'x'),
             (os.link, 'x', 'y'), (os.symlink, 'a', 'new'), (os.symlink, 'a', 'x'), (os.mkfifo, 'new'), (os.chmod, 'x', 0o600),
             (os.chown, 'x', 1, 1), (os.chown, 'x', -1, -1), (os.truncate, 'x', 0), (os.truncate, 'new', 0), (utimensat, 'x', UTIME_NOW, UTIME_NOW),
             (utimensat, 'x', UTIME_OMIT, UTIME_OMIT), (os.setxattr, 'x', 'user.name', b''), (os.access, 'x', os.W_OK), (os.access, 'x', os.R_OK),
             *((open_and_close, 'x', way | os.O_NONBLOCK | more) for way in WAYS for more in (0, os.O_TRUNC, os.O_CREAT, os.O_CREAT | os.O_EXCL)),
             *((open_and_close, 'new', way | os.O_CREAT) for way in WAYS)]
    Pair(room, 'read-only', 'posix,ro').must_be_alike(
        Case(actor, [*things(kind, 'x')], call) for actor in ('root', 'owner') for kind in REAL for call in calls)
