"""The guest profile leaves everything to the guest; the posix one checks and changes what a host's file system does.

Capabilities are seen by what they do: DONT_MASK by modes, HANDLE_KILLPRIV by setuid bits.
"""

import os
import stat

import pytest

from calls import call_all, create, facts, on, outcome, read_file, write_file
from places import Here, difference, here, in_process, none, same_shape, shape, unlike
from umlfs_cli import ids


# --- the guest profile -----------------------------------------------------------------------------------------

def test_the_hosts_umask_does_not_count_for_a_guest(here):
    def body():
        os.umask(0o077)
        os.close(os.open('file', os.O_WRONLY | os.O_CREAT, 0o666))
        os.mkdir('made', 0o777)
        os.mkfifo('made/fifo', 0o622)
        return [stat.S_IMODE(os.stat(name).st_mode) for name in ('file', 'made', 'made/fifo')]
    assert here.within(body) == [0o666, 0o777, 0o622]


@pytest.mark.parametrize('user', ['ordinary'], indirect=True)
def test_others_may_not_enter_an_ordinary_users_mount(place):
    here = Here(place, 'plain')
    if os.geteuid() != 0:
        pytest.skip('needs another user')
    assert outcome(os.listdir, here.root) == 'EACCES'


# --- the posix profile -----------------------------------------------------------------------------------------

POSIX = pytest.mark.parametrize('kind', ['imported', 'plain'])
AS_ROOT = pytest.mark.parametrize('user', ['root'], indirect=True)


def set_the_scene():
    """By root, for an ordinary user to try."""
    os.chmod('.', 0o755)
    for name, mode in (('open', 0o777), ('closed', 0o700), ('search', 0o711), ('sticky', 0o1777), ('readable', 0o755)):
        os.mkdir(name)
        os.chmod(name, mode)
        write_file(f'{name}/roots', b'root wrote this', 0o644)
        write_file(f'{name}/secret', b'root only', 0o600)
        write_file(f'{name}/shared', b'anybody', 0o666)
        write_file(f'{name}/setuid', b'anybody', 0o4777)
        write_file(f'{name}/setgid', b'anybody', 0o2777)
    os.mkdir('group')
    os.chown('group', 0, 4242)
    os.chmod('group', 0o2777)


def try_everything():
    owner = os.getuid(), os.getgid()
    results = []
    for top in ('open', 'closed', 'search', 'sticky', 'readable'):
        results += call_all([
            lambda: sorted(os.listdir(top)),
            lambda: facts(os.stat(f'{top}/roots')),
            lambda: read_file(f'{top}/roots'),
            lambda: read_file(f'{top}/secret'),
            lambda: on(f'{top}/roots', os.O_WRONLY, os.write, b'x'),
            lambda: on(f'{top}/shared', os.O_WRONLY, os.write, b'x'),
            lambda: [os.access(f'{top}/{name}', mode) for name in ('roots', 'secret', 'shared', 'setuid')
                     for mode in (os.R_OK, os.W_OK, os.X_OK)],
            lambda: os.truncate(f'{top}/roots', 0),
            lambda: os.chmod(f'{top}/shared', 0o600),
            lambda: os.chown(f'{top}/shared', *owner),
            lambda: os.utime(f'{top}/shared', ns=(1, 2)),
            lambda: os.utime(f'{top}/shared'),
            lambda: create(f'{top}/mine'),
            lambda: os.mkdir(f'{top}/my-dir', 0o777),
            lambda: os.mkdir(f'{top}/roots/x'),
            lambda: os.symlink('x', f'{top}/my-link'),
            lambda: os.mkfifo(f'{top}/my-fifo', 0o666),
            lambda: os.rename(f'{top}/shared', f'{top}/taken'),
            lambda: os.rename(f'{top}/mine', f'{top}/still-mine'),
            lambda: os.unlink(f'{top}/secret'),
            lambda: os.unlink(f'{top}/my-link'),
            lambda: os.chmod(f'{top}/still-mine', 0o751),
            lambda: os.chown(f'{top}/still-mine', 0, -1),
            lambda: os.chown(f'{top}/still-mine', -1, 0),
            lambda: os.chown(f'{top}/still-mine', *owner),
            lambda: on(f'{top}/setuid', os.O_WRONLY, os.write, b'x'),
            lambda: os.truncate(f'{top}/setgid', 2),
            lambda: stat.S_IMODE(os.stat(f'{top}/setuid').st_mode),
            lambda: stat.S_IMODE(os.stat(f'{top}/setgid').st_mode),
        ])
    return results


def ordinary_and_mount(place, kind):
    os.mkdir(f'{place.path}/mountpoint')        # a session is its owner's alone
    here = Here(place, kind, 'posix', f'{place.path}/mountpoint')
    here.within(set_the_scene)
    here.beside(set_the_scene)
    return here, ids('ordinary')


def same_owners(here):
    times = ('ino', 'mtime', 'ctime', 'atime')
    none(difference(here.within(shape, '.', times), here.beside(shape, '.', times)))


@AS_ROOT
@POSIX
def test_permissions_are_checked_for_host_processes(place, kind):
    here, ordinary = ordinary_and_mount(place, kind)
    none(unlike(in_process(ordinary, here.root, try_everything), in_process(ordinary, here.twin, try_everything)))
    same_owners(here)
    here.remount()
    same_owners(here)


@AS_ROOT
@POSIX
def test_host_processes_own_what_they_make_as_their_umask_says(place, kind):
    here, ordinary = ordinary_and_mount(place, kind)

    def make():
        for umask in (0, 0o022, 0o027, 0o777):
            os.umask(umask)
            for top in ('open', 'group'):
                os.close(os.open(f'{top}/file-{umask}', os.O_WRONLY | os.O_CREAT, 0o4777))
                os.mkdir(f'{top}/dir-{umask}', 0o777)
                os.mkfifo(f'{top}/fifo-{umask}', 0o666)
                os.symlink('x', f'{top}/link-{umask}')
    for who in (ordinary, (0, 0)):
        for top in (here.root, here.twin):
            in_process(who, top, make) if who != (0, 0) else None
    same_owners(here)
    st = in_process((0, 0), here.root, os.stat, 'group/file-0')
    assert (st.st_uid, st.st_gid) == (ordinary[0], 4242)


@AS_ROOT
@POSIX
def test_a_write_by_an_ordinary_user_takes_setuid_away(place, kind):
    here, ordinary = ordinary_and_mount(place, kind)

    def body():
        def modes():
            return [stat.S_IMODE(os.stat(f'open/{name}').st_mode) for name in ('setuid', 'setgid')]
        found = [modes()]
        for name in ('setuid', 'setgid'):
            on(f'open/{name}', os.O_WRONLY, os.write, b'program')
        found.append(modes())
        return found
    by_root, as_root = here.within(body), here.beside(body)
    assert by_root == as_root == [[0o4777, 0o2777]] * 2
    got, want = in_process(ordinary, here.root, body), in_process(ordinary, here.twin, body)
    assert got == want == [[0o4777, 0o2777], [0o777, 0o777]]


@AS_ROOT
@POSIX
def test_a_new_owner_takes_setuid_away(place, kind):
    here, ordinary = ordinary_and_mount(place, kind)

    def body():
        for name in ('open/setuid', 'open/setgid', 'group'):
            os.chown(name, *ordinary)
        return [stat.S_IMODE(os.stat(name).st_mode) for name in ('open/setuid', 'open/setgid', 'group')]
    assert here.within(body) == here.beside(body) == [0o777, 0o777, 0o2777]


@AS_ROOT
def test_extended_attributes_are_there_for_host_processes(place):
    here, ordinary = ordinary_and_mount(place, 'plain')

    def body():
        return call_all([
            lambda: os.setxattr('open/shared', 'user.name', b'value'),
            lambda: os.getxattr('open/shared', 'user.name'),
            lambda: os.setxattr('open/roots', 'user.name', b'value'),
            lambda: os.setxattr('open/shared', 'trusted.name', b'value'),
            lambda: outcome(os.getxattr, 'open/secret', 'user.name'),
        ])
    none(unlike(in_process(ordinary, here.root, body), in_process(ordinary, here.twin, body)))
    same_shape(here)
