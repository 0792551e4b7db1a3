"""Bytes and special files through a mount are as on a plain host directory, and are kept."""

import contextlib
import fcntl
import mmap
import os
import socket
import stat

import pytest

from calls import (FALLOC_KEEP_SIZE, FALLOC_PUNCH_HOLE, FALLOC_ZERO_RANGE, at_the_same_time,
                   call_all, facts, fallocate, on, opened, outcome, read_file, write_file)
from places import Here, as_on_the_host, assert_kept, here, none, through_a_mount, unlike

GIB = 1 << 30
KEEP, PUNCH, ZERO = FALLOC_KEEP_SIZE, FALLOC_PUNCH_HOLE, FALLOC_ZERO_RANGE


# --- bytes -----------------------------------------------------------------------------------------------------

@as_on_the_host
def test_reading_and_writing():
    def tail(path):
        return os.stat(path).st_size, read_file(path)[-20:]
    with opened('large', os.O_RDWR) as base, opened('new', os.O_RDWR | os.O_CREAT) as new:
        results = call_all([
            lambda: os.pread(base, 10, 100),
            lambda: os.pread(base, 10, 1 << 40),
            lambda: os.pread(base, 1 << 20, (1 << 20) - 5),
            lambda: os.pwrite(base, b'in the middle', 4090),
            lambda: os.pread(base, 30, 4085),
            lambda: os.pwrite(base, b'', 1 << 30),
            lambda: os.pwrite(base, b'beyond', (1 << 20) + 100),
            lambda: os.pread(base, 120, 1 << 20),
            lambda: os.writev(new, [b'one ', b'', b'two ', b'three']),
            lambda: os.lseek(new, -3, os.SEEK_CUR),
            lambda: os.write(new, b'end'),
            lambda: os.lseek(new, 0, os.SEEK_END),
            lambda: os.lseek(new, -1, os.SEEK_SET),
            lambda: os.pread(new, 100, 0),
            lambda: os.pwrite(new, b'z', (1 << 63) - 1),
            lambda: os.pwrite(new, b'z', -1),
            lambda: os.pwrite(new, b'data' * 100_000, 10_000),
            lambda: os.preadv(new, [bytearray(10), bytearray(5)], 9_995),
            lambda: os.sendfile(new, base, 0, 1000),
        ])
    return results, tail('large'), tail('new')


@as_on_the_host
def test_truncating():
    return call_all([
        lambda: os.truncate('plain', 5),
        lambda: os.truncate('plain', 10),
        lambda: read_file('plain'),
        lambda: os.truncate('empty', 5000),
        lambda: read_file('empty').strip(b'\0'),
        lambda: os.truncate('large', 4097),
        lambda: os.truncate('large', 8192),
        lambda: read_file('large')[4090:4100],
        lambda: os.truncate('second', 0),
        lambda: os.truncate('second', 3),
        lambda: read_file('second'),
        lambda: os.truncate('other/linked', 20),
        lambda: os.truncate('dir', 0),
        lambda: os.truncate('nothing', 0),
        lambda: os.truncate('plain', -1),
        lambda: os.truncate('plain', (1 << 63) - 1),
        lambda: os.truncate('symlink', 2),
        lambda: read_file('plain'),
    ])


@as_on_the_host
def test_a_truncated_tail_reads_as_zeros_when_the_file_grows_again():
    names = ('large', 'plain', 'sparse', 'second')
    for name in names:
        with opened(name, os.O_RDWR) as fd:
            os.pread(fd, 100_000, 0)
            if name in ('sparse', 'second'):
                os.pwrite(fd, b'written before', 0)
            os.ftruncate(fd, 5)
            os.pwrite(fd, b'later', 5000)
    return [read_file(name) for name in names]


@as_on_the_host
def test_appending():
    with opened('plain', os.O_WRONLY | os.O_APPEND) as one, opened('plain', os.O_RDWR | os.O_APPEND) as two:
        for number in range(20):
            os.write(one, b'one %d\n' % number)
            os.write(two, b'and two %d\n' % number)
        os.pwrite(one, b'pwrite appends too\n', 0)
    with opened('new', os.O_WRONLY | os.O_APPEND | os.O_CREAT) as fd:
        os.write(fd, b'a')
        os.truncate('new', 10)
        os.write(fd, b'b')
    return read_file('plain'), read_file('new')


@through_a_mount
def test_appends_of_several_processes_are_all_there(here):
    def append(letter):
        with opened('plain', os.O_WRONLY | os.O_APPEND) as fd:
            for number in range(200):
                os.write(fd, b'%c%03d\n' % (letter, number))
    at_the_same_time([lambda letter=letter: append(letter) for letter in b'abcd'])
    lines = read_file('plain').split(b'\n')[1:-1]
    assert len(lines) == 800
    for letter in b'abcd':
        assert [line for line in lines if line[0] == letter] == [b'%c%03d' % (letter, number) for number in range(200)]


@as_on_the_host
def test_mapped_files():
    page = mmap.PAGESIZE
    results = []
    for name in ('large', 'new'):
        with opened(name, os.O_RDWR | os.O_CREAT) as fd:
            os.ftruncate(fd, 5 * page)
            with mmap.mmap(fd, 5 * page) as shared, mmap.mmap(fd, 5 * page, flags=mmap.MAP_PRIVATE) as private:
                private[0:4] = b'mine'
                shared[page:page + 6] = b'shared'
                results += [bytes(private[page:page + 6]), os.pread(fd, 6, page), os.pread(fd, 4, 0)]
                os.pwrite(fd, b'written', 2 * page)
                results += [bytes(shared[2 * page:2 * page + 7]), bytes(private[2 * page:2 * page + 7])]
                shared[3 * page:3 * page + 4] = b'sync'
                shared.flush()
                os.ftruncate(fd, 4 * page)
    with opened('second', os.O_RDONLY) as fd, mmap.mmap(fd, 15, prot=mmap.PROT_READ) as mapped:
        results.append(bytes(mapped[:]))
        write_file('second', b'SECOND CONTENT\n')
        results.append(bytes(mapped[:]))
    return results


@as_on_the_host
def test_what_was_written_by_mapping_is_read_after_all_is_closed():
    with opened('large', os.O_RDWR) as fd, mmap.mmap(fd, 0) as mapped:
        mapped[1000:1010] = b'0123456789'
        mapped[-3:] = b'END'
    with opened('large', os.O_RDONLY) as fd:
        return os.pread(fd, 20, 995), os.pread(fd, 3, 1 << 20)


@as_on_the_host
def test_descriptors_outlive_names():
    results = []
    with opened('large', os.O_RDWR) as base, opened('new', os.O_RDWR | os.O_CREAT) as new, \
            opened('other/linked', os.O_RDWR) as linked, opened('many/001', os.O_RDONLY) as read_only:
        os.write(new, b'never seen again')
        os.unlink('new')
        os.unlink('large')
        os.unlink('many/001')
        os.rename('plain', 'other/linked')
        results.append([os.fstat(fd).st_nlink for fd in (base, new, linked, read_only)])
        write_file('large', b'another file of this name')
        for fd in (base, new, linked):
            os.pwrite(fd, b'after', 3)
            results.append(os.pread(fd, 12, 0))
            os.ftruncate(fd, 4)
            os.pwrite(fd, b'tail', 6)
            results.append(os.pread(fd, 100, 0))
            os.fchmod(fd, 0o640)
            os.utime(fd, ns=(1, 2))
            fallocate(fd, 0, 0, 8192)
            os.fsync(fd)
            results.append(facts(os.fstat(fd)))
        results.append(os.pread(read_only, 10, 0))
    return results, read_file('large'), read_file('dir/sub/linked-too')


@through_a_mount
def test_nothing_is_left_of_unlinked_files_that_were_closed(here):
    with opened('large', os.O_RDWR) as base, opened('new', os.O_RDWR | os.O_CREAT) as new:
        for fd in (base, new):
            os.write(fd, b'to be forgotten')
        for name in ('large', 'new'):
            os.unlink(name)
        assert len(here.contents()) == 2
    for number in range(200):
        write_file('short', b'lived')
        os.unlink('short')
    # Forgetting is the kernel's business: it tells without waiting.
    while here.contents():
        os.statvfs('.')


@as_on_the_host
def test_long_files():
    size = 5 * GIB
    for name in ('large', 'new'):
        with opened(name, os.O_RDWR | os.O_CREAT) as fd:
            os.pwrite(fd, b'far away', size)
            os.pwrite(fd, b'before 4 GiB', 4 * GIB - 6)
            assert os.pread(fd, 12, 4 * GIB - 6) == b'before 4 GiB'
            assert os.pread(fd, 100, size) == b'far away'
            assert os.pread(fd, 10, 2 * GIB) == bytes(10)
            os.ftruncate(fd, size + 4)
            assert os.lseek(fd, 2 * GIB, os.SEEK_DATA) <= 4 * GIB
            assert os.fstat(fd).st_blocks < (4 << 20) // 512
    return os.stat('new').st_size, os.stat('large').st_size


@as_on_the_host
def test_holes():
    results = []
    with opened('sparse', os.O_RDWR) as fd:
        for offset in (0, 100, 1 << 20, (1 << 20) + 100, (1 << 20) + 4096, 2 << 20, 3 << 20, 4 << 20):
            results += call_all([lambda: os.lseek(fd, offset, os.SEEK_DATA), lambda: os.lseek(fd, offset, os.SEEK_HOLE)])
        os.pwrite(fd, b'y', 2 << 20)
        results += call_all([lambda: os.lseek(fd, (1 << 20) + 4096, os.SEEK_DATA),
                             lambda: os.lseek(fd, 1 << 20, os.SEEK_HOLE),
                             lambda: os.fstat(fd).st_blocks < 300])     # a part that is copied up takes 128
    with opened('empty', os.O_RDWR) as fd:
        results += call_all([lambda: os.lseek(fd, 0, os.SEEK_DATA), lambda: os.lseek(fd, 0, os.SEEK_HOLE)])
        os.ftruncate(fd, 1 << 20)
        results += call_all([lambda: os.lseek(fd, 0, os.SEEK_DATA), lambda: os.lseek(fd, 0, os.SEEK_HOLE)])
    results += call_all([lambda: on('plain', os.O_RDONLY, os.lseek, 0, os.SEEK_HOLE)])
    return results


@as_on_the_host
def test_fallocate():
    def calls(fd):
        return call_all([
            lambda: fallocate(fd, KEEP, 0, 1 << 20),
            lambda: os.fstat(fd).st_size,
            lambda: fallocate(fd, 0, 100, 10_000),
            lambda: os.fstat(fd).st_size,
            lambda: fallocate(fd, PUNCH | KEEP, 2, 5),
            lambda: os.pread(fd, 14, 0),
            lambda: fallocate(fd, ZERO, 8, 2),
            lambda: os.pread(fd, 14, 0),
            lambda: fallocate(fd, ZERO | KEEP, 0, 100_000),
            lambda: os.fstat(fd).st_size,
            lambda: fallocate(fd, ZERO, 10_000, 10_000),
            lambda: os.fstat(fd).st_size,
            lambda: fallocate(fd, PUNCH, 0, 10),
            lambda: fallocate(fd, 0, 0, 0),
            lambda: fallocate(fd, 0, -1, 10),
            lambda: fallocate(fd, 0, 0, -1),
            lambda: fallocate(fd, 0, (1 << 63) - 1, 10),
            lambda: os.posix_fallocate(fd, 30_000, 1),
            lambda: os.fstat(fd).st_size,
        ])
    with opened('plain', os.O_RDWR) as base, opened('new', os.O_RDWR | os.O_CREAT) as new:
        return calls(base), calls(new), call_all([
            lambda: on('second', os.O_RDONLY, fallocate, 0, 0, 10),
            lambda: on('dir', os.O_RDONLY, fallocate, 0, 0, 10),
            lambda: on('fifo', os.O_RDWR, fallocate, 0, 0, 10),
        ])


@as_on_the_host
def test_copying_ranges():
    def copy(source, target, length, *offsets):
        with opened(source, os.O_RDONLY) as src, opened(target, os.O_RDWR | os.O_CREAT) as dst:
            return os.copy_file_range(src, dst, length, *offsets)
    return call_all([
        lambda: copy('plain', 'new', 1000),
        lambda: copy('large', 'new', 1 << 30, 1000, 5),
        lambda: copy('large', 'second', 100, 0, 3),
        lambda: copy('new', 'large', 4096, 10, 1 << 20),
        lambda: copy('large', 'large', 100, 0, 4 << 20),
        lambda: copy('large', 'large', 100, 0, 50),
        lambda: copy('plain', 'large', 5, 0, 5000),
        lambda: copy('plain', 'other/linked', 3, 2, 4),
        lambda: copy('plain', 'new', 10, 1000, 0),
        lambda: copy('empty', 'new', 10),
        lambda: copy('plain', 'new', 0),
        lambda: copy('dir', 'new', 10),
        lambda: on('plain', os.O_RDONLY, lambda fd: os.copy_file_range(fd, fd, 5, 0, 5)),
        lambda: [read_file(name) for name in ('new', 'second', 'large', 'other/linked')],
    ])


@as_on_the_host
def test_syncing():
    os.mkdir('new')
    write_file('new/file', b'x')
    calls = []
    for name in ('plain', 'new/file', 'empty', 'large'):
        with opened(name, os.O_RDWR) as fd:
            os.pwrite(fd, b'synced', 0)
            calls += call_all([lambda: os.fsync(fd), lambda: os.fdatasync(fd)])
    for name in ('new', 'dir', '.'):
        calls += call_all([lambda: on(name, os.O_RDONLY, os.fsync), lambda: on(name, os.O_RDONLY, os.fdatasync)])
    os.sync()
    with opened('osync', os.O_RDWR | os.O_CREAT | os.O_SYNC) as fd:
        calls.append(os.write(fd, b'through'))
    return calls


@as_on_the_host
def test_direct_io():
    with mmap.mmap(-1, 8192) as buffer, opened('large', os.O_RDWR | os.O_DIRECT) as fd:
        buffer[:] = b'direct! ' * 1024
        return call_all([lambda: os.pwritev(fd, [buffer], 4096), lambda: os.preadv(fd, [buffer], 8192),
                         lambda: bytes(buffer[:])]), read_file('large')[4000:13000]


# --- special files ---------------------------------------------------------------------------------------------

@as_on_the_host
def test_a_socket_is_bound_and_connected():
    with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as client:
        server.bind('dir/socket')
        server.listen()
        client.connect('dir/socket')
        peer = server.accept()[0]
        client.sendall(b'through the mount')
        got = peer.recv(100)
        peer.close()
    with socket.socket(socket.AF_UNIX) as again:
        return got, facts(os.stat('dir/socket')), call_all([
            lambda: again.bind('dir/socket'), lambda: again.connect('dir/socket'), lambda: again.connect('plain')])


@as_on_the_host
def test_two_processes_talk_through_a_fifo():
    os.mkfifo('new-fifo')

    def write(path):
        with open(path, 'wb', buffering=0) as stream:
            stream.write(b'words through ' + path.encode())
    results = []
    for path in ('fifo', 'new-fifo'):
        pid = os.fork()
        if pid == 0:
            write(path)
            os._exit(0)
        results.append(read_file(path))
        os.waitpid(pid, 0)
    return results


@pytest.mark.parametrize('user', ['root'], indirect=True)
@pytest.mark.parametrize('kind', ['imported', 'plain'])
def test_root_makes_devices(place, kind):
    here = Here(place, kind)

    def body():
        os.mknod('char', stat.S_IFCHR | 0o620, os.makedev(1, 3))
        os.mknod('block', stat.S_IFBLK | 0o660, os.makedev(259, 70000))
        os.link('char', 'dir/char')
        return [(os.stat(name).st_mode, os.stat(name).st_rdev, os.stat(name).st_nlink) for name in ('char', 'block')]
    none(unlike(here.within(body), here.beside(body)))
    assert_kept(here)


@as_on_the_host
def test_locks_are_held_against_others():
    def try_lock(call, fd):
        pid = os.fork()
        if pid == 0:
            with contextlib.suppress(OSError), open('plain', 'r+b') as stream:
                call(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
                os._exit(0)
            os._exit(1)
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    results = []
    for call in (fcntl.flock, fcntl.lockf):
        with open('plain', 'r+b') as stream:
            results.append(try_lock(call, stream))
            call(stream, fcntl.LOCK_EX)
            results.append(try_lock(call, stream))
            call(stream, fcntl.LOCK_UN)
            results.append(try_lock(call, stream))
    return results


def test_a_file_without_a_name(here):
    def body():
        fd = os.open('dir', os.O_RDWR | os.O_TMPFILE, 0o640)
        os.write(fd, b'nameless')
        os.link(f'/proc/self/fd/{fd}', 'dir/named', src_dir_fd=fd, follow_symlinks=True)
        os.close(fd)
        return read_file('dir/named'), facts(os.stat('dir/named'))
    assert here.within(outcome, body) in ('EOPNOTSUPP', here.beside(body))
    assert_kept(here)


def test_statfs_is_the_session_file_systems(here):
    def body():
        return os.statvfs('.'), os.statvfs('dir/file'), os.statvfs(here.session)
    root, file, session = here.within(body)
    for st in (root, file):
        assert (st.f_blocks, st.f_files, st.f_namemax) == (session.f_blocks, session.f_files, 255)
        assert abs(st.f_bavail - session.f_bavail) * session.f_frsize < GIB
