"""What programs do with a file system works through a mount as on a plain host directory, and is kept."""

import os
import stat

import pytest

from calls import *
from places import Here, assert_kept, difference, shape


@pytest.fixture(params=['imported', 'plain'])
def here(request, place):
    return Here(place, request.param)


def test_smoke(here):
    def body():
        os.mkdir('x')
        write_file('x/y', b'abc')
        write_file('plain', b'new')
        os.unlink('dir/file')
    here.within(body)
    here.beside(body)
    assert difference(here.within(shape), here.beside(shape)) == []
    assert_kept(here)
