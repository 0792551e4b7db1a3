"""A reset of a mounted session makes the kernel forget what it has cached of what changed."""

import contextlib
import os
import random
import stat

import pytest

from bench import bench, live_and_offline, settle
from calls import overwrite, read_file
from monkey import NAMES, random_change
from umlfs_cli import as_root, differences, dump


def warm(tree, names):
    """Puts everything into the kernel's caches: names that are there and not, attributes, pages, targets, listings."""
    for name in names:
        os.path.lexists(f'{tree}/{name}')
        os.path.lexists(f'{tree}/{name}/below')
    return dump(tree)


def absent_and_present(tree, names):
    return {name for name in names if os.path.lexists(f'{tree}/{name}')}


@pytest.mark.parametrize('seed', range(4))
def test_after_a_live_reset_the_kernel_shows_nothing_stale(place, seed):
    chance = random.Random(seed)
    mounted = place.mount(place.imported_base())
    states = {'@base': mounted.dump()}
    for round_ in range(20):
        for _ in range(chance.randrange(1, 12)):
            mounted.do(random_change, chance, mounted.path)
        state = mounted.do(warm, mounted.path, NAMES)
        if chance.random() < 0.4:
            place.run('snapshot', mounted.session, f's{round_}')
            states[f's{round_}'] = state
        name = chance.choice(sorted(states))
        place.run('reset', mounted.session, name)
        present = mounted.do(absent_and_present, mounted.path, NAMES)
        assert differences(mounted.dump(), states[name]) == [], (round_, name)
        assert present == {n for n in NAMES if n in states[name]} | {n for n in present if n.startswith('bin')}
    assert differences(settle(mounted), states[name]) == []


STALE = {
    'negative name': (lambda top: os.unlink(f'{top}/etc/passwd'), lambda top: read_file(f'{top}/etc/passwd')),
    'positive name': (lambda top: overwrite(f'{top}/etc/new', b''), lambda top: os.path.exists(f'{top}/etc/new')),
    'page': (lambda top: overwrite(f'{top}/etc/hostname', b'guess\n'), lambda top: read_file(f'{top}/etc/hostname')),
    'size': (lambda top: overwrite(f'{top}/etc/hostname', b'longer\n'), lambda top: os.stat(f'{top}/etc/hostname').st_size),
    'mode': (lambda top: os.chmod(f'{top}/etc', 0o711), lambda top: os.stat(f'{top}/etc').st_mode),
    'mode of the top': (lambda top: os.chmod(top, 0o711), lambda top: os.stat(top).st_mode),
    'listing': (lambda top: os.rename(f'{top}/etc/passwd', f'{top}/etc/moved'),
                lambda top: sorted(os.listdir(f'{top}/etc'))),
    'listing of the top': (lambda top: os.mkdir(f'{top}/new'), lambda top: sorted(os.listdir(top))),
    'links': (lambda top: os.link(f'{top}/etc/passwd', f'{top}/tmp/passwd'),
              lambda top: os.stat(f'{top}/etc/passwd').st_nlink),
    'links after unlink': (lambda top: os.unlink(f'{top}/usr/bin/same'),
                           lambda top: os.stat(f'{top}/usr/bin/tool').st_nlink),
    'links of a directory': (lambda top: os.mkdir(f'{top}/etc/new'), lambda top: os.stat(f'{top}/etc').st_nlink),
    'target': (lambda top: (os.unlink(f'{top}/bin'), os.symlink('sbin', f'{top}/bin')),
               lambda top: os.readlink(f'{top}/bin')),
    'time': (lambda top: os.utime(f'{top}/etc/passwd', ns=(1, 1)), lambda top: os.stat(f'{top}/etc/passwd').st_mtime_ns),
    'type': (lambda top: (os.unlink(f'{top}/run/fifo'), os.mkdir(f'{top}/run/fifo')),
             lambda top: stat.S_IFMT(os.lstat(f'{top}/run/fifo').st_mode)),
    'number': (lambda top: (os.unlink(f'{top}/etc/passwd'), overwrite(f'{top}/etc/passwd', b'other')),
               lambda top: os.stat(f'{top}/etc/passwd').st_ino),
}


@pytest.mark.parametrize('kind', sorted(STALE))
def test_a_live_reset_forgets_what_changed(place, kind):
    change_it, look = STALE[kind]
    mounted = place.mount(place.imported_base())
    before = mounted.do(look, mounted.path)
    mounted.do(change_it, mounted.path)
    with contextlib.suppress(FileNotFoundError):
        assert mounted.do(look, mounted.path) != before
    mounted.do(warm, mounted.path, NAMES)
    place.run('reset', mounted.session)
    assert mounted.do(look, mounted.path) == before


@as_root
@pytest.mark.parametrize('kind', sorted(STALE))
def test_a_live_reset_across_branches_shows_the_other_branch(place, kind):
    change_it, look = STALE[kind]
    mounted = place.mount(place.imported_base())

    def see():
        with contextlib.suppress(FileNotFoundError):
            return mounted.do(look, mounted.path)
    before = see()
    mounted.do(change_it, mounted.path)
    changed = see()
    place.run('snapshot', mounted.session, 'changed')
    place.run('reset', mounted.session, '@base')
    place.run('snapshot', mounted.session, 'unchanged')
    for name, want in ('changed', changed), ('unchanged', before), ('changed', changed), ('@base', before):
        mounted.do(warm, mounted.path, NAMES)
        place.run('reset', mounted.session, name)
        assert see() == want


@live_and_offline
def test_a_number_is_never_given_twice(bench):
    highest, seen = 0, set()
    for round_, back in enumerate(['@base', 'one', '@base', 'one', None, '@base']):
        for i in range(5):
            bench.write(f'tmp/{i}', b'')
        new = {bench.mounted.do(os.stat, bench.mounted / f'tmp/{i}').st_ino for i in range(5)}
        assert len(new) == 5 and min(new) > highest and not new & seen
        seen |= new
        highest = max(seen)
        if round_ == 0:
            bench.run('snapshot', 'one')
        bench.run('reset', *([back] if back else []))
        for i in range(5):
            with contextlib.suppress(FileNotFoundError):
                bench.mounted.do(os.unlink, bench.mounted / f'tmp/{i}')


def swap(top):
    """Both directories have the other's place."""
    os.rename(f'{top}/home/user', f'{top}/tmp/user')
    os.rename(f'{top}/usr/bin', f'{top}/home/user')
    os.rename(f'{top}/tmp/user', f'{top}/usr/bin')


MOVES = {'moved': (lambda top: os.rename(f'{top}/home/user', f'{top}/etc/user'), 'etc/user'), 'swapped': (swap, 'usr/bin')}


@pytest.mark.parametrize('to', ['back', 'there'])
@pytest.mark.parametrize('move', MOVES)
def test_a_directory_that_a_reset_moves_can_be_moved_at_once(place, move, to):
    """To another directory, when the kernel has not looked it up in its new place."""
    change, new_place = MOVES[move]
    base = place.imported_base()
    mounted = place.mount(base)
    mounted.do(change, mounted.path)
    place.run('snapshot', mounted.session, 'moved')
    if to == 'back':
        place.run('reset', mounted.session, '@base')
        mounted.do(os.rename, mounted / 'home/user', mounted / 'tmp/again')
    else:
        mounted.umount()
        place.run('reset', mounted.session, '@base')
        mounted = place.mount(base)
        mounted.do(os.stat, mounted / 'home/user')
        mounted.do(os.stat, mounted / 'usr/bin')
        place.run('reset', mounted.session, 'moved')
        mounted.do(os.rename, mounted / new_place, mounted / 'tmp/again')


@as_root
def test_a_directory_that_was_in_one_that_goes_can_be_moved_at_once(place):
    """Before the kernel has forgotten the one that went, which takes it longer when much is in there."""
    def into_a_new_one(top):
        os.stat(f'{top}/home/user/notes')
        os.mkdir(f'{top}/new')
        os.rename(f'{top}/home/user', f'{top}/new/user')
        for number in range(3000):
            overwrite(f'{top}/new/{number}', b'')
            overwrite(f'{top}/tmp/{number}', b'')

    mounted = place.mount(place.imported_base())
    for _ in range(10):
        mounted.do(into_a_new_one, mounted.path)
        place.run('reset', mounted.session)
        mounted.do(os.rename, mounted / 'home/user', mounted / 'tmp/user')
        place.run('reset', mounted.session)
