"""Content that nobody reaches any more goes from the disk behind the scenes, and nobody can tell, but by the clock.

The daemon's removals are held by hold_calls.c until the test lets them go on.
"""

import concurrent.futures
import os
import time

import pytest

from calls import outcome
from checks import Checked
from disk import Disk
from held import HELD_USERS, PATIENCE, held_mount
from umlfs_cli import ROOT, kill_and_wait

MIB = 1 << 20
MEMBERS = [('.', {'type': b'5', 'mode': 0o777}, b''), ('known', {'mode': 0o666}, b'known')]
ROUNDS = 30


@pytest.fixture(params=HELD_USERS)
def held(request):
    with held_mount(request.param, MEMBERS) as made:
        yield made


@pytest.fixture(params=HELD_USERS)
def held_on_small_disk(request):
    if not ROOT:
        pytest.skip('needs root, to mount a small file system')
    with held_mount(request.param, MEMBERS, lambda place: Disk(place, 8 * MIB)) as made:
        made.place.noisy = True
        yield made


def write(path, size=100):
    with open(path, 'wb', buffering=0) as stream:
        while size > 0:
            size -= stream.write(b'w' * size)


def contents(held, layer='1'):
    return os.listdir(f'{held.mount.session}/layers/{layer}/content')


def remove_and_wait_for_it(held, name='file', size=100):
    """Returns when the daemon's thread is about to remove the file's content, and is held."""
    write(held.path(name), size)
    held.hold('removals')
    os.unlink(held.path(name))
    held.expect(b'u')


def test_others_are_answered_while_content_is_removed(held):
    remove_and_wait_for_it(held)
    for number in range(3):
        write(held.path(f'made-{number}'))
        os.rename(held.path(f'made-{number}'), held.path(f'renamed-{number}'))
        assert not os.path.exists(held.path(f'absent-{number}'))
    assert len(contents(held)) == 4
    held.let_go()
    os.statvfs(held.mount.path)
    assert len(contents(held)) == 3


def test_more_removals_than_may_wait_are_done_at_once(held):
    """The daemon keeps a bounded list, and carries out itself what does not fit."""
    os.mkdir(held.path('many'))
    for number in range(1000):
        write(held.path(f'many/{number}'))
    remove_and_wait_for_it(held)
    for number in range(1000):
        os.unlink(held.path(f'many/{number}'))
    end = time.monotonic() + PATIENCE
    while len(contents(held)) > 600:    # what the kernel has to say of the last ones may come later
        assert time.monotonic() < end
    assert contents(held) != []
    held.let_go(1000)
    os.statvfs(held.mount.path)
    assert contents(held) == []


def test_content_goes_though_requests_keep_coming(held):
    write(held.path('file'))
    os.unlink(held.path('file'))
    requests = 0
    while contents(held):
        assert requests < 50_000
        requests += 1
        assert not os.path.exists(held.path(f'absent-{requests}'))


def snapshot(held):
    held.place.run('snapshot', held.mount.session, 'taken')


def reset(held):
    held.place.run('reset', held.mount.session)


def umount(held):
    held.mount.umount()


@pytest.mark.parametrize('what', [lambda held: os.statvfs(held.mount.path), snapshot, umount], ids=['statfs', 'snapshot', 'umount'])
def test_who_could_see_it_waits(held, what):
    """When it is done, the content is gone."""
    remove_and_wait_for_it(held)
    asking = held.begin(what, held)
    assert concurrent.futures.wait([asking], 0.3).not_done
    assert len(contents(held)) == 1
    held.let_go()
    asking.result(PATIENCE)
    assert contents(held) == []


def test_a_reset_drops_the_layer_all_the_same(held):
    remove_and_wait_for_it(held)
    resetting = held.begin(reset, held)
    held.let_go()
    resetting.result(PATIENCE)
    held.mount.umount()
    assert os.listdir(f'{held.mount.session}/layers') == ['2']
    assert Checked(held.place, held.mount.session) == []


def test_what_a_killed_daemon_did_not_remove_the_next_one_does(held):
    remove_and_wait_for_it(held)
    kill_and_wait(held.pid)
    held.let_go()
    held.place.run('umount', held.mount.session)
    assert len(contents(held)) == 1
    held.place.mount(held.place / 'base', options='posix')
    assert contents(held) == []


def test_room_that_is_being_made_is_not_missing(held_on_small_disk):
    """Data on a disk that is full until the removal is done."""
    held = held_on_small_disk
    for number in range(ROUNDS):
        write(held.path(f'large-{number}'), 5 * MIB)
        os.unlink(held.path(f'large-{number}'))


@pytest.fixture(params=HELD_USERS)
def held_on_few_inodes(request):
    if not ROOT:
        pytest.skip('needs root, to mount a small file system')
    with held_mount(request.param, MEMBERS, lambda place: Disk(place, 64 * MIB, more=',nr_inodes=80')) as made:
        made.place.noisy = True
        yield made


@pytest.mark.parametrize('what', [snapshot, reset])
def test_a_layer_can_be_made_of_what_is_being_removed(held_on_few_inodes, what):
    held = held_on_few_inodes
    made = 0
    while outcome(write, held.path(f'file-{made}')) is None:
        made += 1
    held.hold('removals')
    for number in range(20):
        os.unlink(held.path(f'file-{number}'))
    held.expect(b'u')
    asking = held.begin(what, held)
    assert concurrent.futures.wait([asking], 0.3).not_done
    held.let_go(20)
    asking.result(PATIENCE)


def fill(directory, size):
    """The last page too."""
    number = 0
    try:
        while True:
            write(f'{directory}/full-{size}-{number}', size)
            number += 1
    except OSError:
        pass


def test_a_name_has_the_room_that_is_being_made(held_on_small_disk):
    held = held_on_small_disk
    write(held.path('large'), MIB)
    os.mkdir(held.path('many'))
    for size in (64 << 10, 1):
        fill(held.path('many'), size)
    with pytest.raises(OSError):
        for number in range(100_000):
            os.rename(held.path('known'), held.path('k' * (number % 200 + 1)))
            os.rename(held.path('k' * (number % 200 + 1)), held.path('known'))
    name = next(name for name in os.listdir(held.mount.path) if name.startswith('k'))
    held.hold('removals')
    os.unlink(held.path('large'))
    held.expect(b'u')
    renaming = held.begin(os.rename, held.path(name), held.path('n' * 200))
    assert concurrent.futures.wait([renaming], 0.3).not_done
    held.let_go()
    renaming.result(PATIENCE)
