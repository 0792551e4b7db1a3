"""Listings through a mount miss no name and tell none twice, whatever is changed meanwhile."""

import os

from calls import RENAME_EXCHANGE, getdents, opened, renameat2, reopening_walk, sh, write_file
from places import Here, as_on_the_host, assert_kept, here, through_a_mount


@as_on_the_host
def test_a_listing_that_is_removed_from_meanwhile_misses_nothing():
    os.mkdir('new')
    for number in range(600):
        write_file(f'new/name-{number:05}')
    removed = []
    for top in ('new', 'many'):
        removed.append(sorted(reopening_walk(top, lambda names: [os.unlink(os.fsencode(top) + b'/' + name) for name in names],
                                             size=2048)))
        os.rmdir(top)
    sh('rm -r dir')
    return removed


@through_a_mount
def test_a_walk_that_reopens_sees_every_name_once_whatever_changes(here):
    os.mkdir('new')
    for number in range(2000):
        write_file(f'new/old-{number:05}')
    # Nobody has listed them before: the kernel would walk through what it has kept of that.
    for top, form, count in (('new', b'old-%05d', 2000), ('many', b'%03d', 60)):
        there = [form % number for number in range(count)]
        stay = {name for number, name in enumerate(there) if number % 3 == 1}
        go = set(there) - stay
        state = {'made': 0}

        def disturb(names):
            for name in names[-40:]:
                if name in go and os.path.exists(os.fsencode(top) + b'/' + name):
                    os.unlink(os.fsencode(top) + b'/' + name)
            if state['made'] < 300:
                for _ in range(10):
                    write_file(f'{top}/made-{state["made"]}')
                    state['made'] += 1
                os.rename(f'{top}/made-{state["made"] - 1}', f'{top}/renamed-{state["made"]}')
        names = reopening_walk(top, disturb, size=1024)
        assert len(names) == len(set(names)), 'a name came twice'
        assert stay <= set(names), 'a name that was there all the time did not come'
        assert set(names) <= stay | go | {name for name in names if name.startswith((b'made-', b'renamed-'))}


def list_twenty_thousand():
    os.mkdir('new')
    names = {b'%05d' % number + b'n' * (number * 7 % 50) for number in range(20_000)}
    for name in names:
        os.mknod(b'new/' + name)
    assert set(reopening_walk('new')) == set(os.listdir(b'new')) == names
    assert len(reopening_walk('new', size=4096)) == 20_000
    half = {name for name in names if int(name[:5]) % 2}
    for name in half:
        os.unlink(b'new/' + name)
    assert sorted(reopening_walk('new')) == sorted(names - half)
    sh('rm -rf new')
    assert not os.path.exists('new')


def test_twenty_thousand_names(place):
    here = Here(place, 'plain')
    here.within(list_twenty_thousand)
    assert_kept(here)


@through_a_mount
def test_positions_in_a_listing_can_be_returned_to(here):
    for top in ('many', 'dir'):
        with opened(top, os.O_RDONLY) as fd:
            entries = []
            while found := getdents(fd, 512):
                entries += found
            for index in (0, 1, 2, len(entries) // 2, len(entries) - 1):
                os.lseek(fd, entries[index][3], os.SEEK_SET)
                rest = []
                while found := getdents(fd, 512):
                    rest += found
                assert rest == entries[index + 1:]
            os.lseek(fd, 0, os.SEEK_SET)
            write_file(f'{top}/new')
            again = []
            while found := getdents(fd, 512):
                again += found
            assert [entry for entry in again if entry[0] != b'new'] == entries
            assert len(again) == len(entries) + 1
        # Two names that one operation has put into the directory have a position each.
        write_file(f'{top}/newer')
        renameat2(f'{top}/new', f'{top}/newer', RENAME_EXCHANGE)
        assert sorted(reopening_walk(top, size=40)) == sorted(os.listdir(os.fsencode(top)))
