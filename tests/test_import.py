"""An import keeps everything that the archive says, whoever imports it."""

import io
import itertools
import os
import shutil
import stat
import struct
import subprocess
import tarfile

import pytest

pytest.register_assert_rewrite('importing')
from importing import (ALL_XATTRS, COMPRESSORS, MIB, NANOSECONDS, ROOT, as_user, assert_private, assert_same,
                       assert_same_content, both_locales, both_users, compressed, content, cpio, expected_of,
                       imported, index_bytes, index_of, link_groups, make_sparse, make_tree, needs_programs, needs_root, area,
                       python_tar, shared, tar, umlfs_import, write)

pytestmark = needs_programs


@pytest.fixture(scope='module')
def tree(shared):
    return make_tree(f'{shared}/tree')


def needs(program):
    return pytest.mark.skipif(shutil.which(program) is None, reason=f'no {program} on this machine')


# --- formats -------------------------------------------------------------------------------------------

@both_users
@both_locales
@pytest.mark.parametrize('sparse', [[], ['-S', '--sparse-version=0.0'], ['-S', '--sparse-version=0.1'],
                                    ['-S', '--sparse-version=1.0']], ids=['no', '0.0', '0.1', '1.0'])
def test_a_pax_archive_of_gnu_tar_keeps_everything(shared, tree, area, user, locale, sparse):
    archive = tar(f'{shared}/pax.tar', tree, '--format=pax', '--numeric-owner', *ALL_XATTRS, '--acls', *sparse)
    entries = imported(archive, f'{area}/base', user=user, locale=locale)
    assert_same(entries, tree)
    assert_same_content(f'{area}/base', tree, entries)
    assert_private(f'{area}/base', entries)


@both_users
@both_locales
@pytest.mark.parametrize('options', [['--format=gnu'], ['--format=gnu', '-S']], ids=['plain', 'sparse'])
def test_a_gnu_archive_keeps_all_but_nanoseconds_and_attributes(shared, tree, area, user, locale, options):
    entries = imported(tar(f'{shared}/gnu.tar', tree, *options), f'{area}/base', user=user, locale=locale)
    assert_same(entries, tree, forget=['nanoseconds', 'xattrs'])
    assert_same_content(f'{area}/base', tree, entries)
    assert_private(f'{area}/base', entries)


@needs('bsdtar')
@both_users
@both_locales
def test_a_pax_archive_of_bsdtar_keeps_everything(shared, tree, area, user, locale):
    archive = f'{shared}/bsd.tar'
    subprocess.run(['bsdtar', '-C', tree, '--format=pax', '--numeric-owner', '--xattrs', '--acls', '-cf', archive, '.'],
                   check=True, env=os.environ | {'LC_ALL': 'C.UTF-8'})
    entries = imported(archive, f'{area}/base', user=user, locale=locale)
    assert_same(entries, tree)
    assert_same_content(f'{area}/base', tree, entries)


@both_users
@both_locales
@pytest.mark.parametrize('kind', ['newc', 'crc'])
def test_a_cpio_archive_keeps_what_it_can(shared, area, user, locale, kind):
    tree = f'{area}/tree'
    make_tree(tree, sockets=True)
    if ROOT:
        os.link(f'{tree}/null', f'{tree}/null-too')
    # What 32 unsigned bits of seconds cannot say.
    os.utime(f'{tree}/plain', ns=(0, 0))
    os.utime(f'{tree}/empty', ns=(0, 0))
    entries = imported(cpio(f'{shared}/{kind}.cpio', tree, kind), f'{area}/base', user=user, locale=locale)
    assert entries[b'socket'].type == 's'
    assert_same(entries, tree, forget=['nanoseconds', 'xattrs'])
    assert_same_content(f'{area}/base', tree, entries)
    assert_private(f'{area}/base', entries)


@pytest.mark.parametrize('kind', ['odc', 'bin'])
def test_an_old_cpio_archive_keeps_links_and_content(shared, area, kind):
    tree = f'{area}/tree'
    os.makedirs(f'{tree}/dir')
    write(f'{tree}/one', b'linked', 0o4711)
    os.link(f'{tree}/one', f'{tree}/dir/two')
    os.symlink('one', f'{tree}/symlink')
    os.mkfifo(f'{tree}/fifo', 0o600)
    entries = imported(cpio(f'{shared}/{kind}.cpio', tree, kind), f'{area}/base')
    assert_same(entries, tree, forget=['nanoseconds', 'xattrs'])
    assert_same_content(f'{area}/base', tree, entries)


@needs('zip')
def test_a_zip_archive_keeps_modes_and_links(area):
    tree = f'{area}/tree'
    os.makedirs(f'{tree}/dir')
    write(f'{tree}/dir/program', b'#!/bin/sh\n' * 1000, 0o755)
    write(f'{tree}/composed-\u00e4', b'a')
    os.symlink('dir/program', f'{tree}/symlink')
    os.utime(f'{tree}/dir/program', ns=(1_600_000_000 * NANOSECONDS,) * 2)
    subprocess.run(['zip', '-q', '-r', '-y', f'{area}/a.zip', '.'], cwd=tree, check=True,
                   env=os.environ | {'LC_ALL': 'C.UTF-8'})
    entries = imported(f'{area}/a.zip', f'{area}/base')
    assert sorted(entries) == sorted([b'.', b'dir', b'dir/program', 'composed-\u00e4'.encode(), b'symlink'])
    for path in (b'dir/program', b'symlink'):
        want = expected_of(tree, path)
        assert (entries[path].type, entries[path].mode, entries[path].target) == (want.type, want.mode, want.target)
    assert entries[b'dir/program'].mtime == 1_600_000_000 * NANOSECONDS
    assert_same_content(f'{area}/base', tree, entries)


@needs('7z')
def test_a_7z_archive_keeps_names_and_content(area):
    os.mkdir(f'{area}/tree')
    write(f'{area}/tree/file-\u00e4', b'7' * 100000)
    subprocess.run(['7z', 'a', '-bd', '../a.7z', '.'], cwd=f'{area}/tree', check=True, stdout=subprocess.DEVNULL,
                   env=os.environ | {'LC_ALL': 'C.UTF-8'})
    imported(f'{area}/a.7z', f'{area}/base', locale='C')
    assert content(f'{area}/base', 'file-\u00e4'.encode()) == b'7' * 100000


@pytest.mark.parametrize('user', ['ordinary'])
@pytest.mark.parametrize('kind', COMPRESSORS)
def test_compression_and_pipes_change_nothing(shared, tree, area, user, kind):
    archive = tar(f'{shared}/all.tar', tree, '--format=pax', '--numeric-owner', *ALL_XATTRS, '--acls', '-S')
    packed = compressed(archive, kind)
    imported(archive, f'{area}/plain')
    imported(packed, f'{area}/file', user=user)
    with open(packed, 'rb') as stream:
        cat = subprocess.Popen(['cat'], stdin=stream, stdout=subprocess.PIPE)
        imported('-', f'{area}/pipe', user=user, stdin=cat.stdout)
        cat.stdout.close()
        cat.wait()
    with open(packed, 'rb') as stream:
        imported('-', f'{area}/stdin', user=user, stdin=stream)
    for name in ('file', 'pipe', 'stdin'):
        assert index_bytes(f'{area}/{name}') == index_bytes(f'{area}/plain')


# --- single promises -----------------------------------------------------------------------------------

@both_users
@pytest.mark.parametrize('format', ['gnu', 'pax'])
def test_holes_stay_holes(shared, area, user, format):
    tree = f'{area}/tree'
    os.mkdir(tree)
    make_sparse(f'{tree}/sparse', start=100 * MIB, end=300 * MIB)
    with open(f'{tree}/only-hole', 'wb') as stream:
        stream.truncate(50 * MIB)
    entries = imported(tar(f'{shared}/sparse.tar', tree, '-S', f'--format={format}'), f'{area}/base', user=user)
    assert entries[b'sparse'].blocks == 8
    assert entries[b'only-hole'].blocks == 0
    assert os.stat(f'{area}/base/sparse').st_blocks <= 64
    assert os.stat(f'{area}/base/only-hole').st_blocks <= 8
    assert_same_content(f'{area}/base', tree, entries)


def test_a_hole_and_zeros_have_the_same_checksum(shared, area):
    tree = f'{area}/tree'
    os.mkdir(tree)
    make_sparse(f'{tree}/sparse')
    write(f'{tree}/zeros', content(tree, b'sparse'))
    entries = imported(tar(f'{shared}/sums.tar', tree, '-S', '--hole-detection=seek'), f'{area}/base')
    assert entries[b'sparse'].checksum == entries[b'zeros'].checksum
    assert entries[b'sparse'].blocks < entries[b'zeros'].blocks


@both_users
@both_locales
@pytest.mark.parametrize('format', ['pax', 'gnu'])
def test_a_path_longer_than_path_max_is_kept(area, user, locale, format):
    path = '/'.join(f'{number}-\u00e4' + 'x' * 240 for number in range(30)) + '/file'
    members = [(path, {'mtime': 7}, b'far down'), (path + '-link', {'type': tarfile.LNKTYPE, 'linkname': path}, b'')]
    python_tar(f'{area}/a.tar', members, format={'pax': tarfile.PAX_FORMAT, 'gnu': tarfile.GNU_FORMAT}[format])
    entries = imported(f'{area}/a.tar', f'{area}/base', user=user, locale=locale)
    assert len(path) > 4096
    assert entries[path.encode()].nlink == 2
    for name in (path, path + '-link'):
        assert content(f'{area}/base', name.encode()) == b'far down'
    subprocess.run(['rm', '-r', f'{area}/base'], check=True)


@both_locales
@pytest.mark.parametrize('charset', [None, 'BINARY'])
def test_pax_names_that_are_not_utf8_are_kept(area, locale, charset):
    # hdrcharset is what GNU tar and bsdtar write in front of such names; star writes nothing.
    def record(key, value):
        size = len(key) + len(value) + 3
        size += len(str(size + len(str(size))))
        return b'%d %s=%s\n' % (size, key, value)

    def header(size, kind):
        info = tarfile.TarInfo('short')
        info.type, info.size, info.linkname = kind, size, 'short' if kind == tarfile.SYMTYPE else ''
        return info.tobuf(tarfile.USTAR_FORMAT)

    def padded(data):
        return data + bytes(-len(data) % 512)

    names = b'b\xff\xfe-\xe4', b'decomposed-a\xcc\x88', b'symlink-\xe4'
    with open(f'{area}/a.tar', 'wb') as archive:
        for name in names:
            records = record(b'hdrcharset', charset.encode()) if charset else b''
            records += record(b'path', name)
            is_link = name.startswith(b'symlink')
            if is_link:
                records += record(b'linkpath', b'to-\xff')
            archive.write(header(len(records), tarfile.XHDTYPE) + padded(records))
            archive.write(header(0, tarfile.SYMTYPE if is_link else tarfile.REGTYPE))
        archive.write(bytes(10240))
    entries = imported(f'{area}/a.tar', f'{area}/base', locale=locale)
    assert sorted(entries) == sorted([b'.', *names])
    assert entries[b'symlink-\xe4'].target == b'to-\xff'


def test_nanoseconds_and_change_times_are_kept(area):
    times = {'mtime': '1234567890.123456789', 'ctime': '1234567891.000000001'}
    python_tar(f'{area}/a.tar', [('both', {'pax_headers': times}, b''), ('one', {'mtime': 5}, b'')])
    entries = imported(f'{area}/a.tar', f'{area}/base')
    assert (entries[b'both'].mtime, entries[b'both'].ctime) == (1234567890123456789, 1234567891000000001)
    assert (entries[b'one'].mtime, entries[b'one'].ctime) == (5 * NANOSECONDS, 5 * NANOSECONDS)


def test_directories_may_come_after_their_files_or_not_at_all(area):
    python_tar(f'{area}/a.tar', [
        ('a/b/file', {}, b'1'), ('a/b', {'type': tarfile.DIRTYPE, 'mode': 0o1711, 'uid': 5, 'mtime': 9}, b''),
        ('x/y/z/file', {}, b'2'), ('./', {'type': tarfile.DIRTYPE, 'mode': 0o700, 'gid': 6, 'mtime': 8}, b''),
    ])
    entries = imported(f'{area}/a.tar', f'{area}/base')

    def attributes(path):
        entry = entries[path]
        return entry.type, entry.mode, entry.uid, entry.gid, entry.mtime, entry.nlink
    assert attributes(b'a/b') == ('d', 0o1711, 5, 0, 9 * NANOSECONDS, 2)
    assert attributes(b'a') == ('d', 0o755, 0, 0, 0, 3)
    assert attributes(b'x/y') == ('d', 0o755, 0, 0, 0, 3)
    assert attributes(b'.') == ('d', 0o700, 0, 6, 8 * NANOSECONDS, 4)


KINDS = {
    'file': ('p', {'mode': 0o600}, b'1'),
    'longer-file': ('p', {'mode': 0o611, 'uid': 8}, b'22'),
    'symlink': ('p', {'type': tarfile.SYMTYPE, 'linkname': 'target'}, b''),
    'hardlink': ('p', {'type': tarfile.LNKTYPE, 'linkname': 'other'}, b''),
    'hardlink-to-symlink': ('p', {'type': tarfile.LNKTYPE, 'linkname': 'other-symlink'}, b''),
    'fifo': ('p', {'type': tarfile.FIFOTYPE, 'mode': 0o620}, b''),
    'device': ('p', {'type': tarfile.CHRTYPE, 'devmajor': 4, 'devminor': 5}, b''),
    'directory': ('p', {'type': tarfile.DIRTYPE, 'mode': 0o750}, b''),
}


@pytest.mark.parametrize('first, last', itertools.product(KINDS, KINDS))
def test_of_a_path_that_comes_twice_the_last_one_wins(area, first, last):
    others = [('other', {'mode': 0o440}, b'other'), ('other-symlink', {'type': tarfile.SYMTYPE, 'linkname': 'x'}, b'')]
    python_tar(f'{area}/twice.tar', [*others, KINDS[first], ('q', {}, b''), KINDS[last]])
    python_tar(f'{area}/once.tar', [*others, ('q', {}, b''), KINDS[last]])
    imported(f'{area}/once.tar', f'{area}/once')
    entries = imported(f'{area}/twice.tar', f'{area}/twice')
    assert index_bytes(f'{area}/twice') == index_bytes(f'{area}/once')
    assert_private(f'{area}/twice', entries)


def test_a_file_packed_twice_by_tar_is_one_file(area):
    tree = f'{area}/tree'
    os.mkdir(tree)
    write(f'{tree}/file', b'once')
    subprocess.run(['tar', '-C', tree, '-cf', f'{area}/a.tar', '.', 'file'], check=True)
    entries = imported(f'{area}/a.tar', f'{area}/base')
    assert entries[b'file'].nlink == 1
    assert content(f'{area}/base', b'file') == b'once'


def test_a_name_replaced_leaves_the_other_hard_links_alone(area):
    python_tar(f'{area}/a.tar', [
        ('one', {}, b'old'), ('two', {'type': tarfile.LNKTYPE, 'linkname': 'one'}, b''), ('one', {}, b'newer'),
        ('three', {'type': tarfile.LNKTYPE, 'linkname': 'one'}, b''),
    ])
    entries = imported(f'{area}/a.tar', f'{area}/base')
    assert [content(f'{area}/base', name) for name in (b'one', b'two', b'three')] == [b'newer', b'old', b'newer']
    assert [entries[name].nlink for name in (b'one', b'two', b'three')] == [2, 1, 2]


def test_a_hard_link_with_content_gives_it_to_all_names(area):
    def member(archive, name, kind, data, link=''):
        info = tarfile.TarInfo(name)
        info.type, info.size, info.linkname, info.mode = kind, len(data), link, 0o640
        archive.write(info.tobuf(tarfile.USTAR_FORMAT) + data + bytes(-len(data) % 512))

    with open(f'{area}/a.tar', 'wb') as archive:
        # The content of a hard link is pax's; ustar has none.
        archive.write(tarfile.TarInfo.create_pax_global_header({'comment': 'pax'}))
        member(archive, 'one', tarfile.REGTYPE, b'first and longer')
        member(archive, 'two', tarfile.LNKTYPE, b'last', 'one')
        archive.write(bytes(1024))
    entries = imported(f'{area}/a.tar', f'{area}/base')
    assert entries[b'one'].size == 4
    assert [content(f'{area}/base', name) for name in (b'one', b'two')] == [b'last', b'last']


def test_absolute_names_and_links_stay_inside(area):
    python_tar(f'{area}/a.tar', [
        ('//etc//./passwd', {}, b'inside'), ('/link', {'type': tarfile.LNKTYPE, 'linkname': '/etc/passwd'}, b''),
        ('/abs', {'type': tarfile.SYMTYPE, 'linkname': '/etc/shadow'}, b''),
    ])
    entries = imported(f'{area}/a.tar', f'{area}/base')
    assert sorted(entries) == [b'.', b'abs', b'etc', b'etc/passwd', b'link']
    assert entries[b'link'].first == entries[b'etc/passwd'].first
    assert entries[b'abs'].target == b'/etc/shadow'
    assert content(f'{area}/base', b'link') == b'inside'


@both_locales
def test_attributes_may_have_any_name(area, locale):
    os.mkdir(f'{area}/tree')
    write(f'{area}/tree/file')
    os.setxattr(f'{area}/tree/file', b'user.\xff=%41', b'\0')
    archive = tar(f'{area}/a.tar', f'{area}/tree', '--format=pax', *ALL_XATTRS)
    assert_same(imported(archive, f'{area}/base', locale=locale), f'{area}/tree')


@both_users
def test_lists_that_name_users_are_read_as_tar_reads_them(area, user):
    python_tar(f'{area}/a.tar', [('file', {'mode': 0o664, 'pax_headers': {
        'SCHILY.acl.access': 'user::rw-,user:root:r--,user:daemon:rw-,group::r--,group:sys:r-x,mask::rw-,other::r--',
    }}, b'')])
    entry = imported(f'{area}/a.tar', f'{area}/base', user=user)[b'file']
    assert entry.mode == 0o664
    assert entry.xattrs[b'system.posix_acl_access'] == struct.pack(
        '<I' + 'HHI' * 7, 2, 1, 6, 0xffffffff, 2, 4, 0, 2, 6, 1, 4, 4, 0xffffffff, 8, 5, 3, 16, 6, 0xffffffff,
        32, 4, 0xffffffff)


@pytest.mark.parametrize('kind', ['access', 'default'])
@pytest.mark.parametrize('pad', [0, 500])
def test_a_member_with_a_list_keeps_all_bits_of_its_mode(area, kind, pad):
    """Wherever its header lies in what is read at once."""
    text = 'user::rwx,user:0:r--,group::r-x,mask::r-x,other::r-x'
    python_tar(f'{area}/a.tar', [(f'd{nr}', {'type': tarfile.DIRTYPE, 'mode': 0o7755, 'pax_headers': {f'SCHILY.acl.{kind}': text}}, b'')
                                 for nr in range(pad + 1)])
    assert {entry.mode for path, entry in imported(f'{area}/a.tar', f'{area}/base').items() if path.startswith(b'd')} == {0o7755}


def test_who_is_unknown_is_left_out_of_lists_with_a_warning(area):
    python_tar(f'{area}/a.tar', [('file', {'pax_headers': {
        'SCHILY.acl.access': 'user::rw-,user:no-such-user:r--,user:42:r--,group::r--,mask::r--,other::r--'}}, b'')])
    status, stderr = umlfs_import(f'{area}/a.tar', f'{area}/base')
    assert status == 0
    assert 'a.tar: file: its access control list names a user or group' in stderr


@both_users
def test_an_umask_changes_nothing(shared, area, user):
    python_tar(f'{shared}/umask.tar', [('a/b', {}, b'1')])
    entries = imported(f'{shared}/umask.tar', f'{area}/base', user=user, umask=0o777)
    assert_private(f'{area}/base', entries)


# --- directories ---------------------------------------------------------------------------------------

@needs_root
def test_a_directory_gives_what_a_tar_of_it_gives(shared, tree, area):
    archive = tar(f'{shared}/same.tar', tree, '--format=pax', '--numeric-owner', *ALL_XATTRS, '--acls', '-S',
                  '--hole-detection=seek')
    imported(archive, f'{area}/of-tar')
    entries = imported(tree, f'{area}/of-dir')
    assert index_bytes(f'{area}/of-dir') == index_bytes(f'{area}/of-tar')
    assert_same_content(f'{area}/of-dir', tree, entries)
    assert_private(f'{area}/of-dir', entries)


def test_what_the_caller_owns_is_shown_as_roots(area):
    subprocess.run([*as_user('ordinary'), 'sh', '-c', f'mkdir -p {area}/tree/dir && echo mine >{area}/tree/dir/file'],
                   check=True)
    if ROOT:
        write(f'{area}/tree/roots', b'readable')
    entries = imported(f'{area}/tree', f'{area}/base', user='ordinary')
    for path in (b'dir', b'dir/file'):
        assert (entries[path].uid, entries[path].gid) == (0, 0)
    if ROOT:
        assert (entries[b'roots'].uid, entries[b'roots'].gid) == (0, 0)
    assert content(f'{area}/base', b'dir/file') == b'mine\n'


@needs_root
def test_mount_points_of_a_directory_stay_empty(area):
    os.makedirs(f'{area}/tree/proc')
    subprocess.run(['unshare', '-m', 'sh', '-ec', f'mount -t proc proc {area}/tree/proc; exec "$0" import "$@"',
                    os.environ['UMLFS'], f'{area}/tree', f'{area}/base'], check=True)
    assert os.listdir(f'{area}/base/proc') == []


@needs_root
def test_files_of_two_file_systems_are_no_hard_links(area):
    """Two file systems give their first files the same inode number; each has a second name there."""
    for name in ('one', 'two'):
        os.mkdir(f'{area}/{name}')
    os.mkdir(f'{area}/tree')
    script = f"""cd {area}
    for name in one two; do
        mount -t tmpfs tmpfs $name
        echo $name > $name/file
        ln $name/file $name/again
        touch tree/$name tree/$name-again
        mount --bind $name/file tree/$name
        mount --bind $name/again tree/$name-again
    done
    test $(stat -c %i tree/one) = $(stat -c %i tree/two)
    exec "$0" import tree base"""
    subprocess.run(['unshare', '-m', 'sh', '-ec', script, os.environ['UMLFS']], check=True)
    assert {path: content(f'{area}/base', path) for path in index_of(f'{area}/base') if path != b'.'} == {
        b'one': b'one\n', b'one-again': b'one\n', b'two': b'two\n', b'two-again': b'two\n'}
    assert link_groups(index_of(f'{area}/base')) == {frozenset(names) for names in (
        [b'.'], [b'one', b'one-again'], [b'two', b'two-again'])}


def test_sockets_and_fifos_of_a_directory_are_kept(area):
    make_tree(f'{area}/tree', sockets=True)
    os.chmod(f'{area}/tree', 0o755)
    entries = imported(f'{area}/tree', f'{area}/base')
    assert stat.S_ISSOCK(os.lstat(f'{area}/tree/socket').st_mode)
    assert (entries[b'socket'].type, entries[b'fifo'].type) == ('s', 'p')


# --- several sources -----------------------------------------------------------------------------------

@both_users
def test_later_sources_come_over_earlier_ones(area, user):
    def member(name, data=b'', **changes):
        info = tarfile.TarInfo(name)
        info.size, info.mtime = len(data), 10**9
        for key, value in changes.items():
            setattr(info, key, value)
        return info, data
    def archive(name, *members):
        with tarfile.open(f'{area}/{name}', 'w') as stream:
            for info, data in members:
                stream.addfile(info, io.BytesIO(data))
        return f'{area}/{name}'
    a = archive('a.tar', member('d', type=tarfile.DIRTYPE, mode=0o700), member('d/kept', b'1'), member('d/over', b'one', uid=1),
                member('d/name', type=tarfile.LNKTYPE, linkname='d/over'), member('was', b'file'))
    b = archive('b.tar', member('d', type=tarfile.DIRTYPE, mode=0o755), member('d/over', b'two', uid=2),
                member('was', type=tarfile.DIRTYPE, mode=0o755), member('was/in', b'x'),
                member('d/other', type=tarfile.LNKTYPE, linkname='d/over'))
    os.makedirs(f'{area}/c/d')
    write(f'{area}/c/d/last', b'from a directory')
    os.chmod(f'{area}/c/d', 0o715)
    entries = importing_several(user, a, b, f'{area}/c', f'{area}/base')
    assert sorted(entries) == [b'.', b'd', b'd/kept', b'd/last', b'd/name', b'd/other', b'd/over', b'was', b'was/in']
    assert (entries[b'd'].mode, entries[b'd/over'].uid, entries[b'd/name'].uid, entries[b'was'].type) == (0o715, 2, 1, 'd')
    assert entries[b'd/other'].first == entries[b'd/over'].first != entries[b'd/name'].first
    assert content(f'{area}/base', b'd/over') == b'two' and content(f'{area}/base', b'd/name') == b'one'
    # A later source that cannot be read leaves nothing, and is the one that is named.
    status, stderr = umlfs_import(a, f'{area}/none.tar', f'{area}/other', user=user)
    assert status == 1 and stderr.startswith(f'umlfs: {area}/none.tar: ') and not os.path.exists(f'{area}/other')
    status, stderr = umlfs_import(b, a, f'{area}/other', user=user)       # a file in the place of a directory with entries
    assert status == 1 and stderr.startswith(f'umlfs: {a}: was: ')
    assert sorted(os.listdir(area)) == ['a.tar', 'b.tar', 'base', 'c']


def importing_several(user, *words):
    status, stderr = umlfs_import(*words, user=user)
    assert status == 0 and 'warning' not in stderr, stderr
    return index_of(words[-1])
