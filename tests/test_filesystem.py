"""What programs do with a file system works through a mount as on a plain host directory, and is kept."""

import contextlib
import fcntl
import mmap
import os
import shutil
import socket
import stat
import subprocess

import pytest

pytest.register_assert_rewrite('places')

from calls import (FALLOC_COLLAPSE_RANGE, FALLOC_KEEP_SIZE, FALLOC_PUNCH_HOLE, FALLOC_ZERO_RANGE, RENAME_EXCHANGE,
                   RENAME_NOREPLACE, clock_has_moved, fallocate, opened, outcome, read_file, renameat2, reopening_walk,
                   write_file)
from places import Here, as_on_the_host, difference, dump, link_counts_are_right, paths_below, shape, through_a_mount

GIB = 1 << 30
KEEP, PUNCH, ZERO = FALLOC_KEEP_SIZE, FALLOC_PUNCH_HOLE, FALLOC_ZERO_RANGE


@pytest.fixture(params=['imported', 'plain'])
def here(request, place):
    return Here(place, request.param)


def facts(st):
    """Of os.stat_result, what does not depend on which file system it is."""
    is_dir = stat.S_ISDIR(st.st_mode)
    return st.st_mode, 0 if is_dir else st.st_nlink, 0 if is_dir else st.st_size


def call_all(calls):
    """[(number, the call's result or error)] of calls made one after the other."""
    return [(number, outcome(call)) for number, call in enumerate(calls)]


def open_and_close(path, flags, mode=0o666):
    with opened(path, flags, mode) as fd:
        return facts(os.fstat(fd))


def on(path, flags, call, *args):
    """A call on a descriptor."""
    with opened(path, flags) as fd:
        return call(fd, *args)


# --- names -----------------------------------------------------------------------------------------------------

@as_on_the_host
def test_looking_at_names():
    return call_all([
        lambda: facts(os.lstat('plain')),
        lambda: facts(os.lstat('symlink')),
        lambda: facts(os.stat('symlink')),
        lambda: facts(os.stat('dangling')),
        lambda: facts(os.stat('to-dir/file')),
        lambda: facts(os.stat('dir/sub/deep/../../file')),
        lambda: facts(os.stat('many/..')),
        lambda: facts(os.stat('nothing')),
        lambda: facts(os.stat('dir/nothing')),
        lambda: facts(os.stat('plain/name')),
        lambda: facts(os.stat('plain/')),
        lambda: facts(os.stat('n' * 255)),
        lambda: facts(os.stat('n' * 256)),
        lambda: facts(os.stat('n/' * 2048)),
        lambda: os.readlink('symlink'),
        lambda: os.readlink('dangling'),
        lambda: os.readlink('plain'),
        lambda: os.readlink('nothing'),
        lambda: sorted(os.listdir('.')),
        lambda: sorted(os.listdir('dir')),
        lambda: os.listdir('empty-dir'),
        lambda: os.listdir('plain'),
        lambda: os.listdir('nothing'),
        lambda: [(e.name, e.is_dir(), e.is_symlink(), e.is_file(follow_symlinks=False))
                 for e in sorted(os.scandir('.'), key=lambda e: e.name)],
        lambda: read_file('symlink'),
        lambda: read_file('dangling'),
    ])


@as_on_the_host
def test_making_and_removing_names():
    return call_all([
        lambda: os.mkdir('made', 0o750),
        lambda: os.mkdir('made'),
        lambda: os.mkdir('plain'),
        lambda: os.mkdir('nothing/made'),
        lambda: os.mkdir('plain/made'),
        lambda: os.mkdir('m' * 256),
        lambda: os.mkdir('.'),
        lambda: os.mkdir('made/sticky', 0o1777),
        lambda: os.symlink('plain', 'made/symlink'),
        lambda: os.symlink('x', 'plain'),
        lambda: os.symlink('', 'made/no-target'),
        lambda: os.symlink('t' * 4095, 'made/longest'),
        lambda: os.symlink('t' * 4096, 'made/too-long'),
        lambda: os.readlink('made/longest'),
        lambda: os.symlink('loop', 'made/loop'),
        lambda: os.stat('made/loop'),
        lambda: os.mkfifo('made/fifo', 0o620),
        lambda: os.mkfifo('made/fifo'),
        lambda: os.mknod('made/socket', stat.S_IFSOCK | 0o755),
        lambda: os.mknod('made/regular', stat.S_IFREG | 0o604),
        lambda: os.link('plain', 'made/linked'),
        lambda: os.link('plain', 'made/linked'),
        lambda: os.link('dir', 'made/dir'),
        lambda: os.link('nothing', 'made/nothing'),
        lambda: os.link('symlink', 'made/symlink-too', follow_symlinks=False),
        lambda: os.link('fifo', 'made/fifo-too'),
        lambda: os.unlink('made/linked'),
        lambda: os.unlink('made/linked'),
        lambda: os.unlink('dir'),
        lambda: os.unlink('plain/name'),
        lambda: os.unlink('u' * 256),
        lambda: os.rmdir('dir'),
        lambda: os.rmdir('plain'),
        lambda: os.rmdir('nothing'),
        lambda: os.rmdir('symlink'),
        lambda: os.rmdir('to-dir'),
        lambda: os.rmdir('empty-dir/.'),
        lambda: os.rmdir('dir/sub/..'),
        lambda: os.rmdir('empty-dir'),
        lambda: os.rmdir('empty-dir'),
        lambda: os.rmdir('made/sticky'),
        lambda: os.unlink('second'),
        lambda: os.unlink('dir/sub/linked-too'),
        lambda: os.unlink('fifo'),
        lambda: os.unlink('dangling'),
    ])


@as_on_the_host
def test_opening_and_creating():
    rdwr, creat, excl, trunc = os.O_RDWR, os.O_CREAT, os.O_EXCL, os.O_TRUNC
    return call_all([
        lambda: open_and_close('new', os.O_WRONLY | creat, 0o640),
        lambda: open_and_close('new', rdwr | creat | excl),
        lambda: open_and_close('new', rdwr | creat, 0o777),
        lambda: open_and_close('plain', rdwr | creat | excl),
        lambda: open_and_close('dangling', rdwr | creat | excl),
        lambda: open_and_close('symlink', rdwr | os.O_NOFOLLOW),
        lambda: open_and_close('dir', rdwr),
        lambda: open_and_close('dir', rdwr | creat),
        lambda: open_and_close('dir', os.O_RDONLY | os.O_DIRECTORY),
        lambda: open_and_close('plain', os.O_RDONLY | os.O_DIRECTORY),
        lambda: open_and_close('nothing', rdwr),
        lambda: open_and_close('nothing/at', rdwr | creat),
        lambda: open_and_close('n' * 256, rdwr | creat),
        lambda: open_and_close('plain', os.O_RDONLY | os.O_PATH),
        lambda: open_and_close('plain', os.O_WRONLY | trunc),
        lambda: open_and_close('large', rdwr | creat | trunc),
        lambda: open_and_close('empty', rdwr | trunc),
        lambda: open_and_close('made-755', os.O_WRONLY | creat | excl, 0o755),
        lambda: open_and_close('made-4711', os.O_WRONLY | creat | excl, 0o4711),
        lambda: open_and_close('made-000', os.O_WRONLY | creat | excl, 0),
        lambda: on('second', os.O_RDONLY, os.write, b'x'),
        lambda: on('second', os.O_WRONLY, os.read, 1),
        lambda: on('second', os.O_RDONLY, os.ftruncate, 1),
        lambda: on('dir', os.O_RDONLY, os.read, 1),
    ])


@as_on_the_host
def test_renaming():
    return call_all([
        lambda: os.rename('plain', 'renamed'),
        lambda: os.rename('plain', 'again'),
        lambda: os.rename('renamed', 'second'),
        lambda: os.rename('second', 'second'),
        lambda: os.rename('other/linked', 'dir/sub/linked-too'),    # two names of one file: nothing happens
        lambda: sorted(os.listdir('other') + os.listdir('dir/sub')),
        lambda: os.rename('second', 'dir'),
        lambda: os.rename('dir', 'second'),
        lambda: os.rename('dir', 'many'),
        lambda: os.rename('other', 'empty-dir'),
        lambda: os.rename('dir', 'dir/sub/dir'),
        lambda: os.rename('dir', 'dir/sub'),
        lambda: os.rename('dir/sub', 'dir'),
        lambda: os.rename('dir/sub/deep', 'dir/sub/deep/er'),
        lambda: os.rename('dir/sub', 'moved'),
        lambda: os.rename('moved', 'dir/back'),
        lambda: os.rename('dir/.', 'x'),
        lambda: os.rename('dir', 'x/..'),
        lambda: os.rename('large', 'l' * 256),
        lambda: os.rename('large', 'l' * 255),
        lambda: os.rename('l' * 255, 'large'),
        lambda: os.rename('symlink', 'to-dir'),
        lambda: os.rename('nothing', 'large'),
        lambda: os.rename('large', 'nothing/large'),
        lambda: renameat2('large', 'setuid', RENAME_NOREPLACE),
        lambda: renameat2('large', 'larger', RENAME_NOREPLACE),
        lambda: renameat2('larger', 'larger', RENAME_NOREPLACE),
        lambda: renameat2('larger', 'nothing', RENAME_EXCHANGE),
        lambda: renameat2('larger', 'setuid', RENAME_EXCHANGE),
        lambda: renameat2('larger', 'many', RENAME_EXCHANGE),
        lambda: renameat2('dir/back', 'empty', RENAME_EXCHANGE),
        lambda: renameat2('dir', 'dir/file', RENAME_EXCHANGE),
        lambda: renameat2('dir/file', 'dir', RENAME_EXCHANGE),
        lambda: renameat2('dir', 'other', RENAME_EXCHANGE),
        lambda: renameat2('larger', 'larger', RENAME_EXCHANGE),
        lambda: renameat2('larger', 'empty', RENAME_EXCHANGE | RENAME_NOREPLACE),
        lambda: renameat2('larger', 'empty', 64),
        lambda: sorted(os.listdir('empty/..')),
        lambda: [sorted(os.listdir(name)) for name in ('dir', 'other', 'empty', 'larger')],
    ])


@as_on_the_host
def test_a_directory_moves_with_all_below_it_and_its_parent_follows():
    os.mkdir('new')
    os.rename('dir', 'new/dir')
    os.rename('many', 'new/dir/sub/many')
    renameat2('new/dir/sub', 'other', RENAME_EXCHANGE)
    with opened('other/deep', os.O_RDONLY) as fd:
        os.rename('other', 'new/dir/sub/again')
        parent = os.stat('..', dir_fd=fd).st_ino == os.stat('new/dir/sub/again').st_ino
    return parent, facts(os.stat('new/dir/sub/again/many/../../..')), len(os.listdir('new/dir/sub/again/many'))


@through_a_mount
def test_moving_a_directory_of_the_base_copies_nothing(here):
    numbers = {path: entry['ino'] for path, entry in dump().items()}
    journal = size_of_journals(here)
    os.rename('dir', 'elsewhere')
    os.rename('many', 'elsewhere/sub/many')
    os.rename('large', 'elsewhere/large')
    assert here.contents() == []
    assert size_of_journals(here) - journal < 2048
    assert os.stat('elsewhere/sub/many/042').st_ino == numbers[b'many/042']
    assert os.stat('elsewhere/large').st_ino == numbers[b'large']
    assert read_file('elsewhere/sub/deep/file') == b'deep down'


def size_of_journals(here):
    layers = f'{here.session}/layers'
    return sum(os.stat(f'{layers}/{layer}/journal').st_size for layer in os.listdir(layers))


@as_on_the_host
def test_a_directory_of_the_base_that_is_made_again_is_empty():
    shutil.rmtree('dir')
    os.mkdir('dir')
    empty = os.listdir('dir')
    os.mkdir('dir/sub')
    os.rename('many', 'gone')
    os.mkdir('many')
    write_file('many/007', b'another')
    return empty, os.listdir('dir/sub'), outcome(os.stat, 'dir/sub/deep'), os.listdir('many'), read_file('many/007')


@through_a_mount
def test_a_number_is_never_used_for_another_file(here):
    used = {entry['ino'] for entry in dump().values()}
    for round_number in range(50):
        write_file('again', b'%d' % round_number)
        ino = os.stat('again').st_ino
        assert ino not in used
        used.add(ino)
        os.unlink('again')


@as_on_the_host
def test_a_removed_directory_takes_no_names():
    os.mkdir('going')
    with opened('going', os.O_RDONLY) as fd:
        os.rmdir('going')
        return call_all([
            lambda: os.listdir(fd),
            lambda: os.mkdir('x', dir_fd=fd),
            lambda: os.close(os.open('x', os.O_RDWR | os.O_CREAT, dir_fd=fd)),
            lambda: os.symlink('x', 'y', dir_fd=fd),
            lambda: os.link('plain', 'y', dst_dir_fd=fd),
            lambda: os.rename('plain', 'y', dst_dir_fd=fd),
            lambda: os.stat('x', dir_fd=fd),
            lambda: os.fstat(fd).st_nlink,
        ])


@as_on_the_host
def test_names_of_any_bytes():
    names = [bytes([byte]) for byte in range(1, 256) if byte not in b'./']
    names += [b'n' * 255, b'\xff' * 255, 'ä'.encode(), 'a\u0308'.encode(), b'latin-\xe4', b'...', b' ', b'-rf', b'a\nb']
    os.mkdir('names')
    for name in names:
        write_file(b'names/' + name, name)
    os.mkdir(b'names/\xfe\xfe')
    os.rename(b'names/\xfe\xfe', b'dir/' + b'\xfd' * 255)
    os.symlink(b'\xff/\xfe', b'names/to')
    read = [read_file(b'names/' + name) == name for name in names]
    return sorted(os.listdir(b'names')), all(read), os.readlink(b'names/to')


@as_on_the_host
def test_paths_longer_than_a_path_may_be():
    at = os.open('.', os.O_RDONLY)
    for depth in range(30):
        os.mkdir('d' * 250, dir_fd=at)
        below = os.open('d' * 250, os.O_RDONLY, dir_fd=at)
        os.close(at)
        at = below
    fd = os.open('file', os.O_RDWR | os.O_CREAT, 0o600, dir_fd=at)
    os.write(fd, b'far down')
    os.close(fd)
    fd = os.open('file', os.O_RDONLY, dir_fd=at)
    text = os.read(fd, 100)
    os.close(fd)
    os.rename('file', 'd', src_dir_fd=at, dst_dir_fd=at)
    os.unlink('d', dir_fd=at)
    os.close(at)
    depth = 0
    start = os.open('.', os.O_RDONLY)
    while os.path.isdir('d' * 250):
        os.chdir('d' * 250)
        depth += 1
    while depth > 20:                               # what stays has a path that a dump can name
        os.chdir('..')
        os.rmdir('d' * 250)
        depth -= 1
        if depth == 20:
            os.fchdir(start)
            break
    for remaining in range(20, 10, -1):
        shutil.rmtree('/'.join(['d' * 250] * 11)) if remaining == 20 else None
    os.close(start)
    return text, depth


# --- link counts and times -------------------------------------------------------------------------------------

@as_on_the_host
def test_names_of_one_file_are_one_file():
    os.link('plain', 'dir/hard')
    write_file('dir/sub/linked-too', b'written by one name')
    with open('other/linked', 'ab') as stream:
        stream.write(b', appended by the other')
    os.chmod('dir/hard', 0o600)
    os.truncate('plain', 5)
    os.rename('dir/hard', 'dir/harder')
    counts = [os.stat(name).st_nlink for name in ('plain', 'dir/harder', 'other/linked')]
    same = os.path.samefile('plain', 'dir/harder') and os.path.samefile('other/linked', 'dir/sub/linked-too')
    content = [read_file(name) for name in ('plain', 'dir/harder', 'other/linked', 'dir/sub/linked-too')]
    os.unlink('plain')
    os.unlink('other/linked')
    return counts, same, content, os.stat('dir/harder').st_nlink, read_file('dir/sub/linked-too')


@as_on_the_host
def test_link_counts_after_every_step():
    def counts():
        return [(name, os.stat(name).st_nlink) for name in ('dir', 'dir/sub', 'many', 'plain', 'other/linked', 'x', 'x/y')
                if os.path.exists(name)]
    steps = [
        lambda: os.mkdir('x'), lambda: os.mkdir('x/y'), lambda: os.mkdir('x/y/z'), lambda: os.rename('x/y/z', 'x/z'),
        lambda: os.rename('x/z', 'x/y/z'), lambda: renameat2('x/y/z', 'plain', RENAME_EXCHANGE),
        lambda: renameat2('plain', 'x/y/z', RENAME_EXCHANGE), lambda: os.link('plain', 'x/plain'),
        lambda: os.link('x/plain', 'x/y/plain'), lambda: os.rename('x/plain', 'x/y/plain'),
        lambda: os.rename('second', 'x/plain'), lambda: os.unlink('x/y/plain'), lambda: os.rename('dir/sub', 'x/y/z'),
        lambda: os.rmdir('empty-dir'), lambda: os.rename('x/y/z', 'dir/sub'), lambda: shutil.rmtree('x'),
    ]
    found = []
    for step in steps:
        found.append((outcome(step), counts()))
        link_counts_are_right() if os.statvfs('.').f_fsid == -1 else None
    return found


def changed_times(call, paths):
    """Which of mtime and ctime a call changed, of which of the inodes that these paths mean before it."""
    fds = {path: os.open(path, os.O_PATH | os.O_NOFOLLOW) for path in paths}
    try:
        before = {path: os.stat(fd) for path, fd in fds.items()}
        clock_has_moved()
        call()
        after = {path: os.stat(fd) for path, fd in fds.items()}
    finally:
        for fd in fds.values():
            os.close(fd)
    return [(path, field) for path in paths for field in ('st_mtime_ns', 'st_ctime_ns')
            if getattr(before[path], field) != getattr(after[path], field)]


@as_on_the_host
def test_times_change_when_they_should():
    def mark(call, *paths):
        return changed_times(call, ['.', *paths])
    with opened('large', os.O_RDWR) as fd:
        return [
            mark(lambda: os.mkdir('new')),
            mark(lambda: write_file('new/file', b''), 'new'),
            mark(lambda: os.symlink('x', 'new/symlink'), 'new'),
            mark(lambda: os.mkfifo('new/fifo'), 'new'),
            mark(lambda: os.link('plain', 'new/hard'), 'new', 'plain'),
            mark(lambda: os.unlink('new/hard'), 'new', 'plain'),
            mark(lambda: os.unlink('new/fifo'), 'new', 'new/fifo'),
            mark(lambda: os.rename('second', 'new/second'), 'new', 'second'),
            mark(lambda: os.rename('new/second', 'new/third'), 'new', 'new/second'),
            mark(lambda: os.rename('dir', 'new/dir'), 'new', 'dir', 'dir/sub'),
            mark(lambda: os.rename('new/third', 'empty'), 'new', 'new/third', 'empty'),
            mark(lambda: renameat2('new/dir', 'plain', RENAME_EXCHANGE), 'new', 'new/dir', 'plain'),
            mark(lambda: renameat2('plain', 'new/dir', RENAME_EXCHANGE), 'new', 'new/dir', 'plain'),
            mark(lambda: os.rmdir('empty-dir'), 'empty-dir'),
            mark(lambda: os.chmod('plain', 0o600), 'plain'),
            mark(lambda: os.chmod('many', 0o700), 'many'),
            mark(lambda: os.chown('plain', os.getuid(), os.getgid()), 'plain'),
            mark(lambda: os.utime('plain', ns=(1, 2)), 'plain'),
            mark(lambda: os.utime('plain', ns=(1, 2)), 'plain'),
            mark(lambda: os.utime('symlink', ns=(1, 2), follow_symlinks=False), 'symlink', 'plain'),
            mark(lambda: os.utime('plain'), 'plain'),
            mark(lambda: os.pwrite(fd, b'x', 0), 'large'),
            mark(lambda: os.pwrite(fd, b'x', 0), 'large'),
            mark(lambda: os.pwrite(fd, b'', 0), 'large'),
            mark(lambda: os.ftruncate(fd, 100), 'large'),
            mark(lambda: os.ftruncate(fd, 100), 'large'),
            mark(lambda: os.truncate('setuid', 3), 'setuid'),
            mark(lambda: os.truncate('new/file', 0), 'new/file'),
            mark(lambda: open_and_close('new/file', os.O_WRONLY | os.O_TRUNC), 'new/file'),
            mark(lambda: open_and_close('new/file', os.O_RDWR), 'new/file'),
            mark(lambda: fallocate(fd, 0, 0, 8192), 'large'),
            mark(lambda: fallocate(fd, PUNCH | KEEP, 0, 4096), 'large'),
            mark(lambda: read_file('setuid'), 'setuid'),
            mark(lambda: os.listdir('many'), 'many'),
            mark(lambda: os.fsync(fd), 'large'),
            mark(lambda: outcome(os.rmdir, 'new'), 'new'),
            mark(lambda: outcome(os.mkdir, 'new'), 'new'),
            mark(lambda: outcome(os.link, 'plain', 'setuid'), 'plain', 'setuid'),
            mark(lambda: os.rename('plain', 'plain'), 'plain'),
        ]


@through_a_mount
def test_times_are_kept_to_the_nanosecond_and_far_away(here):
    for ns in (0, -1, 1_234_567_891_123_456_789, -86400 * 10**9 * 365, 4_400_000_000 * 10**9 + 1, 16_000_000_000 * 10**9):
        for path in ('plain', 'dir', 'symlink', 'fifo'):
            os.utime(path, ns=(ns, ns + 7), follow_symlinks=False)
            st = os.lstat(path)
            assert (st.st_atime_ns, st.st_mtime_ns) == (ns, ns + 7), path


@through_a_mount
def test_a_time_that_was_set_stays_after_writes_before_it(here):
    with opened('plain', os.O_RDWR) as fd, opened('new', os.O_RDWR | os.O_CREAT) as new:
        for target in (fd, new):
            os.write(target, b'first')
            os.utime(target, ns=(5, 6))
            os.chmod(target, 0o640)
            assert os.fstat(target).st_mtime_ns == 6
    here.run('snapshot', here.session, 'between')
    assert os.stat('plain').st_mtime_ns == os.stat('new').st_mtime_ns == 6


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
        lambda: os.truncate('setuid', 10),
        lambda: os.truncate('dir', 0),
        lambda: os.truncate('nothing', 0),
        lambda: os.truncate('plain', -1),
        lambda: os.truncate('plain', (1 << 63) - 1),
        lambda: os.truncate('symlink', 2),
        lambda: read_file('plain'),
    ])


@as_on_the_host
def test_a_truncated_tail_reads_as_zeros_when_the_file_grows_again():
    for name in ('large', 'plain'):
        with opened(name, os.O_RDWR) as fd:
            os.pread(fd, 100_000, 0)
            os.ftruncate(fd, 5)
            os.pwrite(fd, b'later', 5000)
    return read_file('large'), read_file('plain')


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
    run_all([lambda letter=letter: append(letter) for letter in b'abcd'])
    lines = read_file('plain').split(b'\n')[1:-1]
    assert len(lines) == 800
    for letter in b'abcd':
        assert [line for line in lines if line[0] == letter] == [b'%c%03d' % (letter, number) for number in range(200)]


def run_all(calls):
    """Each in a process of its own, at the same time; all must end well."""
    pids = []
    for call in calls:
        pid = os.fork()
        if pid == 0:
            try:
                call()
                os._exit(0)
            except BaseException:
                import traceback
                traceback.print_exc()
                os._exit(1)
        pids.append(pid)
    assert [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids] == [0] * len(pids)


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
                             lambda: os.lseek(fd, 1 << 20, os.SEEK_HOLE), lambda: os.fstat(fd).st_blocks < 100])
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


@through_a_mount
def test_ranges_cannot_be_cut_out(here):
    with opened('large', os.O_RDWR) as fd:
        assert outcome(fallocate, fd, FALLOC_COLLAPSE_RANGE, 0, 4096) == 'EOPNOTSUPP'


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
        lambda: copy('plain', 'new', 10, 1000, 0),
        lambda: copy('empty', 'new', 10),
        lambda: copy('plain', 'new', 0),
        lambda: copy('dir', 'new', 10),
        lambda: on('plain', os.O_RDONLY, lambda fd: os.copy_file_range(fd, fd, 5, 0, 5)),
        lambda: [read_file(name) for name in ('new', 'second', 'large')],
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


# --- attributes ------------------------------------------------------------------------------------------------

@as_on_the_host
def test_modes():
    results = []
    for path in ('plain', 'dir', 'fifo', 'new'):
        if path == 'new':
            write_file(path)
        for mode in (0, 0o777, 0o4755, 0o2710, 0o1777, 0o7777, 0o640, 0o700):
            os.chmod(path, mode)
            results.append(os.stat(path).st_mode)
    return results, outcome(os.chmod, 'nothing', 0), outcome(os.chmod, 'dangling', 0)


@through_a_mount
def test_what_changes_only_attributes_copies_nothing(here):
    for path, entry in dump().items():
        os.chown(path, 1234, 5678, follow_symlinks=False)
        os.utime(path, ns=(1, 2), follow_symlinks=False)
        if entry['type'] != stat.S_IFLNK:
            os.chmod(path, 0o4711)
    for path, entry in dump().items():
        assert (entry['uid'], entry['gid'], entry['mtime']) == (1234, 5678, 2), path
        assert entry['mode'] == 0o4711 or entry['type'] == stat.S_IFLNK, path
    os.link('large', 'hard')
    os.rename('large', 'larger')
    with opened('larger', os.O_RDWR):
        pass
    assert here.contents() == []
    with opened('larger', os.O_RDWR) as fd:
        os.pwrite(fd, b'!', 7)
    assert len(here.contents()) == 1
    st = os.stat('hard')
    assert (st.st_mode, st.st_uid, st.st_gid) == (stat.S_IFREG | 0o4711, 1234, 5678)
    assert os.stat(f'{here.session}/layers/{here.contents()[0].replace("/", "/content/")}').st_mode & 0o777 == 0o600


@through_a_mount
def test_ownership_is_whatever_was_asked_for(here):
    for path in ('plain', 'dir', 'symlink'):
        for uid, gid in ((0, 0), (4294967294, 4294967294), (1000, -1), (-1, 100)):
            before = os.lstat(path)
            os.chown(path, uid, gid, follow_symlinks=False)
            after = os.lstat(path)
            assert after.st_uid == (before.st_uid if uid == -1 else uid)
            assert after.st_gid == (before.st_gid if gid == -1 else gid)


@through_a_mount
def test_modes_bar_nobody_from_files_because_the_guest_decides(here):
    write_file('new', b'new', 0)
    write_file('closed', b'was closed from the start')
    os.chmod('closed', 0)
    os.chmod('plain', 0)
    os.chmod('dir', 0)
    for path in ('new', 'closed', 'plain', 'dir/file', 'read-only'):
        with opened(path, os.O_RDWR) as fd:
            data = os.read(fd, 100)
            assert data, path
            os.pwrite(fd, data.upper(), 0)
            os.ftruncate(fd, len(data))
        assert read_file(path) == data.upper()
    write_file('dir/new', b'in a closed directory')
    os.unlink('dir/file')
    assert sorted(os.listdir('dir')) == ['new', 'sub']


@through_a_mount
def test_setuid_stays_until_the_guest_takes_it_away(here):
    with opened('setuid', os.O_RDWR) as fd:
        os.write(fd, b'written')
        os.ftruncate(fd, 3)
        fallocate(fd, 0, 0, 100)
    with opened('new', os.O_RDWR | os.O_CREAT, 0o600) as fd:
        os.write(fd, b'program')
        os.fchmod(fd, 0o4755)
        os.write(fd, b' and more')
    os.chown('setuid', 5, 6)
    assert os.stat('setuid').st_mode == stat.S_IFREG | 0o4755
    assert os.stat('new').st_mode == stat.S_IFREG | 0o4755
    os.chmod('setuid', 0o755)
    assert os.stat('setuid').st_mode == stat.S_IFREG | 0o755


def make_one_of_each(top):
    write_file(f'{top}/file')
    os.mkdir(f'{top}/made')
    os.symlink('x', f'{top}/link')
    os.mkfifo(f'{top}/pipe')
    return [os.lstat(f'{top}/{name}') for name in ('file', 'made', 'link', 'pipe')]


@through_a_mount
def test_new_files_take_the_owner_of_their_directory(here):
    os.chown('dir', 1000, 100)
    os.chown('dir/sub', 70000, 5)
    for top, owner in (('.', (os.stat('.').st_uid, os.stat('.').st_gid)), ('dir', (1000, 100)), ('dir/sub', (70000, 5))):
        assert [(st.st_uid, st.st_gid) for st in make_one_of_each(top)] == [owner] * 4
    os.mkdir('dir/made/below')
    assert os.stat('dir/made/below').st_uid == 1000


@through_a_mount
def test_set_group_id_directories_hand_down_their_group(here):
    os.chown('dir', 1000, 4242)
    os.chmod('dir', 0o2775)
    made = make_one_of_each('dir')
    assert [st.st_gid for st in made] == [4242] * 4
    assert [bool(st.st_mode & stat.S_ISGID) for st in made] == [False, True, False, False]


def test_with_owner_caller_new_files_belong_to_who_makes_them(place):
    here = Here(place, 'plain', 'owner=caller')

    def body():
        os.chown('dir', 1000, 100)
        os.chmod('other', 0o2775)
        os.chown('other', 1000, 100)
        assert {(st.st_uid, st.st_gid) for st in make_one_of_each('dir')} == {(os.getuid(), os.getgid())}
        assert {(st.st_uid, st.st_gid) for st in make_one_of_each('other')} == {(os.getuid(), 100)}
    here.within(body)


def test_extended_attributes_are_not_there_unless_asked_for(here):
    def body():
        return call_all([
            lambda: os.setxattr('plain', 'user.name', b'value'),
            lambda: os.getxattr('plain', 'user.name'),
            lambda: os.removexattr('plain', 'user.name'),
        ]), outcome(os.listxattr, 'plain')
    calls, names = here.within(body)
    assert calls == [(0, 'EOPNOTSUPP'), (1, 'EOPNOTSUPP'), (2, 'EOPNOTSUPP')]
    assert names in ([], 'EOPNOTSUPP')


@pytest.mark.parametrize('kind', ['imported', 'plain'])
def test_extended_attributes_when_asked_for(place, kind):
    here = Here(place, kind, 'xattr')

    def body():
        os.mkdir('new')
        results = []
        for path in ('plain', 'dir', 'new'):
            results += call_all([
                lambda: os.listxattr(path),
                lambda: os.getxattr(path, 'user.name'),
                lambda: os.setxattr(path, 'user.name', b'value'),
                lambda: os.setxattr(path, 'user.name', b'value', os.XATTR_CREATE),
                lambda: os.setxattr(path, 'user.other', b'value', os.XATTR_REPLACE),
                lambda: os.setxattr(path, 'user.other', b'\0' * 2000),
                lambda: os.setxattr(path, 'user.empty', b''),
                lambda: os.setxattr(path, 'user.name', b'new value', os.XATTR_REPLACE),
                lambda: sorted(os.listxattr(path)),
                lambda: [os.getxattr(path, name) for name in ('user.name', 'user.other', 'user.empty')],
                lambda: os.removexattr(path, 'user.empty'),
                lambda: os.removexattr(path, 'user.empty'),
                lambda: sorted(os.listxattr(path)),
                lambda: os.setxattr(path, 'user.' + 'n' * 251, b''),
                lambda: os.setxattr(path, 'user.', b''),
                lambda: os.setxattr(path, 'nonsense', b''),
                lambda: os.setxattr(path, 'user.large', b'x' * 65537),
            ])
        return results + call_all([lambda: os.setxattr('nothing', 'user.name', b''),
                                   lambda: os.setxattr('symlink', 'user.through', b''),
                                   lambda: os.setxattr('symlink', 'user.name', b'', follow_symlinks=False),
                                   lambda: sorted(os.listxattr('plain'))[:2]])

    def attributes():
        return {path: {name: os.getxattr(path, name, follow_symlinks=False)
                       for name in os.listxattr(path, follow_symlinks=False)} for path in paths_below()}
    assert here.within(body) == here.beside(body)
    want = here.beside(attributes)
    assert here.within(attributes) == want
    here.remount()
    assert here.within(attributes) == want
    here.run('snapshot', here.session, 'good')
    here.within(lambda: (os.removexattr('plain', 'user.name'), os.setxattr('dir', 'user.name', b'worse')))
    here.run('reset', here.session)
    assert here.within(attributes) == want
    assert here.contents() == []


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
    assert here.within(body) == here.beside(body)
    assert_kept_too(here)


def assert_kept_too(here):
    from places import assert_kept
    assert_kept(here)


@pytest.mark.parametrize('user', ['ordinary'], indirect=True)
def test_an_ordinary_user_makes_none(here):
    assert here.within(outcome, os.mknod, 'char', stat.S_IFCHR | 0o620, os.makedev(1, 3)) == 'EPERM'


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


@as_on_the_host
def test_programs_run_from_it():
    shutil.copy(shutil.which('true'), 'program')
    os.chmod('program', 0o755)
    write_file('script', b'#!/bin/sh\necho "$0 $1"\n', 0o755)
    return subprocess.run(['./program'], check=False).returncode, subprocess.run(
        ['./script', 'said'], check=True, stdout=subprocess.PIPE).stdout


def test_a_file_without_a_name(here):
    def body():
        fd = os.open('dir', os.O_RDWR | os.O_TMPFILE, 0o640)
        os.write(fd, b'nameless')
        os.link(f'/proc/self/fd/{fd}', 'dir/named', follow_symlinks=True)
        os.close(fd)
        return read_file('dir/named'), facts(os.stat('dir/named'))
    assert here.within(outcome, body) in ('EOPNOTSUPP', here.beside(body))
    assert_kept_too(here)


def test_statfs_is_the_session_file_systems(here):
    def body():
        return os.statvfs('.'), os.statvfs('dir/file'), os.statvfs(here.session)
    root, file, session = here.within(body)
    for st in (root, file):
        assert (st.f_blocks, st.f_files, st.f_namemax) == (session.f_blocks, session.f_files, 255)
        assert abs(st.f_bavail - session.f_bavail) * session.f_frsize < GIB


# --- listing ---------------------------------------------------------------------------------------------------

@as_on_the_host
def test_a_listing_that_is_removed_from_meanwhile_misses_nothing():
    os.mkdir('new')
    for number in range(3000):
        write_file(f'new/name-{number:05}')
    removed = []
    for top in ('new', 'many'):
        removed.append(sorted(reopening_walk(top, lambda names: [os.unlink(os.fsencode(top) + b'/' + name) for name in names],
                                             size=2048)))
        os.rmdir(top)
    subprocess.run(['rm', '-r', 'dir'], check=True)
    return removed


@through_a_mount
def test_a_walk_that_reopens_sees_every_name_once_whatever_changes(here):
    os.mkdir('new')
    for number in range(2000):
        write_file(f'new/old-{number:05}')
    for top, count in (('new', 2000), ('many', 60)):
        stay = {name for number, name in enumerate(sorted(os.listdir(os.fsencode(top)))) if number % 3 != 1}
        go = set(os.listdir(os.fsencode(top))) - stay
        state = {'made': 0}

        def disturb(names):
            for name in names[-40:]:
                if name in go and os.path.exists(os.fsencode(top) + b'/' + name):
                    os.unlink(os.fsencode(top) + b'/' + name)
            if state['made'] < 300:
                for _ in range(10):
                    write_file(f'{top}/made-{state["made"]}')
                    state['made'] += 1
                os.rename(f'{top}/made-{state["made"] - 1}', f'{top}/renamed-{state["made"]}')
        names = reopening_walk(top, disturb, size=1024)
        assert len(names) == len(set(names)), 'a name came twice'
        assert stay <= set(names), 'a name that was there all the time did not come'
        assert set(names) <= stay | go | {name for name in names if name.startswith((b'made-', b'renamed-'))}
        assert len(stay | go) == count


@through_a_mount
def test_twenty_thousand_names(here):
    os.mkdir('new')
    names = {b'%05d' % number for number in range(20_000)}
    for name in names:
        os.close(os.open(b'new/' + name, os.O_WRONLY | os.O_CREAT, 0o644))
    assert set(reopening_walk('new')) == set(os.listdir(b'new')) == names
    assert len(reopening_walk('new', size=4096)) == 20_000
    half = {name for name in names if int(name) % 2}
    for name in half:
        os.unlink(b'new/' + name)
    assert sorted(reopening_walk('new')) == sorted(names - half)
    subprocess.run(['rm', '-rf', 'new'], check=True)
    assert not os.path.exists('new')


@through_a_mount
def test_positions_in_a_listing_can_be_returned_to(here):
    from calls import getdents
    for top in ('many', 'dir'):
        with opened(top, os.O_RDONLY) as fd:
            entries = []
            while found := getdents(fd, 512):
                entries += found
            for index in (0, 1, 2, len(entries) // 2, len(entries) - 1):
                os.lseek(fd, entries[index][3], os.SEEK_SET)
                rest = []
                while found := getdents(fd, 512):
                    rest += found
                assert rest == entries[index + 1:]
            os.lseek(fd, 0, os.SEEK_SET)
            write_file(f'{top}/new')
            again = []
            while found := getdents(fd, 512):
                again += found
            assert [entry for entry in again if entry[0] != b'new'] == entries
            assert len(again) == len(entries) + 1


# --- programs --------------------------------------------------------------------------------------------------

def sh(script, **options):
    subprocess.run(['sh', '-ec', script], check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, **options)


@through_a_mount
def test_cp_and_tar_carry_a_tree_in_and_out(here):
    shape_of_twin = shape(here.twin)
    sh('mkdir in && cp -a "$TWIN/." in && tar -cf all.tar --sort=name -C in . && mkdir out && tar -xpf all.tar -C out',
       env=os.environ | {'TWIN': here.twin})
    assert difference(shape('in'), shape_of_twin) == []
    out = shape('out')
    del shape_of_twin[b'.'], out[b'.']
    assert difference(out, shape_of_twin) == []


@pytest.mark.skipif(not shutil.which('git'), reason='git is not there')
@as_on_the_host
def test_git_keeps_a_repository_in_it():
    environment = os.environ | {'HOME': os.getcwd(), 'GIT_CONFIG_NOSYSTEM': '1', 'GIT_AUTHOR_DATE': '1000000000 +0000',
                                'GIT_COMMITTER_DATE': '1000000000 +0000', 'GIT_AUTHOR_NAME': 'A', 'GIT_AUTHOR_EMAIL': 'a@b',
                                'GIT_COMMITTER_NAME': 'A', 'GIT_COMMITTER_EMAIL': 'a@b', 'GIT_CEILING_DIRECTORIES': '/'}
    sh('mkdir repo && cp -r many dir repo && cd repo && git init -q -b main && git add . && git commit -q -m one &&'
       'rm -r dir && echo new >many/new && git add -A && git commit -q -m two && git checkout -q HEAD~1 &&'
       'git checkout -q main && git gc -q --prune=now && git fsck --full --strict 2>&1 && git status --porcelain >../status',
       env=environment)
    head = subprocess.run(['git', '-C', 'repo', 'rev-parse', 'HEAD'], check=True, stdout=subprocess.PIPE, env=environment)
    status = read_file('status')
    tracked = sorted(os.listdir('repo'))
    shutil.rmtree('repo/.git')                      # its index holds times and numbers
    return head.stdout, status, tracked


# --- at the same time ------------------------------------------------------------------------------------------

def struggle(seed):
    """Makes, moves and removes names that others make, move and remove."""
    import random
    dice = random.Random(seed)
    names = ['many/a', 'many/b', 'dir/a', 'dir/sub/b', 'plain', 'many/a/c', 'dir/sub', 'many/007']

    def put(path):
        with opened(path, os.O_RDWR | os.O_CREAT) as fd:
            os.write(fd, path.encode())
    steps = [put, os.unlink, os.rmdir, os.mkdir, os.stat, os.listdir,
             lambda path: os.rename(path, dice.choice(names)), lambda path: os.link(path, dice.choice(names)),
             lambda path: os.symlink('x', path), lambda path: renameat2(path, dice.choice(names), RENAME_EXCHANGE)]
    expected = {'EEXIST', 'ENOENT', 'ENOTDIR', 'EISDIR', 'ENOTEMPTY', 'EINVAL', 'EPERM', 'ELOOP', 'ESTALE'}
    for _ in range(600):
        result = outcome(dice.choice(steps), dice.choice(names))
        assert not isinstance(result, str) or result in expected, result


@through_a_mount
def test_processes_that_struggle_for_names(here):
    run_all([lambda seed=seed: struggle(seed) for seed in range(4)])
    link_counts_are_right()


@pytest.mark.parametrize('kind', ['imported', 'plain'])
def test_trees_are_unpacked_while_snapshots_are_taken(place, kind):
    here = Here(place, kind)

    def pack():
        sh('mkdir tree && for i in 1 2 3 4; do cp -a many tree/$i; cp -a dir tree/$i; done && tar -cf ../tree.tar tree')
    here.beside(pack)
    unpacking = [place.start('status', here.session, stdout=subprocess.DEVNULL)]
    commands = [['sh', '-c', f'for n in 1 2 3; do mkdir -p {top}/$n && tar -xf {place.path}/tree.tar -C {top}/$n || exit; done']
                for top in ('one', 'two')]

    def unpack():
        processes = [subprocess.Popen(command) for command in commands]
        return [process.wait() for process in processes]
    pid = os.fork()
    if pid == 0:
        from places import in_process
        try:
            os._exit(0 if in_process(here.owner, here.root, unpack) == [0, 0] else 1)
        except BaseException:
            os._exit(2)
    taken = 0
    while os.waitpid(pid, os.WNOHANG) == (0, 0):
        here.run('snapshot', here.session, f'snapshot-{taken}')
        here.run('status', '--json', here.session)
        taken += 1
    unpacking[0].wait()
    assert taken > 1
    want = here.beside(shape, 'tree')
    for top in ('one', 'two'):
        for number in range(1, 4):
            assert difference(here.within(shape, f'{top}/{number}/tree'), want) == []
    after = here.within(dump)
    for number in (0, taken // 2):
        here.run('reset', here.session, f'snapshot-{number}')
        here.within(link_counts_are_right)
    here.run('reset', here.session, f'snapshot-{taken - 1}')
    here.remount()
    here.within(link_counts_are_right)
    assert len(after) > 1000
    assert here.mount.log() == ''


def test_a_read_only_mount_changes_nothing(place):
    here = Here(place, 'plain', 'ro')

    def body():
        return call_all([
            lambda: write_file('new'), lambda: os.mkdir('new'), lambda: os.unlink('plain'), lambda: os.chmod('plain', 0),
            lambda: os.truncate('plain', 0), lambda: os.rename('plain', 'new'), lambda: os.utime('plain'),
            lambda: read_file('plain')])
    assert [result for _, result in here.within(body)] == ['EROFS'] * 7 + [b'plain content\n']
