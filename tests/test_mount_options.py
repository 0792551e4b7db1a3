"""The options of `umlfs mount`: each does what it says, and only when it is given."""

import errno
import os
import re
import stat
import subprocess

import pytest

from calls import overwrite, read_file
from umlfs_cli import PATIENCE, as_root, differences, identity, ids


def shell(place, script, *args):
    """What a shell of the place's user writes."""
    return subprocess.run(['sh', '-c', script, 'sh', *args], check=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          text=True, timeout=PATIENCE, **identity(place.user)).stdout


@pytest.mark.parametrize('options, mode', [(None, 0o666), ('posix', 0o640)])
def test_only_posix_honours_the_umask(place, options, mode):
    mounted = place.mount(place.imported_base(), options=options)
    shell(place, 'umask 027; : >"$1"', mounted / 'tmp/new')
    assert stat.S_IMODE(mounted.do(os.stat, mounted / 'tmp/new').st_mode) == mode


@pytest.mark.parametrize('options, mine', [(None, False), ('owner=caller', True), ('posix', True)])
def test_new_files_belong_to_the_directorys_owner_unless_told(place, options, mine):
    mounted = place.mount(place.imported_base(), options=options)
    if options == 'posix' and place.user != 'root':
        where, owner = 'tmp', (0, 0)
    else:
        where, owner = 'home/user', (1000, 0)
    mounted.do(overwrite, mounted / f'{where}/new', b'')
    st = mounted.do(os.stat, mounted / f'{where}/new')
    assert (st.st_uid, st.st_gid) == (ids(place.user) if mine else owner)


@pytest.mark.parametrize('options, shown', [(None, False), ('xattr', True), ('posix', True), ('posix,xattr', True)])
def test_extended_attributes_are_shown_when_told(place, options, shown):
    mounted = place.mount(place.imported_base(), options=options)
    mounted.do(overwrite, mounted / 'tmp/new', b'')
    if shown:
        mounted.do(os.setxattr, mounted / 'tmp/new', 'user.word', b'value')
        assert mounted.do(os.getxattr, mounted / 'tmp/new', 'user.word') == b'value'
        return
    with pytest.raises(OSError) as caught:
        mounted.do(os.setxattr, mounted / 'tmp/new', 'user.word', b'value')
    assert caught.value.errno == errno.EOPNOTSUPP


def test_a_read_only_mount_refuses_every_change(place, base):
    mounted = place.mount(base, options='ro')
    before = mounted.dump()
    changes = {
        'write': lambda: overwrite(mounted / 'etc/hostname', b'x'),
        'make': lambda: overwrite(mounted / 'tmp/new', b'x'),
        'mkdir': lambda: os.mkdir(mounted / 'tmp/dir'),
        'unlink': lambda: os.unlink(mounted / 'etc/passwd'),
        'chmod': lambda: os.chmod(mounted / 'etc/passwd', 0),
        'rename': lambda: os.rename(mounted / 'etc', mounted / 'etcetera'),
    }
    for name, change in changes.items():
        with pytest.raises(OSError) as caught:
            mounted.do(change)
        assert (name, caught.value.errno) == (name, errno.EROFS)
    assert differences(mounted.dump(), before) == []


@as_root
@pytest.mark.parametrize('options, enters', [(None, False), ('allow_other', True), ('posix', True)])
def test_others_may_enter_when_told(place, options, enters):
    mounted = place.mount(place.imported_base(), options=options)
    os.chmod(mounted.session, 0o755)
    script = 'cat "$1/etc/hostname" 2>/dev/null || echo closed'
    said = subprocess.run(['sh', '-c', script, 'sh', mounted.path], check=True, stdout=subprocess.PIPE, text=True,
                          **identity('ordinary')).stdout
    assert said == ('guest\n' if enters else 'closed\n')


@as_root
@pytest.mark.parametrize('options, status', [('allow_other', 0), ('posix', 1)])
def test_permissions_are_checked_in_the_posix_profile(place, options, status):
    mounted = place.mount(place.imported_base(), options=options)
    os.chmod(mounted.session, 0o755)
    done = subprocess.run(['cat', mounted / 'etc/shadow'], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          check=False, **identity('ordinary'))
    assert done.returncode == status
    assert done.stdout == b'root:*\n' if status == 0 else b'Permission denied' in done.stdout


@as_root
def test_setuid_and_devices_work_in_roots_posix_profile(place):
    mounted = place.mount(place.imported_base(), options='posix')
    flags = os.statvfs(mounted.path).f_flag
    assert not flags & (os.ST_NOSUID | os.ST_NODEV)
    assert read_file(mounted / 'dev/null') == b''


def test_options_are_in_the_status(place):
    base = place.imported_base()
    assert place.mount(base, 'none').status()['profile'] == 'guest'
    mounted = place.mount(base, options='posix,ro')
    assert mounted.status()['profile'] == 'posix'
    assert re.search(r'^option +ro$', place.run('status', mounted.session), re.MULTILINE)


@pytest.mark.parametrize('option', ['', 'nonsense', 'ro,nonsense', 'posix=1', 'owner=nobody', 'ro,', 'RO', 'x' * 300])
def test_unknown_mount_options_are_usage_errors(place, option):
    place.do(os.mkdir, place / 'base')
    line = place.refused('mount', '-o', option, place / 'base', place / 'session', status=2)
    assert '-o' in line
    assert os.listdir(place.path) == ['base']
