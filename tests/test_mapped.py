"""What a process of the host wrote through a shared mapping, whose file it has closed, is in the state that it was written in."""

import contextlib
import mmap
import os
import subprocess
import sys
import tarfile

import pytest

from calls import overwrite, read_file
from umlfs_cli import identity

PAGES = 2000
WRITER = '''
import mmap, os, sys
mapping = mmap.mmap(os.open(sys.argv[1], os.O_RDWR), 0)
os.closerange(3, 20)    # also the copy that mmap keeps
for line in sys.stdin:
    for start in range(0, len(mapping), 2 * mmap.PAGESIZE):
        mapping[start:start + 5] = line.encode()[:5]
    print("written", flush=True)
'''


@contextlib.contextmanager
def writer(place, path):
    """A function that writes five letters to every other page of the file, and has them in memory alone."""
    with subprocess.Popen([sys.executable, '-c', WRITER, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                          **identity(place.user)) as process:
        def write(letters):
            process.stdin.write(f'{letters}\n')
            process.stdin.flush()
            assert process.stdout.readline() == 'written\n'
        yield write
        process.stdin.close()


def test_a_snapshot_has_it(place, base):
    mounted = place.mount(base)
    with writer(place, mounted / 'etc/hostname') as write:
        write('first')
        place.run('snapshot', mounted.session, 'one')
        write('later')
    place.run('reset', mounted.session, 'one')
    assert mounted.do(read_file, mounted / 'etc/hostname') == b'first\n'


def test_a_snapshot_has_all_of_it(place, base):
    """More than the kernel asks for at once."""
    mounted = place.mount(base)
    mounted.do(overwrite, mounted / 'tmp/large', b'')
    mounted.do(os.truncate, mounted / 'tmp/large', 2 * PAGES * mmap.PAGESIZE)
    with writer(place, mounted / 'tmp/large') as write:
        write('first')
        place.run('snapshot', mounted.session, 'one')
        write('later')
    place.run('reset', mounted.session, 'one')
    assert mounted.do(read_file, mounted / 'tmp/large').count(b'first') == PAGES


def test_a_snapshot_has_what_waits_for_the_disk(place):
    """Parts of the base that are copied with it, and that the host has in memory no more."""
    base = place.plain_base()
    place.do(overwrite, f'{base}/large', bytes(2 * PAGES * mmap.PAGESIZE))
    mounted = place.mount(base)
    with writer(place, mounted / 'large') as write, open(f'{base}/large', 'rb') as below:
        write('first')
        os.fsync(below.fileno())
        os.posix_fadvise(below.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        place.run('snapshot', mounted.session, 'one')
        write('later')
    place.run('reset', mounted.session, 'one')
    assert mounted.do(read_file, mounted / 'large').count(b'first') == PAGES


@pytest.mark.parametrize('flags', [[], ['--force']], ids=' '.join)
def test_a_reset_drops_it(place, base, flags):
    mounted = place.mount(base)
    with writer(place, mounted / 'etc/hostname') as write:
        write('drop!')
        place.run('reset', *flags, mounted.session)
        assert mounted.do(read_file, mounted / 'etc/hostname') == b'guest\n'
    assert mounted.do(read_file, mounted / 'etc/hostname') == b'guest\n'


def test_an_export_has_it(place, base):
    mounted = place.mount(base)
    with writer(place, mounted / 'etc/hostname') as write:
        write('first')
        place.run('export', mounted.session, place / 'out.tar')
        with tarfile.open(place / 'out.tar') as archive:
            assert archive.extractfile(archive.getmember('etc/hostname')).read() == b'first\n'
