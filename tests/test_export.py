"""What `umlfs export` and `umlfs commit` promise: all of a state, the same bytes each time, whole or not at all."""

import filecmp
import os
import socket
import subprocess
import tarfile
import tempfile

import pytest

from calls import overwrite, read_file
from diffs import Bench
from exporting import export, session_on
from importing import ALL_XATTRS, acl, index_bytes, index_of, make_tree
from monkey import Monkey
from umlfs_cli import ROOT, as_ordinary, differences, dump, identity, program, run, write_archive

EPOCH = 1_200_000_000
MANY = 150_000


def exported(place, source, file, *flags):
    """With warnings of what is left out."""
    result = run('export', *flags, source, file, user=place.user)
    assert result.status == 0, result
    return file


def same_bytes(one, other):
    return filecmp.cmp(one, other, shallow=False)


@pytest.fixture(scope='module')
def full_archive():
    """With everything that an archive can hold."""
    with tempfile.TemporaryDirectory(prefix='umlfs-tree-') as directory:    # what is in pytest's own, no other user may read for long
        tree = make_tree(f'{directory}/tree')
        archive = f'{directory}/tree.tar'
        subprocess.run(['tar', '-C', tree, '--format=pax', '--numeric-owner', *ALL_XATTRS, '--acls', '-S', '-cf', archive, '.'],
                       check=True)
        os.chmod(directory, 0o755)
        os.chmod(archive, 0o644)
        yield archive


def make_sparse(path):
    with open(path, 'wb') as stream:
        stream.seek(1 << 20)
        stream.write(b'middle')
        stream.truncate(3 << 20)


def bind(directory, name):
    os.chdir(directory)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(name)
    os.chdir('/')


# --- the round trip ----------------------------------------------------------------------------------------------

@pytest.mark.parametrize('end', ['tar', 'tar.gz', 'tgz', 'tar.xz', 'tar.zst'])
def test_an_import_of_an_export_is_the_same_base(place, full_archive, end):
    session = session_on(place, full_archive)
    place.run('import', export(place, session, place / f'out.{end}'), place / 'again')
    assert index_bytes(place / 'again') == index_bytes(place / 'base')
    assert place.run('verify', place / 'again').endswith('as imported\n')
    compressed = {'gz': b'\x1f\x8b', 'xz': b'\xfd7', 'st': b'\x28\xb5'}.get(end[-2:])
    with open(place / f'out.{end}', 'rb') as stream:
        assert compressed is None or stream.read(2) == compressed


def test_a_commit_is_the_same_base(place, full_archive):
    session = session_on(place, full_archive)
    place.run('commit', session, place / 'again')
    assert index_bytes(place / 'again') == index_bytes(place / 'base')
    assert place.run('verify', place / 'again').endswith('as imported\n')
    place.run('check', place / 'again')


@pytest.mark.parametrize('live', [True, False], ids=['live', 'offline'])
def test_changes_go_along(place, live):
    bench = Bench(place, live, options='xattr')
    monkey = Monkey(bench.at, 5)
    for _ in range(150):
        bench.mounted.do(monkey.step)
    bench.do(make_sparse, '/tmp/sparse')
    bench.do(os.setxattr, '/tmp/sparse', 'user.a=b%', b'\0')
    bench.do(os.chown, '/tmp/sparse', 4_000_000_000, 70000)
    seen = bench.mounted.dump()
    if not live:
        bench.mounted.umount()
    place.run('import', export(place, bench.session, place / 'out.tar'), place / 'imported')
    place.run('commit', bench.session, place / 'committed')
    assert index_bytes(place / 'imported') == index_bytes(place / 'committed')
    assert index_of(place / 'imported')[b'tmp/sparse'].xattrs == {b'user.a=b%': b'\0'}
    for base in 'imported', 'committed':
        again = place.mount(place / base, session=f'on-{base}')
        assert differences(again.dump(), seen) == []
        place.run('verify', place / base)


def test_a_plain_directory_is_committed_with_checksums(place):
    mounted = place.mount(place.plain_base())
    seen = mounted.dump()
    place.run('commit', mounted.session, place / 'committed')
    assert all(entry.checksum for entry in index_of(place / 'committed').values() if entry.type == 'f' and entry.size)
    assert differences(place.mount(place / 'committed', session='two').dump(), seen) == []


@pytest.mark.skipif(not ROOT, reason='needs root')
@pytest.mark.parametrize('user', ['root'], indirect=True)
def test_gnu_tar_extracts_what_the_mount_shows(place):
    bench = Bench(place, True)
    monkey = Monkey(bench.at, 6)
    for _ in range(150):
        bench.mounted.do(monkey.step)
    archive = export(place, bench.session, place / 'out.tar')
    os.mkdir(place / 'extracted')
    subprocess.run(['tar', '-C', place / 'extracted', '--numeric-owner', '-xpf', archive], check=True)
    assert differences(dump(place / 'extracted'), bench.mounted.dump()) == []


@pytest.mark.parametrize('tool', ['tar', 'bsdtar'])
def test_others_restore_access_control_lists(place, full_archive, tool):
    session = session_on(place, full_archive)
    lists = {os.fsdecode(path): {name.decode(): value for name, value in entry.xattrs.items() if name.startswith(b'system.posix_acl_')}
             for path, entry in index_of(place / 'base').items()}
    lists = {path: found for path, found in lists.items() if found}
    assert sorted(lists) == ['deep/er', 'empty-dir', 'mode-4755']
    archive = export(place, session, place / 'out.tar')
    place.do(os.mkdir, place / 'extracted')
    subprocess.run([tool, '-C', place / 'extracted', '--numeric-owner', '--acls', '-xpf', archive, 'deep/er/', 'empty-dir/', 'mode-4755'],
                   check=True, **identity(place.user))
    for path, found in lists.items():
        full = place / f'extracted/{path}'
        assert {name: os.getxattr(full, name) for name in os.listxattr(full) if name.startswith('system.posix_acl_')} == found
    assert os.stat(place / 'extracted/mode-4755').st_mode & 0o777 == index_of(place / 'base')[b'mode-4755'].mode & 0o777


def test_a_list_that_such_records_cannot_tell_goes_as_an_attribute(place):
    name = 'SCHILY.xattr.system.posix_acl_access'
    right = acl((1, 7, None), (2, 5, 2_000_000_000), (4, 1, None), (16, 5, None), (32, 4, None))
    lists = {'right': right, 'far': acl((1, 7, None), (2, 5, 4_000_000_000), (4, 1, None), (16, 5, None), (32, 4, None)),
             'unlike': acl((1, 7, None), (4, 1, None), (16, 7, None), (32, 4, None)), 'cut': right[:-1], 'strange': acl((99, 5, None)), 'empty': right[:4], 'old': b'\1' + right[1:], 'short': b'\2'}
    archive = write_archive(place / 'in.tar', [(path, {'mode': 0o754, 'pax_headers': {name: value.decode(errors='surrogateescape')}}, b'')
                                               for path, value in lists.items()])
    session = session_on(place, archive)
    again = export(place, session, place / 'out.tar')
    with tarfile.open(again) as stream:
        assert {member.name for member in stream if 'SCHILY.acl.access' in member.pax_headers} == {'right'}
        assert stream.getmember('right').pax_headers['SCHILY.acl.access'].split(',') == [
            'user::rwx', 'group::--x', 'other::r--', 'user:2000000000:r-x', 'mask::r-x']
    place.run('import', again, place / 'again')
    assert index_bytes(place / 'again') == index_bytes(place / 'base')
    assert {path: index_of(place / 'again')[path.encode()].xattrs[b'system.posix_acl_access'] for path in lists} == lists


def test_sockets_are_left_out_and_said(place):
    mounted = place.mount(place.imported_base(), options='posix' if place.user == 'root' else None)
    mounted.do(bind, mounted / 'tmp', 's')
    result = run('export', mounted.session, place / 'out.tar', user=place.user)
    assert result.status == 0 and 'tmp/s: a socket' in result.stderr
    with tarfile.open(place / 'out.tar') as stream:
        assert 'tmp/s' not in stream.getnames() and 'tmp' in stream.getnames()
    place.run('commit', mounted.session, place / 'committed')
    assert index_of(place / 'committed')[b'tmp/s'].type == 's'


# --- the same bytes ----------------------------------------------------------------------------------------------

def test_the_same_state_gives_the_same_bytes(place, full_archive):
    session = session_on(place, full_archive)
    for end in 'tar', 'tar.gz':
        export(place, session, place / f'one.{end}')
        os.utime(place / f'one.{end}', (0, 0))
        export(place, f'{session}@@base', place / f'two.{end}')
        assert same_bytes(place / f'one.{end}', place / f'two.{end}')
    with open(place / 'three', 'wb') as stream:
        subprocess.run([program(), 'export', session, '-'], stdout=stream, stderr=subprocess.DEVNULL, check=True,
                       **identity(place.user))
    assert same_bytes(place / 'one.tar', place / 'three')
    piped = subprocess.run([program(), 'export', session, '-'], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True,
                           **identity(place.user)).stdout
    assert piped == read_file(place / 'one.tar')


def test_source_date_epoch_makes_two_runs_the_same(place):
    base, archives = place.imported_base(), []
    for name in 'one', 'two':
        mounted = place.mount(base, session=name)
        for number in ([1, 2, 3] if name == 'one' else [3, 1, 2]):
            mounted.do(overwrite, mounted / f'tmp/{number}', b'made')
        mounted.do(os.utime, mounted / 'tmp/1', (5, 5))
        archives.append(export(place, mounted.session, place / f'{name}.tar', environment={'SOURCE_DATE_EPOCH': str(EPOCH)}))
    assert same_bytes(*archives)
    with tarfile.open(archives[0]) as stream:
        members = {member.name: member for member in stream}
    assert list(members) == sorted(members, key=lambda name: name.split('/') if name != '.' else [])
    assert members['tmp/2'].mtime == EPOCH and members['tmp/1'].mtime == 5 and members['etc/hostname'].mtime == 10**9
    assert not any('ctime' in member.pax_headers for member in members.values())
    for wrong in 'x', '-1', '1x', '99999999999999999999':
        place.refused('export', place / 'one', place / 'no.tar', status=2, env=os.environ | {'SOURCE_DATE_EPOCH': wrong})


# --- layers ------------------------------------------------------------------------------------------------------

def model(archive):
    """{path: what the member says}; names of one file share a list."""
    found = {}
    with tarfile.open(archive) as stream:
        for member in stream:
            name = member.name if member.name != '.' else ''
            if member.islnk():
                found[name] = found[member.linkname]
                continue
            data = stream.extractfile(member).read() if member.isreg() else b''
            assert name not in found
            found[name] = [member.type if not member.issparse() else b'0', member.mode, member.uid, member.gid, member.mtime,
                           member.linkname, data]
    return found


def stacked(lower, layer):
    """What a layer makes of a model, by the words of the OCI image specification: whiteouts see only what is below."""
    def is_below(path, top):
        return path.startswith(f'{top}/') or (top == '' and path != '')
    upper = model(layer)
    result = dict(lower)
    for path in upper:
        top, _, name = path.rpartition('/')
        if name == '.wh..wh..opq':
            result = {path: entry for path, entry in result.items() if not is_below(path, top)}
        elif name.startswith('.wh.'):
            gone = f'{top}/{name[4:]}' if top else name[4:]
            assert gone in lower, f'{path} removes nothing'
            assert gone not in upper, f'{gone} is removed and told'
            result = {path: entry for path, entry in result.items() if path != gone and not is_below(path, gone)}
    for path, entry in upper.items():
        if path.rpartition('/')[2].startswith('.wh.'):
            continue
        if entry[0] != tarfile.DIRTYPE:
            result = {other: what for other, what in result.items() if not is_below(other, path)}
        result[path] = entry
    return result


def groups(found):
    """Which names share a file."""
    names = {}
    for path, entry in found.items():
        names.setdefault(id(entry), set()).add(path)
    return sorted(map(sorted, names.values()))


@pytest.mark.parametrize('number', range(2))
def test_a_layer_makes_the_one_state_of_the_other(place, number):
    bench = Bench(place, False)
    monkey = Monkey(bench.at, 70 + number)
    for name in 'one', 'two', 'three':
        for _ in range(60):
            bench.mounted.do(monkey.step)
        place.run('snapshot', bench.session, name)
        if name == 'two':
            place.run('reset', bench.session, 'one')
    bench.mounted.umount()
    states = ['@base', 'one', 'two', 'three']
    models = {name: model(export(place, f'{bench.session}@{name}', place / f'{name}.tar')) for name in states}
    for one in states:
        for other in states:
            layer = export(place, f'{bench.session}@{other}', place / 'layer.tar', f'--diff={one}')
            found = stacked(models[one], layer)
            assert found == models[other], (one, other)
            assert groups(found) == groups(models[other])


def test_a_directory_that_hides_another_is_opaque(place):
    bench = Bench(place, False)
    bench.do(os.rename, '/home/deep', '/home/old')
    bench.do(os.mkdir, '/home/deep')
    bench.write('/home/deep/new', b'')
    bench.do(os.unlink, '/etc/passwd')
    bench.do(os.rename, '/etc/shadow', '/etc/hidden')
    bench.mounted.umount()
    with tarfile.open(export(place, bench.session, place / 'layer.tar', '--diff')) as stream:
        names = stream.getnames()
    assert names == ['etc', 'etc/hidden', 'etc/.wh.passwd', 'etc/.wh.shadow', 'home', 'home/deep', 'home/deep/.wh..wh..opq',
                     'home/deep/new', 'home/old', 'home/old/er', 'home/old/er/file']


def test_a_new_name_of_an_old_file_brings_its_other_names(place):
    bench = Bench(place, False)
    bench.do(os.link, '/home/pair1', '/tmp/third')
    bench.mounted.umount()
    lower = model(export(place, f'{bench.session}@@base', place / 'base.tar'))
    layer = export(place, bench.session, place / 'layer.tar', '--diff')
    assert list(model(layer)) == ['tmp', 'tmp/third', 'home/pair1', 'home/pair2']
    assert ['home/pair1', 'home/pair2', 'tmp/third'] in groups(stacked(lower, layer))


@as_ordinary
def test_many_names_of_a_file_are_each_in_the_layer_once(place):
    """So many that time which grows with their square is minutes."""
    bench = Bench(place, False)
    names = [f'tmp/{"n" * 80}{number:06}' for number in range(MANY)]

    def link():
        for name in names:
            os.link(f'{bench.at}/home/pair1', f'{bench.at}/{name}')
    bench.do(link)
    place.run('snapshot', bench.session, 'before')
    bench.do(os.chmod, '/home/pair2', 0o600)
    bench.mounted.umount()
    layer = export(place, bench.session, place / 'layer.tar', '--diff=before', environment={'SOURCE_DATE_EPOCH': str(EPOCH)})
    with tarfile.open(layer) as stream:
        found = [(member.name, member.linkname) for member in stream]
    assert found == [('home/pair1', ''), *((name, 'home/pair1') for name in ('home/pair2', *names))]


def test_a_name_that_a_layer_cannot_hold_is_refused(place):
    bench = Bench(place, False)
    bench.write('/tmp/.wh.x', b'')
    bench.mounted.umount()
    assert '/tmp/.wh.x' in place.refused('export', '--diff', bench.session, place / 'layer.tar')
    assert not os.path.exists(place / 'layer.tar')
    export(place, bench.session, place / 'all.tar')


@pytest.mark.parametrize('name', ['n' * 252, 'ä' * 126, '.wh.x', '.wh..opq'], ids=['long', 'long characters', 'mark', 'opaque'])
def test_a_name_that_a_layer_cannot_tell_is_gone_is_refused(place, name):
    bench = Bench(place, False)
    bench.write(f'/tmp/{name}', b'')
    bench.write(f'/tmp/{"k" * 251}', b'')
    place.run('snapshot', bench.session, 'before')
    bench.do(os.unlink, f'/tmp/{"k" * 251}')
    place.run('snapshot', bench.session, 'after')
    bench.do(os.unlink, f'/tmp/{name}')
    bench.mounted.umount()
    assert f'/tmp/{name}: is gone' in place.refused('export', '--diff=before', bench.session, place / 'layer.tar')
    assert not os.path.exists(place / 'layer.tar')
    export(place, bench.session, place / 'layer.tar', '--diff')
    export(place, bench.session, place / 'all.tar')
    if name[0] != '.':
        layer = export(place, f'{bench.session}@after', place / 'layer.tar', '--diff=before')
        assert f'tmp/.wh.{"k" * 251}' in model(layer)


def test_what_a_socket_took_the_place_of_is_gone(place):
    bench = Bench(place, False, options='posix' if place.user == 'root' else None)
    for number in range(3):
        bench.write(f'/tmp/{number}', b'file')
    bench.do(bind, '/tmp', 'old')
    bench.do(bind, '/tmp', 'older')
    place.run('snapshot', bench.session, 'before')
    bench.do(os.unlink, '/tmp/0')
    bench.do(bind, '/tmp', '0')
    bench.do(bind, '/tmp', 'new')
    bench.do(os.rename, '/tmp/new', '/tmp/1')
    bench.do(os.rename, '/tmp/2', '/tmp/moved')
    bench.do(os.rename, '/tmp/old', '/tmp/2')
    bench.do(os.chmod, '/tmp/older', 0o700)
    bench.do(os.rename, '/home/deep', '/tmp/deep')
    bench.do(bind, '/home', 'deep')
    bench.do(bind, '/home', 'only')
    bench.mounted.umount()
    lower, upper = (model(exported(place, f'{bench.session}{name}', place / 'out.tar')) for name in ('@before', ''))
    layer = exported(place, bench.session, place / 'layer.tar', '--diff=before')
    assert stacked(lower, layer) == upper
    with tarfile.open(layer) as stream:
        assert {name for name in stream.getnames() if '.wh.' in name} == {'tmp/.wh.0', 'tmp/.wh.1', 'tmp/.wh.2', 'home/.wh.deep'}


@pytest.mark.skipif(not ROOT, reason='needs root')
@pytest.mark.parametrize('user', ['root'], indirect=True)
def test_umoci_unpacks_the_layers_to_what_the_mount_shows(place):
    bench = Bench(place, True)
    monkey = Monkey(bench.at, 9)
    for _ in range(150):
        bench.mounted.do(monkey.step)
    layers = [export(place, f'{bench.session}@@base', place / 'base.tar'), export(place, bench.session, place / 'layer.tar', '--diff')]
    image = f'{place.path}/image'
    subprocess.run(['umoci', 'init', '--layout', image], check=True)
    subprocess.run(['umoci', 'new', '--image', f'{image}:it'], check=True)
    for layer in layers:
        subprocess.run(['umoci', 'raw', 'add-layer', '--image', f'{image}:it', layer], check=True)
    subprocess.run(['umoci', 'unpack', '--image', f'{image}:it', place / 'bundle'], check=True, stdout=subprocess.DEVNULL,
                   stderr=subprocess.DEVNULL)
    assert differences(dump(place / 'bundle/rootfs'), bench.mounted.dump()) == []


# --- whole or not at all -----------------------------------------------------------------------------------------

def test_states_are_named_behind_an_at(place):
    base = place.imported_base()
    mounted = place.mount(base, session='my@session')
    mounted.do(overwrite, mounted / 'tmp/one', b'')
    place.run('snapshot', mounted.session, 'a@b')
    mounted.do(overwrite, mounted / 'tmp/two', b'')
    for name, names in [('', {'tmp/one', 'tmp/two'}), ('@a@b', {'tmp/one'}), ('@@base', set())]:
        archive = export(place, f'{mounted.session}{name}', place / 'out.tar')
        with tarfile.open(archive) as stream:
            assert {'tmp/one', 'tmp/two'} & set(stream.getnames()) == names
    at = place.imported_base(name='my@session@a@b')    # no session, whatever is in it
    place.do(overwrite, f'{at}/manifest', b'')
    with tarfile.open(export(place, at, place / 'out.tar')) as stream:
        assert 'tmp/one' in stream.getnames()
    for wrong in f'{mounted.session}@none', place / 'none', place / 'none@a':
        place.refused('export', wrong, place / 'no.tar')
        place.refused('commit', wrong, place / 'no')
    assert not os.path.exists(place / 'no.tar') and not os.path.exists(place / 'no')
