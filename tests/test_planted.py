"""What somebody planted where umlfs expects its own files: never followed, opened or waited for."""

import os

import pytest

from umlfs_cli import run


def plant(path, kind):
    """Puts something in a file's place. A symlink stays in its directory, one on the way leads out of the place."""
    if kind == 'symlink':
        os.rename(path, f'{path}.moved')
        os.symlink(f'{os.path.basename(path)}.moved', path)
    elif kind == 'symlink on the way':
        parent = os.path.dirname(path)
        os.rename(parent, f'{parent}.moved')
        os.symlink(f'{parent}.moved', parent)
    else:
        os.unlink(path)
        if kind == 'fifo':
            os.mkfifo(path, 0o666)
        elif kind == 'directory':
            os.mkdir(path)
        else:
            with open(path, 'wb') as stream:
                stream.truncate(1 << 40)


@pytest.mark.parametrize('kind', ['symlink', 'symlink on the way', 'fifo', 'directory', 'sparse'])
@pytest.mark.parametrize('new', [True, False], ids=['new', 'there'])
def test_what_is_planted_in_place_of_an_index_is_refused_at_once(place, kind, new):
    base, session = place.imported_base(), place / 'session'
    if not new:
        place.mount(base, session).umount()
    place.do(plant, f'{base}/.umlfs/index', kind)
    assert f'{base}/.umlfs/index: damaged' in place.refused('mount', base, session, timeout=20)
    assert os.path.exists(session) is not new
    assert run('check', base, user=place.user).status == 4


LOOP = 'Too many levels of symbolic links'
NO_DIRECTORY = 'layers/1/journal: Not a directory'
NO_FILE = 'damaged: this is no regular file'
SAID = {
    ('manifest', 'symlink'): f'manifest: {LOOP}', ('manifest', 'fifo'): 'manifest: damaged: it is no regular file',
    ('layers/1/journal', 'symlink'): f'layers/1/journal: {NO_FILE}',
    ('layers/1/journal', 'fifo'): f'layers/1/journal: {NO_FILE}',
    ('layers/1', 'symlink'): NO_DIRECTORY, ('layers/1', 'fifo'): NO_DIRECTORY,
    ('lock', 'symlink'): f'lock: {LOOP}', ('lock', 'fifo'): 'lock: damaged: it is no regular file',
}


@pytest.mark.parametrize('name, kind', SAID)
def test_what_is_planted_in_a_session_is_refused_at_once(place, name, kind):
    base, session = place.imported_base(), place / 'session'
    mounted = place.mount(base, session)
    mounted.do(os.mkdir, mounted / 'made')
    mounted.umount()
    if name == 'layers/1':
        place.do(os.rename, f'{session}/{name}', place / 'elsewhere')
        if kind == 'symlink':
            place.do(os.symlink, place / 'elsewhere', f'{session}/{name}')
        else:
            place.do(os.mkfifo, f'{session}/{name}')
    else:
        place.do(plant, f'{session}/{name}', kind)
    said = f'{session}/{SAID[name, kind]}'
    assert place.refused('mount', base, session, timeout=20).startswith(said)
    assert run('check', session, user=place.user, timeout=20).status in (4, 8)
    if name in ('manifest', 'lock'):
        assert place.refused('reset', session, '@base', timeout=20).startswith(said)
