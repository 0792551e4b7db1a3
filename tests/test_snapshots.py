"""Snapshots are a tree: each is taken, gone back to and deleted by name, while the session is mounted and while not."""

import json
import os
import random

from bench import bench, change, live_and_offline


@live_and_offline
def test_snapshots_are_a_tree_and_a_reset_goes_to_any(bench):
    states = {'@base': bench.dump()}

    def grow(parent, word):
        bench.run('reset', parent)
        change(bench, word)
        bench.run('snapshot', word)
        states[word] = bench.dump()

    grow('@base', 'one')
    change(bench, 'dropped-a')
    grow('one', 'two')
    grow('two', 'three')
    grow('one', 'second-two')
    grow('@base', 'second-one')
    parents = {s['name']: s['parent'] for s in bench.list()['snapshots']}
    assert parents == {'one': '@base', 'two': 'one', 'three': 'two', 'second-two': 'one', 'second-one': '@base'}
    for name in ['three', '@base', 'second-two', 'one', 'two', 'second-one', 'three', 'second-two']:
        change(bench, f'dropped-{name[-3:]}')
        bench.run('reset', name)
        bench.assert_state(states[name])
        assert bench.list()['standing'] == name


@live_and_offline
def test_reset_without_a_name_goes_to_where_the_session_stands(bench):
    base_state = bench.dump()
    change(bench, 'x')
    bench.run('reset')
    bench.assert_state(base_state)
    change(bench, 'one')
    bench.run('snapshot', 'one')
    state = bench.dump()
    for _ in range(3):
        change(bench, 'y')
        bench.run('reset')
        bench.assert_state(state)


@live_and_offline
def test_a_snapshot_changes_nothing_that_is_seen(bench):
    change(bench, 'one')
    state = bench.dump()
    bench.run('snapshot', 'one')
    bench.assert_state(state)
    bench.run('snapshot', 'again')
    bench.assert_state(state)
    bench.run('reset', 'one')
    bench.assert_state(state)


@live_and_offline
def test_a_middle_snapshot_can_be_deleted(bench):
    states = {}
    for name in ('one', 'two', 'three'):
        change(bench, name)
        bench.run('snapshot', name)
        states[name] = bench.dump()
    bench.run('delete', 'two')
    bench.assert_state(states['three'])
    assert {s['name']: s['parent'] for s in bench.list()['snapshots']} == {'one': '@base', 'three': 'one'}
    assert 'two' in bench.refused('reset', 'two')
    for name in ('one', 'three'):
        bench.run('reset', name)
        bench.assert_state(states[name])


@live_and_offline
def test_the_snapshot_that_the_session_stands_on_can_be_deleted(bench):
    change(bench, 'one')
    bench.run('snapshot', 'one')
    one = bench.dump()
    change(bench, 'two')
    bench.run('snapshot', 'two')
    change(bench, 'more')
    state = bench.dump()
    bench.run('delete', 'two')
    bench.assert_state(state)
    assert bench.list()['standing'] == 'one'
    bench.run('snapshot', 'new')
    bench.run('reset')
    bench.assert_state(state)
    bench.run('delete', 'new')
    bench.run('reset')
    bench.assert_state(one)


@live_and_offline
def test_all_snapshots_can_be_deleted_in_any_order(bench):
    order = random.Random(7)
    names = [f's{i}' for i in range(6)]
    for i, name in enumerate(names):
        if i:
            bench.run('reset', order.choice(names[:i]))
        change(bench, name)
        bench.run('snapshot', name)
    states = {}
    for name in names:
        bench.run('reset', name)
        states[name] = bench.dump()
    order.shuffle(names)
    while names:
        bench.run('delete', names.pop())
        if names:
            name = order.choice(names)
            bench.run('reset', name)
            bench.assert_state(states[name])
    state = bench.dump()
    assert bench.names() == []
    bench.assert_state(state)


@live_and_offline
def test_what_a_delete_or_reset_drops_leaves_the_disk(bench):
    """The layers on disk are the manifest's; a live session's go in the background, so umount says when."""
    bench.write('tmp/large', os.urandom(1 << 20))
    bench.run('snapshot', 'large')
    bench.run('reset', '@base')
    bench.write('tmp/large', os.urandom(1 << 20))
    bench.run('delete', 'large')
    bench.run('reset', '@base')
    bench.mounted.umount()
    size = sum(os.lstat(os.path.join(top, name)).st_size
               for top, _, files in os.walk(f'{bench.mounted.session}/layers') for name in files)
    assert size < 100000
    assert len(os.listdir(f'{bench.mounted.session}/layers')) == 1


@live_and_offline
def test_snapshot_names_keep_their_bytes(place, live):
    names = ['plain', 'with space', ' leading', '  two', 'trailing ', '100%', '%41', 'a' * 255, '\u00e9',
             os.fsdecode(b'\xff\xfe'), '"quoted"', 'back\\slash', '1', '.', '..', '#', "it's"]
    mounted = place.mount(place.imported_base())
    if not live:
        mounted.umount()
    for name in names:
        place.run('snapshot', mounted.session, name)
    listed = json.loads(place.run('list', '--json', mounted.session))
    assert [snapshot['name'] for snapshot in listed['snapshots']] == names
    assert [snapshot['parent'] for snapshot in listed['snapshots']] == ['@base', *names[:-1]]
    for name in names:
        place.run('reset', mounted.session, name)
        assert json.loads(place.run('list', '--json', mounted.session))['standing'] == name
        place.run('delete', mounted.session, name)
    assert json.loads(place.run('list', '--json', mounted.session))['snapshots'] == []


@live_and_offline
def test_snapshot_names_that_no_snapshot_may_have_are_refused(place, live):
    base = place.imported_base()
    mounted = place.mount(base)
    mounted.do(os.mkdir, mounted / 'tmp/kept')
    if not live:
        mounted.umount()
    for name in ['', 'a' * 256, 'a' * 600, 'a' * 5000, 'a/b', '/', '-a', '@a', '@base', '-', '@', 'new\nline', 'tab\t']:
        for command in 'snapshot', 'delete', 'reset':
            if name != '@base' or command == 'snapshot':
                assert "a snapshot's name may" in place.refused(command, mounted.session, '--', name)
    assert json.loads(place.run('list', '--json', mounted.session))['snapshots'] == []
    if not live:
        mounted = place.mount(base)
    assert mounted.do(os.path.isdir, mounted / 'tmp/kept')


@live_and_offline
def test_a_name_is_given_once_and_must_be_there(bench):
    change(bench, 'one')
    bench.run('snapshot', 'one')
    change(bench, 'two')
    state = bench.dump()
    assert 'one' in bench.refused('snapshot', 'one')
    assert 'other' in bench.refused('reset', 'other')
    assert 'other' in bench.refused('delete', 'other')
    bench.assert_state(state)
    assert bench.names() == ['one']
