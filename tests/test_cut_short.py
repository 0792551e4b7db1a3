"""The index of a base that is cut short while a session is mounted on it: the mount ends and says why, and nothing is lost."""

import errno
import os
import signal
import subprocess

import pytest

from umlfs_cli import run, wait_pid, write_archive

FILES = 3000    # so that the index has many pages


def errno_of(function, *args):
    """0, or why the call failed."""
    try:
        function(*args)
    except OSError as error:
        return error.errno
    return 0


def large_base(place):
    archive = place / 'large.tar'
    write_archive(archive, [(f'file{nr:05}', {}, b'') for nr in range(FILES)])
    base = place.imported_base(archive=archive)
    os.unlink(archive)
    return base


def read_all(path):
    with open(path, 'rb') as stream:
        return stream.read()


def write_all(path, data):
    with open(path, 'wb') as stream:
        stream.write(data)


@pytest.mark.parametrize('left', [0, 4096 + 100], ids=['to nothing', 'to a page and a part'])
def test_a_mount_whose_index_is_cut_short_ends_and_names_it(place, left):
    place.noisy = True
    base, session = large_base(place), place / 'session'
    index = f'{base}/.umlfs/index'
    whole = read_all(index)
    mounted = place.mount(base, session)
    pid = mounted.pid
    mounted.do(os.mkdir, mounted / 'made')
    os.truncate(index, left)
    gone = mounted.do(errno_of, os.stat, mounted / f'file{FILES - 1:05}')
    assert gone in (errno.ENOTCONN, errno.ECONNABORTED)
    assert wait_pid(pid)
    line, = mounted.log().splitlines()
    assert line.startswith(f'umlfs: {index}: cut short') and '`umlfs check`' in line
    assert mounted.do(errno_of, os.mkdir, mounted / 'under') == errno.ENOTCONN    # and not below the mount
    assert run('check', base, user=place.user).status == 4
    place.refused('mount', base, session)
    write_all(index, whole)
    assert place.mount(base, session).do(os.listdir, mounted.path).count('made') == 1


def test_zeros_in_place_of_names_are_damage_and_not_a_missing_file(place):
    base = place.imported_base()
    index = f'{base}/.umlfs/index'
    mounted = place.mount(base)
    os.truncate(index, read_all(index).index(b'dev'))
    assert mounted.do(errno_of, os.stat, mounted / 'dev') == errno.EUCLEAN


def serve(place, base):
    """A mount in the foreground, and where it is."""
    daemon = place.start('mount', '-f', base, place / 'session', stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    return daemon, daemon.stdout.readline().rstrip('\n')


def test_a_mount_in_the_foreground_ends_with_the_line_and_status_1(place):
    base = large_base(place)
    daemon, mountpoint = serve(place, base)
    os.truncate(f'{base}/.umlfs/index', 0)
    place.do(errno_of, os.stat, f'{mountpoint}/file00000')
    out, err = daemon.communicate(timeout=20)
    assert (daemon.returncode, out) == (1, '')
    assert err.count('\n') == 1 and err.startswith(f'umlfs: {base}/.umlfs/index: cut short')


def test_a_bus_error_that_is_sent_kills_as_ever(place):
    daemon, _ = serve(place, place.imported_base())
    daemon.send_signal(signal.SIGBUS)
    assert daemon.communicate(timeout=20) == ('', '')
    assert daemon.returncode == -signal.SIGBUS
