"""What `umlfs check` finds in a session's layers, leftovers, content and journals, and what of it is mended."""

import os
import shutil

import pytest

from calls import append, overwrite, read_file
from checks import DAMAGED, nothing_changes, session
from umlfs_cli import differences


# --- leftovers ---------------------------------------------------------------------------------------------------

LEFTOVERS = {
    'manifest.new': ('stray', '/manifest.new', lambda session, path: overwrite(path, b'umlfs manifest 1\n')),
    'base.index.new': ('stray', '/base.index.new', lambda session, path: overwrite(path, b'')),
    'table.new': ('stray', '/layers/1/table.new', lambda session, path: overwrite(path, b'')),
    'dropped layer': ('stray', '/layers/77', lambda session, path: shutil.copytree(session / 'layers/1', path)),
    'content': ('content', '/layers/3/content/4321', lambda session, path: overwrite(path, b'copied up')),
    'content of a snapshot': ('content', '/layers/1/content/4321', lambda session, path: overwrite(path, b'')),
    # inode 2 is a directory of the base: nothing that a layer has bytes of
    'content of what has none': ('content', '/layers/3/content/2', lambda session, path: overwrite(path, b'copied up')),
    'behind a sealed end': ('journal', '/layers/2/journal', lambda session, path: append(path, b'\0' * 100)),
    'torn tail': ('journal', '/layers/3/journal', lambda session, path: append(path, b'torn')),
    'torn tail of zeros': ('journal', '/layers/3/journal', lambda session, path: append(path, b'\0' * 5000)),
}


@pytest.mark.parametrize('kind', LEFTOVERS)
def test_leftovers_are_found_and_go(session, kind):
    word, where, make = LEFTOVERS[kind]
    session.place.do(make, session, session.path + where)
    found = session.repair()
    assert len(found) == 1 and found.of(word, where)['mended']
    session.assert_whole(None)
    session.assert_whole('one', 'two')


def test_all_leftovers_are_found_at_once(session):
    for kind, (word, where, make) in LEFTOVERS.items():
        if kind != 'torn tail of zeros':
            session.place.do(make, session, session.path + where)
    found = session.repair()
    assert {(finding['kind'], finding['where'].removeprefix(session.path)) for finding in found} \
        == {(word, where) for word, where, _ in LEFTOVERS.values()}
    session.assert_whole(None)
    session.assert_whole('one', 'two')


STRANGE = {'in layers': '/layers/notes', 'in a layer': '/layers/1/notes', 'in content': '/layers/1/content/notes',
           'a number with a zero': '/layers/1/content/07'}


@pytest.mark.parametrize('kind', STRANGE)
def test_a_file_that_umlfs_never_made_is_told_and_left(session, kind):
    session.place.do(overwrite, session.path + STRANGE[kind], b'precious')
    assert len(session.damage()) == 1
    found = session.check('--repair')
    assert found.status == DAMAGED and not found.of('stray', STRANGE[kind])['mended']
    assert read_file(session.path + STRANGE[kind]) == b'precious'


# --- content -----------------------------------------------------------------------------------------------------

def test_a_longer_content_file_is_cut_in_the_session_and_left_in_a_snapshot(session):
    one, last = session.content(1)[0], session.content(3)[0]
    for path in one, last:
        append(session.path + path, b'more')
    found = session.check('--repair')
    assert found.status == DAMAGED and len(found) == 2
    assert found.of('content', last)['mended'] and not found.of('content', one)['mended']
    assert len(session.check()) == 1
    session.assert_whole(None)
    session.assert_whole('one', 'two')


@pytest.mark.parametrize('layer', [1, 2, 3])
def test_a_lost_or_short_content_file_is_told_with_its_path_and_left(session, layer):
    paths = session.content(layer)
    assert len(paths) == 2
    whole = read_file(session.path + paths[0])
    for data in None, whole[:-1], b'':
        os.unlink(session.path + paths[0])
        if data is not None:
            overwrite(session.path + paths[0], data)
            session.own(session.path + paths[0])
        found = session.damage()
        assert len(found) == 1
        assert ('missing' if data is None else 'shorter') in found.of('content', paths[0])['what']
        assert '(/usr/bin/' in found[0]['what'] or '(/etc/' in found[0]['what']
        with nothing_changes(session / 'layers'):
            assert session.check('--repair').status == DAMAGED
        overwrite(session.path + paths[0], whole)
        session.own(session.path + paths[0])
    session.assert_whole(None)


def test_a_lost_content_folder_is_told(session):
    os.rename(session / 'layers/2/content', session.place / 'aside')
    found = session.damage()
    assert len(found) == 1 and 'missing' in found.of('content', '/layers/2/content')['what']
    assert session.check('--repair').status == DAMAGED
    os.rename(session.place / 'aside', session / 'layers/2/content')
    session.assert_whole(None)


def test_a_directory_in_place_of_a_content_file_is_told(session):
    path = session.content(2)[0]
    os.unlink(session.path + path)
    session.place.do(os.mkdir, session.path + path)
    assert 'no regular file' in session.damage().of('content', path)['what']
    assert session.check('--repair').status == DAMAGED


# --- journals ----------------------------------------------------------------------------------------------------

@pytest.mark.parametrize('layer', [1, 2, 3])
@pytest.mark.parametrize('how', ['flipped', 'cut', 'missing', 'other'])
def test_a_damaged_journal_is_told_with_the_states_that_it_takes_down(session, layer, how):
    path = session / f'layers/{layer}/journal'
    whole = read_file(path)
    data = {'flipped': whole[:60] + bytes([whole[60] ^ 1]) + whole[61:], 'cut': whole[:20], 'missing': None,
            'other': read_file(session / f'layers/{layer % 3 + 1}/journal')}[how]
    os.unlink(path)
    if data is not None:
        overwrite(path, data)
        session.own(path)
    found = session.damage()
    what = found.of('journal', f'/layers/{layer}/journal')['what']
    assert ('damaged' in what) == (how != 'missing')
    for number, state in (1, ' (snapshot one)'), (2, ' (snapshot two)'), (3, ''):
        if number >= layer:
            assert f'layer {layer} cannot be loaded' in found.of('state', state)['what']
    assert len(found) == 5 - layer
    with nothing_changes(session / 'layers'):
        assert session.check('--repair').status == DAMAGED
    if layer == 3:
        session.place.run('reset', session.path)
        assert session.check() == []
    else:
        overwrite(path, whole)
        session.own(path)
        session.assert_whole(None)


def test_a_sealed_journal_that_is_cut_at_the_end_of_an_operation_is_damage(session):
    path = session / 'layers/2/journal'
    whole = read_file(path)
    overwrite(path, whole[:-1])
    assert 'sealed' in session.damage().of('journal', '/layers/2/journal')['what']


def test_damage_beside_the_session_does_not_hide_what_can_be_mended(session):
    session.place.run('snapshot', session.path, 'three')
    session.place.run('reset', session.path, 'one')
    path = session / 'layers/2/journal'
    overwrite(path, read_file(path)[:60])
    extra = f'/layers/{max(session.layers())}/content/4321'
    session.place.do(overwrite, session.path + extra, b'copied up')
    found = session.check('--repair')
    assert found.status == DAMAGED and found.of('content', extra)['mended']
    assert {finding['where'] for finding in found if finding['kind'] == 'state'} \
        == {f'{session.path} (snapshot {name})' for name in ('two', 'three')}
    mounted = session.place.mount(session.base)
    assert differences(mounted.dump(), session.seen['one']) == []
