"""An import of an OCI image: all layers over each other, what the digests promise, and nothing by halves."""

import gzip
import os
import subprocess
import tarfile

import pytest

from diffs import Bench
from images import ARCHITECTURE, DIR, INDEX, LOWER, UPPER, Layout, Saved, SavedLayout, image_of, layer, names, zstd
from importing import index_of
from monkey import Monkey
from umlfs_cli import ROOT


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


@pytest.mark.parametrize('tag, names_of_it', [
    ('one:latest', ['docker.io/library/one:latest']), ('my/one:latest', ['docker.io/my/one:latest']),
    ('localhost:5000/one:latest', [])], ids=['docker', 'user', 'registry'])
def test_of_images_that_docker_25_saved_one_is_chosen(place, tag, names_of_it):
    saved = (SavedLayout(place / 'saved').tagged(LOWER, layer(('one', b'')), tags=[tag, 'again:1'])
             .tagged(layer(('two', b'')), tags=['two:latest']).tagged(layer(('none', b''))))
    archive = saved.pack()
    for name in [tag, 'again:1', '1', *names_of_it]:
        place.run('import', '--force', '--image', name, archive, place / 'base')
        assert {'one', 'd/a'} <= names(place, 'base')
    place.run('import', '--force', '--image', 'two:latest', archive, place / 'base')
    assert names(place, 'base') == {'two'}
    assert 'more than one image' in place.refused('import', '--image', 'latest', archive, place / 'no')
    for name in 'one', 'two', 'docker.io/two:latest', f'library/{tag}:1', '':
        assert 'no image' in place.refused('import', '--image', name, archive, place / 'no')


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
