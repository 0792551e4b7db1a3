"""What `umlfs check` finds of a session's manifest and its copy of the base's index, and what of it is mended."""

import os
import re
import shutil

import pytest

from calls import overwrite, read_file
from checks import CLEAN, DAMAGED, MENDED, Session, nothing_changes, session
from newer import xxh3
from umlfs_cli import run, small_members, write_archive


def with_end(lines):
    text = b''.join(line + b'\n' for line in lines)
    return text + b'end %016x\n' % xxh3(text)


def without(lines, start):
    return [line for line in lines if not line.startswith(start)]


MANIFESTS = {
    'checksum': ('checksum', lambda lines: b'\n'.join(lines) + b'\nend 0123456789abcdef\n'),
    'missing parent': ('line 6: a layer without its parent',
                       lambda lines: with_end([re.sub(b'^layer 2 parent 1', b'layer 2 parent 9', l) for l in lines])),
    'circle': ('line 5: a layer without its parent',
               lambda lines: with_end([re.sub(b'^layer 1 parent 0', b'layer 1 parent 2', l) for l in lines])),
    'twice': ('line 6: a layer', lambda lines: with_end(lines[:5] + lines[4:])),
    'missing layer of a snapshot': ('a snapshot of a layer',
                                    lambda lines: with_end([re.sub(b'^snapshot 1', b'snapshot 9', l) for l in lines])),
    'no top': ('do not fit', lambda lines: with_end([re.sub(b'^top 3', b'top 9', l) for l in lines])),
    'open layer below': ('do not fit',
                         lambda lines: with_end([re.sub(b'^(layer 2 .* sealed) \\d+', b'\\1 0', l) for l in lines])),
    'no base': ('do not fit', lambda lines: with_end(without(lines, b'base '))),
    'nonsense': ('line 4: cannot be read', lambda lines: with_end(lines[:3] + [b'nonsense'] + lines[3:])),
    'empty': ('damaged', lambda lines: b''),
}


@pytest.mark.parametrize('kind', MANIFESTS)
def test_a_damaged_manifest_is_told_with_the_reason(session, kind):
    what, make = MANIFESTS[kind]
    path = session / 'manifest'
    whole = read_file(path)
    lines = whole.split(b'\n')[:-2]
    assert with_end(lines) == whole
    overwrite(path, make(lines))
    found = session.damage()
    assert len(found) == 1 and what in found.of('manifest', '/manifest')['what']
    with nothing_changes(session / 'layers'):
        assert session.check('--repair').status == DAMAGED
    overwrite(path, whole)
    session.assert_whole(None)


@pytest.mark.parametrize('lost', ['manifest', 'layer'])
def test_what_a_mount_goes_back_to_is_told_and_a_repair_goes_there(session, lost):
    """The host went down when a third snapshot had replaced the manifest, and before it was on disk."""
    before = read_file(session / 'manifest')
    session.place.run('snapshot', session.path, 'three')
    overwrite(session / 'manifest.old', before)
    session.own(session / 'manifest.old')
    if lost == 'manifest':
        overwrite(session / 'manifest', read_file(session / 'manifest')[:50])
    else:
        shutil.rmtree(session / f'layers/{max(session.layers())}')
    assert 'goes back to manifest.old' in session.repair().of('manifest', '/manifest')['what']
    assert not os.path.exists(session / 'manifest.old')
    assert 'three' not in session.place.run('list', session.path)
    session.assert_whole(None)


def test_a_manifest_that_was_replaced_and_is_whole_is_clean(session):
    before = read_file(session / 'manifest')
    session.place.run('snapshot', session.path, 'three')
    overwrite(session / 'manifest.old', before)
    session.own(session / 'manifest.old')
    assert session.check().status == CLEAN
    assert 'three' in session.place.run('list', session.path)


def test_a_missing_manifest_is_damage_when_there_are_layers(session):
    os.rename(session / 'manifest', session.place / 'aside')
    assert 'missing' in session.damage().of('manifest', '/manifest')['what']


@pytest.mark.parametrize('what', ['layers', 'layers/1'])
def test_missing_layers_are_told(session, what):
    os.rename(session / what, session.place / 'aside')
    found = session.damage()
    assert any(what in finding['where'] for finding in found), list(found)
    assert session.check('--repair').status == DAMAGED


def test_a_length_that_the_journal_does_not_have_is_told(session):
    path = session / 'manifest'
    lines = read_file(path).split(b'\n')[:-2]
    overwrite(path, with_end([re.sub(b'^(layer 2 .* sealed) \\d+', b'\\1 999999', line) for line in lines]))
    assert '999999 were sealed' in session.damage().of('journal', '/layers/2/journal')['what']


@pytest.mark.parametrize('how', ['missing', 'flipped', 'another'])
def test_the_copy_of_the_index_is_made_again(place, base, how):
    session = Session(place, base)
    path = session / 'base.index'
    whole = read_file(path)
    os.unlink(path)
    if how == 'flipped':
        overwrite(path, whole[:300] + bytes([whole[300] ^ 1]) + whole[301:])
    elif how == 'another':
        archive = write_archive(place / 'other.tar', small_members() + [('etc/more', {}, b'')])
        shutil.copy(place.imported_base('other', archive) + '/.umlfs/index', path)
    if how != 'missing':
        session.own(path)
    found = session.repair()
    assert len(found) == 1 and found.of('index', '/base.index')['mended']
    assert read_file(path) == whole
    session.assert_whole(None)


def test_without_the_base_the_copy_of_the_index_stays_damaged(session):
    os.rename(session.base, session.place / 'elsewhere')
    os.unlink(session / 'base.index')
    result = run('check', '--repair', session.path, user=session.place.user)
    assert result.status == DAMAGED and f'{session.base}: ' in result.stderr
    assert f'{session.path}/base.index: ' in result.stdout
    assert not os.path.exists(session / 'base.index')
    os.rename(session.place / 'elsewhere', session.base)
    assert session.check('--repair').status == MENDED
    session.assert_whole(None)
