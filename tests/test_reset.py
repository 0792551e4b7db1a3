"""A reset of what is in use: refused with who uses it unless forced, and what then becomes of what they hold."""

import contextlib
import os
import re
import shutil
import subprocess

import pytest

from calls import overwrite, read_file, write_file
from holders import USES, holder, uses_of
from umlfs_cli import PATIENCE, differences, needs_root


@pytest.mark.parametrize('use', USES)
def test_reset_of_what_is_in_use_names_the_process_and_changes_nothing(place, base, use):
    mounted = place.mount(base)
    script, used = uses_of(mounted.path)[use]
    before = mounted.dump()
    mounted.do(overwrite, mounted / 'etc/new', b'new')
    state = mounted.dump()
    with holder(place, script, mounted.path) as process:
        line = place.refused('reset', mounted.session, '@base')
        assert re.search(rf'\b{process.pid} \(sh\)', line) and used in line and '--force' in line, line
        assert differences(mounted.dump(), state) == []
        assert place.run('reset', '--force', mounted.session, '@base') == ''
        assert differences(mounted.dump(), before) == []
        process.communicate('go\n', PATIENCE)


@pytest.mark.parametrize('use', ['file', 'cwd'])
def test_a_forced_reset_says_estale_to_who_holds_what_is_gone(place, base, use):
    mounted = place.mount(base)
    mounted.do(os.mkdir, mounted / 'new')
    mounted.do(overwrite, mounted / 'new/file', b'old bytes\n')
    script, behind = {'file': ('exec 3<"$1/new/file"', 'cat <&3'), 'cwd': ('cd "$1/new"', 'ls -U')}[use]
    with holder(place, script, mounted.path, behind=f'LC_ALL=C {behind} 2>&1') as process:
        place.run('reset', '--force', mounted.session)
        said = process.communicate('go\n', PATIENCE)[0]
        assert 'Stale file handle' in said and 'old bytes' not in said, said
    assert not mounted.do(os.path.lexists, mounted / 'new')


def test_a_file_that_was_let_go_of_in_the_state_gone_to_is_stale(place, base):
    """It is known there, without a name and without its bytes: that is no damage."""
    mounted = place.mount(base)
    mounted.do(overwrite, mounted / 'etc/hostname', b'changed\n')
    mounted.do(os.utime, mounted / 'etc/hostname')
    mounted.do(os.unlink, mounted / 'etc/hostname')
    place.run('snapshot', mounted.session, 'without')
    place.run('reset', mounted.session, '@base')
    with holder(place, 'exec 3<"$1/etc/hostname"', mounted.path, behind='LC_ALL=C cat <&3 2>&1') as process:
        place.run('reset', '--force', mounted.session, 'without')
        assert 'Stale file handle' in process.communicate('go\n', PATIENCE)[0]
    assert mounted.log() == ''


@pytest.mark.parametrize('use', ['exec 3<"$1/etc/hostname"', 'cd "$1/etc"'], ids=['file', 'cwd'])
def test_a_removed_directory_is_alive_again_after_a_forced_reset(place, base, use):
    """The kernel took it for dead, and has it still, because somebody is in there."""
    mounted = place.mount(base)
    before = mounted.dump()
    with holder(place, use, mounted.path) as process:
        mounted.do(shutil.rmtree, mounted / 'etc')
        place.run('reset', '--force', mounted.session)
        assert differences(mounted.dump(), before) == []
        mounted.do(overwrite, mounted / 'etc/new', b'new')
        assert 'new' in mounted.do(os.listdir, mounted / 'etc')
        process.communicate('go\n', PATIENCE)
    assert 'new' in mounted.do(os.listdir, mounted / 'etc')
    mounted.do(os.rename, mounted / 'etc', mounted / 'moved')
    assert mounted.do(read_file, mounted / 'moved/new') == b'new'


def test_a_forced_reset_shows_the_present_to_who_holds_what_stays(place, base):
    mounted = place.mount(base)
    mounted.do(overwrite, mounted / 'etc/hostname', b'other')
    with holder(place, 'exec 3<"$1/etc/hostname"', mounted.path, behind='cat <&3') as process:
        place.run('reset', '--force', mounted.session)
        assert process.communicate('go\n', PATIENCE)[0] == 'guest\n'


def test_a_reset_in_use_by_a_mount_namespaces_other_mounts_is_not_refused(place, base):
    """A path that only begins like the mountpoint is another place."""
    mounted = place.mount(base)
    place.do(os.mkdir, f'{mounted.path}-beside')
    with holder(place, 'cd "$1-beside"', mounted.path):
        place.run('reset', mounted.session)
        mounted.umount()


@needs_root
@pytest.mark.parametrize('user', ['root'], indirect=True)
@pytest.mark.parametrize('what', ['mount', 'loop-device'])
def test_a_reset_is_refused_while_the_kernel_uses_what_is_there(place, base, what):
    """A tmpfs would go with all that is in it."""
    mounted = place.mount(base)
    os.mkdir(mounted / 'new')
    with contextlib.ExitStack() as stack:
        if what == 'mount':
            subprocess.run(['mount', '-t', 'tmpfs', 'name', mounted / 'new'], check=True)
            stack.callback(subprocess.run, ['umount', mounted / 'new'], check=True)
            wanted = re.escape(f'a mount: {mounted}/new')
        else:
            write_file(mounted / 'new/image', b'x' * 4096)
            device = subprocess.run(['losetup', '--find', '--show', mounted / 'new/image'], check=True, capture_output=True, text=True)
            stack.callback(subprocess.run, ['losetup', '--detach', device.stdout.strip()], check=True)
            wanted = rf'loop\d+: {mounted}/new/image'
        assert re.fullmatch(rf'{mounted.session}: in use by {wanted}; unmount it, or give --force', place.refused('reset', mounted.session))
        assert os.path.exists(mounted / 'new')
    place.run('reset', mounted.session)
    assert not os.path.exists(mounted / 'new')
