"""An import that cannot be right is refused in one line that names the member, and leaves nothing."""

import os
import random
import shutil
import socket
import subprocess
import tarfile
import tempfile

import pytest

pytest.register_assert_rewrite('importing')
from importing import (ROOT, both_locales, both_users, compressed, cpio, imported, index_bytes, needs_programs,
                       area, python_tar, refused, shared, tar, umlfs_import, write)

pytestmark = needs_programs

SYMLINK = {'type': tarfile.SYMTYPE, 'linkname': '/tmp'}
DIRECTORY = {'type': tarfile.DIRTYPE, 'mode': 0o755}


def hard_link(target):
    return {'type': tarfile.LNKTYPE, 'linkname': target}


# --- members that no base may hold -----------------------------------------------------------------------

UP = '".." may lead out of the base'
BELOW = 'stands below a symlink'
NO_TARGET = 'a hard link to a file that the archive does not hold before it'
OWN = "this is the name of umlfs's own folder"
FULL = 'would replace a directory that has entries'

# What comes in front of the reason, the reason, and the members.
HOSTILE = {
    'dot-dot': ('a/../../victim', UP, [('a/../../victim', {}, b'x')]),
    'dot-dot-first': ('../victim', UP, [('../victim', {}, b'x')]),
    'dot-dot-last': ('a/../', UP, [('a/..', DIRECTORY, b'')]),
    'dot-dot-absolute': ('/../victim', UP, [('/../victim', {}, b'x')]),
    'below-symlink': ('link/victim', BELOW, [('link', SYMLINK, b''), ('link/victim', {}, b'x')]),
    'far-below-symlink': ('link/a/b', BELOW, [('link', SYMLINK, b''), ('link/a/b', {}, b'x')]),
    'directory-below-symlink': ('link/victim/', BELOW, [('link', SYMLINK, b''), ('link/victim', DIRECTORY, b'')]),
    'link-below-symlink': ('link/victim', BELOW, [('link', SYMLINK, b''), ('f', {}, b''),
                                                  ('link/victim', hard_link('f'), b'')]),
    'below-file': ('file/victim', 'stands below what is no directory', [('file', {}, b''), ('file/victim', {}, b'x')]),
    'link-through-symlink': ('h', NO_TARGET, [('link', SYMLINK, b''), ('h', hard_link('link/victim'), b'')]),
    'link-dot-dot': ('h', 'a hard link to a name that no base can hold', [('h', hard_link('../../etc/passwd'), b'')]),
    'link-to-host': ('h', NO_TARGET, [('h', hard_link('/etc/passwd'), b'')]),
    'link-to-later': ('h', NO_TARGET, [('h', hard_link('later'), b''), ('later', {}, b'')]),
    'link-to-itself': ('h', NO_TARGET, [('h', hard_link('h'), b'')]),
    'link-to-directory': ('h', 'a hard link to a directory', [('d', DIRECTORY, b''), ('h', hard_link('d'), b'')]),
    'link-to-root': ('h', 'a hard link to a directory', [('h', hard_link('.'), b'')]),
    'own-folder': ('.umlfs/index', OWN, [('.umlfs/index', {}, b'x')]),
    'own-folder-dotted': ('././/.umlfs/', OWN, [('././/.umlfs', DIRECTORY, b'')]),
    'own-folder-as-symlink': ('.umlfs', OWN, [('.umlfs', SYMLINK, b'')]),
    'full-directory-replaced': ('d', FULL, [('d/f', {}, b''), ('d', {}, b'x')]),
    'full-directory-replaced-by-link': ('d', FULL, [('f', {}, b''), ('d/f', {}, b''), ('d', hard_link('f'), b'')]),
    'root-as-file': ('./', 'the root can only be a directory', [('./', SYMLINK, b'')]),
    'name-too-long': ('n' * 256, 'a name of more than 255 bytes', [('n' * 256, {}, b'x')]),
    'directory-name-too-long': ('n' * 256 + '/f', 'a name of more than 255 bytes', [('n' * 256 + '/f', {}, b'x')]),
    'target-too-long': ('s', 'a symlink with a target of more than 4095 bytes',
                        [('s', {'type': tarfile.SYMTYPE, 'linkname': 't' * 4096}, b'')]),
    'owner-too-large': ('f', 'its owner or group is no number', [('f', {'uid': 1 << 32}, b'')]),
    'attributes-too-large': ('f', 'its extended attributes are longer',
                             [('f', {'pax_headers': {f'SCHILY.xattr.user.{n}': 'x' * 60000 for n in range(3)}}, b'')]),
}


@both_users
@both_locales
@pytest.mark.parametrize('case', HOSTILE)
def test_a_hostile_member_is_refused_by_name(area, user, locale, case):
    name, why, members = HOSTILE[case]
    python_tar(f'{area}/a.tar', [('before', {}, b'fine'), *members])
    line = refused(f'{area}/a.tar', f'{area}/base', user=user, locale=locale)
    assert f'/a.tar: {name}: {why}' in line


def test_own_folders_name_is_free_further_down(area):
    python_tar(f'{area}/a.tar', [('d/.umlfs', {}, b'x'), ('.umlfs2', {}, b'y')])
    assert b'd/.umlfs' in imported(f'{area}/a.tar', f'{area}/base')


def test_the_end_of_a_long_name_is_shown(area):
    name = 'd/' * 3000 + '../end'
    python_tar(f'{area}/a.tar', [(name, {}, b'')])
    assert f'a.tar: ...{name[-300:]}: ".." may lead' in refused(f'{area}/a.tar', f'{area}/base')


# --- damage ----------------------------------------------------------------------------------------------

@pytest.fixture(scope='module')
def archives(shared):
    """One tree of which every byte counts, packed in every way."""
    tree = f'{shared}/small'
    os.mkdir(tree)
    noise = random.Random(1)
    for name in ('one', 'two', 'three'):
        write(f'{tree}/{name}', noise.randbytes(20000))
    write(f'{tree}/text', b'compresses well\n' * 10000)
    os.link(f'{tree}/one', f'{tree}/again')
    plain = tar(f'{shared}/small.tar', tree)
    made = {kind: compressed(plain, kind) for kind in ('none', 'gzip', 'bzip2', 'xz', 'zstd', 'lz4') if
            kind != 'lz4' or shutil.which('lz4')}
    made['newc'] = cpio(f'{shared}/small.cpio', tree, 'newc')
    made['odc'] = cpio(f'{shared}/small-odc.cpio', tree, 'odc')
    return made


KINDS = ['none', 'gzip', 'bzip2', 'xz', 'zstd', 'lz4', 'newc', 'odc']


@pytest.mark.parametrize('kind', KINDS)
def test_an_archive_cut_anywhere_is_refused(archives, area, kind):
    if kind not in archives:
        pytest.skip(f'no {kind} on this machine')
    with open(archives[kind], 'rb') as stream:
        whole = stream.read()
    # What padding lies behind the end mark is nobody's loss.
    end = len(whole) if kind in ('gzip', 'bzip2', 'xz', 'zstd', 'lz4') else len(whole.rstrip(b'\0'))
    cuts = {1, 2, 100, 512, 513, 1024, end - 1, end - 2, end - 5, *range(0, end, end // 60)}
    cuts |= set(range(0, end, 512 * 7)) if kind == 'none' else set()
    for cut in sorted(cuts):
        with open(f'{area}/cut', 'wb') as stream:
            stream.write(whole[:cut])
        line = refused(f'{area}/cut', f'{area}/base')
        assert 'damaged or cut short' in line or 'cut short' in line or 'no archive' in line or 'empty' in line, line


@pytest.mark.parametrize('kind', ['gzip', 'bzip2', 'xz', 'zstd', 'lz4'])
def test_a_flipped_bit_is_never_taken_for_data(archives, area, kind):
    if kind not in archives:
        pytest.skip(f'no {kind} on this machine')
    imported(archives[kind], f'{area}/right')
    with open(archives[kind], 'rb') as stream:
        whole = stream.read()
    noise = random.Random(2)
    spots = [*[noise.randrange(len(whole)) for _ in range(60)], *range(12), *range(len(whole) - 12, len(whole))]
    n_refused = 0
    for spot in spots:
        flipped = bytearray(whole)
        flipped[spot] ^= 1 << noise.randrange(8)
        with open(f'{area}/flipped', 'wb') as stream:
            stream.write(flipped)
        status, stderr = umlfs_import('--force', f'{area}/flipped', f'{area}/base')
        assert status in (0, 1) and stderr.count('\n') <= 1, stderr
        n_refused += status
        # A bit without a meaning, in the gzip header's time for one.
        assert status == 1 or index_bytes(f'{area}/base') == index_bytes(f'{area}/right'), spot
    assert n_refused >= len(spots) * 0.7


@pytest.mark.parametrize('where', ['header', 'name'])
def test_a_damaged_tar_header_names_the_member_before(area, where):
    python_tar(f'{area}/a.tar', [('first', {}, b'1' * 700), ('second', {}, b'2')])
    with open(f'{area}/a.tar', 'r+b') as stream:
        stream.seek(512 + 1024 + (130 if where == 'header' else 0))
        stream.write(b'\xff')
    assert '/a.tar: first: the archive is damaged or cut short' in refused(f'{area}/a.tar', f'{area}/base')


def no_archives():
    yield 'empty', b''
    yield 'text', b'This is no archive.\n' * 100
    yield 'zeros', bytes(100)
    yield 'noise', random.Random(3).randbytes(100000)
    yield 'elf', b'\x7fELF' + random.Random(4).randbytes(1000)


@pytest.mark.parametrize('name, data', list(no_archives()), ids=lambda value: value if isinstance(value, str) else '')
@pytest.mark.parametrize('packed', ['none', 'gzip', 'xz', 'zstd'])
def test_what_is_no_archive_is_refused(area, name, data, packed):
    write(f'{area}/source', data)
    line = refused(compressed(f'{area}/source', packed), f'{area}/base')
    assert ('empty: ' if (name, packed) == ('empty', 'none') else 'no archive that umlfs can read') in line


@pytest.mark.parametrize('packed', ['none', 'gzip', 'bzip2', 'xz', 'zstd'])
def test_an_archive_without_members_is_refused(area, packed):
    python_tar(f'{area}/source', [])
    assert 'the archive is empty' in refused(compressed(f'{area}/source', packed), f'{area}/base')


@pytest.mark.parametrize('program', ['zip', '7z', '7z-with-names'])
def test_a_password_is_told_of(area, program):
    write(f'{area}/secret', b'secret' * 100)
    commands = {'zip': ['zip', '-q', '-P', 'password', 'a.zip', 'secret'],
                '7z': ['7z', 'a', '-bd', '-ppassword', 'a.7z', 'secret'],
                '7z-with-names': ['7z', 'a', '-bd', '-ppassword', '-mhe=on', 'a.7z', 'secret']}
    if shutil.which(commands[program][0]) is None:
        pytest.skip(f'no {commands[program][0]} on this machine')
    subprocess.run(commands[program], cwd=area, check=True, stdout=subprocess.DEVNULL)
    assert 'password' in refused(f'{area}/a.{program[:3].rstrip("-")}', f'{area}/base')


@pytest.mark.skipif(shutil.which('zip') is None, reason='no zip on this machine')
def test_a_damaged_zip_is_refused(area):
    write(f'{area}/file', random.Random(5).randbytes(50000))
    subprocess.run(['zip', '-q', 'a.zip', 'file'], cwd=area, check=True)
    with open(f'{area}/a.zip', 'r+b') as stream:
        stream.seek(20000)
        stream.write(b'damage')
    assert '/a.zip: file: the archive is damaged' in refused(f'{area}/a.zip', f'{area}/base')


def test_a_second_archive_behind_the_end_is_told_of(area):
    python_tar(f'{area}/a.tar', [('first', {}, b'1')])
    with open(f'{area}/a.tar', 'rb') as stream:
        twice = stream.read() * 2
    write(f'{area}/twice.tar', twice)
    status, stderr = umlfs_import(f'{area}/twice.tar', f'{area}/base')
    assert status == 0
    assert "twice.tar: something follows the archive's end: left out" in stderr


# --- sources and places ----------------------------------------------------------------------------------

@both_users
def test_a_missing_source_or_parent_is_named(area, user):
    python_tar(f'{area}/a.tar', [('f', {}, b'')])
    assert f'{area}/none.tar: no such archive' in refused(f'{area}/none.tar', f'{area}/base', user=user)
    status, stderr = umlfs_import(f'{area}/a.tar', f'{area}/none/base', user=user)
    assert (status, os.listdir(area)) == (1, ['a.tar'])
    assert f'{area}/none: ' in stderr


def test_more_attributes_than_a_base_holds_are_no_full_disk(area):
    with tempfile.TemporaryDirectory(dir='/dev/shm') as tree:
        write(f'{tree}/file', b'x')
        try:
            for number in range(3):
                os.setxattr(f'{tree}/file', f'user.{number}', bytes(60000))
        except OSError:
            pytest.skip('tmpfs has no user attributes')
        assert 'file: has more than 128 KiB of extended attributes' in refused(tree, f'{area}/base')
        mounted = subprocess.run([os.environ['UMLFS'], 'mount', tree, f'{area}/session'], stderr=subprocess.PIPE, check=False)
        assert mounted.returncode == 1 and b'file: has more than 128 KiB of extended attributes' in mounted.stderr


@pytest.mark.skipif(not ROOT, reason='needs a file that the caller may not read, and root can read all')
def test_what_may_not_be_read_is_named(area):
    os.makedirs(f'{area}/tree/dir')
    write(f'{area}/tree/dir/secret', b'x', 0o600)
    for path in ('dir/secret', 'dir'):
        line = refused(f'{area}/tree', f'{area}/base', user='ordinary')
        assert f'{area}/tree/{path}: you may not read this' in line
        os.chmod(f'{area}/tree/dir', 0o700)


@pytest.mark.skipif(not ROOT, reason='needs a directory that the caller may not write to, and root can write to all')
def test_a_parent_that_may_not_be_written_to_is_named(area):
    python_tar(f'{area}/a.tar', [('f', {}, b'')])
    os.chmod(area, 0o755)
    assert f'{area}: cannot make the base' in refused(f'{area}/a.tar', f'{area}/base', user='ordinary')


def test_a_base_is_no_source(area):
    python_tar(f'{area}/a.tar', [('f', {}, b'')])
    imported(f'{area}/a.tar', f'{area}/base')
    assert f"{area}/base/.umlfs: this is the name of umlfs's own folder" in refused(f'{area}/base', f'{area}/other')


@pytest.mark.parametrize('base', ['tree/base', 'tree/deep/base', 'tree/deep', 'link/base'])
def test_a_base_inside_its_source_is_refused(area, base):
    os.makedirs(f'{area}/tree/deep')
    os.symlink('tree/deep', f'{area}/link')
    assert 'cannot lie inside the directory' in refused(f'{area}/tree', f'{area}/{base}')


def test_a_source_inside_the_base_that_it_would_replace_is_refused(area):
    python_tar(f'{area}/a.tar', [('d/f', {}, b'')])
    imported(f'{area}/a.tar', f'{area}/base')
    before = index_bytes(f'{area}/base')
    assert 'nor the other way round' in refused(f'{area}/base/d', f'{area}/base', '--force')
    assert index_bytes(f'{area}/base') == before


@both_users
@pytest.mark.parametrize('flags', [[], ['--force']])
def test_what_is_no_base_is_never_replaced(area, user, flags):
    python_tar(f'{area}/a.tar', [('f', {}, b'')])
    os.makedirs(f'{area}/full/.umlfs')
    write(f'{area}/file', b'file')
    os.symlink('nowhere', f'{area}/dangling')
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(f'{area}/socket')
    for name in ('full', 'file', 'dangling', 'socket'):
        line = refused(f'{area}/a.tar', f'{area}/{name}', *flags, user=user)
        assert f'{area}/{name}: is there and is no base' in line
    assert '.: is there and is no base' in refused(f'{area}/a.tar', '.', *flags, user=user, cwd=f'{area}/full')
    assert '/: cannot be the name' in refused(f'{area}/a.tar', '/', *flags, user=user)
