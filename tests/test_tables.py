"""A large snapshot is mapped from its table instead of replayed, and nobody can tell.

The daemon writes tables when it ends. One that is missing, damaged or of something else is as good as none.
"""

import errno
import os
import shutil

import pytest

from checks import Checked
from disk import Disk
from umlfs_cli import ROOT, differences, kill_and_wait, needs_root, wait_pid

MIB = 1 << 20
MANY = 20_100    # more than the changes from which on a layer gets a table


def make_changes(top):
    """A little of everything, and a lot of files."""
    os.mkdir(f'{top}/many')
    for number in range(MANY):
        os.mknod(f'{top}/many/f{number}', 0o600 + number % 8)
    os.mkdir(f'{top}/new')
    os.symlink('the/target', f'{top}/new/link')
    os.link(f'{top}/many/f1', f'{top}/new/hard')
    os.chmod(f'{top}/etc/hostname', 0o640)
    shutil.move(f'{top}/etc', f'{top}/new/etc')
    os.unlink(f'{top}/new/etc/passwd')
    for name in ('new/file', 'new/etc/hostname', 'many/f4'):
        with open(f'{top}/{name}', 'ab') as stream:
            stream.write(b'more')


def put(path, text):
    with open(path, 'w', encoding='utf-8') as stream:
        stream.write(text)


def modes(directory):
    with os.scandir(directory) as entries:
        return {entry.name: (entry.inode(), entry.stat().st_mode, entry.stat().st_size) for entry in entries}


class Tabled:
    """A mount whose session has a large snapshot "one", on small ones; seen: what that shows."""

    def __init__(self, place, below=()):
        self.place, self.base = place, place.imported_base()
        mounted = self.mounted = place.mount(self.base)
        for name in below:
            mounted.do(put, mounted / 'etc/hostname', name)
            place.run('snapshot', mounted.session, name)
        mounted.do(make_changes, mounted.path)
        place.run('snapshot', mounted.session, 'one')
        self.session, self.seen = mounted.session, self.look()

    def look(self):
        """(a dump, what the large directory has)"""
        return self.mounted.dump(leave_out=('many',)), self.mounted.do(modes, self.mounted / 'many')

    def expect(self, seen):
        rest, many = self.look()
        assert differences(rest, seen[0]) == [] and many == seen[1]

    def mount(self, **more):
        self.mounted = self.place.mount(self.base, **more)
        return self.mounted

    def umount(self):
        self.mounted.umount()

    def maps(self):
        """The tables that the daemon stands on, by their layers."""
        with open(f'/proc/{self.mounted.pid}/maps', encoding='utf-8') as stream:
            return sorted({line.split('/')[-2] for line in stream if line.rstrip().endswith('/table')})

    def tables(self):
        return sorted(name for name in os.listdir(f'{self.session}/layers')
                      if os.path.exists(f'{self.session}/layers/{name}/table'))

    def leaves_nothing(self):
        for name in os.listdir(f'{self.session}/layers'):
            assert set(os.listdir(f'{self.session}/layers/{name}')) <= {'journal', 'content', 'table'}
        assert Checked(self.place, self.session) == []


@pytest.fixture
def tabled(place):
    return Tabled(place)


def test_a_mapped_snapshot_is_what_it_was(tabled):
    tabled.umount()
    assert tabled.tables() == ['1']
    for _ in range(2):
        tabled.mount()
        assert tabled.maps() == ['1']
        tabled.expect(tabled.seen)
        assert tabled.maps() == ['1']
        tabled.umount()
    tabled.leaves_nothing()


@pytest.mark.parametrize('user', ['ordinary'], indirect=True)
def test_changes_snapshots_and_resets_on_top_of_one(tabled):
    tabled.umount()
    mounted = tabled.mount()
    mounted.do(os.unlink, mounted / 'new/hard')
    mounted.do(os.chmod, mounted / 'many/f7', 0o711)
    mounted.do(os.unlink, mounted / 'many/f8')
    mounted.do(os.rename, mounted / 'new/etc', mounted / 'etc')
    second = tabled.look()
    tabled.place.run('snapshot', tabled.session, 'two')
    tabled.place.run('reset', tabled.session, 'one')
    tabled.expect(tabled.seen)
    tabled.place.run('reset', tabled.session, '@base')
    assert mounted.do(os.path.exists, mounted / 'etc/passwd') and not mounted.do(os.path.exists, mounted / 'new')
    tabled.place.run('reset', tabled.session, 'two')
    assert tabled.maps() == ['1']
    tabled.expect(second)
    tabled.place.run('delete', tabled.session, 'one')
    tabled.umount()
    tabled.mount()    # which joins the two
    assert tabled.maps() == []
    tabled.expect(second)
    tabled.umount()
    tabled.leaves_nothing()
    tabled.mount()
    assert tabled.maps() == tabled.tables() != []
    tabled.expect(second)
    tabled.umount()
    tabled.leaves_nothing()


@pytest.mark.parametrize('user', ['ordinary'], indirect=True)
def test_snapshots_below_one_are_joined(place):
    """It tells whose content a file has that it does not write itself: a layer's number, which a joined layer has not."""
    tabled = Tabled(place, below=('first', 'second'))
    tabled.umount()
    assert tabled.tables() == ['3']
    place.run('delete', tabled.session, 'first')
    for maps in ([], ['3']):
        tabled.mount()
        assert tabled.maps() == maps
        tabled.expect(tabled.seen)
        tabled.umount()
        tabled.leaves_nothing()


def flip(path, where):
    with open(path, 'r+b') as stream:
        stream.seek(where, os.SEEK_END if where < 0 else os.SEEK_SET)
        byte = stream.read(1)[0]
        stream.seek(-1, os.SEEK_CUR)
        stream.write(bytes([byte ^ 1]))


@pytest.mark.parametrize('user', ['root' if ROOT else 'ordinary'], indirect=True)
def test_a_damaged_table_is_none(tabled):
    for where in (0, 100, 5000, -1):
        tabled.umount()
        flip(f'{tabled.session}/layers/1/table', where)
        tabled.mount()
        assert tabled.maps() == []
        tabled.expect(tabled.seen)
        tabled.umount()     # which writes a new one
        tabled.mount()
        assert tabled.maps() == ['1']
    tabled.umount()
    tabled.leaves_nothing()


def test_a_killed_daemon_leaves_none(tabled):
    kill_and_wait(tabled.mounted.pid)
    assert tabled.tables() == []
    tabled.place.run('umount', tabled.session)
    tabled.mount()
    tabled.expect(tabled.seen)
    tabled.umount()
    assert tabled.tables() == ['1']
    tabled.leaves_nothing()


def test_a_mount_that_only_reads_uses_a_table_and_writes_none(tabled):
    tabled.umount()
    os.unlink(f'{tabled.session}/layers/1/table')
    tabled.mount(options='ro')
    tabled.umount()
    assert tabled.tables() == []
    tabled.mount()
    tabled.umount()
    tabled.mount(options='ro')
    assert tabled.maps() == ['1']
    tabled.expect(tabled.seen)
    tabled.umount()
    tabled.leaves_nothing()


def make_and_remove(path):
    for number in range(MANY):
        os.mknod(f'{path}/gone')
        os.unlink(f'{path}/gone')
    os.mkdir(f'{path}/made')


def test_one_that_is_cut_short_while_it_is_mapped_ends_the_mount(tabled):
    tabled.umount()
    mounted, table = tabled.mount(), f'{tabled.session}/layers/1/table'
    tabled.place.noisy = True
    pid = mounted.pid
    os.truncate(table, 4096)
    with pytest.raises(OSError) as failed:
        mounted.do(modes, mounted / 'many')
    assert failed.value.errno in (errno.ENOTCONN, errno.ECONNABORTED)
    assert wait_pid(pid)
    line, = mounted.log().splitlines()
    assert line.startswith(f'umlfs: {table}: cut short'), line
    tabled.place.run('umount', tabled.session)
    tabled.mount()
    assert tabled.maps() == []
    tabled.expect(tabled.seen)


def test_a_small_snapshot_has_none(place):
    """However long its journal is: after a replay too, which finds what has been let go of."""
    mounted = place.mount(place.imported_base())
    mounted.do(make_and_remove, mounted.path)
    place.run('snapshot', mounted.session, 'one')
    for _ in range(2):
        mounted.umount()
        assert not os.path.exists(f'{mounted.session}/layers/1/table')
        mounted = place.mount(place / 'base', session=mounted.session)


def test_what_is_in_the_place_of_an_unfinished_one_goes(tabled):
    os.mkfifo(f'{tabled.session}/layers/1/table.new')
    tabled.umount()
    assert tabled.tables() == ['1']
    tabled.leaves_nothing()


@needs_root
def test_one_does_not_take_the_last_room(place):
    disk = Disk(place, 24 * MIB)
    place.noisy = True
    mounted = place.mount(place.imported_base(), session=disk / 'session')
    mounted.do(make_changes, mounted.path)
    place.run('snapshot', mounted.session, 'one')
    disk.fill(8 * MIB)
    mounted.umount()
    assert not os.path.exists(f'{mounted.session}/layers/1/table')
    disk.free()
    place.mount(place / 'base', session=mounted.session).umount()
    assert os.path.exists(f'{mounted.session}/layers/1/table')
