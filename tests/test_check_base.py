"""What `umlfs check` finds of a base: each kind of damage, by its path, and it is left."""

import os
import shutil

import pytest

from calls import overwrite, read_file
from checks import DAMAGED, Checked, nothing_changes


def rewrite(path, data):
    """Other bytes, the same times."""
    st = os.stat(path)
    overwrite(path, data)
    os.utime(path, ns=(st.st_atime_ns, st.st_mtime_ns))


BASE_DAMAGE = {
    'missing file': ('base', '/etc/passwd', 'missing', lambda path: os.unlink(path)),
    'missing directory': ('base', '/home', 'missing', shutil.rmtree),
    'another size': ('base', '/etc/passwd', 'bytes', lambda path: rewrite(path, b'short')),
    'another time': ('base', '/etc/passwd', 'modified', lambda path: os.utime(path, ns=(0, 10**18 + 1))),
    'a directory': ('base', '/etc/passwd', 'is a directory', lambda path: (os.unlink(path), os.mkdir(path))),
    'a link': ('base', '/etc/passwd', 'is a symbolic link', lambda path: (os.unlink(path), os.symlink('shadow', path))),
    'a file': ('base', '/tmp', 'is a regular file', lambda path: (os.rmdir(path), overwrite(path, b''))),
    'extra file': ('base', '/etc/extra', 'not in the index', lambda path: overwrite(path, b'extra')),
    'extra directory': ('base', '/extra', 'not in the index', os.mkdir),
    'a name of the index alone': ('base', '/run/fifo', 'in the index alone', lambda path: overwrite(path, b'')),
    'a strange file': ('stray', '/.umlfs/notes', 'index alone', lambda path: overwrite(path, b'')),
    'no index': ('index', '/.umlfs/index', 'missing', lambda path: os.unlink(path)),
    'a flipped bit': ('index', '/.umlfs/index', 'damaged', lambda path: overwrite(path, read_file(path)[:-9] + b'x' + read_file(path)[-8:])),
    'a cut index': ('index', '/.umlfs/index', 'cut short', lambda path: overwrite(path, read_file(path)[:-9])),
}


@pytest.mark.parametrize('repair', [[], ['--repair']], ids=['look', 'repair'])
@pytest.mark.parametrize('kind', BASE_DAMAGE)
def test_damage_of_a_base_is_named_and_left(place, kind, repair):
    word, where, what, make = BASE_DAMAGE[kind]
    base = place.imported_base()
    place.do(make, base + where)
    with nothing_changes(base):
        found = Checked(place, *repair, base)
    assert found.status == DAMAGED and len(found) == 1, list(found)
    assert what in found.of(word, where)['what'] and not found[0]['mendable']


def test_damage_deep_in_a_base_is_named_with_its_whole_path(place):
    base = place.imported_base()
    place.do(os.unlink, f'{base}/home/user/notes')
    place.do(overwrite, f'{base}/home/user/extra', b'')
    found = Checked(place, base)
    assert len(found) == 2
    found.of('base', '/home/user/notes')
    found.of('base', '/home/user/extra')
