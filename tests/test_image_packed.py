"""Images in one file or pipe: known however they are packed and come, with little held, and no program started."""

import bz2
import fcntl
import gzip
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

from images import DIR, LOWER, UPPER, Saved, image_of, layer, names, zstd
from importing import index_of
from umlfs_cli import PATIENCE, ids, needs_root


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
