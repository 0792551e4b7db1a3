"""Names through a mount are as on a plain host directory, and are kept."""

import os
import shutil
import stat

from calls import (RENAME_EXCHANGE, RENAME_NOREPLACE, call_all, facts, on, open_and_close, opened, outcome, read_file,
                   renameat2, sh, write_file)
from places import as_on_the_host, assert_kept, dump, here, through_a_mount


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
