"""`umlfs list` and `umlfs status` tell what a session holds and does, mounted or not."""

import json
import re
import subprocess
import time

from bench import bench, change, live_and_offline
from umlfs_cli import children, kill_and_wait, needs_root, processes_of


@live_and_offline
def test_list_says_what_each_snapshot_changes(bench):
    assert bench.list() == {'schema': 1, 'standing': '@base', 'entries': 0, 'bytes': 0, 'snapshots': []}
    began = int(time.time())
    bench.write('etc/new', bytes(5000))
    bench.run('snapshot', 'one')
    bench.run('snapshot', 'empty')
    bench.write('etc/newer', bytes(300))
    listed = bench.list()
    one, empty = listed['snapshots']
    assert (one['name'], one['parent'], one['current']) == ('one', '@base', False)
    assert (empty['name'], empty['parent'], empty['current']) == ('empty', 'one', True)
    assert one['bytes'] == 5000 and 2 <= one['entries'] <= 4
    assert empty['bytes'] == 0 and empty['entries'] == 0
    assert listed['standing'] == 'empty' and listed['bytes'] == 300 and 2 <= listed['entries'] <= 4
    assert began <= one['time'] <= empty['time'] <= time.time()


@live_and_offline
def test_list_draws_the_tree(bench):
    for parent, name in ('@base', 'one'), ('one', 'two'), ('one', 'three'), ('@base', 'four'):
        bench.run('reset', parent)
        change(bench, name)
        bench.run('snapshot', name)
    bench.run('reset', 'three')
    rows = re.findall(r'^([* ]) ( *)(\S+)', bench.run('list'), re.MULTILINE)
    tree = [(mark, name, len(indent)) for mark, indent, name in rows]
    assert tree[1:] == [(' ', '@base', 0), (' ', 'one', 2), (' ', 'two', 4), ('*', 'three', 4), (' ', 'four', 2)]


@live_and_offline
def test_status_says_what_help_promises(bench):
    bench.write('etc/new', bytes(5000))
    bench.run('snapshot', 'one')
    bench.write('etc/newer', bytes(300))
    status = json.loads(bench.run('status', '--json'))
    assert status['schema'] == 1 and status['session'] == bench.mounted.session
    assert (status['base'], status['standing'], status['bytes']) == (bench.base, 'one', 300)
    assert 2 <= status['entries'] <= 4
    assert status['disk'] >= 5300
    assert ('pid' in status) == bench.live and ('mountpoint' in status) == bench.live
    if bench.live:
        assert status['mountpoint'] == bench.mounted.path
        assert set(processes_of(bench.mounted.session)) == {status['pid'], *children(status['pid'])}
        assert len(children(status['pid'])) == 1, 'beside the daemon there is only who unmounts'
        assert status['requests']['write'] == 2
    text = bench.run('status')
    for word in (bench.base, bench.mounted.session, 'one'):
        assert word in text


def test_status_alone_lists_what_is_mounted(place):
    base = place.imported_base()
    mounted = [place.mount(base, name) for name in ('one', 'two')]
    listed = json.loads(place.run('status', '--json'))
    ours = [(m['session'], m['mountpoint']) for m in listed['mounts'] if m['session'].startswith(place.path)]
    assert ours == [(m.session, m.path) for m in mounted]
    text = place.run('status')
    assert all(f'{m.session} on {m.path}\n' in text for m in mounted)
    for m in mounted:
        m.umount()
    assert place.path not in place.run('status')


def test_status_alone_says_which_mounts_are_dead(place):
    base = place.imported_base()
    dead, alive = place.mount(base, 'dead'), place.mount(base, 'alive')
    kill_and_wait(dead.pid)
    text = place.run('status')
    assert f'{dead.session} on {dead.path}: dead: `umlfs clean` takes it away\n' in text and f'{alive.session} on {alive.path}\n' in text
    listed = json.loads(place.run('status', '--json'))['mounts']
    assert {m['session']: m['dead'] for m in listed if m['session'].startswith(place.path)} == {dead.session: True, alive.session: False}


@needs_root
def test_a_session_that_nobody_can_write_to_can_be_looked_at(place):
    mounted = place.mount(place.imported_base())
    place.run('snapshot', mounted.session, 'one')
    mounted.umount()
    subprocess.run(['mount', '--bind', mounted.session, mounted.session], check=True)
    try:
        subprocess.run(['mount', '-o', 'remount,bind,ro', mounted.session], check=True)
        assert 'one' in place.run('list', mounted.session)
        assert 'standing     one\n' in place.run('status', mounted.session)
        assert 'Read-only file system' in place.refused('reset', mounted.session)
    finally:
        subprocess.run(['umount', mounted.session], check=True)
