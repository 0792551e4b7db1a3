"""While a read or an fsync waits for the disk, everybody else is answered; and whatever they do, the read gives right bytes.

The daemon's calls are held by hold_calls.c until the test lets them go on, so nothing here depends on how fast a disk is.
"""

import concurrent.futures
import contextlib
import errno
import os
import select
import signal
import subprocess
import time

import pytest

from held import HELD_USERS, PATIENCE, held_mount
from umlfs_cli import kill_and_wait, wait_pid

SIZE = 300_000
OLD, NEW = b'o' * SIZE, b'n' * SIZE
LARGE = b'l' * (3 << 20)    # copied up in parts
WARM_FILES = 16     # of the daemon: what waits in it to be written, of files of one descriptor each
MEMBERS = [('.', {'type': b'5', 'mode': 0o777}, b''), ('file', {'mode': 0o666}, OLD), ('other', {'mode': 0o666}, b'other'),
           ('large', {'mode': 0o666}, LARGE),
           *((f'fresh-{number}', {}, b'%d' % number) for number in range(20))]


@pytest.fixture(params=HELD_USERS)
def held(request):
    with held_mount(request.param, MEMBERS) as made:
        yield made


def read(path):
    fd = os.open(path, os.O_RDONLY)
    try:
        return os.read(fd, SIZE)
    finally:
        os.close(fd)


def whole(path):
    with open(path, 'rb') as stream:
        return stream.read()


def write(path, data):
    fd = os.open(path, os.O_WRONLY | os.O_CREAT)
    try:
        return os.write(fd, data)
    finally:
        os.close(fd)


def write_and_sync(path, data):
    fd = os.open(path, os.O_WRONLY | os.O_CREAT)
    try:
        os.write(fd, data)
        os.fsync(fd)
    finally:
        with contextlib.suppress(OSError):  # a daemon that was told to end has heard of the sync alone
            os.close(fd)


def assert_answers(held, number):
    """All kinds of requests that the kernel cannot answer by itself."""
    assert os.stat(held.path(f'fresh-{number}')).st_size > 0
    os.statvfs(held.mount.path)
    write(held.path(f'made-{number}'), b'made')
    os.rename(held.path(f'made-{number}'), held.path(f'renamed-{number}'))
    assert f'renamed-{number}' in os.listdir(held.mount.path)
    assert held.mount.status()['pid'] == held.pid
    os.unlink(held.path(f'renamed-{number}'))


def test_others_are_answered_while_a_read_waits(held):
    held.hold('reads')
    reading = [held.begin(read, held.path('file')), held.begin(read, held.path('other'))]
    held.expect(b'r')
    held.expect(b'r')
    for number in range(3):
        assert_answers(held, number)
    assert not any(future.done() for future in reading)
    held.let_go()
    assert [future.result(PATIENCE) for future in reading] == [OLD, b'other']


@pytest.mark.parametrize('names', [('file', 'new'), ('large', 'new')], ids=['whole', 'in parts'])
def test_others_are_answered_while_an_fsync_waits(held, names):
    held.hold('syncs')
    syncing = [held.begin(write_and_sync, held.path(name), NEW) for name in names]
    held.expect(b's')
    held.expect(b's')
    for number in range(3):
        assert_answers(held, number)
    assert read(held.path('other')) == b'other'
    assert not any(future.done() for future in syncing)
    held.let_go()
    for future in syncing:
        future.result(PATIENCE)
    assert [read(held.path(name)) for name in names] == [NEW, NEW]


def overwrite(held):
    write(held.path('file'), NEW)
    return NEW


def cut(held):
    os.truncate(held.path('file'), 1000)
    return OLD[:1000]


def cut_and_write(held):
    os.truncate(held.path('file'), 0)
    write(held.path('file'), NEW[:1000])
    return NEW[:1000]


def remove(held):
    os.unlink(held.path('file'))
    return None


def replace(held):
    write(held.path('next'), NEW)
    os.rename(held.path('next'), held.path('file'))
    return NEW


def take_snapshot(held):
    held.place.run('snapshot', held.mount.session, 'taken')
    return OLD


def take_snapshot_and_write(held):
    take_snapshot(held)
    return overwrite(held)


def reset(held):
    held.place.run('reset', '--force', held.mount.session, '@base')
    return OLD


def end_loop(held):
    """Tells the daemon to end; returns when its loop has, because threads have. What waits keeps the process."""
    threads = len(os.listdir(f'/proc/{held.pid}/task'))
    os.kill(held.pid, signal.SIGTERM)
    end = time.monotonic() + PATIENCE
    while len(os.listdir(f'/proc/{held.pid}/task')) == threads:
        assert time.monotonic() < end


def wait_for_snapshot(held):
    end = time.monotonic() + PATIENCE
    while 'taken' not in held.place.run('list', held.mount.session):
        assert time.monotonic() < end


CHANGES = [overwrite, cut, cut_and_write, remove, replace, take_snapshot, take_snapshot_and_write, reset]


@pytest.mark.parametrize('where', ['below', 'on top'])
@pytest.mark.parametrize('change', CHANGES, ids=lambda change: change.__name__)
def test_what_happens_while_a_read_waits(held, change, where):
    """The read gives bytes of that file, old or new ones, and afterwards everybody sees the new state.

    The change may have to wait for the read in the kernel, which has locked the pages; the daemon answers all the same.
    """
    old = OLD
    if where == 'on top':
        old = b'O' * SIZE
        write(held.path('file'), old)
        subprocess.run(['sh', '-c', 'echo 1 >/proc/sys/vm/drop_caches'], check=False)
    held.hold('reads')
    reading = held.begin(read, held.path('file'))
    if where == 'on top' and not select.select([held.held], [], [], 2)[0]:
        held.let_go()
        reading.result(PATIENCE)
        pytest.skip('the kernel kept the pages: only root can make it forget them')
    held.expect(b'r')
    changing = held.begin(change, held)
    if change is not reset:
        assert_answers(held, 1)
    held.let_go()
    got = reading.result(PATIENCE)
    want = changing.result(PATIENCE)
    allowed = set(old) | set(NEW) | (set(OLD) if change is reset else set())
    assert set(got) <= allowed, set(got)
    if want is None:
        assert not os.path.exists(held.path('file'))
        return
    if change in (take_snapshot, cut):
        want = old[:len(want)]
    assert read(held.path('file')) == want
    held.mount.umount()
    again = held.place.mount(held.place / 'base', options='posix')
    assert read(f'{again}/file') == want


def copy(source, to, offset=0):
    """All in one request, if the daemon wants it so."""
    with open(source, 'rb') as ours, open(to, 'r+b') as theirs:
        return os.copy_file_range(ours.fileno(), theirs.fileno(), SIZE, offset, offset)


@pytest.mark.parametrize('what', ['write', 'copy', 'copy onto'])
def test_others_are_answered_while_a_write_waits_for_what_lies_below(held, what):
    """A write into a unit of a large file, and into a small one, takes the rest of it up; a copy reads, too."""
    write(held.path('plain'), NEW)
    held.hold('reads')
    if what == 'write':
        writing = [held.begin(write, held.path(name), NEW[:10]) for name in ('large', 'file')]
    elif what == 'copy':
        writing = [held.begin(copy, held.path('large'), held.path('plain'))]
    else:
        writing = [held.begin(copy, held.path('plain'), held.path('large'), 10)]
    held.expect(b'r')
    for number in range(3):
        assert_answers(held, number)
    assert not any(future.done() for future in writing)
    held.let_go()
    done = [future.result(PATIENCE) for future in writing]
    if what == 'write':
        assert done == [10, 10]
        assert read(held.path('file')) == NEW[:10] + OLD[10:]
        assert whole(held.path('large')) == NEW[:10] + LARGE[10:]
    elif what == 'copy':
        assert 0 < done[0] <= SIZE and read(held.path('plain')) == LARGE[:done[0]] + NEW[done[0]:]
    else:
        assert 0 < done[0] <= SIZE - 10
        assert whole(held.path('large')) == LARGE[:10] + NEW[:done[0]] + LARGE[10 + done[0]:]


@pytest.mark.parametrize('change', CHANGES, ids=lambda change: change.__name__)
def test_what_happens_while_a_write_waits(held, change):
    """The write is done as if it had come afterwards, whole, and to that file.

    The change may have to wait for it in the kernel, with the directory's lock; the daemon answers all the same.
    """
    held.hold('reads')
    writing = held.begin(write, held.path('file'), b'w' * 10)
    held.expect(b'r')
    changing = held.begin(change, held)
    os.statvfs(held.mount.path)
    if change in (take_snapshot, take_snapshot_and_write):
        wait_for_snapshot(held)
    assert held.mount.status()['pid'] == held.pid
    assert not writing.done()
    held.let_go()
    assert writing.result(PATIENCE) == 10
    changing.result(PATIENCE)
    if change is remove:
        assert not os.path.exists(held.path('file'))
        return
    want = {overwrite: NEW, cut: b'w' * 10 + OLD[10:1000], cut_and_write: NEW[:1000], replace: NEW,
            take_snapshot_and_write: NEW}.get(change, b'w' * 10 + OLD[10:])
    got = read(held.path('file'))
    assert got == want or (change is reset and got == OLD)  # which may have come after the write
    if change in (take_snapshot, take_snapshot_and_write):
        held.place.run('reset', held.mount.session, 'taken')
        assert read(held.path('file')) == OLD
        return
    held.mount.umount()
    again = held.place.mount(held.place / 'base', options='posix')
    assert read(f'{again}/file') == got


def test_a_write_does_not_wait_for_ever_for_what_is_not_kept_in_memory(held):
    """The host has nothing in memory all the time; after some tries it is read where others wait for it."""
    held.hold('reads')
    writing = held.begin(write, held.path('file'), NEW[:10])
    held.expect(b'r')
    os.write(held.go, b'x' * 60)
    assert writing.result(PATIENCE) == 10
    held.let_go()
    assert read(held.path('file')) == NEW[:10] + OLD[10:]


def test_writes_for_which_there_is_no_room_to_wait_are_done_at_once(held):
    held.hold('reads')
    writing = [held.begin(write, held.path(f'fresh-{number}'), b'new') for number in range(20)]
    held.expect(b'r')
    left = set(writing)
    while len(left) > WARM_FILES:
        done, left = concurrent.futures.wait(left, PATIENCE, concurrent.futures.FIRST_COMPLETED)
        assert done
    os.statvfs(held.mount.path)
    assert len([future for future in writing if not future.done()]) == WARM_FILES
    held.let_go()
    assert [future.result(PATIENCE) for future in writing] == [3] * 20
    assert {whole(held.path(f'fresh-{number}')) for number in range(20)} == {b'new'}


@pytest.fixture(params=['file', 'large'], ids=['whole', 'in parts'])
def syncing(held, request):
    """(name, future) of a file that was written and waits for its fsync."""
    held.hold('syncs')
    future = held.begin(write_and_sync, held.path(request.param), NEW)
    held.expect(b's')
    return request.param, future


def test_a_snapshot_while_an_fsync_waits(held, syncing):
    """What was told to be on disk lies below then."""
    name, future = syncing
    take_snapshot(held)
    held.let_go()
    future.result(PATIENCE)
    write(held.path(name), b'later')
    held.place.run('reset', held.mount.session, 'taken')
    assert read(held.path(name)) == NEW


def test_an_unmount_waits_for_what_was_asked(held, syncing):
    name, future = syncing
    end_loop(held)
    assert not future.done()
    held.let_go()
    future.result(PATIENCE)
    assert wait_pid(held.pid)
    again = held.place.mount(held.place / 'base', options='posix')
    assert read(f'{again}/{name}') == NEW


def test_what_waits_is_done_before_the_daemon_ends(held):
    """Though what it reads is still not in memory: it does not wait once more."""
    fd = os.open(held.path('file'), os.O_WRONLY)
    held.hold('reads')
    writing = held.begin(os.write, fd, NEW[:10])
    held.expect(b'r')
    end_loop(held)
    assert not writing.done()
    os.write(held.go, b'x' * 20)
    assert writing.result(PATIENCE) == 10
    with contextlib.suppress(OSError):  # the daemon has heard of the write alone
        os.close(fd)
    assert wait_pid(held.pid)
    held.let_go()
    again = held.place.mount(held.place / 'base', options='posix')
    assert read(f'{again}/file') == NEW[:10] + OLD[10:]


def test_the_death_of_the_daemon_ends_what_waits(held):
    """Killed while a read and an fsync wait: who asked gets an error, at once, and what was written is there."""
    write(held.path('new'), NEW)
    held.hold('reads')
    held.hold('syncs')
    reading = held.begin(read, held.path('file'))
    held.expect(b'r')
    syncing = held.begin(write_and_sync, held.path('made'), NEW)
    held.expect(b's')
    kill_and_wait(held.pid)
    for future in (reading, syncing):
        error = future.exception(PATIENCE)
        assert isinstance(error, OSError) and error.errno in (errno.ENOTCONN, errno.ECONNABORTED, errno.EIO), error
    held.place.run('umount', held.mount.session)
    again = held.place.mount(held.place / 'base', options='posix')
    assert read(f'{again}/file') == OLD
    assert read(f'{again}/new') == read(f'{again}/made') == NEW
