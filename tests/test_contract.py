"""What umlfs and the kernel have agreed on: what costs a request and what none.

Capabilities are seen by what they do: NO_OPEN, NO_OPENDIR, READDIRPLUS and CACHE_SYMLINKS by requests that do not come,
EXPLICIT_INVAL_DATA by pages that stay until a reset.
"""

import os
import shutil
import time

import pytest

from calls import (RENAME_EXCHANGE, RENAME_NOREPLACE, create, fallocate, on, opened, outcome, read_file, renameat2,
                   reopening_walk, sh, write_file)
from costs import LOOKING, agree, cost, costs, costs_nothing, files, read_slowly, status, warm
from places import here, in_clean_rounds, paths_below
from umlfs_cli import PATIENCE

ONCE = ('open', 'opendir', 'flush', 'access', 'create')     # refused the first time, then the kernel knows
NEVER = ('release', 'releasedir')


# --- what changes nothing --------------------------------------------------------------------------------------

@pytest.mark.parametrize('what', list(LOOKING))
def test_looking_at_what_did_not_change_costs_nothing_the_second_time(here, what):
    here.within(lambda: [warm(LOOKING[what]), costs_nothing(here, what)])


@pytest.mark.parametrize('size', [512, 32768])
@in_clean_rounds
def test_a_walk_that_reopens_costs_one_empty_answer(here, size):
    """hostfs asks for what comes behind the last name, and no kernel keeps that there is nothing."""
    def body():
        os.mkdir('new')
        for number in range(400):
            os.mknod(f'new/{number}')
        for top, count in (('new', 400), ('many', 60), ('empty-dir', 0)):
            warm(lambda: os.lstat(top), lambda: reopening_walk(top, size=size))
            costs({'readdirplus': 1}, here, lambda: reopening_walk(top, size=size))
            assert len(reopening_walk(top, size=size)) == count
    here.within(body)


def test_looking_at_what_the_session_made_costs_nothing_the_second_time(here):
    def body():
        shutil.copytree('dir', 'new', symlinks=True)
        for number in range(300):
            write_file(f'new/{number}', b'%d' % number)
        os.symlink('new', 'to-new')
        warm(*LOOKING.values())
        for what in LOOKING:
            costs_nothing(here, what)
    here.within(body)


def test_looking_leaves_nothing_behind(here):
    """No request to let go of what was never held, and no kind of request that was refused comes twice."""
    def body():
        for _ in range(3):
            for look in LOOKING.values():
                look()
            write_file('new', b'x')
            os.unlink('new')
        requests = status(here)['requests']
        assert {kind: requests.get(kind, 0) for kind in ONCE if requests.get(kind, 0) > 1} == {}
        assert {kind: requests[kind] for kind in NEVER if kind in requests} == {}
        assert requests['getxattr'] == 1
    here.within(body)


@in_clean_rounds
def test_asking_for_the_status_costs_nothing(here):
    here.within(lambda: [LOOKING['stat'](), status(here)])
    first = here.requests()
    for _ in range(3):
        agree(here.requests(), first)


@in_clean_rounds
def test_a_cold_listing_brings_the_attributes_along(here):
    def body():
        found = cost(here, lambda: sh('ls -l many'))
        assert found['readdirplus'] > 0
        agree(found.get('lookup', 0), 0, 1)         # many itself
        agree(found['readdirplus'], 1, 2, 3)
        agree(found.get('getattr', 0), 0, 1)
    here.within(body)


# --- what changes something ------------------------------------------------------------------------------------

def ready():
    """The first of each kind, after which the kernel knows what is not there."""
    write_file('first', b'x')
    os.listdir('.')
    with opened('first', os.O_RDWR) as fd:
        os.pwrite(fd, b'first', 0)
        os.fsync(fd)
    for look in ('stat', 'absent names'):
        LOOKING[look]()


@in_clean_rounds
def test_a_create_is_one_request(here):
    def body():
        ready()
        for name in ('absent', 'dir/absent', 'many/.hidden'):       # hostfs has looked before it makes
            costs({'mknod': 1}, here, create, name)
        costs({'lookup': 1, 'mknod': 1}, here, create, 'not-looked-at')
        os.unlink('absent')
        assert outcome(os.stat, 'absent') == 'ENOENT'               # the kernel asks once after it went
        costs({'mknod': 1}, here, create, 'absent')
        write_file('not-looked-at', b'')
        costs({}, here, create, 'not-looked-at')
    here.within(body)


@in_clean_rounds
def test_a_write_is_one_request_or_one_for_128_kib(here):
    def body():
        ready()
        for name in ('large', 'plain', 'first'):
            with opened(name, os.O_RDWR) as fd:
                page = os.urandom(4096)
                costs({'write': 1}, here, os.pwrite, fd, page, 0)
                costs({'write': 1}, here, os.pwrite, fd, page, 8192)
                costs({'write': 1}, here, os.pwrite, fd, b'a few bytes', 100)
                costs({'write': 1}, here, os.write, fd, page * 32)
                costs({'write': 8}, here, os.write, fd, page * 256)     # so that others are answered in between
    here.within(body)


@in_clean_rounds
def test_what_was_written_is_read_back_without_a_request(here):
    def body():
        ready()
        with opened('large', os.O_RDWR) as fd:
            page = os.urandom(4096)
            costs({'write': 1}, here, lambda: (os.pwrite(fd, page, 4096), os.pread(fd, 4096, 4096)))
            os.fstat(fd)
            costs({}, here, lambda: (os.pread(fd, 4096, 4096), os.fstat(fd)))
    here.within(body)


@in_clean_rounds
def test_every_change_is_one_request(here):
    def body():
        ready()
        changes = [
            ('mkdir', lambda: os.mkdir('many/absent')),
            ('symlink', lambda: os.symlink('x', 'dir/absent')),
            ('mknod', lambda: os.mkfifo('dir/sub/absent')),
            ('link', lambda: os.link('plain', 'other/absent')),
            ('setattr', lambda: os.chmod('plain', 0o600)),
            ('setattr', lambda: os.chown('plain', 5, 6)),
            ('setattr', lambda: os.utime('plain', ns=(1, 2))),
            ('setattr', lambda: os.truncate('large', 10)),
            ('rename', lambda: os.rename('many/001', 'many/.hidden')),
            ('rename', lambda: os.rename('many/002', 'many/003')),
            ('rename', lambda: os.rename('dir/sub', 'other/.hidden')),
            ('rename', lambda: renameat2('many/010', 'many/011', RENAME_EXCHANGE)),
            ('rename', lambda: renameat2('many/012', 'dir/.hidden', RENAME_NOREPLACE)),
            ('rmdir', lambda: os.rmdir('empty-dir')),
            ('fallocate', lambda: on('second', os.O_RDWR, fallocate, 0, 0, 8192)),
            ('fsync', lambda: on('second', os.O_RDWR, os.fsync)),
            ('fsyncdir', lambda: on('dir', os.O_RDONLY, os.fsync)),
            ('statfs', lambda: os.statvfs('.')),
        ]
        for number, (kind, change) in enumerate(changes):
            found = cost(here, change)
            found.pop('forget', None)
            if kind in ('mkdir', 'symlink', 'mknod', 'link', 'rename'):
                agree(found.pop('lookup', 1), 1)        # the kernel wants to be sure that the name is free
            agree((number, found), (number, {kind: 1}))
        found = cost(here, os.unlink, 'many/020')
        found.pop('forget', None)
        agree(found, {'unlink': 1})
    here.within(body)


@in_clean_rounds
def test_a_change_leaves_the_rest_warm(here):
    def body():
        ready()
        warm(*LOOKING.values())
        rest = [path for path in paths_below() if b'many' not in path]
        rest_files = [path for path in files() if path in rest]
        write_file('many/absent', b'made')
        os.unlink('many/007')
        costs({}, here, lambda: [os.lstat(path) for path in rest])
        costs({}, here, lambda: [read_slowly(path) for path in rest_files])
        costs({}, here, lambda: [os.lstat(f'many/{number:03}') for number in range(60) if number != 7])
        assert outcome(os.stat, 'many/007') == 'ENOENT'
        costs({}, here, lambda: outcome(os.stat, 'many/007'))
    here.within(body)


# --- snapshots and resets --------------------------------------------------------------------------------------

@in_clean_rounds
def test_a_snapshot_leaves_everything_warm(here):
    def still_warm():
        for what in LOOKING:
            costs_nothing(here, what)
    here.within(lambda: (write_file('new', b'x'), warm(*LOOKING.values())))
    before = here.requests()
    here.run('snapshot', here.session, 'one')
    agree(here.requests(), before)
    here.within(still_warm)


@in_clean_rounds
def test_what_a_reset_does_not_change_stays_warm(here):
    def make():
        os.mkdir('thousand')
        for number in range(1000):
            write_file(f'thousand/{number}', b'%d' % number)

    def look():
        for number in range(1000):
            if number != 500:
                os.lstat(f'thousand/{number}')
                read_slowly(f'thousand/{number}')
        for number in range(60):
            if number != 7:
                read_slowly(f'many/{number:03}')
        os.listdir('thousand')
        os.listdir('many')

    def change():
        warm(look)
        write_file('thousand/500', b'another content')
        write_file('many/007', b'another content')
        os.chmod('dir/file', 0)

    def still_warm():
        costs({}, here, look)
        assert (read_file('thousand/500'), read_file('many/007')) == (b'500', b'7')
        assert os.stat('dir/file').st_mode & 0o777 == 0o644
    here.within(make)
    here.run('snapshot', here.session, 'good')
    here.within(change)
    here.run('reset', here.session)
    here.within(still_warm)


@in_clean_rounds
def test_after_a_reset_the_kernel_lets_go_of_what_is_gone(here):
    def make():
        os.mkdir('new')
        for number in range(50):
            write_file(f'new/{number}', b'x')
        write_file('dir/new', b'x')
    here.within(make)
    agree('forget' in here.requests(), False)
    here.run('reset', here.session)
    until = time.monotonic() + PATIENCE
    while 'forget' not in here.requests():
        assert time.monotonic() < until
    assert here.within(lambda: (outcome(os.lstat, 'new'), outcome(os.lstat, 'dir/new'))) == ('ENOENT', 'ENOENT')
