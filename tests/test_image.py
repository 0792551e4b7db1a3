"""An import of an OCI image: all layers over each other, what the digests promise, and nothing by halves."""

import bz2
import fcntl
import gzip
import hashlib
import io
import json
import lzma
import os
import random
import resource
import signal
import subprocess
import tarfile
import termios
import time

import pytest

from diffs import Bench
from importing import index_of
from monkey import Monkey
from umlfs_cli import PATIENCE, ROOT, ids, needs_root

MANIFEST = 'application/vnd.oci.image.manifest.v1+json'
INDEX = 'application/vnd.oci.image.index.v1+json'
ARCHITECTURE = {'x86_64': 'amd64', 'aarch64': 'arm64'}.get(os.uname().machine, os.uname().machine)
DIR = {'type': tarfile.DIRTYPE, 'mode': 0o755}


def layer(*members):
    """A tar of (name, data or changes of the TarInfo)."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode='w') as stream:
        for name, what in members:
            info = tarfile.TarInfo(name)
            data = what if isinstance(what, bytes) else b''
            info.size, info.mtime = len(data), 10**9
            for key, value in (what if isinstance(what, dict) else {}).items():
                setattr(info, key, value)
            stream.addfile(info, io.BytesIO(data))
    return out.getvalue()


class Layout:
    """An image layout in a directory."""

    def __init__(self, path):
        self.path, self.listed = path, []
        os.makedirs(f'{path}/blobs/sha256')
        self.put('oci-layout', {'imageLayoutVersion': '1.0.0'})

    def put(self, name, document):
        with open(f'{self.path}/{name}', 'w', encoding='ascii') as stream:
            json.dump(document, stream)

    def blob(self, data, **more):
        if not isinstance(data, bytes):
            data = json.dumps(data).encode()
        digest = hashlib.sha256(data).hexdigest()
        with open(f'{self.path}/blobs/sha256/{digest}', 'wb') as stream:
            stream.write(data)
        return {'digest': f'sha256:{digest}', 'size': len(data)} | more

    def image(self, layers, **more):
        config = self.blob({'os': 'linux'}, mediaType='application/vnd.oci.image.config.v1+json')
        manifest = {'schemaVersion': 2, 'config': config,
                    'layers': [self.blob(data, mediaType='application/vnd.oci.image.layer.v1.tar') for data in layers]}
        return self.blob(manifest, mediaType=MANIFEST, **more)

    def end(self, *listed):
        self.put('index.json', {'schemaVersion': 2, 'manifests': listed})
        return self.path

    def blobs(self):
        return sorted(os.listdir(f'{self.path}/blobs/sha256'))


def image_of(place, *layers, name='image'):
    layout = Layout(place / name)
    return layout.end(layout.image(layers))


def names(place, base):
    return {path.decode() for path in index_of(place / base)} - {'.'}


def zstd(data):
    return subprocess.run(['zstd', '-q'], input=data, stdout=subprocess.PIPE, check=True).stdout


LOWER = layer(('d', DIR), ('d/a', b'1'), ('d/b', b'1'), ('d/e', DIR), ('d/e/f', b'1'), ('x', b'1'), ('y', DIR), ('y/in', b'1'))


@pytest.mark.parametrize('pack', [bytes, gzip.compress, zstd], ids=['plain', 'gzip', 'zstd'])
@pytest.mark.parametrize('kind', ['directory', 'tar', 'tar.gz'])
def test_layers_come_over_each_other(place, pack, kind):
    upper = layer(('d', {**DIR, 'mode': 0o700}), ('d/.wh.a', b''), ('d/b', b'22'), ('d/e', DIR), ('d/e/new', b'2'),
                  ('d/e/.wh..wh..opq', b''), ('.wh.x', b''), ('.wh.nothing', b''), ('y', b'a file now'),
                  ('.wh..wh.plnk', b''), ('later', b'2'))
    image = image_of(place, pack(LOWER), pack(upper), pack(layer(('x', b'3'), ('.wh.x', b''), ('.wh.later', b''))), pack(layer()))
    if kind != 'directory':
        with tarfile.open(place / f'image.{kind}', 'w:gz' if kind == 'tar.gz' else 'w') as stream:
            stream.add(image, '.')
        image = place / f'image.{kind}'
    place.run('import', image, place / 'base')
    entries = index_of(place / 'base')
    assert names(place, 'base') == {'d', 'd/b', 'd/e', 'd/e/new', 'x', 'y'}
    assert (entries[b'd'].mode, entries[b'd/b'].size, entries[b'y'].type, entries[b'x'].size) == (0o700, 2, 'f', 1)
    place.run('verify', place / 'base')
    place.run('check', place / 'base')
    assert sorted(os.listdir(place / 'base')) == ['.umlfs', 'd', 'x', 'y']
    assert [name for name in os.listdir(place.path) if 'importing' in name] == []


@pytest.mark.parametrize('number', range(2))
def test_layers_of_umlfs_give_the_same_index(place, number):
    bench = Bench(place, False)
    monkey = Monkey(bench.at, 40 + number)
    for name in 'one', 'two':
        for _ in range(60):
            bench.mounted.do(monkey.step)
        place.run('snapshot', bench.session, name)
    bench.mounted.umount()
    place.run('export', f'{bench.session}@@base', place / '0.tar')
    place.run('export', '--diff', f'{bench.session}@one', place / '1.tar')
    place.run('export', '--diff=one', f'{bench.session}@two', place / '2.tar')
    place.run('export', f'{bench.session}@two', place / 'all.tar')
    place.run('import', image_of(place, *(open(place / f'{n}.tar', 'rb').read() for n in range(3))), place / 'layers')
    place.run('import', place / 'all.tar', place / 'all')
    # A layer tells what differs; a time of the change of an inode is nothing that could.
    found, wanted = ({path: entry._replace(ctime=0) for path, entry in index_of(place / base).items()} for base in ('layers', 'all'))
    assert found == wanted
    place.run('verify', place / 'layers')


def image_by_umoci(place):
    image = place / 'made'
    subprocess.run(['umoci', 'init', '--layout', image], check=True)
    subprocess.run(['umoci', 'new', '--image', f'{image}:tag'], check=True)
    for number, data in enumerate([LOWER, layer(('d/.wh.a', b''), ('z', b'2'))]):
        with open(place / f'{number}.tar', 'wb') as stream:
            stream.write(data)
        subprocess.run(['umoci', 'raw', 'add-layer', '--image', f'{image}:tag', place / f'{number}.tar'], check=True)
    return image


@pytest.mark.skipif(not ROOT, reason='needs root')
@pytest.mark.parametrize('user', ['root'], indirect=True)
def test_an_image_that_umoci_made(place):
    image = image_by_umoci(place)
    subprocess.run(['umoci', 'unpack', '--image', f'{image}:tag', place / 'bundle'], check=True, stderr=subprocess.DEVNULL)
    place.run('import', '--image', 'tag', image, place / 'base')
    place.run('import', place / 'bundle/rootfs', place / 'other')
    assert index_of(place / 'base').keys() == index_of(place / 'other').keys()
    assert 'no image' in place.refused('import', '--image', 'none', image, place / 'no')


def test_the_platform_chooses(place):
    layout = Layout(place / 'image')
    made = {arch: layout.image([layer((arch, b''))], platform={'os': 'linux', 'architecture': arch} | more)
            for arch, more in [(ARCHITECTURE, {}), ('other', {'variant': 'v7'})]}
    nested = layout.blob({'schemaVersion': 2, 'manifests': list(made.values())}, mediaType=INDEX,
                         annotations={'org.opencontainers.image.ref.name': 'one'})
    layout.end(nested)
    for words, found in [([], ARCHITECTURE), (['--platform', 'linux/other'], 'other'), (['--platform', 'linux/other/v7'], 'other'),
                         (['--image', 'one'], ARCHITECTURE)]:
        place.run('import', '--force', *words, layout.path, place / 'base')
        assert names(place, 'base') == {found}
    for words in ['--platform', 'linux/oth'], ['--platform', 'linux/other/v8'], ['--platform', 'windows/other'], ['--image', 'two']:
        assert '--platform' in place.refused('import', *words, layout.path, place / 'no')
    again = layout.image([layer(('again', b''))], platform={'os': 'linux', 'architecture': ARCHITECTURE})
    layout.end(made[ARCHITECTURE], again)
    assert 'more than one image' in place.refused('import', layout.path, place / 'no')
    layout.end(made['other'])       # the only one there is
    place.run('import', '--force', layout.path, place / 'base')


def damages():
    def flip(layout):
        layout.end(layout.image([layer(('file', b'x' * 20000))]))       # in the file's bytes, where only the digest tells
        for name in layout.blobs():
            with open(f'{layout.path}/blobs/sha256/{name}', 'r+b') as stream:
                if os.fstat(stream.fileno()).st_size > 20000:
                    stream.seek(10000)
                    stream.write(b'y')

    def remove(layout):
        for name in layout.blobs():
            if os.path.getsize(f'{layout.path}/blobs/sha256/{name}') > 5000:
                os.unlink(f'{layout.path}/blobs/sha256/{name}')

    def link(layout):
        for name in layout.blobs():
            path = f'{layout.path}/blobs/sha256/{name}'
            if os.path.getsize(path) > 5000:
                os.rename(path, f'{layout.path}/elsewhere')
                os.symlink('../../elsewhere', path)
    yield 'flipped', flip
    yield 'missing', remove
    yield 'a link', link
    yield 'no json', lambda layout: open(f'{layout.path}/index.json', 'w').write('{"manifests": [')
    yield 'nothing', lambda layout: layout.end()
    yield 'no list', lambda layout: layout.put('index.json', {})
    yield 'twice', lambda layout: open(f'{layout.path}/index.json', 'w').write('{"manifests": [], "manifests": []}')
    yield 'bad digest', lambda layout: layout.end({'digest': 'sha256:../../../etc/passwd', 'size': 1})
    yield 'short digest', lambda layout: layout.end({'digest': 'sha256:00', 'size': 1})
    yield 'md5', lambda layout: layout.end({'digest': 'md5:' + 64 * '0', 'size': 1})
    yield 'wrong size', lambda layout: layout.end(layout.image([LOWER]) | {'size': 7})
    yield 'no layers', lambda layout: layout.end(layout.image([]))
    yield 'version', lambda layout: layout.put('oci-layout', {'imageLayoutVersion': '2.0.0'})
    yield 'no tar', lambda layout: layout.end(layout.image([b'nonsense' * 1000]))
    yield 'leads out', lambda layout: layout.end(layout.image([layer(('../x', b''))]))
    yield 'whiteout leads out', lambda layout: layout.end(layout.image([LOWER, layer(('../.wh.x', b''))]))
    yield 'below a link', lambda layout: layout.end(layout.image(
        [layer(('l', {'type': tarfile.SYMTYPE, 'linkname': '/etc'})), layer(('l/x', b''))]))
    yield 'types', lambda layout: layout.put('index.json', {'manifests': [3, None, {'digest': 5}]})


@pytest.mark.parametrize('damage', [pytest.param(function, id=name) for name, function in damages()])
def test_what_is_no_sound_image_is_refused(place, damage):
    layout = Layout(place / 'image')
    layout.end(layout.image([LOWER]))
    damage(layout)
    before = sorted(os.listdir(place.path))
    place.refused('import', layout.path, place / 'base')
    assert sorted(os.listdir(place.path)) == before


def test_a_whiteout_follows_no_link(place):
    outside = place / 'outside'
    place.do(os.mkdir, outside)
    place.do(os.mkdir, f'{outside}/kept')
    place.run('import', image_of(place, layer(('l', {'type': tarfile.SYMTYPE, 'linkname': outside})),
                                 layer(('l/.wh.kept', b''))), place / 'base')
    assert os.path.isdir(f'{outside}/kept') and names(place, 'base') == {'l'}


# --- what `docker save` makes ------------------------------------------------------------------------------------

class Saved:
    """An archive as `docker save` before version 25 has it: a directory for each layer, links for those that come again."""

    def __init__(self):
        self.members, self.images, self.seen = [], [], {}

    def image(self, *layers, tags=(), changes=None, **config):
        paths = []
        for number, data in enumerate(layers):
            name = hashlib.sha256(f'{len(self.images)} {number}'.encode()).hexdigest()      # no digest of anything that is there
            path = f'{name}/layer.tar'
            again = {'type': tarfile.SYMTYPE, 'linkname': f'../{self.seen[data]}'} if data in self.seen else data
            self.members += [(name, DIR), (f'{name}/VERSION', b'1.0'), (f'{name}/json', b'{}'), (path, again)]
            self.seen.setdefault(data, path)
            paths.append(path)
        ids = [f'sha256:{hashlib.sha256(data).hexdigest()}' for data in layers]
        text = json.dumps({'os': 'linux', 'architecture': ARCHITECTURE, 'rootfs': {'type': 'layers', 'diff_ids': ids}} | config).encode()
        name = f'{hashlib.sha256(text).hexdigest()}.json'
        self.members.append((name, text))
        self.images.append({'Config': name, 'RepoTags': list(tags), 'Layers': paths} | (changes or {}))
        return self

    def bytes(self):
        return layer(*self.members, ('manifest.json', json.dumps(self.images).encode()), ('repositories', b'{}'))

    def put(self, path):
        with open(path, 'wb') as stream:
            stream.write(self.bytes())
        return path


UPPER = layer(('d/.wh.a', b''), ('z', b'22'))


@pytest.mark.parametrize('way', ['file', 'pipe', 'packed pipe'])
def test_a_saved_image_is_its_layers(place, way):
    saved = Saved().image(LOWER, UPPER, layer(('x', b'3')), LOWER)
    if way == 'file':
        place.run('import', saved.put(place / 'saved.tar'), place / 'base')
    else:
        data = saved.bytes() if way == 'pipe' else gzip.compress(saved.bytes())
        with place.start('import', '-', place / 'base', stdin=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
            process.communicate(data)
        assert process.returncode == 0
    assert names(place, 'base') == {'d', 'd/a', 'd/b', 'd/e', 'd/e/f', 'x', 'y', 'y/in', 'z'}
    assert [index_of(place / 'base')[path].size for path in (b'x', b'z')] == [1, 2]
    place.run('verify', place / 'base')


def test_an_image_layout_comes_through_a_pipe(place):
    image = image_of(place, LOWER)
    with subprocess.Popen(['tar', '-C', image, '-c', '.'], stdout=subprocess.PIPE) as tar:
        place.run('import', '-', place / 'base', stdin=tar.stdout)
    assert 'd/a' in names(place, 'base')


def large_first(place, seed=1):
    """A tar of an image layout that begins with a layer which no compressor makes smaller."""
    noise = layer(('noise', random.Random(seed).randbytes(1 << 20)))
    image = image_of(place, LOWER, noise)
    paths = sorted((f'blobs/sha256/{name}' for name in os.listdir(f'{image}/blobs/sha256')),
                   key=lambda path: -os.path.getsize(f'{image}/{path}'))
    members = []
    for path in [*paths, 'index.json', 'oci-layout']:
        with open(f'{image}/{path}', 'rb') as stream:
            members.append((path, stream.read()))
    return layer(('blobs', DIR), ('blobs/sha256', DIR), *members)


PACKERS = {'tar': bytes, 'tar.gz': gzip.compress, 'tar.bz2': bz2.compress, 'tar.xz': lzma.compress, 'tar.zst': zstd}


@pytest.mark.parametrize('kind', PACKERS)
@pytest.mark.parametrize('way', ['file', 'pipe'])
def test_an_image_is_known_however_it_is_packed(place, way, kind):
    with open(place / f'image.{kind}', 'wb') as stream:
        stream.write(PACKERS[kind](large_first(place)))
    if way == 'file':
        place.run('import', place / f'image.{kind}', place / 'base')
    else:
        with subprocess.Popen(['cat', place / f'image.{kind}'], stdout=subprocess.PIPE) as cat:
            place.run('import', '-', place / 'base', stdin=cat.stdout)
    assert names(place, 'base') == {'d', 'd/a', 'd/b', 'd/e', 'd/e/f', 'noise', 'x', 'y', 'y/in'}
    assert index_of(place / 'base')[b'noise'].size == 1 << 20
    place.run('verify', place / 'base')


def drained(pipe):
    """Waits until the reader has taken all there is."""
    deadline = time.monotonic() + PATIENCE
    while fcntl.ioctl(pipe, termios.FIONREAD, bytes(4)) != bytes(4):
        assert time.monotonic() < deadline


@pytest.mark.parametrize('first', [1, 100, 512, 1000, 2000, 70000])
def test_an_image_is_known_however_slowly_it_comes(place, first):
    data = large_first(place)
    with place.start('import', '-', place / 'base', stdin=subprocess.PIPE, stderr=subprocess.DEVNULL, bufsize=0) as process:
        process.stdin.write(data[:first])
        drained(process.stdin)
        process.communicate(data[first:])
    assert process.returncode == 0 and 'noise' in names(place, 'base')


def many_directories(number, **more):
    return layer(*((f'd{i}', {**DIR, **more}) for i in range(number)), ('oci-layout', b'no image'))


@pytest.mark.parametrize('pack', [bytes, gzip.compress], ids=['plain', 'gzip'])
def test_an_archive_of_many_directories_is_no_image(place, pack):
    with place.start('import', '-', place / 'base', stdin=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        process.communicate(pack(many_directories(5000)))
    assert process.returncode == 0 and len(names(place, 'base')) == 5001


def test_what_cannot_be_kept_is_no_guess(place):
    """Headers of half a megabyte each: more than is kept of a pipe; a file is read twice."""
    with open(place / 'image.tar', 'wb') as stream:
        stream.write(many_directories(140, pax_headers={'comment': 'x' * 500000}))
    with open(place / 'image.tar', 'rb') as stream, subprocess.Popen(['cat'], stdin=stream, stdout=subprocess.PIPE) as cat:
        assert 'put it into a file' in place.refused('import', '-', place / 'base', stdin=cat.stdout)
    assert 'imageLayoutVersion' not in place.refused('import', place / 'image.tar', place / 'base')


# What the data begins with that libarchive would give to these programs.
PROGRAMS = {'grzip': b'GRZipII\0\2\4:)', 'lrzip': b'LRZI\0\6', 'lzop': b'\x89LZO\0\r\n\x1a\n'}


def directory_named(start):
    """A tar header whose first bytes are these."""
    head = tarfile.TarInfo('x' * len(start))
    head.type = tarfile.DIRTYPE
    head = start + head.tobuf(tarfile.USTAR_FORMAT)[len(start):]
    digits = b'%06o\0 ' % sum(head[:148] + 8 * b' ' + head[156:])
    return head[:148] + digits + head[156:]


@pytest.mark.parametrize('name', PROGRAMS)
def test_an_image_starts_no_program(place, name):
    place.do(os.mkdir, place / 'bin')
    with open(place / f'bin/{name}', 'w', encoding='ascii') as stream:
        stream.write(f'#!/bin/sh\n: > {place / "mark"}\n')
    os.chmod(place / f'bin/{name}', 0o755)
    with open(place / 'image.tar', 'wb') as stream:
        stream.write(directory_named(PROGRAMS[name]) + large_first(place))
    with place.start('import', place / 'image.tar', place / 'base', stderr=subprocess.DEVNULL,
                     env={**os.environ, 'PATH': f'{place / "bin"}:{os.environ["PATH"]}'}) as process:
        process.wait(PATIENCE)
    assert not os.path.exists(place / 'mark')
    assert process.returncode == 0 and 'noise' in names(place, 'base')


def test_an_image_takes_few_descriptors(place):
    """A hundred layers are three hundred files as docker saves them."""
    saved = Saved().image(*(layer((f'file{i}', b'x' * i)) for i in range(100)))
    saved.put(place / 'saved.tar')
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, limit[1]))
    try:
        place.run('import', place / 'saved.tar', place / 'base')
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limit)
    assert {path: entry.size for path, entry in index_of(place / 'base').items() if entry.type == 'f'} == {
        f'file{i}'.encode(): i for i in range(100)}
    place.run('verify', place / 'base')


def test_more_files_than_an_image_has_are_refused(place):
    data = layer(('oci-layout', b'{}'), *((f'blobs/sha256/{i}', b'') for i in range(16384)))
    with open(place / 'image.tar', 'wb') as stream:
        stream.write(data)
    assert 'more files than' in place.refused('import', place / 'image.tar', place / 'base')


@needs_root
@pytest.mark.parametrize('options', ['nr_inodes=3', 'size=512k'])
def test_a_full_disk_is_called_that(place, options):
    with open(place / 'image.tar', 'wb') as stream:
        stream.write(large_first(place))
    place.do(os.mkdir, place / 'disk')
    uid, gid = ids(place.user)
    subprocess.run(['mount', '-t', 'tmpfs', '-o', f'{options},uid={uid},gid={gid}', 'tmpfs', place / 'disk'], check=True)
    try:
        assert 'No space left' in place.refused('import', place / 'image.tar', place / 'disk/base')
        assert os.listdir(place / 'disk') == []
    finally:
        subprocess.run(['umount', place / 'disk'], check=True)


def test_a_sparse_member_is_as_long_as_it_says(place):
    """The last layer ends in a hole, and so does the archive's copy of it."""
    image = image_of(place, layer(('zeros', bytes(300000))))
    for name in os.listdir(f'{image}/blobs/sha256'):
        subprocess.run(['fallocate', '--dig-holes', f'{image}/blobs/sha256/{name}'], check=True)
    subprocess.run(['tar', '-C', image, '--sparse', '--sort=name', '-cf', place / 'image.tar', 'blobs', 'index.json', 'oci-layout'], check=True)
    place.run('import', place / 'image.tar', place / 'base')
    assert index_of(place / 'base')[b'zeros'].size == 300000


def archives():
    """Images as they come through a pipe, the layers larger than what pipe and buffers hold."""
    noise = layer(('noise', random.Random(1).randbytes(1 << 20)))
    yield 'saved', lambda place: Saved().image(LOWER, noise, UPPER).bytes()
    yield 'layout', lambda place: subprocess.run(['tar', '-C', image_of(place, LOWER, noise), '-c', '.'], check=True,
                                                 stdout=subprocess.PIPE).stdout
    yield 'packed', lambda place: gzip.compress(Saved().image(LOWER, noise, UPPER).bytes())


@pytest.mark.parametrize('part', [0.0, 0.5, 0.9], ids=['first bytes', 'half', 'nearly all'])
@pytest.mark.parametrize('archive', [pytest.param(function, id=name) for name, function in archives()])
def test_ctrl_c_while_a_pipe_stalls_leaves_nothing(place, archive, part):
    data = archive(place)
    data = data[:max(int(len(data) * part), 100)]
    place.do(os.mkdir, place / 'tmp')
    before = sorted(os.listdir(place.path))
    with place.start('import', '-', place / 'base', stdin=subprocess.PIPE, stderr=subprocess.PIPE,
                     env={**os.environ, 'TMPDIR': place / 'tmp'}) as process:
        process.stdin.write(data)
        process.stdin.flush()
        drained(process.stdin)
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE) == 1
        assert process.stderr.read().decode() == f'umlfs: {place / "base"}: interrupted; nothing was made\n'
    assert sorted(os.listdir(place.path)) == before and os.listdir(place / 'tmp') == []


def test_of_several_saved_images_one_is_chosen(place):
    archive = (Saved().image(layer(('one', b'')), tags=['my/one:1', 'my/one:latest'])
               .image(layer(('two', b'')), tags=['my/two:1'], architecture='other', variant='v7').put(place / 'saved.tar'))
    for words, found in [([], 'one'), (['--image', 'my/one:1'], 'one'), (['--image', 'my/one:latest'], 'one'),
                         (['--platform', 'linux/other'], 'two'), (['--platform', 'linux/other/v7', '--image', 'my/two:1'], 'two')]:
        place.run('import', '--force', *words, archive, place / 'base')
        assert names(place, 'base') == {found}
    assert 'no image' in place.refused('import', '--image', 'my/one', archive, place / 'no')
    again = Saved().image(layer(('one', b''))).image(layer(('two', b''))).put(place / 'again.tar')
    assert 'more than one image' in place.refused('import', again, place / 'no')


@pytest.mark.parametrize('saved', [
    Saved().image(LOWER, rootfs={'diff_ids': ['sha256:' + 64 * '0']}), Saved().image(LOWER, rootfs={}), Saved().image(),
    Saved().image(LOWER, UPPER, rootfs={'diff_ids': [5, None]}), Saved().image(LOWER, changes={'Layers': ['none']}),
    Saved().image(LOWER, changes={'Layers': [5]}), Saved().image(LOWER, changes={'Config': 64 * '0' + '.json'}),
    Saved().image(LOWER, changes={'Config': None}), Saved().image(b'nonsense' * 1000), Saved().image(layer(('../x', b'')))],
    ids=['other bytes', 'no digests', 'no layers', 'bad digests', 'no such layer', 'no name', 'no such configuration',
         'no configuration', 'no tar', 'leads out'])
def test_what_was_not_saved_soundly_is_refused(place, saved):
    archive = saved.put(place / 'saved.tar')
    before = sorted(os.listdir(place.path))
    place.refused('import', archive, place / 'base')
    assert sorted(os.listdir(place.path)) == before


def test_links_of_an_archive_that_lead_nowhere_are_refused(place):
    name = 64 * 'a'
    ring = [(f'{name}/VERSION', b''), (f'{name}/layer.tar', {'type': tarfile.SYMTYPE, 'linkname': f'../{name}/layer.tar'})]
    saved = Saved().image(LOWER, changes={'Layers': [f'{name}/layer.tar']})
    saved.members += ring
    assert 'lacks it' in place.refused('import', saved.put(place / 'saved.tar'), place / 'base')
    configuration = saved.images[0]['Config']
    changed = [(path, what + b' ' if path == configuration else what) for path, what in saved.members]
    saved.members = changed
    assert 'another digest' in place.refused('import', saved.put(place / 'saved.tar'), place / 'base')


@pytest.mark.skipif(not ROOT, reason='needs root')
@pytest.mark.parametrize('user', ['root'], indirect=True)
def test_an_archive_that_skopeo_made(place):
    """As `podman save` does; it uses the same library."""
    image = image_by_umoci(place)
    subprocess.run(['skopeo', 'copy', '--quiet', '--insecure-policy', f'oci:{image}:tag', f'docker-archive:{place.path}/saved.tar:my/name:1'],
                   check=True)
    place.run('import', '--image', 'docker.io/my/name:1', place / 'saved.tar', place / 'base')
    place.run('import', image, place / 'other')
    assert index_of(place / 'base') == index_of(place / 'other')
