"""What somebody planted where umlfs expects its own files: never followed, opened or waited for."""

import os

import pytest

from umlfs_cli import run


def plant(path, kind, target):
    """Puts something in a file's place."""
    moved = f'{path}.moved'
    if kind == 'symlink':
        os.rename(path, moved)
        os.symlink(target or moved, path)
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
    place.do(plant, f'{base}/.umlfs/index', kind, None)
    assert f'{base}/.umlfs/index: damaged' in place.refused('mount', base, session, timeout=20)
    assert os.path.exists(session) is not new
    assert run('check', base, user=place.user).status == 4


@pytest.mark.parametrize('name, kind', [('manifest', 'symlink'), ('manifest', 'fifo'), ('layers/1/journal', 'symlink'),
                                        ('layers/1/journal', 'fifo'), ('layers/1', 'symlink'), ('layers/1', 'fifo'),
                                        ('lock', 'symlink')])
def test_what_is_planted_in_a_session_is_refused_at_once(place, name, kind):
    base, session = place.imported_base(), place / 'session'
    mounted = place.mount(base, session)
    mounted.do(os.mkdir, mounted / 'made')
    mounted.umount()
    if os.path.isdir(f'{session}/{name}'):
        os.rename(f'{session}/{name}', place / 'elsewhere')
        if kind == 'symlink':
            os.symlink(place / 'elsewhere', f'{session}/{name}')
        else:
            os.mkfifo(f'{session}/{name}')
    else:
        place.do(plant, f'{session}/{name}', kind, None)
    place.refused('mount', base, session, timeout=20)
    place.refused('reset', session, '@base', timeout=20) if name in ('manifest', 'lock') else None
