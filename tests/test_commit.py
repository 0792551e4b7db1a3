"""What `umlfs commit` refuses, and with it `umlfs import --force`: a base that a session needs, and what no base can hold."""

import os

import pytest

from calls import overwrite, read_file
from importing import index_bytes, index_of
from umlfs_cli import small_archive, write_archive


def worked_on(place, name='session', base='base'):
    """A mounted session with a snapshot and something behind it."""
    mounted = place.mount(place / base, session=name)
    mounted.do(overwrite, mounted / 'tmp/kept', b'kept')
    place.run('snapshot', mounted.session, 'kept')
    mounted.do(overwrite, mounted / 'tmp/now', b'now')
    return mounted


@pytest.mark.parametrize('live', [True, False], ids=['live', 'offline'])
@pytest.mark.parametrize('name', ['base', 'link', 'sub/../base/', 'moved'])
def test_a_session_keeps_its_base_when_it_is_committed(place, live, name):
    place.imported_base()
    place.do(os.symlink, 'base', place / 'link')
    place.do(os.mkdir, place / 'sub')
    mounted = worked_on(place)
    if not live:
        mounted.umount()
    if name == 'moved':
        place.do(os.rename, place / 'base', place / name)
    before, names = index_bytes(place / name), sorted(os.listdir(place.path))
    for source in mounted.session, f'{mounted.session}@kept', f'{mounted.session}@@base':
        line = place.refused('commit', '--force', source, place / name)
        assert line.startswith(f'{place / name}: is the base of {source}')
    assert index_bytes(place / name) == before and sorted(os.listdir(place.path)) == names
    if live:
        mounted.umount()
    again = place.mount(place / name, session='session')
    assert again.do(read_file, again / 'tmp/now') == b'now'
    place.run('reset', again.session, 'kept')
    assert again.do(read_file, again / 'tmp/kept') == b'kept'


def test_a_base_under_a_mounted_session_is_not_replaced(place):
    place.imported_base()
    place.imported_base('other')
    mounted, committed = worked_on(place), worked_on(place, 'committed', 'other')
    archive = small_archive(place / 'in.tar')
    before, names = index_bytes(place / 'base'), sorted(os.listdir(place.path))
    for words in ['commit', '--force', committed.session], ['import', '--force', archive]:
        line = place.refused(*words, place / 'base')
        assert line.startswith(f'{place / "base"}: is the base of {mounted.session}, which is mounted')
        assert index_bytes(place / 'base') == before and sorted(os.listdir(place.path)) == names
    mounted.umount()
    place.run('import', '--force', archive, place / 'base')
    place.run('commit', '--force', committed.session, place / 'base')
    assert index_bytes(place / 'base') != before


def test_a_base_that_is_the_same_is_no_other_sessions(place):
    place.imported_base()
    place.run('import', small_archive(place / 'in.tar'), place / 'copy')
    mounted = worked_on(place)
    assert index_bytes(place / 'base') == index_bytes(place / 'copy')
    place.run('import', '--force', place / 'in.tar', place / 'copy')
    place.run('commit', '--force', mounted.session, place / 'copy')


def test_a_base_at_the_place_of_one_that_moved_is_no_sessions(place):
    place.imported_base()
    place.imported_base('other')
    mounted, committed = worked_on(place), worked_on(place, 'committed', 'other')
    archive = write_archive(place / 'other.tar', [('other', {}, b'other')])
    place.do(os.rename, place / 'base', place / 'old')
    for words in ['import', archive], ['import', '--force', archive], ['commit', '--force', committed.session]:
        place.run(*words, place / 'base')
    for words in ['import', '--force', archive], ['commit', '--force', committed.session], ['commit', '--force', mounted.session]:
        assert place.refused(*words, place / 'old').startswith(f'{place / "old"}: is the base of {mounted.session}')
    assert mounted.do(read_file, mounted / 'etc/hostname') == b'guest\n'


def test_an_empty_directory_at_the_place_of_a_base_that_moved_becomes_one(place):
    place.imported_base()
    mounted = worked_on(place)
    place.do(os.rename, place / 'base', place / 'old')
    place.do(os.mkdir, place / 'base')
    place.run('import', '--force', small_archive(place / 'in.tar'), place / 'base')
    assert mounted.do(read_file, mounted / 'etc/hostname') == b'guest\n'


def test_a_base_whose_index_cannot_be_read_is_its_sessions(place):
    place.imported_base()
    mounted = worked_on(place)
    place.do(overwrite, place / 'damaged', b'damaged')
    place.do(os.rename, place / 'damaged', place / 'base/.umlfs/index')
    for words in ['import', '--force', small_archive(place / 'in.tar')], ['commit', '--force', mounted.session]:
        assert place.refused(*words, place / 'base').startswith(f'{place / "base"}: is the base of {mounted.session}')
    assert mounted.do(read_file, mounted / 'etc/hostname') == b'guest\n'


@pytest.mark.parametrize('make', [os.mkdir, lambda path: overwrite(path, b''), lambda path: os.link(f'{os.path.dirname(path)}/etc/hostname', path)],
                         ids=['directory', 'file', 'link'])
def test_a_state_with_the_name_of_our_own_folder_is_refused(place, make):
    mounted = place.mount(place.imported_base())
    mounted.do(make, mounted / '.umlfs')
    mounted.do(os.mkdir, mounted / 'tmp/.umlfs')
    names = sorted(os.listdir(place.path))
    line = place.refused('commit', mounted.session, place / 'made')
    assert line == f"{mounted.session}: .umlfs: this is the name of umlfs's own folder: no base can hold it"
    assert sorted(os.listdir(place.path)) == names
    mounted.do(os.rename, mounted / '.umlfs', mounted / 'tmp/other')
    place.run('commit', mounted.session, place / 'made')
    assert index_of(place / 'made')[b'tmp/.umlfs'].type == 'd'
