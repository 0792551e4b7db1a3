"""Commands on a disk that is full: each is done whole, or says so and changes nothing."""

import contextlib
import errno
import json
import os
import re

import pytest

from bench import live_and_offline
from calls import overwrite, read_file
from disk import Disk
from traces import refused_without_trace, state
from umlfs_cli import ROOT, differences, kill_and_wait, run, small_members, write_archive

MIB = 1 << 20


@pytest.fixture
def disk(place):
    if not ROOT:
        pytest.skip('needs root, to mount a small tmpfs')
    return Disk(place, 2 * MIB)


def is_full(line):
    return 'No space left on device' in line


def test_an_import_on_a_full_disk_leaves_nothing(place, disk):
    archive = write_archive(place / 'large.tar', small_members() + [('large', {}, os.urandom(3 * MIB))])
    assert is_full(refused_without_trace(place, 'import', archive, disk / 'base'))
    disk.grow(8 * MIB)
    place.run('import', archive, disk / 'base')


@pytest.mark.parametrize('spare', [0, 4096, 8192, 16384, 20480, 24576])
def test_a_new_session_on_a_full_disk_leaves_nothing(place, disk, base, spare):
    disk.fill(spare)
    before = state(place.path)
    result = run('mount', base, disk / 'session', user=place.user)
    if result.status == 0:
        place.run('umount', disk / 'session')
    else:
        assert is_full(result.stderr) and re.fullmatch(r'umlfs: [^\n]+: [^\n]+\n', result.stderr), result
        assert differences(state(place.path), before) == []
    assert spare or result.status == 1
    disk.free()
    mounted = place.mount(base, disk / 'session')
    assert mounted.do(read_file, mounted / 'etc/hostname') == b'guest\n'


def test_a_session_on_a_full_disk_can_be_mounted_read_and_emptied(place, disk):
    base = place.imported_base()
    mounted = place.mount(base, disk / 'session')
    mounted.do(overwrite, mounted / 'tmp/large', b'large' * 100000)
    seen = mounted.dump()
    mounted.umount()
    disk.fill()
    mounted = place.mount(base, disk / 'session')
    assert differences(mounted.dump(), seen) == []
    with contextlib.suppress(OSError):
        mounted.do(os.unlink, mounted / 'tmp/large')
    disk.free()
    mounted.do(overwrite, mounted / 'tmp/other', b'other' * 1000)
    assert mounted.do(read_file, mounted / 'tmp/other') == b'other' * 1000


def test_writes_on_a_full_disk_fail_with_enospc_and_lose_nothing_else(place, disk):
    base = place.imported_base()
    place.noisy = True
    mounted = place.mount(base, disk / 'session')
    mounted.do(overwrite, mounted / 'etc/before', b'before' * 1000)
    disk.fill(300000)
    written, failures = {}, set()

    def fill_up():
        for i in range(100):
            data = bytes([i]) * 10007
            try:
                with open(mounted / f'tmp/{i}', 'wb', buffering=0) as stream:
                    while data:
                        done = stream.write(data[:4096])
                        written[i] = written.get(i, b'') + data[:done]
                        data = data[done:]
            except OSError as error:
                failures.add(error.errno)
    mounted.do(fill_up)
    assert failures == {errno.ENOSPC} and len(written) > 10
    for what in (lambda: os.mkdir(mounted / 'tmp/dir'), lambda: os.chmod(mounted / 'etc', 0o700),
                 lambda: overwrite(mounted / 'etc/hostname', b'x' * 9000)):
        with contextlib.suppress(OSError):
            mounted.do(what)
    seen = mounted.dump(forget=['mtime'])
    for i, data in written.items():
        assert mounted.do(read_file, mounted / f'tmp/{i}') == data, i
    kill_and_wait(mounted.pid)
    place.run('umount', mounted.session)
    mounted = place.mount(base, mounted.session)
    assert differences(mounted.dump(forget=['mtime']), seen) == []
    assert mounted.do(read_file, mounted / 'etc/before') == b'before' * 1000
    disk.free()
    mounted.do(overwrite, mounted / 'tmp/0', b'again' * 10000)
    assert mounted.do(read_file, mounted / 'tmp/0') == b'again' * 10000


@live_and_offline
def test_a_snapshot_that_has_no_room_changes_nothing(place, disk, live):
    base = place.imported_base()
    mounted = place.mount(base, disk / 'session')       # which nothing changes, so that its journal keeps no room
    seen = mounted.dump()
    if not live:
        mounted.umount()
    layers = os.listdir(f'{mounted.session}/layers')
    disk.fill()
    assert is_full(place.refused('snapshot', mounted.session, 'one'))
    assert os.listdir(f'{mounted.session}/layers') == layers
    assert sorted(os.listdir(mounted.session)) == sorted({*os.listdir(mounted.session)} - {'manifest.new'})
    assert json.loads(place.run('list', '--json', mounted.session))['snapshots'] == []
    if live:
        assert differences(mounted.dump(), seen) == []
    disk.free()
    place.run('snapshot', mounted.session, 'one')
    if not live:
        mounted = place.mount(base, mounted.session)
    assert differences(mounted.dump(), seen) == []


@live_and_offline
@pytest.mark.parametrize('words', [['reset'], ['reset', '@base'], ['delete', 'one']], ids=' '.join)
def test_reset_and_delete_on_a_full_disk_happen_whole_or_not(place, disk, live, words):
    base = place.imported_base()
    mounted = place.mount(base, disk / 'session')
    seen = {'@base': mounted.dump()}
    mounted.do(overwrite, mounted / 'etc/one', b'one')
    seen['one'] = mounted.dump()
    place.run('snapshot', mounted.session, 'one')
    mounted.do(overwrite, mounted / 'etc/two', b'two')
    seen['now'] = mounted.dump()
    if not live:
        mounted.umount()
    disk.fill()
    result = run(words[0], mounted.session, *words[1:], user=place.user)
    if result.status != 0:
        assert is_full(result.stderr) and re.fullmatch(r'umlfs: [^\n]+: [^\n]+\n', result.stderr), result
    if not live:
        mounted = place.mount(base, mounted.session)
    after = 'now' if result.status or words[0] == 'delete' else {'reset': 'one', 'reset @base': '@base'}[' '.join(words)]
    assert differences(mounted.dump(), seen[after]) == []
    disk.free()
    if result.status != 0:
        place.run(words[0], mounted.session, *words[1:])
    names = [s['name'] for s in json.loads(place.run('list', '--json', mounted.session))['snapshots']]
    assert names == ([] if words[0] == 'delete' else ['one'])
    place.run('reset', mounted.session, '@base')
    assert differences(mounted.dump(), seen['@base']) == []
