"""Sessions, bases and mountpoints of every name that a path may have."""

import json
import os

import pytest

from calls import overwrite, read_file
from holders import holder
from umlfs_cli import kill_and_wait, mounts_below, run

ODD = {'space': 'a b', 'comma': 'a,b=c', 'newline': 'a\nb', 'backslash': 'a\\b\\040c', 'non-UTF-8': os.fsdecode(b'\xff\xe4'),
       'quotes': '\'"$(x)`', 'percent': '%s%n%20', 'dash': '-o', 'long': 'x' * 200, 'hash': '#a', 'colon': 'a:b'}


@pytest.mark.parametrize('kind', ODD)
def test_sessions_and_bases_may_have_odd_names(place, kind):
    base = place.imported_base(f'base-{ODD[kind]}')
    top = place / ODD[kind]
    place.do(os.mkdir, top)
    mounted = place.mount(base, f'{top}/{ODD[kind]}')
    assert mounted.path == f'{top}/{ODD[kind]}/rootfs'
    assert mounted.do(read_file, mounted / 'etc/hostname') == b'guest\n'
    mounted.do(overwrite, mounted / 'etc/new', b'new')
    place.run('snapshot', mounted.session, 'one')
    status = mounted.status()
    assert [status[key] for key in ('session', 'base', 'mountpoint', 'standing')] \
        == [mounted.session, base, mounted.path, 'one']
    assert {'session': mounted.session, 'mountpoint': mounted.path, 'dead': False} \
        in json.loads(place.run('status', '--json'))['mounts']
    with holder(place, 'cd "$1"', mounted.path) as process:
        assert str(process.pid) in one_error(run('reset', mounted.session, '@base', user=place.user))
        assert str(process.pid) in one_error(run('umount', mounted.path, user=place.user))
    place.run('reset', mounted.session, '@base')
    mounted.umount()
    place.run('reset', mounted.session, 'one')
    mounted = place.mount(base, mounted.session)
    assert mounted.do(read_file, mounted / 'etc/new') == b'new'
    kill_and_wait(mounted.pid)
    place.run('umount', mounted.path)
    assert mounts_below(place.path) == []


def one_error(result):
    """What a command said that must have failed, wherever its lines break."""
    assert result.status == 1 and result.stdout == '' and result.stderr.startswith('umlfs: '), result
    return result.stderr


def test_a_session_may_lie_deeper_than_a_socket_address_is_long(place):
    base = place.imported_base()
    session = place.path + '/' + '/'.join('d' * 100 for _ in range(8))
    place.do(os.makedirs, session)
    mounted = place.mount(base, f'{session}/session')
    assert len(mounted.session) > 800
    mounted.do(overwrite, mounted / 'etc/new', b'new')
    place.run('snapshot', mounted.session, 'one')
    assert mounted.status()['standing'] == 'one'
    place.run('reset', mounted.session, '@base')
    assert not mounted.do(os.path.exists, mounted / 'etc/new')
    mounted.umount()


def test_a_session_may_be_reached_through_a_symlink(place):
    base = place.imported_base()
    place.do(os.mkdir, place / 'real')
    place.do(os.symlink, 'real', place / 'link')
    assert place.run('mount', base, place / 'link/session') == f'{place.path}/real/session/rootfs\n'
    place.run('snapshot', place / 'link/session', 'one')
    place.run('umount', place / 'link/session')
    place.run('mount', base, place / 'link/session')
    place.run('umount', place / 'link/session/rootfs')
    assert mounts_below(place.path) == []
