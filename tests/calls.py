"""System calls that Python's os module lacks, and what several file system tests say in the same words."""

import contextlib
import ctypes
import errno
import os
import stat
import struct
import subprocess
import time
import traceback

RENAME_NOREPLACE = 1
RENAME_EXCHANGE = 2
RENAME_WHITEOUT = 4

FALLOC_KEEP_SIZE = 0x01
FALLOC_PUNCH_HOLE = 0x02
FALLOC_ZERO_RANGE = 0x10
FALLOC_INSERT_RANGE = 0x20

AT_FDCWD = -100
AT_SYMLINK_NOFOLLOW = 0x100

UTIME_NOW = (0, (1 << 30) - 1)
UTIME_OMIT = (0, (1 << 30) - 2)
CLOCK_REALTIME_COARSE = 5      # what file systems take times from

_libc = ctypes.CDLL(None, use_errno=True)
_libc.fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]
_libc.renameat2.argtypes = [ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint]
_libc.getdents64.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t]
_libc.getdents64.restype = ctypes.c_ssize_t
_libc.utimensat.argtypes = [ctypes.c_int, ctypes.c_char_p, ctypes.c_int64 * 4, ctypes.c_int]


def _check(result):
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


def renameat2(source, target, flags):
    """Relative to the current directory."""
    _check(_libc.renameat2(AT_FDCWD, os.fsencode(source), AT_FDCWD, os.fsencode(target), flags))


def fallocate(fd, mode, offset, length):
    _check(_libc.fallocate(fd, mode, offset, length))


def utimensat(path, atime, mtime, flags=0):
    """Times are (seconds, nanoseconds), UTIME_NOW or UTIME_OMIT; relative to the current directory."""
    _check(_libc.utimensat(AT_FDCWD, os.fsencode(path), (ctypes.c_int64 * 4)(*atime, *mtime), flags))


def getdents(fd, size=32768):
    """One buffer of directory entries: [(name, inode number, type, cookie of the next)]; [] at the end."""
    buffer = ctypes.create_string_buffer(size)
    used = _check(_libc.getdents64(fd, buffer, size))
    entries, at, raw = [], 0, buffer.raw
    while at < used:
        ino, cookie, length, kind = struct.unpack_from('<QqHB', raw, at)
        entries.append((raw[at + 19:at + length].split(b'\0', 1)[0], ino, kind, cookie))
        at += length
    return entries


def whole_listing(path, size=32768):
    """All of getdents()."""
    entries = []
    with opened(path, os.O_RDONLY | os.O_DIRECTORY) as fd:
        while found := getdents(fd, size):
            entries += found
    return entries


def reopening_walk(path, each=None, size=32768):
    """Lists a directory as hostfs does: every buffer from a descriptor of its own, sought to where the last one ended.

    each, if given, is called with the names of a buffer before the next one is read.
    """
    names, cookie = [], 0
    while True:
        with opened(path, os.O_RDONLY | os.O_DIRECTORY) as fd:
            os.lseek(fd, cookie, os.SEEK_SET)
            entries = getdents(fd, size)
        if not entries:
            return [name for name in names if name not in (b'.', b'..')]
        found = [entry[0] for entry in entries]
        names += found
        cookie = entries[-1][3]
        if each:
            each([name for name in found if name not in (b'.', b'..')])


def outcome(call, *args, **options):
    """What a call gives back, or the name of its error."""
    try:
        return call(*args, **options)
    except OSError as error:
        return 'EOPNOTSUPP' if error.errno == errno.EOPNOTSUPP else errno.errorcode[error.errno]


@contextlib.contextmanager
def opened(path, flags=os.O_RDONLY, mode=0o666):
    fd = os.open(path, flags, mode)
    try:
        yield fd
    finally:
        os.close(fd)


def write_file(path, data=b'', mode=0o644):
    """Writes and sets the mode whatever the umask is."""
    with open(path, 'wb') as stream:
        stream.write(data)
    os.chmod(path, mode)


def overwrite(path, data):
    """Writes; the mode of a file that is there stays."""
    with open(path, 'wb') as stream:
        stream.write(data)


def append(path, data):
    with open(path, 'ab') as stream:
        stream.write(data)


def read_file(path):
    with open(path, 'rb') as stream:
        return stream.read()


def clock_has_moved():
    """Returns when a change made now gets another time than all changes before."""
    before = time.clock_gettime_ns(CLOCK_REALTIME_COARSE)
    while time.clock_gettime_ns(CLOCK_REALTIME_COARSE) == before:
        pass


def forked(call, *args):
    """Starts call(*args) in a process of its own, which ends with 0 when it ended well. Its pid, for ended()."""
    pid = os.fork()
    if pid == 0:
        try:
            call(*args)
            os._exit(0)
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(1)
    return pid


def ended(pids):
    """The exit statuses of processes, when they have ended."""
    return [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]


def at_the_same_time(calls):
    """Each in a process of its own; all must end well."""
    assert ended([forked(call) for call in calls]) == [0] * len(calls)


def call_all(calls):
    """[(number, the call's result or error)] of calls made one after the other."""
    return [(number, outcome(call)) for number, call in enumerate(calls)]


def facts(st):
    """Of an os.stat_result, what does not depend on which file system it is."""
    is_dir = stat.S_ISDIR(st.st_mode)
    return st.st_mode, 0 if is_dir else st.st_nlink, 0 if is_dir else st.st_size


def open_and_close(path, flags, mode=0o666):
    with opened(path, flags, mode) as fd:
        return facts(os.fstat(fd))


def create(path):
    """Makes a file as hostfs does, without O_EXCL."""
    os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o644))


def on(path, flags, call, *args):
    """A call on a descriptor."""
    with opened(path, flags) as fd:
        return call(fd, *args)


def sh(script, **options):
    """A shell script that must end with 0, and does not see what the tests were given."""
    subprocess.run(['sh', '-ec', script], check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, **options)
