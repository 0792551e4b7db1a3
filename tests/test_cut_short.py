"""The index of a base that is cut short while it is mapped: whatever maps it ends and says why, and nothing is lost or left."""

import errno
import fcntl
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
    assert mounted.do(errno_of, os.mkdir, mounted / 'under') in (errno.ENOTCONN, errno.ECONNABORTED)    # not below the mount
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


def remove_all(directory):
    for name in os.listdir(directory):
        if name.startswith('file'):
            os.unlink(f'{directory}/{name}')


def without_files(place):
    """A base whose files are all gone, so that whoever compares it has much to say."""
    base = large_base(place)
    remove_all(base)
    return base


def session_of(place, change=None):
    base, session = large_base(place), f'{place.path}/session'
    mounted = place.mount(base, session)
    if change:
        mounted.do(change, mounted.path)
    mounted.umount()
    return session


def expect_named(place, process, err, status):
    """It ended with one line that names the file."""
    index = f'{place.path}/base/.umlfs/index'
    assert process.returncode == status, err
    assert err.count('\n') == 1 and '`umlfs check`' in err
    assert err.startswith((f'umlfs: {index}: cut short', f'umlfs: {place.path}/session/base.index: cut short'))


@pytest.mark.parametrize('make, words, status', [
    (without_files, ['verify'], 8),
    (lambda place: session_of(place, remove_all), ['diff'], 2),
    (session_of, ['export'], 1),
], ids=['verify', 'diff', 'export'])
def test_a_command_whose_index_is_cut_short_ends_and_names_it(place, make, words, status):
    what = [*words, make(place), *(['-'] if words == ['export'] else [])]
    reader, writer = os.pipe()
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
    process = place.start(*what, stdout=writer, stderr=subprocess.PIPE)
    os.close(writer)
    with open(reader, 'rb', buffering=0) as out:
        assert out.read(1)    # the pipe is full: it writes no more until somebody reads
        os.truncate(f'{place.path}/base/.umlfs/index', 0)
        out.read()
    _, err = process.communicate(timeout=20)
    expect_named(place, process, os.fsdecode(err), status)


def stop_when(process, seen):
    """True when it is stopped after seen() came true; False when it has ended before."""
    while process.poll() is None:
        if not seen():
            continue
        process.send_signal(signal.SIGSTOP)
        _, status = os.waitpid(process.pid, os.WUNTRACED)
        if os.WIFSTOPPED(status):
            return True
        process.returncode = os.waitstatus_to_exitcode(status)
    return False


def stopped(start, seen):
    """A process that start() makes, stopped while seen(process) is true: again until it is not faster than the look at it."""
    for _ in range(50):
        process = start()
        if stop_when(process, lambda: seen(process)):
            return process
        process.communicate()
    raise AssertionError('it is never seen')


def maps(process, path):
    with open(f'/proc/{process.pid}/maps', encoding='utf-8') as table:
        return path in table.read()


def cut_and_go_on(place, process, status):
    os.truncate(f'{place.path}/base/.umlfs/index', 0)
    process.send_signal(signal.SIGCONT)
    _, err = process.communicate(timeout=60)
    expect_named(place, process, os.fsdecode(err), status)


def test_a_check_whose_index_is_cut_short_ends_and_names_it(place):
    base = large_base(place)
    process = stopped(lambda: place.start('check', base, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE),
                      lambda process: maps(process, f'{base}/.umlfs/index'))
    cut_and_go_on(place, process, 8)


@pytest.mark.parametrize('command, prefix', [('export', '.exporting-'), ('commit', '.made.importing-')])
def test_what_a_command_was_making_goes_with_it(place, command, prefix):
    session, out = session_of(place), f'{place.path}/out'
    place.do(os.mkdir, out)

    def start():
        subprocess.run(['rm', '-rf', f'{out}/made'], check=True)
        return place.start(command, session, f'{out}/made', stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)

    process = stopped(start, lambda process: any(name.startswith(prefix) for name in os.listdir(out)))
    cut_and_go_on(place, process, 1)
    assert os.listdir(out) == []


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
