"""A session on a host's disk that is full to the last page: what frees works, so that room comes back."""

import itertools
import os
import shutil
import time

import pytest

from calls import outcome
from disk import Disk
from umlfs_cli import PATIENCE, ROOT, differences, kill_and_wait, write_archive

KIB, MIB = 1 << 10, 1 << 20
RESERVE_MAX = 300 * KIB     # of a session that has little to say
KINDS = ['tmpfs', 'ext4'] if os.path.exists('/dev/loop-control') else ['tmpfs']


@pytest.fixture(params=KINDS)
def disk(place, request):
    if not ROOT:
        pytest.skip('needs root, to mount a small file system')
    place.noisy = True
    return Disk(place, 8 * MIB, request.param)


@pytest.fixture
def mounted(place, disk):
    return place.mount(place.imported_base(), disk / 'session')


def until_full(call):
    for number in itertools.count():
        result = outcome(call, number)
        if result == 'ENOSPC':
            return number
        assert not isinstance(result, str), result


def write(path, size):
    with open(path, 'ab', buffering=0) as stream:
        if stream.write(b'w' * size) != size:
            stream.write(b'w')


def fill_up(mounted, disk):
    """Every operation, until none goes."""
    def everything():
        os.mkdir('full')
        for number in range(200):
            write(f'full/empty{number}', 0)
        until_full(lambda number: write(f'full/file{number}', 20 * KIB))
        disk.fill()
        until_full(lambda number: write(f'full/small{number}', 1))
        until_full(lambda number: os.mkdir(f'full/dir{number}'))
        until_full(lambda number: os.symlink('t' * 200, f'full/link{number}'))
        until_full(lambda number: os.chmod('etc/hostname', 0o600 + number % 2))
        until_full(lambda number: os.link('etc/hostname', f'full/hard{number}'))
        until_full(lambda number: os.rename('full/empty0' if number % 2 == 0 else 'full/moved',
                                            'full/moved' if number % 2 == 0 else 'full/empty0'))
    mounted.do(in_directory, mounted.path, everything)


def in_directory(path, call):
    before = os.open('.', os.O_RDONLY)
    os.chdir(path)
    try:
        return call()
    finally:
        os.fchdir(before)
        os.close(before)


def room(disk):
    st = os.statvfs(disk.path)
    return st.f_bavail * st.f_frsize


def cut_all():
    for name in os.listdir('full'):
        if name.startswith('file'):
            os.truncate(f'full/{name}', 0)


def replace_all():
    files = [f'full/{name}' for name in os.listdir('full') if name.startswith('file')]
    for number, name in enumerate(files[:150]):
        os.rename(f'full/empty{number + 1}', name)


def unlink_one_by_one():
    for name in sorted(os.listdir('full'), reverse=True):
        if not name.startswith('dir'):
            os.unlink(f'full/{name}')


WAYS = {'unlink': unlink_one_by_one, 'remove': lambda: shutil.rmtree('full'), 'truncate': cut_all, 'replace': replace_all}


@pytest.mark.parametrize('way', WAYS)
def test_room_comes_back(mounted, disk, way):
    fill_up(mounted, disk)
    taken = room(disk)
    mounted.do(in_directory, mounted.path, WAYS[way])
    end = time.monotonic() + PATIENCE
    while room(disk) <= taken + MIB:    # what the kernel says of the last files may come later, and they go behind the scenes
        assert time.monotonic() < end
    mounted.do(write, mounted / 'after', MIB)
    mounted.umount()
    assert mounted.place.run('check', mounted.session).endswith(': clean\n')


def link(number):
    os.link('etc/hostname', f'full/linked{number}')


def rename(number):
    os.rename(f'full/renamed{number}', f'full/renamed{number + 1}')


def setxattr(number):
    os.setxattr('full/renamed0', 'user.name', b'v' * (number % 200))


@pytest.mark.parametrize('call', [link, rename, setxattr])
def test_room_of_what_was_closed_a_moment_ago_is_not_missing(place, disk, call):
    """The kernel tells of it only when it has asked for what is new."""
    mounted = place.mount(place.imported_base(), disk / 'session', words=['-o', 'xattr'])

    def close_and_call():
        os.mkdir('full')
        write('full/renamed0', 0)
        files = [os.open(f'full/closed{number}', os.O_RDWR | os.O_CREAT) for number in range(100)]
        os.pwrite(files[-1], b'w' * MIB, 0)
        for number in range(100):
            os.unlink(f'full/closed{number}')
        disk.fill()
        done = until_full(call)
        for file in files:
            os.close(file)
        call(done)
    mounted.do(in_directory, mounted.path, close_and_call)


def make_empty(number):
    os.mkdir('full')
    for nr in range(number):
        write(f'full/{nr:0{20 + nr % 200}}', 0)
        if nr % 10 == 0:
            os.mkdir(f'full/dir{nr}')


def remove_what_goes():
    """How many of the base's files went before there was no room for another."""
    return until_full(lambda number: os.unlink(f'{number:04}'))


def test_names_that_hold_nothing_go_too_and_those_of_the_base_take_nothing_from_them(place, disk):
    archive = place / 'many.tar'
    write_archive(archive, [(f'{nr:04}', {}, b'') for nr in range(8000)])
    mounted = place.mount(place.imported_base(archive=archive), disk / 'session')
    mounted.do(in_directory, mounted.path, lambda: make_empty(4000))
    disk.fill()
    mounted.do(in_directory, mounted.path, lambda: until_full(lambda number: os.chmod('0001', 0o600 + number % 2)))
    assert 700 < mounted.do(in_directory, mounted.path, remove_what_goes) < 8000
    mounted.do(in_directory, mounted.path, WAYS['remove'])
    mounted.umount()
    assert place.run('check', mounted.session).endswith(': clean\n')


@pytest.mark.parametrize('name', [[], ['@base'], ['one']], ids=['standing', 'base', 'named'])
def test_a_reset_frees(mounted, disk, name):
    mounted.place.run('snapshot', mounted.session, 'one')
    fill_up(mounted, disk)
    mounted.place.run('reset', mounted.session, *name)
    assert mounted.do(os.path.exists, mounted / 'full') is False
    mounted.umount()        # what was dropped is deleted by then
    mounted.place.mount(mounted.place / 'base', disk / 'session')
    mounted.do(write, mounted / 'after', 3 * MIB)


def test_a_snapshot_that_is_deleted_frees(mounted, disk):
    fill_up(mounted, disk)
    mounted.place.run('snapshot', mounted.session, 'full')
    mounted.place.run('reset', mounted.session, '@base')
    disk.fill()
    mounted.place.run('delete', mounted.session, 'full')
    mounted.umount()
    mounted.place.mount(mounted.place / 'base', disk / 'session')
    mounted.do(write, mounted / 'after', 3 * MIB)


def test_a_snapshot_that_is_deleted_while_nothing_is_mounted_frees(mounted, disk):
    fill_up(mounted, disk)
    mounted.place.run('snapshot', mounted.session, 'full')
    mounted.place.run('reset', mounted.session, '@base')
    mounted.umount()
    disk.fill()
    taken = room(disk)
    mounted.place.run('delete', mounted.session, 'full')
    assert room(disk) > taken + 3 * MIB


def test_a_daemon_that_was_killed_is_mounted_again_and_frees(mounted, disk):
    fill_up(mounted, disk)
    seen = mounted.dump(forget=['mtime'])      # a write that failed may have set it
    kill_and_wait(mounted.pid)
    disk.fill()
    again = mounted.place.mount(mounted.place / 'base', disk / 'session')
    assert differences(again.dump(forget=['mtime']), seen) == []
    again.do(in_directory, again.path, WAYS['remove'])
    again.do(write, again / 'after', 3 * MIB)
    again.umount()
    assert again.place.run('check', again.session).endswith(': clean\n')


def test_the_reserve_is_no_part_of_the_journal_and_goes_with_a_snapshot(mounted, disk):
    mounted.do(os.mkdir, mounted / 'made')
    journal = os.stat(disk / 'session/layers/1/journal')
    assert journal.st_size < 4 * KIB and 100 * KIB < journal.st_blocks * 512 < RESERVE_MAX
    assert mounted.status()['disk'] < RESERVE_MAX + 32 * KIB
    mounted.place.run('snapshot', mounted.session, 'one')
    assert os.stat(disk / 'session/layers/1/journal').st_blocks * 512 <= 4 * KIB
    mounted.place.run('reset', mounted.session)
    mounted.do(os.mkdir, mounted / 'again')
    assert room(disk) > 4 * MIB


def test_a_snapshot_needs_no_more_than_the_reserve(mounted, disk):
    fill_up(mounted, disk)
    seen = mounted.dump()
    mounted.umount()
    disk.fill()
    mounted.place.run('snapshot', mounted.session, 'full')
    again = mounted.place.mount(mounted.place / 'base', disk / 'session')
    assert differences(again.dump(), seen) == []
