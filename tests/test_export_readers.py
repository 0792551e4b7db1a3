"""What other programs make of an archive that `umlfs export` wrote."""

import os
import subprocess

import pytest

from calls import read_file, write_file
from exporting import export
from importing import index_of
from umlfs_cli import identity, write_archive


def session_with(place, members):
    """On a base of these files."""
    root = ('.', {'type': b'5', 'mode': 0o755}, b'')
    return place.mount(place.imported_base(archive=write_archive(place / 'in.tar', [root, *members])))


def extracted(place, archive, tool='tar'):
    target = f'{archive}.{tool}'
    place.do(os.mkdir, target)
    subprocess.run([tool, '-C', target, '-xpf', archive], check=True, **identity(place.user))
    return target


# --- holes -------------------------------------------------------------------------------------------------------

def grow(path, size, *writes):
    os.truncate(path, size)
    with open(path, 'r+b') as stream:
        for at in writes:
            stream.seek(at)
            stream.write(b'tail')


@pytest.mark.parametrize('flags', [[], ['--diff']], ids=['whole', 'layer'])
@pytest.mark.parametrize('tool', ['tar', 'bsdtar'])
def test_holes_behind_an_end_within_a_block_are_where_they_were(place, flags, tool):
    shapes = [(3_000_000, 2_500_000), (3_000_000, 2_998_001), (2_600_001, 2_100_000, 2_500_003), (2_001_000, ), (2_000_300, ), (9_000_000, )]
    data = os.urandom(2_000_003)
    mounted = session_with(place, [(f'f{number}', {}, data) for number in range(len(shapes))])
    for number, (size, *writes) in enumerate(shapes):
        mounted.do(grow, mounted / f'f{number}', size, *writes)
    target = extracted(place, export(place, mounted.session, place / 'out.tar', *flags), tool)
    for number in range(len(shapes)):
        assert place.do(read_file, f'{target}/f{number}') == mounted.do(read_file, mounted / f'f{number}'), shapes[number]
    assert os.stat(f'{target}/f5').st_blocks * 512 < 4_000_000
    assert os.path.getsize(place / 'out.tar') < len(shapes) * 2_100_000


def make_sparse(path):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, 'wb') as stream:
        stream.seek(200_000)
        stream.write(b'end')


@pytest.mark.parametrize('end', [b'file', b'f\xc3\xa4', b'file\xff'], ids=['ascii', 'characters', 'bytes'])
@pytest.mark.parametrize('tool', ['tar', 'bsdtar'])
def test_a_sparse_file_has_its_own_path_whatever_that_is(place, end, tool):
    mounted = session_with(place, [(os.fsdecode(end), {}, b'other')])
    names = [directory + end for directory in (b'', b'x' * 90 + b'/', b'x' * 160 + b'/', b'y' * 50 + b'/' + b'z' * 100 + b'/', b'w' * 120)]
    at = os.fsencode(mounted.path)
    for name in names[1:]:
        mounted.do(make_sparse, at + b'/' + name)
    target = os.fsencode(extracted(place, export(place, mounted.session, place / 'out.tar'), tool))
    for name in names:
        assert place.do(read_file, target + b'/' + name) == mounted.do(read_file, at + b'/' + name), name
    place.run('import', place / 'out.tar', place / 'imported')
    assert {name for name, entry in index_of(place / 'imported').items() if entry.type == 'f'} == set(names)


SURROGATES = b'\xed\xa0\xbd\xed\xb8\x80'


@pytest.mark.parametrize('make', [lambda path: os.mkdir(path + SURROGATES), lambda path: write_file(path + b'a' * 200 + SURROGATES),
                                  lambda path: os.symlink(SURROGATES, path + b'link')], ids=['directory', 'file', 'target'])
@pytest.mark.parametrize('flags', [[], ['--diff']], ids=['whole', 'layer'])
def test_a_name_that_would_come_out_as_another_is_refused(place, make, flags):
    mounted = session_with(place, [])
    mounted.do(make, os.fsencode(mounted.path) + b'/')
    assert 'surrogates' in place.refused('export', *flags, mounted.session, place / 'out.tar')
    assert not os.path.exists(place / 'out.tar')
    place.run('commit', mounted.session, place / 'committed')


def test_a_whiteout_that_would_tell_of_another_name_is_refused(place):
    mounted = session_with(place, [])
    path = os.fsencode(mounted.path) + b'/' + SURROGATES
    mounted.do(write_file, path)
    place.run('snapshot', mounted.session, 'before')
    mounted.do(os.unlink, path)
    assert 'surrogates' in place.refused('export', '--diff=before', mounted.session, place / 'out.tar')


@pytest.mark.parametrize('name', [SURROGATES[:3], SURROGATES[3:], SURROGATES[3:] + SURROGATES[:3], b'\xed\x9f\xbf\xed\xb0\x80', SURROGATES[:3] + b'x'])
def test_half_a_surrogate_is_kept(place, name):
    mounted = session_with(place, [])
    path = os.fsencode(mounted.path) + b'/'
    mounted.do(os.mkdir, path + name)
    mounted.do(os.symlink, name, path + b'link')
    target = os.fsencode(extracted(place, export(place, mounted.session, place / 'out.tar')))
    assert sorted(os.listdir(target)) == sorted([name, b'link']) and os.readlink(target + b'/link') == name
