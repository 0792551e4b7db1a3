"""Link counts and times through a mount are as on a plain host directory, and are kept."""

import os
import shutil

import pytest

from calls import (FALLOC_KEEP_SIZE, FALLOC_PUNCH_HOLE, RENAME_EXCHANGE, call_all, clock_has_moved, fallocate,
                   open_and_close, opened, outcome, read_file, renameat2, write_file)
from places import Here, as_on_the_host, assert_kept, here, none, same_shape, through_a_mount, unlike


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


@pytest.mark.parametrize('user', ['root'], indirect=True)
def test_symlinks_and_special_files_have_more_names(place):
    """For root; others are refused by fs.protected_hardlinks, because the files do not seem to be theirs."""
    here = Here(place, 'plain')

    def body():
        return call_all([
            lambda: os.link('symlink', 'dir/symlink', follow_symlinks=False),
            lambda: os.link('fifo', 'dir/fifo'),
            lambda: os.link('setuid', 'dir/setuid'),
            lambda: os.unlink('fifo'),
            lambda: os.readlink('dir/symlink')])
    none(unlike(here.within(body), here.beside(body)))
    same_shape(here)
    assert_kept(here)


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
            mark(lambda: os.truncate('other/linked', 3), 'other/linked'),
            mark(lambda: os.truncate('new/file', 0), 'new/file'),
            mark(lambda: open_and_close('new/file', os.O_WRONLY | os.O_TRUNC), 'new/file'),
            mark(lambda: open_and_close('new/file', os.O_RDWR), 'new/file'),
            mark(lambda: fallocate(fd, 0, 0, 8192), 'large'),
            mark(lambda: fallocate(fd, FALLOC_PUNCH_HOLE | FALLOC_KEEP_SIZE, 0, 4096), 'large'),
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


def test_a_time_that_was_set_stays_after_writes_before_it(here):
    def write():
        with opened('plain', os.O_RDWR) as fd, opened('new', os.O_RDWR | os.O_CREAT) as new:
            for target in (fd, new):
                os.write(target, b'first')
                os.utime(target, ns=(5, 6))
                os.chmod(target, 0o640)
                assert os.fstat(target).st_mtime_ns == 6
    here.within(write)
    here.run('snapshot', here.session, 'between')
    assert here.within(lambda: [os.stat(name).st_mtime_ns for name in ('plain', 'new')]) == [6, 6]
    assert_kept(here)
