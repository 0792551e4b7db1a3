"""What `umlfs diff` promises: exactly what differs between two states, told by path, while the session goes on."""

import contextlib
import hashlib
import json
import os
import random
import re
import stat
import subprocess
import threading

import pytest

from calls import RENAME_EXCHANGE, overwrite, renameat2
from umlfs_cli import ROOT, differences, dump, identity, program, run, small_members, write_archive

SAME, DIFFERENT, TROUBLE = 0, 1, 2
TYPES = {stat.S_IFREG: 'file', stat.S_IFDIR: 'directory', stat.S_IFLNK: 'symlink', stat.S_IFCHR: 'character device',
         stat.S_IFBLK: 'block device', stat.S_IFIFO: 'fifo', stat.S_IFSOCK: 'socket'}
STEP = 16
OPS = int(os.environ.get('UMLFS_DIFF_OPS', 200))
SEED = int(os.environ.get('UMLFS_DIFF_SEED', 1))


# --- what it says ------------------------------------------------------------------------------------------------

def diff(place, *words, status=None):
    """The changes as --json tells them."""
    result = run('diff', '--json', *words, user=place.user)
    assert result.stderr == '', result
    told = json.loads(result.stdout)
    assert set(told) == {'schema', 'changes', 'count'} and told['count'] == len(told['changes'])
    assert result.status == (DIFFERENT if told['changes'] else SAME)
    for change in told['changes']:
        assert set(change) == {'change', 'path', 'old_path', 'link_to', 'what', 'from', 'to'}
    assert status in (None, result.status)
    return told['changes']


def short(changes):
    """[(letter, path or (old, new), *what)]"""
    return [(c['change'], (c['old_path'], c['path']) if c['change'] == 'R' else c['path'], *c['what']) for c in changes]


class Bench:
    """A mounted session; what a test does to it is asked for while it is mounted, or after."""

    def __init__(self, place, live, options=None):
        members = [*small_members(), ('etc/link', {'type': b'2', 'linkname': 'hostname'}, b''),
                   ('home/deep', {'type': b'5', 'mode': 0o755}, b''), ('home/deep/er', {'type': b'5', 'mode': 0o755}, b''),
                   ('home/deep/er/file', {}, b'deep\n'), ('home/pair1', {}, b'pair\n'),
                   ('home/pair2', {'type': b'1', 'linkname': 'home/pair1'}, b'')]
        self.place, self.live = place, live
        self.mounted = place.mount(place.imported_base(archive=write_archive(place / 'root.tar', members)), options=options)
        self.session, self.at = self.mounted.session, self.mounted.path

    def do(self, function, *names):
        """Calls the function with paths below the mountpoint for words that begin with '/'."""
        return self.mounted.do(function, *(f'{self.at}{name}' if isinstance(name, str) and name[:1] == '/' else name
                                           for name in names))

    def write(self, name, data):
        self.do(overwrite, name, data)

    def diff(self, *words):
        if not self.live and os.path.ismount(self.at):
            self.mounted.umount()
        return diff(self.place, *(word for word in words if word.startswith('--')), self.session,
                    *(word for word in words if not word.startswith('--')))

    def text(self, *words):
        return run('diff', *words, self.session, user=self.place.user).stdout


@pytest.fixture(params=[True, False], ids=['live', 'offline'])
def bench(place, request):
    return Bench(place, request.param)


def test_nothing_changed(bench):
    assert bench.diff() == []
    assert bench.diff('@base') == [] and bench.text() == ''


def test_each_change_is_told_by_its_path(bench):
    bench.write('/etc/new', b'new')
    bench.do(os.mkdir, '/etc/dir')
    bench.write('/etc/dir/in', b'in')
    bench.write('/etc/hostname', b'other\n')
    bench.do(os.chmod, '/etc/passwd', 0o640)
    bench.do(os.chown, '/etc/shadow', 7, 8)
    bench.do(os.unlink, '/home/user/notes')
    bench.do(os.unlink, '/etc/link')
    bench.do(os.symlink, 'passwd', '/etc/link')
    bench.do(os.rename, '/home/deep', '/home/renamed')
    assert short(bench.diff()) == [
        ('A', '/etc/dir'), ('A', '/etc/dir/in'), ('M', '/etc/hostname', 'content'), ('M', '/etc/link', 'target'),
        ('A', '/etc/new'), ('M', '/etc/passwd', 'mode'), ('M', '/etc/shadow', 'owner', 'group'),
        ('R', ('/home/deep', '/home/renamed')), ('D', '/home/user/notes')]
    assert bench.text().splitlines() == [
        'A /etc/dir', 'A /etc/dir/in', 'M /etc/hostname: content', 'M /etc/link: target hostname -> passwd', 'A /etc/new',
        'M /etc/passwd: mode 0644 -> 0640', 'M /etc/shadow: owner 0 -> 7, group 42 -> 8', 'R /home/deep -> /home/renamed',
        'D /home/user/notes']


def test_what_was_written_again_is_no_change(bench):
    bench.write('/etc/hostname', b'guest\n')
    bench.write('/etc/passwd.new', b'root:x:0:0::/root:/bin/sh\n')
    bench.do(os.chmod, '/etc/passwd.new', 0o644)
    bench.do(os.rename, '/etc/passwd.new', '/etc/passwd')
    bench.do(os.chmod, '/etc/shadow', 0o777)
    bench.do(os.chmod, '/etc/shadow', 0o600)
    bench.do(os.rename, '/home/user', '/home/other')
    bench.do(os.rename, '/home/other', '/home/user')
    bench.do(os.mkdir, '/tmp/came')
    bench.do(os.rmdir, '/tmp/came')
    bench.do(os.rename, '/home/deep', '/tmp/old')           # a whole directory is made again as it was
    for directory in '/home/deep', '/home/deep/er':
        bench.do(os.mkdir, directory)
        bench.do(os.chmod, directory, 0o755)
    bench.write('/home/deep/er/file', b'deep\n')
    bench.do(os.chmod, '/home/deep/er/file', 0o644)
    bench.do(lambda: subprocess.run(['rm', '-r', f'{bench.at}/tmp/old'], check=True))
    assert short(bench.diff()) == []
    assert ('M', '/etc/hostname', 'mtime') in short(bench.diff('--times'))


def test_a_file_in_the_place_of_another_is_modified(bench):
    bench.write('/etc/hostname.new', b'another\n')
    bench.do(os.rename, '/etc/hostname.new', '/etc/hostname')
    bench.do(os.unlink, '/etc/passwd')
    bench.do(os.mkdir, '/etc/passwd')
    bench.do(os.chmod, '/etc/passwd', 0o644)
    changes = bench.diff()
    assert [(c['change'], c['path']) for c in changes] == [('M', '/etc/hostname'), ('M', '/etc/passwd')]
    assert changes[0]['what'][-2:] == ['content', 'size'] and 'type' in changes[1]['what']
    assert changes[0]['from']['ino'] != changes[0]['to']['ino']


def test_renames_are_known_by_the_inode(bench):
    bench.do(os.rename, '/etc/hostname', '/etc/hostname.1')     # as a log is rotated
    bench.write('/etc/hostname', b'guest\n')
    bench.do(renameat2, '/home/deep/er/file', '/etc/shadow', RENAME_EXCHANGE)
    bench.do(os.rename, '/home/deep', '/home/moved')
    bench.write('/home/moved/er/file', b'changed after the exchange')
    bench.do(os.rename, '/usr/bin/same', '/etc/passwd')         # over another
    found = short(bench.diff())
    assert [entry[:2] for entry in found] == [
        ('A', '/etc/hostname'), ('R', ('/etc/hostname', '/etc/hostname.1')), ('D', '/etc/passwd'),
        ('R', ('/usr/bin/same', '/etc/passwd')), ('R', ('/home/deep/er/file', '/etc/shadow')),
        ('R', ('/home/deep', '/home/moved')), ('R', ('/etc/shadow', '/home/moved/er/file'))]
    assert found[-1][2:] == ('content', 'size')


def test_every_name_of_a_file_is_told(bench):
    bench.do(os.link, '/home/pair1', '/tmp/third')
    bench.write('/home/pair1', b'changed')
    bench.write('/tmp/one', b'1')
    bench.do(os.link, '/tmp/one', '/etc/two')
    changes = bench.diff()
    assert short(changes) == [('A', '/etc/two'), ('M', '/home/pair1', 'content', 'size'),
                              ('M', '/home/pair2', 'content', 'size'), ('A', '/tmp/one'), ('A', '/tmp/third')]
    assert [c['link_to'] for c in changes] == [None, None, None, '/etc/two', '/home/pair1']


def test_a_broken_hard_link_is_told(bench):
    bench.write('/tmp/copy', b'pair\n')
    bench.do(os.chmod, '/tmp/copy', 0o644)
    bench.do(os.rename, '/tmp/copy', '/home/pair2')
    assert short(bench.diff()) == [('M', '/home/pair2', 'links')]


def test_a_path_below_a_renamed_directory_has_both_names(bench):
    bench.write('/home/deep/er/file', b'DEEP\n')
    bench.do(os.rename, '/home/deep', '/home/moved')
    changed = bench.diff()[1]
    assert (changed['change'], changed['old_path'], changed['path']) == ('M', '/home/deep/er/file', '/home/moved/er/file')


def test_odd_names_stay_on_one_line(bench):
    name = '/tmp/a\nb"\\\t\x01 \udcff\u00e9\u009b'
    bench.write(name, b'')
    assert short(bench.diff()) == [('A', name)]
    assert bench.text() == 'A "/tmp/a\\nb\\"\\\\\\t\\001 \\377\u00e9\\302\\233"\n'


@pytest.mark.parametrize('live', [True, False], ids=['live', 'offline'])
def test_attributes_count(place, live):
    bench = Bench(place, live, options='xattr')
    bench.do(os.setxattr, '/etc/hostname', 'user.kept', b'same')
    place.run('snapshot', bench.session, 'one')
    bench.do(os.setxattr, '/etc/hostname', 'user.new', b'\0\xff')
    bench.do(os.removexattr, '/etc/hostname', 'user.kept')
    changes = bench.diff()
    assert short(changes) == [('M', '/etc/hostname', 'xattrs')] and changes[0]['to']['xattrs'] == {'user.new': '00ff'}
    assert bench.text() == 'M /etc/hostname: xattrs -user.kept +user.new\n'


def test_states_are_named(bench):
    for name in 'one', 'two':
        bench.write(f'/tmp/{name}', b'')
        bench.place.run('snapshot', bench.session, name)
    bench.write('/tmp/three', b'')
    assert short(bench.diff()) == [('A', '/tmp/three')]          # what a reset would undo
    assert short(bench.diff('one')) == [('A', '/tmp/three'), ('A', '/tmp/two')]
    assert short(bench.diff('two', 'one')) == [('D', '/tmp/two')]
    assert short(bench.diff('@base', 'two')) == [('A', '/tmp/one'), ('A', '/tmp/two')]
    assert short(bench.diff('two', '@base')) == [('D', '/tmp/one'), ('D', '/tmp/two')]
    assert bench.diff('two', 'two') == []
    bench.place.run('reset', bench.session, '@base')
    assert bench.diff() == [] and short(bench.diff('one')) == [('D', '/tmp/one')]   # on another branch


def test_a_plain_directory_as_base_is_compared_too(place):
    mounted = place.mount(place.plain_base())
    mounted.do(overwrite, mounted / 'etc/hostname', b'GUEST\n')
    mounted.do(overwrite, mounted / 'etc/passwd', b'root:x:0:0::/root:/bin/sh\n')
    assert short(diff(place, mounted.session)) == [('M', '/etc/hostname', 'content')]
    mounted.umount()
    assert short(diff(place, mounted.session)) == [('M', '/etc/hostname', 'content')]


def test_assert_proves_what_did_not_change(bench):
    bench.do(os.mkdir, '/tmp/out')
    bench.write('/tmp/out/.result', b'')
    bench.write('/etc/cache.pyc', b'')
    bench.do(os.rename, '/etc/hostname', '/tmp/out/hostname')
    bench.diff()
    for globs, left in [(['/tmp/out/**', '/etc/*'], []), (['/tmp/out/** /etc/*'], []), (['/**'], []),
                        (['/tmp/out/**'], ['/etc/cache.pyc', '/tmp/out/hostname']),     # a rename needs both names
                        (['*.pyc', 'hostname', '/tmp/*'], ['/tmp/out/.result']),
                        (['/tmp/*/*', '/etc/cache.py[a-c]', '/etc/hostname'], ['/tmp/out']),
                        (['/*'], ['/etc/cache.pyc', '/tmp/out', '/tmp/out/.result', '/tmp/out/hostname']),
                        (['/**/out/**', '/etc/**/hostname'], ['/etc/cache.pyc'])]:
        words = [word for glob in globs for word in ('--assert', glob)]
        result = run('diff', '--json', *words, bench.session, user=bench.place.user)
        assert [c['path'] for c in json.loads(result.stdout)['changes']] == left, globs
        assert result.status == (DIFFERENT if left else SAME)
        assert run('diff', '-q', *words, bench.session, user=bench.place.user)[:2] == (result.status, '')


def test_what_cannot_be_compared_is_refused(place):
    bench = Bench(place, False)
    bench.mounted.umount()
    assert 'no such snapshot' in place.refused('diff', bench.session, 'nonsense', status=TROUBLE)
    place.refused('diff', '--json', bench.session, '@base', 'nonsense', status=TROUBLE)
    place.refused('diff', place / 'nowhere', status=TROUBLE)
    place.refused('diff', place.path, status=TROUBLE)
    place.refused('diff', status=TROUBLE)


def test_bytes_that_are_gone_are_trouble(place):
    bench = Bench(place, False)
    bench.write('/etc/hostname', b'GUEST\n')
    bench.do(os.chmod, '/etc/passwd', 0o600)
    bench.mounted.umount()
    os.rename(place / 'base', place / 'elsewhere')
    assert 'the base is not there' in place.refused('diff', bench.session, status=TROUBLE)
    os.rename(place / 'elsewhere', place / 'base')
    assert len(bench.diff()) == 2
    place.do(os.mkdir, place / 'other')
    os.rename(place / 'base/etc/hostname', place / 'other/hostname')
    place.refused('diff', bench.session, status=TROUBLE)


# --- a session that is mounted -----------------------------------------------------------------------------------

def test_the_session_goes_on_and_loses_nothing(place):
    bench = Bench(place, True)
    place.run('snapshot', bench.session, 'one')
    with open(f'{bench.at}/etc/passwd', 'ab', opener=lambda path, flags: bench.mounted.do(os.open, path, flags)) as stream:
        for number in range(20):
            bench.mounted.do(os.write, stream.fileno(), b'more\n')
            bench.write(f'/tmp/{number}', b'x')
            changes = bench.diff()
            assert len(changes) == number + 2 and changes[0]['to']['size'] == 26 + 5 * (number + 1)
    layers = len(os.listdir(f'{bench.session}/layers'))
    for _ in range(5):
        assert len(bench.diff()) == 21
    assert len(os.listdir(f'{bench.session}/layers')) <= layers + 1      # nothing changed, nothing is sealed
    before = bench.mounted.dump()
    listed = json.loads(place.run('list', '--json', bench.session))
    assert [snapshot['name'] for snapshot in listed['snapshots']] == ['one'] and listed['standing'] == 'one'
    bench.mounted.umount()
    again = place.mount(place / 'base')
    assert differences(again.dump(), before) == []
    assert len(os.listdir(f'{bench.session}/layers')) == 2               # what was sealed is joined
    place.run('reset', bench.session)
    assert bench.diff() == []


def test_a_state_holds_still_while_it_is_read(place):
    """Two files grow in turn: whenever the state is looked at, one is as long as the other, or one step ahead.

    No write crosses a page's end: the kernel may make two requests of such a one."""
    bench = Bench(place, True)
    stop = threading.Event()

    def grow():
        with open(f'{bench.at}/tmp/a', 'wb', 0) as one, open(f'{bench.at}/tmp/b', 'wb', 0) as other:
            while not stop.is_set():
                one.write(b'x' * STEP)
                other.write(b'y' * STEP)
    thread = threading.Thread(target=lambda: bench.mounted.do(grow))
    thread.start()
    try:
        lengths = []
        for _ in range(20):
            sizes = {c['path']: c['to']['size'] for c in diff(place, bench.session)}
            lengths.append(sizes.get('/tmp/a', 0))
            assert lengths[-1] - sizes.get('/tmp/b', 0) in (0, STEP)
        assert lengths == sorted(lengths) and lengths[-1] > lengths[0]
    finally:
        stop.set()
        thread.join()


def test_a_reset_while_the_present_state_is_compared_is_told(place):
    bench = Bench(place, True)
    names = [f'/tmp/{number}' for number in range(200)]
    for name in names:
        bench.write(name, b'a')
    held = bench.mounted.layers()
    place.run('snapshot', bench.session, 'one')
    for name in names:
        bench.write(name, b'b')         # as long: only the contents tell
    layers = len(bench.mounted.layers())
    slowly = ['strace', '-f', '-qq', '-o', '/dev/null', '-e', 'trace=openat,openat2', '-e', 'inject=openat,openat2:delay_enter=10000']
    with subprocess.Popen([*slowly, program(), 'diff', bench.session], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, text=True, cwd='/', **identity(place.user)) as process:
        while len(bench.mounted.layers()) == layers:
            assert process.poll() is None
        bench.mounted.reset_for_good(but=held)
        errors = process.communicate()[1]
    assert re.fullmatch(r'umlfs: \S+: was reset[^\n]+: try again\n', errors), errors
    assert process.returncode == TROUBLE
    assert bench.diff() == []


# --- against an independent walk ---------------------------------------------------------------------------------

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


def is_below(path, directory):
    return path == directory or path.startswith(directory + '/')


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


class Monkey:
    """Does random things to a tree."""

    def __init__(self, top, seed):
        self.top, self.chance, self.count = top, random.Random(seed), 0

    def pick(self, want):
        found = [self.top]
        for directory, dirs, files in os.walk(self.top):
            found += [os.path.join(directory, name) for name in dirs + files]
        return self.chance.choice([path for path in found if want(path)] or [self.top])

    def file(self):
        return self.pick(lambda path: os.path.isfile(path) and not os.path.islink(path))

    def directory(self):
        return self.pick(lambda path: os.path.isdir(path) and not os.path.islink(path))

    def any(self):
        return self.pick(lambda path: path != self.top)

    def new(self):
        self.count += 1
        return os.path.join(self.directory(), f'{self.chance.choice("abcdef")}{self.count % 7}')

    def data(self):
        return self.chance.choice([b'', b'a', b'b' * 5000, b'c' * 5000])

    def step(self):
        kind = self.chance.choice(['write', 'write', 'create', 'create', 'mkdir', 'move', 'move', 'exchange', 'unlink', 'link',
                                   'symlink', 'chmod', 'chown', 'truncate', 'replace', 'remake', 'remove', 'back'])
        with contextlib.suppress(OSError):
            getattr(self, f'do_{kind}')()

    def do_write(self):
        overwrite(self.file(), self.data())

    def do_create(self):
        overwrite(self.new(), self.data())

    def do_mkdir(self):
        os.mkdir(self.new())

    def do_move(self):
        os.rename(self.any(), self.chance.choice([self.new, self.any])())

    def do_back(self):
        one, other = self.any(), self.new()
        os.rename(one, other)
        os.rename(other, one)

    def do_exchange(self):
        renameat2(self.any(), self.any(), RENAME_EXCHANGE)

    def do_unlink(self):
        path = self.any()
        os.rmdir(path) if os.path.isdir(path) and not os.path.islink(path) else os.unlink(path)

    def do_link(self):
        os.link(self.file(), self.new())

    def do_symlink(self):
        os.symlink(self.chance.choice(['x', 'y']), self.new())

    def do_chmod(self):
        path = self.any()
        if not os.path.islink(path):
            os.chmod(path, self.chance.choice([0o755, 0o777, 0o700]))

    def do_chown(self):
        os.chown(self.any(), self.chance.choice([0, 5]), self.chance.choice([0, 6]), follow_symlinks=False)

    def do_truncate(self):
        os.truncate(self.file(), self.chance.choice([0, 1, 4096, 5000]))

    def do_replace(self):
        path, new = self.file(), self.new()
        with open(path, 'rb') as stream:
            data = stream.read()
        overwrite(new, self.chance.choice([data, self.data()]))
        os.rename(new, path)

    def do_remake(self):
        """A directory gets another with what it had."""
        path, new = self.directory(), self.new()
        if path == self.top or is_below(new, path):
            return
        os.mkdir(new)
        for name in os.listdir(path):
            if self.chance.random() < 0.8:
                os.rename(os.path.join(path, name), os.path.join(new, name))
        renameat2(path, new, RENAME_EXCHANGE)

    def do_remove(self):
        if self.chance.random() < 0.2:
            subprocess.run(['rm', '-rf', self.any()], check=True)


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
