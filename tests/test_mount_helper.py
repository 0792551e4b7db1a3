"""`mount -t fuse.umlfs` with the options of an overlay, as scripts for overlays have them, and `umount`."""

import os
import pathlib
import re
import subprocess

import pytest

from umlfs_cli import PATIENCE, ROOT, Place, processes_of, program, run, wait_pid

pytestmark = pytest.mark.skipif(not ROOT, reason='mount(8) is for root')

OVERLAY = 'lowerdir={p}/lower,upperdir={p}/upper,workdir={p}/work'


@pytest.fixture
def place():
    with Place('root') as made:
        for name in 'sbin', 'lower', 'lower/dir', 'upper', 'work', 'mnt':
            os.mkdir(made / name)
        pathlib.Path(made / 'lower/dir/file').write_text('below\n')
        helper = pathlib.Path(program()).with_name('mount.fuse.umlfs')
        if helper.exists():  # of a build; what is installed is where mount(8) looks
            for name in 'mount.fuse.umlfs', 'umount.fuse.umlfs':
                os.symlink(helper, made / f'sbin/{name}')
        yield made


def script(place, text):
    """Runs it where mount(8) finds the helpers in /sbin: in a mount namespace with another /usr/sbin. $1 is the place."""
    begin = 'mount -t overlay -o "lowerdir=$1/sbin:/usr/sbin" sbin /usr/sbin'
    return subprocess.run(['unshare', '--mount', 'sh', '-ec', f'{begin}\n{text}', 'sh', place.path], cwd=place.path,
                          stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=PATIENCE, check=False)


def test_an_overlay_s_script_runs_as_it_stands(place):
    done = script(place, f'''
        mount -t fuse.umlfs overlay mnt -o {OVERLAY.format(p=place.path)},redirect_dir=on,xino=on,noatime
        mv mnt/dir mnt/moved; echo above >mnt/moved/file; rm -f mnt/none
        su -s /bin/sh umlfs-test -c 'cat mnt/moved/file; touch mnt/moved/x 2>/dev/null || echo refused'
        umount mnt
        mount -t fuse.umlfs overlay mnt -o {OVERLAY.format(p=place.path)}
        cat mnt/moved/file; test ! -e mnt/dir
        umount mnt; ls mnt; cat lower/dir/file''')
    assert (done.stdout, done.stderr, done.returncode) == ('above\nrefused\nabove\nbelow\n', '', 0)
    assert processes_of(place.path) == []


def test_the_base_may_be_the_source(place):
    done = script(place, 'mount -t fuse.umlfs lower mnt -o upperdir=upper,size=9M,nr_inodes=77; df -B1 --output=size mnt; cat mnt/dir/file; umount mnt')
    assert (done.stdout.split()[1:], done.returncode) == ([str(9 << 20), 'below'], 0), done


@pytest.mark.parametrize('option, text, found', [
    ('ro', 'touch mnt/x 2>&1 || true', 'Read-only file system'), ('nosuid', 'grep " $1/mnt " /proc/self/mountinfo', 'nosuid'),
    ('nodev', 'grep " $1/mnt " /proc/self/mountinfo', 'nodev'), ('noexec', 'grep " $1/mnt " /proc/self/mountinfo', 'noexec'),
    ('rw', 'grep -v -e nosuid -e nodev -e noexec /proc/self/mountinfo | grep " $1/mnt "', 'default_permissions'),
    ('guest', 'grep " $1/mnt " /proc/self/mountinfo | grep -v default_permissions', 'fuse.umlfs'),
])
def test_options_of_mount_are_heard(place, option, text, found):
    done = script(place, f'mount -t fuse.umlfs lower mnt -o upperdir=upper,{option}; {text}; umount mnt')
    assert found in done.stdout and done.returncode == 0, done


@pytest.mark.parametrize('options, status, why', [
    ('lowerdir=lower:work,upperdir=upper', 1, r'lowerdir=lower:work: several: .*umlfs import'),
    ('lowerdir=lower', 1, r'no session: give it as -o upperdir=SESSION'),
    ('lowerdir=lower,upperdir=upper,nonsense', 1, r'nonsense: unknown mount option'),
    ('lowerdir=absent,upperdir=upper', 32, r'absent: no such base'),
    ('lowerdir=lower,upperdir=absent/upper', 32, r'absent/upper: '),
    ('lowerdir=lower,upperdir=upper,size=much', 1, r'-o size=much: not a number above 0, such as 500M\n\Z'),
    ('lowerdir=lower,upperdir=upper,nr_inodes=-1', 1, r'-o nr_inodes=-1: not a number above 0, such as 10000\n\Z'),
])
def test_what_cannot_be_mounted_is_told_in_a_line(place, options, status, why):
    done = script(place, f'mount -t fuse.umlfs overlay mnt -o {options}')
    assert done.returncode == status and re.search(rf'^umlfs: .*{why}', done.stderr, re.MULTILINE), done
    assert os.listdir(place / 'mnt') == [] and processes_of(place.path) == []


def test_a_lazy_umount_takes_away_what_is_in_use(place):
    done = script(place, """mount -t fuse.umlfs lower mnt -o upperdir=upper; cd mnt/dir; (cd "$1"; umount -l mnt); cat file
        cd "$1"; mountpoint -q mnt || echo gone""")
    assert (done.stdout, done.stderr, done.returncode) == ('below\ngone\n', '', 0)
    assert all(wait_pid(pid) for pid in processes_of(place.path))


def test_a_lazy_umount_leaves_mounts_of_others_alone(place):
    done = script(place, """mount -t tmpfs tmpfs mnt; /sbin/umount.fuse.umlfs "$1/mnt" -l || echo $?
        mountpoint -q mnt && echo there; umount mnt""")
    assert (done.stdout, done.stderr) == ('32\nthere\n', f'umlfs: {place.path}/mnt: nothing of umlfs is mounted there\n')


def test_umount_of_what_is_in_use_says_by_whom(place):
    done = script(place, 'mount -t fuse.umlfs lower mnt -o upperdir=upper; cd mnt/dir; (cd "$1"; umount mnt) && exit 9; cd "$1"; umount mnt')
    assert re.search(r'in use by process \d+ \(sh\): [^\n]*: end it first\n', done.stderr) and done.returncode == 0, done


def test_mount_waits_for_a_daemon_that_was_unmounted_and_still_writes(place):
    """umount(8) does not, when it is given an absolute path: it does not know the type then."""
    done = script(place, """
        mount -t fuse.umlfs lower mnt -o upperdir=upper
        for i in 1 2 3; do
            head -c 100000000 /dev/urandom >mnt/data
            umount -i "$1/mnt"; mount -t fuse.umlfs lower mnt -o upperdir=upper
        done
        stat -c %s mnt/data; umount mnt""")
    assert (done.stdout, done.stderr, done.returncode) == ('100000000\n', '', 0)


def test_sessions_so_made_are_ordinary_ones(place):
    script(place, 'mount -t fuse.umlfs lower mnt -o upperdir=upper; echo new >mnt/new; umount mnt')
    assert run('snapshot', place / 'upper', 'one').status == 0 and run('check', place / 'upper').status == 0
