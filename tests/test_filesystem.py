"""Names, link counts, times and listings through a mount are as on a plain host directory, and are kept."""

import os
import shutil
import stat

import pytest

from calls import (FALLOC_KEEP_SIZE, FALLOC_PUNCH_HOLE, RENAME_EXCHANGE, RENAME_NOREPLACE, call_all, clock_has_moved, facts, fallocate, getdents, on,
                   open_and_close, opened, outcome, read_file, renameat2, reopening_walk, sh, write_file)
from places import Here, as_on_the_host, assert_kept, dump, here, none, same_shape, through_a_mount, unlike


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


@through_a_mount
def test_a_directory_moves_and_its_content_stays_when_all_is_shuffled(here):
    """Long enough that the kernel's caches alone could not answer."""
    for turn in range(40):
        os.rename('dir', f'dir-{turn}')
        os.mkdir('dir')
        os.rename(f'dir-{turn}', 'dir/dir')
        os.rename('dir/dir', f'many/{turn}')
        os.rmdir('dir')
        os.rename(f'many/{turn}', 'dir')
    assert sorted(os.listdir('dir')) == ['file', 'sub']
    assert read_file('dir/sub/deep/file') == b'deep down'


DEEP = ['d' * 250] * 30


def go_down(names, make=False):
    for name in names:
        if make:
            os.mkdir(name)
        os.chdir(name)


def test_paths_longer_than_a_path_may_be(here):
    def make():
        go_down(DEEP, make=True)
        write_file('file', b'far down')
        os.rename('file', 'f' * 255)
        assert outcome(os.stat, '/'.join([here.root, *DEEP])) == 'ENAMETOOLONG'

    def look():
        go_down(DEEP)
        assert read_file('f' * 255) == b'far down'
        for _ in DEEP:
            os.chdir('..')
        assert os.path.samefile('.', here.root)

    def remove():
        sh(f'rm -r {DEEP[0]}')
        assert not os.path.exists(DEEP[0])
    here.within(make)
    here.within(look)
    here.remount()
    here.within(look)
    here.within(remove)
    assert_kept(here)


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


# --- listing ---------------------------------------------------------------------------------------------------

@as_on_the_host
def test_a_listing_that_is_removed_from_meanwhile_misses_nothing():
    os.mkdir('new')
    for number in range(600):
        write_file(f'new/name-{number:05}')
    removed = []
    for top in ('new', 'many'):
        removed.append(sorted(reopening_walk(top, lambda names: [os.unlink(os.fsencode(top) + b'/' + name) for name in names],
                                             size=2048)))
        os.rmdir(top)
    sh('rm -r dir')
    return removed


@through_a_mount
def test_a_walk_that_reopens_sees_every_name_once_whatever_changes(here):
    os.mkdir('new')
    for number in range(2000):
        write_file(f'new/old-{number:05}')
    # Nobody has listed them before: the kernel would walk through what it has kept of that.
    for top, form, count in (('new', b'old-%05d', 2000), ('many', b'%03d', 60)):
        there = [form % number for number in range(count)]
        stay = {name for number, name in enumerate(there) if number % 3 == 1}
        go = set(there) - stay
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


def list_twenty_thousand():
    os.mkdir('new')
    names = {b'%05d' % number + b'n' * (number * 7 % 50) for number in range(20_000)}
    for name in names:
        os.mknod(b'new/' + name)
    assert set(reopening_walk('new')) == set(os.listdir(b'new')) == names
    assert len(reopening_walk('new', size=4096)) == 20_000
    half = {name for name in names if int(name[:5]) % 2}
    for name in half:
        os.unlink(b'new/' + name)
    assert sorted(reopening_walk('new')) == sorted(names - half)
    sh('rm -rf new')
    assert not os.path.exists('new')


def test_twenty_thousand_names(place):
    here = Here(place, 'plain')
    here.within(list_twenty_thousand)
    assert_kept(here)


@through_a_mount
def test_positions_in_a_listing_can_be_returned_to(here):
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
        # Two names that one operation has put into the directory have a position each.
        write_file(f'{top}/newer')
        renameat2(f'{top}/new', f'{top}/newer', RENAME_EXCHANGE)
        assert sorted(reopening_walk(top, size=40)) == sorted(os.listdir(os.fsencode(top)))
