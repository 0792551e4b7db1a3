"""Random changes: what `umlfs diff` tells of any two states is what an independent walk of both finds."""

import hashlib
import os
import stat

import pytest

from diffs import Bench, diff
from monkey import Monkey, is_below

TYPES = {stat.S_IFREG: 'file', stat.S_IFDIR: 'directory', stat.S_IFLNK: 'symlink', stat.S_IFCHR: 'character device',
         stat.S_IFBLK: 'block device', stat.S_IFIFO: 'fifo', stat.S_IFSOCK: 'socket'}
OPS = int(os.environ.get('UMLFS_DIFF_OPS', 200))
SEED = int(os.environ.get('UMLFS_DIFF_SEED', 1))


def walk(top):
    """{path: (ino, attributes)} of everything below, as another program sees it."""
    found = {}
    for directory, dirs, files in os.walk(top):
        for path in [directory, *(os.path.join(directory, name) for name in dirs + files)]:
            st = os.lstat(path)
            kind = TYPES[stat.S_IFMT(st.st_mode)]
            digest = ''
            if kind == 'file':
                with open(path, 'rb') as stream:
                    digest = hashlib.sha256(stream.read()).hexdigest()
            found['/' + os.path.relpath(path, top) if path != top else '/'] = (st.st_ino, {
                'type': kind, 'mode': f'{stat.S_IMODE(st.st_mode):04o}', 'uid': st.st_uid, 'gid': st.st_gid,
                'size': 0 if kind == 'directory' else st.st_size,
                'target': os.readlink(path) if kind == 'symlink' else None, 'digest': digest})
    return found


WHAT = {'type': 'type', 'mode': 'mode', 'owner': 'uid', 'group': 'gid', 'content': 'digest', 'size': 'size', 'target': 'target'}


def assert_told(path, a, b, what):
    """what is in what two files differ."""
    if a['type'] != b['type']:
        keys = ['mode', 'owner', 'group', 'type']
        assert 'type' in what
    else:
        keys = WHAT
    for word in keys:
        if word in ('mode', 'size') and a['type'] == 'symlink':
            continue
        assert (word in what) == (a[WHAT[word]] != b[WHAT[word]]), (path, word, a, b, what)


def assert_explains(changes, before, after):
    """Taking the changes from the one tree leads to the other, and none of them is superfluous."""
    tree = {path: attributes for path, (_, attributes) in before.items()}
    for change in changes:
        if change['from']:
            path = change['old_path'] or change['path']
            assert before[path][0] == change['from']['ino'], change
        if change['to']:
            assert after[change['path']][0] == change['to']['ino'], change
            assert all(after[change['path']][1][key] == change['to'].get(key) for key in ('type', 'mode', 'uid', 'size'))
    for change in changes:
        if change['change'] == 'D':
            del tree[change['path']]
    moved = []
    for change in sorted((c for c in changes if c['change'] == 'R'), key=lambda c: -c['old_path'].count('/')):
        old = change['old_path']
        moved.append((change, {path[len(old):]: tree.pop(path) for path in list(tree) if is_below(path, old)}))
    for change, subtree in sorted(moved, key=lambda pair: pair[0]['path'].count('/')):
        assert change['path'] not in tree, change
        tree.update({change['path'] + rest: attributes for rest, attributes in subtree.items()})
    for change in changes:
        if change['change'] == 'A':
            assert change['path'] not in tree, change
            tree[change['path']] = after[change['path']][1]
            if change['link_to']:
                assert after[change['path']][0] == after[change['link_to']][0]
    assert sorted(tree) == sorted(after)
    told = {change['path']: change['what'] for change in changes if change['change'] in 'MR'}
    for path, attributes in tree.items():
        assert_told(path, attributes, after[path][1], told.get(path, []))
    for change in changes:
        assert change['change'] != 'M' or change['what'], change


@pytest.mark.parametrize('number', range(2))
def test_random_changes_are_explained(place, number):
    bench = Bench(place, True)
    monkey = Monkey(bench.at, SEED * 1000 + number)
    states = {'@base': bench.mounted.do(walk, bench.at)}
    for name in 'one', 'two', 'three', 'four':
        for _ in range(OPS // 4):
            bench.mounted.do(monkey.step)
        states[name] = bench.mounted.do(walk, bench.at)
        place.run('snapshot', bench.session, name)
        if name == 'two':       # three and four stand on one
            place.run('reset', bench.session, 'one')
    bench.mounted.umount()
    for one in states:
        for other in states:
            assert_explains(diff(place, bench.session, one, other), states[one], states[other])
