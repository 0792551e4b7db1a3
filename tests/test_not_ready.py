"""A machine that is not ready for mounts: the line that refuses names what mends it."""

import json
import os
import re
import shutil
import signal
import subprocess

import pytest

from calls import read_file
from traces import nothing_changes, refused_without_trace
from umlfs_cli import PATIENCE, as_ordinary, as_root, ids, kill_and_wait, needs_root, program


def run_elsewhere(place, prepare, *args, **options):
    """Runs the program as the place's user where root has changed the file system, for it alone, by a shell script."""
    uid, gid = ids(place.user)
    become = 'setpriv --reuid=%d --regid=%d --clear-groups' % (uid, gid) if place.user != 'root' else ''
    words = ['unshare', '--mount', 'sh', '-euc', f'{prepare}\nexec {become} "$@"', 'sh', program(), *args]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True,
                          cwd='/', **options) as process:
        stdout, stderr = process.communicate(timeout=PATIENCE)
    return process.returncode, stdout, stderr


def refused_elsewhere(place, prepare, *args):
    with nothing_changes(place):
        status, stdout, stderr = run_elsewhere(place, prepare, *args)
    assert (status, stdout) == (1, '') and re.fullmatch(r'umlfs: [^\n]+: [^\n]+\n', stderr), (status, stdout, stderr)
    return stderr


EMPTY_DEV = 'mount -t tmpfs tmpfs /dev\nmknod -m 666 /dev/null c 1 3\n'


@needs_root
def test_no_dev_fuse_names_the_command_that_mends_it(place, base):
    line = refused_elsewhere(place, EMPTY_DEV, 'mount', base, place / 'session')
    assert line.startswith('umlfs: /dev/fuse: ') and 'modprobe fuse' in line


@needs_root
def test_a_dev_fuse_without_a_driver_names_the_command_that_mends_it(place, base):
    line = refused_elsewhere(place, EMPTY_DEV + 'mknod -m 666 /dev/fuse c 10 254\n', 'mount', base, place / 'session')
    assert line.startswith('umlfs: /dev/fuse: ') and 'modprobe fuse' in line


@needs_root
@as_ordinary
def test_a_closed_dev_fuse_names_the_command_that_mends_it(place, base):
    line = refused_elsewhere(place, EMPTY_DEV + 'mknod -m 600 /dev/fuse c 10 229\n', 'mount', base, place / 'session')
    assert line.startswith('umlfs: /dev/fuse: ') and 'chmod' in line and '/dev/fuse`' in line


@as_ordinary
def test_no_fusermount3_names_the_package(place, base):
    path = os.environ | {'PATH': '/nonexistent'}
    line = refused_without_trace(place, 'mount', base, place / 'session', env=path)
    assert line.startswith('fusermount3: ') and 'fuse3' in line
    mounted = place.mount(base)
    line = refused_without_trace(place, 'umount', mounted.session, env=path)
    assert line.startswith('fusermount3: ') and 'fuse3' in line


@as_ordinary
@needs_root
def test_a_fusermount3_without_its_set_uid_bit_is_named(place, base):
    shutil.copy(shutil.which('fusermount3'), place / 'fusermount3')
    os.chmod(place / 'fusermount3', 0o755)
    prepare = f'mount --bind {place / "fusermount3"} "$(command -v fusermount3)"'
    line = refused_elsewhere(place, prepare, 'mount', base, place / 'session')
    assert 'fusermount3' in line


@as_root
def test_root_needs_no_fusermount3(place, base):
    env = os.environ | {'PATH': '/nonexistent'}
    mounted = place.mount(base, env=env)
    assert read_file(mounted / 'etc/hostname') == b'guest\n'
    place.run('umount', mounted.session, env=env)


@as_ordinary
@needs_root
@pytest.mark.parametrize('options', ['allow_other', 'posix', 'posix,allow_other'])
@pytest.mark.parametrize('allowed', [False, True])
def test_allow_other_needs_the_administrators_word(place, base, options, allowed):
    with open(place / 'fuse.conf', 'w', encoding='ascii') as conf:
        conf.write('user_allow_other\n' if allowed else '')
    prepare = f'mount --bind {place / "fuse.conf"} /etc/fuse.conf'
    words = ['-o', options, base, place / 'session']
    if not allowed and 'allow_other' in options:
        line = refused_elsewhere(place, prepare, 'mount', *words)
        assert 'user_allow_other' in line and '/etc/fuse.conf' in line
        return
    # The namespace ends with its last process: the daemon.
    status, stdout, stderr = run_elsewhere(place, prepare, 'mount', *words)
    assert (status, stdout, stderr) == (0, f'{place.path}/session/rootfs\n', '')
    pid = json.loads(place.run('status', '--json', place / 'session'))['pid']
    assert os.path.exists(f'/proc/{pid}/root/etc/fuse.conf')
    inside = subprocess.run(['nsenter', '--mount', f'--target={pid}', 'cat', place / 'session/rootfs/etc/hostname'],
                            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=False)
    kill_and_wait(pid, signal.SIGTERM)
    assert inside.stdout == (b'guest\n' if 'allow_other' in options else b'')
