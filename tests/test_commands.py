"""What each command promises, on a session that is mounted and on one that is not, to root and to an ordinary user."""

import contextlib
import errno
import json
import os
import random
import re
import select
import shutil
import signal
import socket
import stat
import subprocess
import time

import pytest

from calls import overwrite, read_file
from umlfs_cli import (PATIENCE, ROOT, Mount, children, differences, dump, identity, ids, kill_and_wait, mounts_below,
                       processes_of, program, run, small_members, start, wait_pid, write_archive)

COMMANDS = ['import', 'mount', 'umount', 'snapshot', 'reset', 'list', 'delete', 'status', 'check', 'verify',
            'export', 'commit']

as_root = pytest.mark.parametrize('user', ['root'], indirect=True)
as_ordinary = pytest.mark.parametrize('user', ['ordinary'], indirect=True)
live_and_offline = pytest.mark.parametrize('live', [True, False], ids=['live', 'offline'])


def ends(process):
    """The exit status of a child that must end by itself."""
    return process.wait(PATIENCE)


def readable(fd, seconds=PATIENCE):
    return bool(select.select([fd], [], [], seconds)[0])


@contextlib.contextmanager
def holder(place, script, *args, behind=':'):
    """A shell of the place's user that has run `script` ($1... are args) and waits; with a line it runs `behind` and ends."""
    words = ['sh', '-c', f'{script}\necho ready\nread -r line\n{behind}', 'holder', *args]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          **identity(place.user)) as process:
        try:
            assert process.stdout.readline() == 'ready\n'
            yield process
        finally:
            process.kill()


def uses_of(path):
    """Ways to be in the way, with what the program must say is used."""
    return {
        'file': ('exec 3<"$1/etc/hostname"', f'{path}/etc/hostname'),
        'directory': ('exec 3<"$1/etc"', f'{path}/etc'),
        'cwd': ('cd "$1/usr/bin"', f'{path}/usr/bin'),
        'cwd-top': ('cd "$1"', path),
    }


USES = sorted(uses_of(''))


class Bench:
    """A mounted session on which commands run either live or between an umount and the next mount."""

    def __init__(self, place, base, live):
        self.place, self.base, self.live = place, base, live
        self.mounted = place.mount(base)

    def run(self, command, *args):
        if self.live:
            return self.place.run(command, *self._words(args))
        self.mounted.umount()
        try:
            return self.place.run(command, *self._words(args))
        finally:
            self.mounted = self.place.mount(self.base)

    def refused(self, command, *args, **options):
        if self.live:
            return self.place.refused(command, *self._words(args), **options)
        self.mounted.umount()
        try:
            return self.place.refused(command, *self._words(args), **options)
        finally:
            self.mounted = self.place.mount(self.base)

    def _words(self, args):
        flags = [word for word in args if word.startswith('--')]
        return [*flags, self.mounted.session, *(word for word in args if not word.startswith('--'))]

    def list(self):
        return json.loads(self.run('list', '--json'))

    def names(self):
        return [snapshot['name'] for snapshot in self.list()['snapshots']]

    def write(self, name, data):
        self.mounted.do(overwrite, self.mounted / name, data)

    def dump(self):
        return self.mounted.dump()

    def assert_state(self, state):
        assert differences(self.dump(), state) == []


@pytest.fixture
def bench(place, live):
    return Bench(place, place.imported_base(), live)


# --- mount -------------------------------------------------------------------------------------------------------

def test_mount_prints_the_mountpoint_and_nothing_else(place, base):
    result = run('mount', base, place / 'session', user=place.user)
    assert result == (0, f'{place.path}/session/rootfs\n', '')
    assert place.do(read_file, place / 'session/rootfs/etc/hostname') == b'guest\n'


def test_mount_shows_the_archive(place):
    members = small_members()
    mounted = place.mount(place.imported_base())
    found = mounted.dump(forget=['sha256'])
    assert sorted(found) == sorted(name for name, _, _ in members)
    for name, changes, data in members:
        entry = found[name]
        if 'linkname' not in changes:
            assert (name, entry.mode) == (name, changes.get('mode', 0o644))
            assert (name, entry.uid, entry.gid) == (name, changes.get('uid', 0), changes.get('gid', 0))
            assert (name, entry.size, entry.mtime) == (name, len(data), 10**18)
    assert found['bin'].target == 'usr/bin' and found['usr/bin/same'].nlink == 2
    assert mounted.do(read_file, mounted / 'usr/bin/same') == dict((n, d) for n, _, d in members)['usr/bin/tool']


def test_mount_shows_a_plain_directory(place):
    base = place.plain_base()
    before = place.do(dump, base)
    shown = place.mount(base).dump()
    root_uid, root_gid = ids(place.user)
    for path, entry in before.items():
        owner = {} if place.user == 'root' else {'uid': entry.uid - root_uid, 'gid': entry.gid - root_gid}
        before[path] = entry._replace(**owner)
    assert differences(shown, before) == []


def test_a_given_mountpoint_is_used(place, base):
    place.do(os.mkdir, place / 'mnt')
    mounted = place.mount(base, mountpoint=place / 'mnt')
    assert mounted.path == place / 'mnt'
    assert mounted.status()['mountpoint'] == place / 'mnt'
    assert place.do(read_file, place / 'mnt/etc/hostname') == b'guest\n'
    assert place.do(os.listdir, place / 'session/rootfs') == []


def test_paths_may_be_relative(place):
    place.imported_base()
    place.do(os.mkdir, place / 'mnt')
    for mountpoint, path in ([], 'session/rootfs'), (['mnt'], 'mnt'), (['./mnt/'], 'mnt'):
        assert place.run('mount', 'base', './session', *mountpoint, cwd=place.path) == f'{place.path}/{path}\n'
        place.run('snapshot', 'session', f'snap-{len(mountpoint)}-{path[-1]}-{mountpoint[-1:]}'.replace('/', '_'),
                  cwd=place.path)
        assert place.do(read_file, place / f'{path}/etc/hostname') == b'guest\n'
        place.run('umount', path, cwd=place.path)
        assert mounts_below(place.path) == []


def test_mount_stays_in_the_foreground_when_told(place, base):
    with place.start('mount', '-f', base, place / 'session', stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        try:
            assert process.stdout.readline() == os.fsencode(place / 'session/rootfs\n')
            mounted = Mount(place, place / 'session', place / 'session/rootfs')
            assert mounted.pid == process.pid
            assert mounted.do(read_file, mounted / 'etc/hostname') == b'guest\n'
            mounted.umount()
            assert ends(process) == 0
            assert (process.stdout.read(), process.stderr.read()) == (b'', b'')
        finally:
            process.kill()


def test_the_daemon_holds_nothing_of_who_started_it(place, base):
    ours, theirs = os.pipe()
    try:
        script = 'mnt=$("$0" mount "$1" "$2") && test "$mnt" = "$2/rootfs"'
        subprocess.run(['sh', '-c', script, program(), base, place / 'session'], check=True, pass_fds=[theirs],
                       timeout=PATIENCE, cwd=place.path, stdin=theirs, **identity(place.user))
        os.close(theirs)
        theirs = None
        assert readable(ours, 10) and os.read(ours, 1) == b'', 'the daemon has a descriptor of its parent'
    finally:
        os.close(ours)
        if theirs is not None:
            os.close(theirs)
    pid = Mount(place, place / 'session', '').pid
    assert os.readlink(f'/proc/{pid}/cwd') == '/'
    assert os.getsid(pid) != os.getsid(0)


def test_a_mounted_session_is_refused_with_its_pid(place, base):
    mounted = place.mount(base)
    pid = mounted.pid
    place.do(os.mkdir, place / 'mnt')
    for mountpoint in ([], [place / 'mnt']):
        line = place.refused('mount', base, mounted.session, *mountpoint)
        assert str(pid) in re.findall(r'\d+', line.replace(place.path, '')), line
    assert mounted.pid == pid
    assert mounted.do(read_file, mounted / 'etc/hostname') == b'guest\n'


def test_two_sessions_share_a_base_and_nothing_else(place, base):
    one, other = place.mount(base, 'one'), place.mount(base, 'other')
    other_before = other.dump()
    one.do(overwrite, one / 'etc/hostname', b'one')
    one.do(shutil.rmtree, one / 'home')
    assert differences(other.dump(), other_before) == []
    assert 'home' in place.do(os.listdir, base)
    assert differences(settle(other), other_before) == [], 'only the kernel had kept it'


def test_a_mount_changes_nothing_in_the_base(place, base):
    before = place.do(dump, base)
    mounted = place.mount(base)
    mounted.do(overwrite, mounted / 'etc/hostname', b'other')
    mounted.do(os.unlink, mounted / 'usr/bin/tool')
    mounted.do(os.chmod, mounted / 'usr/bin/same', 0o600)
    mounted.do(os.rename, mounted / 'home', mounted / 'house')
    place.run('snapshot', mounted.session, 'one')
    mounted.umount()
    # A session may keep the index as a hard link.
    assert [line for line in differences(place.do(dump, base), before) if not line.startswith('.umlfs/index: nlink')] == []


# --- the options of mount ----------------------------------------------------------------------------------------

def shell(place, script, *args):
    """What a shell of the place's user writes."""
    return subprocess.run(['sh', '-c', script, 'sh', *args], check=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          text=True, timeout=PATIENCE, **identity(place.user)).stdout


@pytest.mark.parametrize('options, mode', [(None, 0o666), ('posix', 0o640)])
def test_only_posix_honours_the_umask(place, options, mode):
    mounted = place.mount(place.imported_base(), options=options)
    shell(place, 'umask 027; : >"$1"', mounted / 'tmp/new')
    assert stat.S_IMODE(mounted.do(os.stat, mounted / 'tmp/new').st_mode) == mode


@pytest.mark.parametrize('options, mine', [(None, False), ('owner=caller', True), ('posix', True)])
def test_new_files_belong_to_the_directorys_owner_unless_told(place, options, mine):
    mounted = place.mount(place.imported_base(), options=options)
    if options == 'posix' and place.user != 'root':
        where, owner = 'tmp', (0, 0)
    else:
        where, owner = 'home/user', (1000, 0)
    mounted.do(overwrite, mounted / f'{where}/new', b'')
    st = mounted.do(os.stat, mounted / f'{where}/new')
    assert (st.st_uid, st.st_gid) == (ids(place.user) if mine else owner)


@pytest.mark.parametrize('options, shown', [(None, False), ('xattr', True), ('posix', True), ('posix,xattr', True)])
def test_extended_attributes_are_shown_when_told(place, options, shown):
    mounted = place.mount(place.imported_base(), options=options)
    mounted.do(overwrite, mounted / 'tmp/new', b'')
    if shown:
        mounted.do(os.setxattr, mounted / 'tmp/new', 'user.word', b'value')
        assert mounted.do(os.getxattr, mounted / 'tmp/new', 'user.word') == b'value'
        return
    with pytest.raises(OSError) as caught:
        mounted.do(os.setxattr, mounted / 'tmp/new', 'user.word', b'value')
    assert caught.value.errno == errno.EOPNOTSUPP


def test_a_read_only_mount_refuses_every_change(place, base):
    mounted = place.mount(base, options='ro')
    before = mounted.dump()
    changes = {
        'write': lambda: overwrite(mounted / 'etc/hostname', b'x'),
        'make': lambda: overwrite(mounted / 'tmp/new', b'x'),
        'mkdir': lambda: os.mkdir(mounted / 'tmp/dir'),
        'unlink': lambda: os.unlink(mounted / 'etc/passwd'),
        'chmod': lambda: os.chmod(mounted / 'etc/passwd', 0),
        'rename': lambda: os.rename(mounted / 'etc', mounted / 'etcetera'),
    }
    for name, change in changes.items():
        with pytest.raises(OSError) as caught:
            mounted.do(change)
        assert (name, caught.value.errno) == (name, errno.EROFS)
    assert differences(mounted.dump(), before) == []


@as_root
@pytest.mark.parametrize('options, enters', [(None, False), ('allow_other', True), ('posix', True)])
def test_others_may_enter_when_told(place, options, enters):
    mounted = place.mount(place.imported_base(), options=options)
    os.chmod(mounted.session, 0o755)
    script = 'cat "$1/etc/hostname" 2>/dev/null || echo closed'
    said = subprocess.run(['sh', '-c', script, 'sh', mounted.path], check=True, stdout=subprocess.PIPE, text=True,
                          **identity('ordinary')).stdout
    assert said == ('guest\n' if enters else 'closed\n')


@as_root
@pytest.mark.parametrize('options, status', [('allow_other', 0), ('posix', 1)])
def test_permissions_are_checked_in_the_posix_profile(place, options, status):
    mounted = place.mount(place.imported_base(), options=options)
    os.chmod(mounted.session, 0o755)
    done = subprocess.run(['cat', mounted / 'etc/shadow'], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          check=False, **identity('ordinary'))
    assert done.returncode == status
    assert done.stdout == b'root:*\n' if status == 0 else b'Permission denied' in done.stdout


@as_root
def test_setuid_and_devices_work_in_roots_posix_profile(place):
    mounted = place.mount(place.imported_base(), options='posix')
    flags = os.statvfs(mounted.path).f_flag
    assert not flags & (os.ST_NOSUID | os.ST_NODEV)
    assert read_file(mounted / 'dev/null') == b''


def test_options_are_in_the_status(place):
    base = place.imported_base()
    assert place.mount(base, 'none').status()['profile'] == 'guest'
    mounted = place.mount(base, options='posix,ro')
    assert mounted.status()['profile'] == 'posix'
    assert re.search(r'^option +ro$', place.run('status', mounted.session), re.MULTILINE)


@pytest.mark.parametrize('option', ['', 'nonsense', 'ro,nonsense', 'posix=1', 'owner=nobody', 'ro,', 'RO', 'x' * 300])
def test_unknown_mount_options_are_usage_errors(place, option):
    place.do(os.mkdir, place / 'base')
    line = place.refused('mount', '-o', option, place / 'base', place / 'session', status=2)
    assert '-o' in line
    assert os.listdir(place.path) == ['base']


# --- umount ------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize('how', ['session', 'mountpoint', 'alias', 'fusermount3'])
def test_umount_ends_the_daemon_and_keeps_the_changes(place, base, how):
    mounted = place.mount(base)
    mounted.do(overwrite, mounted / 'etc/new', b'new')
    state, pid = mounted.dump(), mounted.pid
    if how == 'fusermount3':
        place.do(subprocess.run, ['fusermount3', '-u', mounted.path], check=True)
    else:
        assert run('unmount' if how == 'alias' else 'umount', mounted.session if how == 'session' else mounted.path,
                   user=place.user) == (0, '', '')
    assert wait_pid(pid, PATIENCE if how == 'fusermount3' else 0)
    assert mounts_below(place.path) == []
    assert sorted(os.listdir(mounted.session)) == sorted(set(os.listdir(mounted.session)) - {'control'})
    assert differences(place.mount(base).dump(), state) == []


def test_umount_returns_when_the_daemon_has_ended_and_a_session_can_be_mounted_again(place):
    base = place.imported_base()
    for _ in range(20):
        mounted = place.mount(base)
        mounted.do(overwrite, mounted / 'etc/new', os.urandom(100000))
        pid = mounted.pid
        mounted.umount()
        assert wait_pid(pid, 0)


@pytest.mark.parametrize('use', USES)
def test_umount_of_what_is_in_use_names_the_process_and_changes_nothing(place, base, use):
    mounted = place.mount(base)
    script, used = uses_of(mounted.path)[use]
    state, pid = mounted.dump(), mounted.pid
    with holder(place, script, mounted.path) as process:
        for what in mounted.session, mounted.path:
            line = place.refused('umount', what)
            assert re.search(rf'\b{process.pid} \(sh\)', line) and line.endswith(used), line
        assert mounted.pid == pid
        assert differences(mounted.dump(), state) == []
        process.communicate('go\n', PATIENCE)
    mounted.umount()


@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGINT, signal.SIGHUP], ids=lambda s: s.name)
def test_a_signal_ends_the_daemon_cleanly(place, base, number):
    mounted = place.mount(base)
    mounted.do(overwrite, mounted / 'etc/new', b'new')
    state, pid = mounted.dump(), mounted.pid
    kill_and_wait(pid, number)
    assert mounts_below(place.path) == []
    assert 'control' not in os.listdir(mounted.session)
    result = run('mount', base, mounted.session, user=place.user)
    assert (result.status, result.stderr) == (0, ''), 'the next mount found something to mend'
    assert differences(mounted.dump(), state) == []


def test_a_signal_in_the_foreground_exits_with_0(place, base):
    with place.start('mount', '-f', base, place / 'session', stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        try:
            process.stdout.readline()
            process.terminate()
            assert ends(process) == 0
            assert process.stderr.read() == b''
        finally:
            process.kill()


def test_sigterm_ends_a_mount_that_is_in_use(place, base):
    mounted = place.mount(base)
    with holder(place, 'cd "$1/etc"', mounted.path):
        kill_and_wait(mounted.pid, signal.SIGTERM)
        assert mounts_below(place.path) == []
        assert place.mount(base).do(read_file, mounted / 'etc/hostname') == b'guest\n'


def in_flight(path):
    """An open file that is in no process's table: two sockets, and a descriptor of it on its way from one to the other."""
    ours, theirs = socket.socketpair()
    fd = os.open(path, os.O_RDONLY)
    try:
        socket.send_fds(ours, [b'x'], [fd])
    finally:
        os.close(fd)
    return ours, theirs


def test_umount_waits_for_a_use_that_is_nobodys_and_passes(place):
    """As that of a process that looks at another one's files through /proc at this moment."""
    mounted = place.mount(place.imported_base())
    ours, theirs = mounted.do(in_flight, mounted / 'etc/hostname')
    with ours, theirs, place.start('umount', mounted.session, stderr=subprocess.PIPE) as process:
        end = time.monotonic() + PATIENCE
        while b'poll' not in read_file(f'/proc/{process.pid}/wchan') and process.poll() is None:
            assert time.monotonic() < end
        theirs.close()
        assert (process.wait(PATIENCE), process.stderr.read()) == (0, b'')
    assert mounts_below(place.path) == []


def test_umount_of_what_stays_in_use_by_nobody_says_so(place):
    mounted = place.mount(place.imported_base())
    ours, theirs = mounted.do(in_flight, mounted / 'etc/hostname')
    with ours, theirs:
        assert place.refused('umount', mounted.session) == f'{mounted}: cannot be unmounted: Device or resource busy'
    mounted.umount()


# --- snapshots ---------------------------------------------------------------------------------------------------

def change(bench, word):
    """Leaves a trace of every kind under this word."""
    mounted = bench.mounted
    bench.write(f'etc/{word}', word.encode())
    bench.write('etc/hostname', f'{word}\n'.encode() * 3)

    def more():
        os.mkdir(mounted / f'home/{word}')
        os.symlink(word, mounted / f'home/{word}/link')
        os.link(mounted / 'etc/shadow', mounted / f'home/{word}/shadow')
        os.chmod(mounted / 'etc/passwd', 0o600 + len(word))
    mounted.do(more)


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
    mounted = place.mount(place.imported_base())
    if not live:
        mounted.umount()
    for name in ['', 'a' * 256, 'a/b', '/', '-a', '@a', '@base', '-', '@', 'new\nline', 'tab\t']:
        for command in 'snapshot', 'delete':
            place.refused(command, mounted.session, '--', name)
    assert json.loads(place.run('list', '--json', mounted.session))['snapshots'] == []


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


# --- list and status ---------------------------------------------------------------------------------------------

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
    assert all(m.session in text and m.path in text for m in mounted)
    for m in mounted:
        m.umount()
    assert place.path not in place.run('status')


# --- reset while in use ------------------------------------------------------------------------------------------

@pytest.mark.parametrize('use', USES)
def test_reset_of_what_is_in_use_names_the_process_and_changes_nothing(place, base, use):
    mounted = place.mount(base)
    script, used = uses_of(mounted.path)[use]
    before = mounted.dump()
    mounted.do(overwrite, mounted / 'etc/new', b'new')
    state = mounted.dump()
    with holder(place, script, mounted.path) as process:
        line = place.refused('reset', mounted.session, '@base')
        assert re.search(rf'\b{process.pid} \(sh\)', line) and used in line and '--force' in line, line
        assert differences(mounted.dump(), state) == []
        assert place.run('reset', '--force', mounted.session, '@base') == ''
        assert differences(mounted.dump(), before) == []
        process.communicate('go\n', PATIENCE)


@pytest.mark.parametrize('use', ['file', 'cwd'])
def test_a_forced_reset_says_estale_to_who_holds_what_is_gone(place, base, use):
    mounted = place.mount(base)
    mounted.do(os.mkdir, mounted / 'new')
    mounted.do(overwrite, mounted / 'new/file', b'old bytes\n')
    script, behind = {'file': ('exec 3<"$1/new/file"', 'cat <&3'), 'cwd': ('cd "$1/new"', 'ls -U')}[use]
    with holder(place, script, mounted.path, behind=f'LC_ALL=C {behind} 2>&1') as process:
        place.run('reset', '--force', mounted.session)
        said = process.communicate('go\n', PATIENCE)[0]
        assert 'Stale file handle' in said and 'old bytes' not in said, said
    assert not mounted.do(os.path.lexists, mounted / 'new')


def test_a_forced_reset_shows_the_present_to_who_holds_what_stays(place, base):
    mounted = place.mount(base)
    mounted.do(overwrite, mounted / 'etc/hostname', b'other')
    with holder(place, 'exec 3<"$1/etc/hostname"', mounted.path, behind='cat <&3') as process:
        place.run('reset', '--force', mounted.session)
        assert process.communicate('go\n', PATIENCE)[0] == 'guest\n'


def test_a_reset_in_use_by_a_mount_namespaces_other_mounts_is_not_refused(place, base):
    """A path that only begins like the mountpoint is another place."""
    mounted = place.mount(base)
    place.do(os.mkdir, f'{mounted.path}-beside')
    with holder(place, 'cd "$1-beside"', mounted.path):
        place.run('reset', mounted.session)
        mounted.umount()


# --- what the kernel keeps ---------------------------------------------------------------------------------------

def warm(tree, names):
    """Puts everything into the kernel's caches: names that are there and not, attributes, pages, targets, listings."""
    for name in names:
        os.path.lexists(f'{tree}/{name}')
        os.path.lexists(f'{tree}/{name}/below')
    return dump(tree)


def absent_and_present(tree, names):
    return {name for name in names if os.path.lexists(f'{tree}/{name}')}


KERNEL_NAMES = ['file', 'etc/hostname', 'etc/made', 'dir', 'dir/file', 'home/user/notes', 'home/user', 'usr/bin/more',
                'bin', 'etc', 'run/fifo', 'dir/deep', 'dir/deep/link', 'tmp/a', 'tmp/b']


def random_change(chance, tree):
    """One change of the tree, whatever the names are at the moment; what cannot be done is not done."""
    path, other = (f'{tree}/{chance.choice(KERNEL_NAMES)}' for _ in range(2))
    word = str(chance.random()).encode()
    what = chance.choice([
        lambda: overwrite(path, word * chance.choice([0, 1, 500])), lambda: overwrite(path, word[:6].ljust(6)),
        lambda: os.mkdir(path), lambda: os.symlink(word, path), lambda: os.unlink(path), lambda: shutil.rmtree(path),
        lambda: os.link(path, other, follow_symlinks=False), lambda: os.rename(path, other),
        lambda: os.truncate(path, 3), lambda: os.utime(path, ns=(chance.randrange(10**18), chance.randrange(10**18))),
        lambda: os.chmod(path, chance.randrange(0o10000) | 0o700), lambda: os.mkfifo(path),
    ])
    if stat.S_ISFIFO(os.lstat(path).st_mode) if os.path.lexists(path) else False:
        what = lambda: os.unlink(path)  # noqa: E731: opening a fifo waits for a writer
    with contextlib.suppress(OSError, shutil.Error):
        what()


def settle(mounted):
    """The state of the session as a fresh mount shows it."""
    place, base = mounted.place, mounted.status()['base']
    mounted.umount()
    return place.mount(base, mounted.session).dump()


@pytest.mark.parametrize('seed', range(4))
def test_after_a_live_reset_the_kernel_shows_nothing_stale(place, seed):
    chance = random.Random(seed)
    mounted = place.mount(place.imported_base())
    states = {'@base': mounted.dump()}
    for round_ in range(20):
        for _ in range(chance.randrange(1, 12)):
            mounted.do(random_change, chance, mounted.path)
        state = mounted.do(warm, mounted.path, KERNEL_NAMES)
        if chance.random() < 0.4:
            place.run('snapshot', mounted.session, f's{round_}')
            states[f's{round_}'] = state
        name = chance.choice(sorted(states))
        place.run('reset', mounted.session, name)
        present = mounted.do(absent_and_present, mounted.path, KERNEL_NAMES)
        assert differences(mounted.dump(), states[name]) == [], (round_, name)
        assert present == {n for n in KERNEL_NAMES if n in states[name]} | {n for n in present if n.startswith('bin')}
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
    mounted.do(warm, mounted.path, KERNEL_NAMES)
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
        mounted.do(warm, mounted.path, KERNEL_NAMES)
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


# --- a daemon that was killed ------------------------------------------------------------------------------------

def differences_after_a_kill(after, before):
    """The time of the last of many writes to a file comes from the host's clock, which is coarser, when it must."""
    for path, entry in before.items():
        found = after.get(path)
        if found and entry.type == found.type == 'f' and abs(found.mtime - entry.mtime) < 10**9:
            after = after | {path: found._replace(mtime=entry.mtime)}
    return differences(after, before)


def killed(place, base, **options):
    """A mount whose daemon was killed."""
    mounted = place.mount(base, **options)
    mounted.do(overwrite, mounted / 'etc/new', b'new')
    kill_and_wait(mounted.pid)
    with pytest.raises(OSError) as caught:
        mounted.do(os.listdir, mounted.path)
    assert caught.value.errno in (errno.ENOTCONN, errno.ECONNABORTED)   # the latter of what was asked while it died
    return mounted


@pytest.mark.parametrize('in_use', [False, True], ids=['idle', 'in-use'])
def test_mount_detaches_what_a_dead_daemon_left_and_says_so(place, base, in_use):
    mounted = place.mount(base)
    with holder(place, 'cd "$1"', mounted.path if in_use else '/'):
        kill_and_wait(mounted.pid)
        result = run('mount', base, mounted.session, user=place.user)
        assert (result.status, result.stdout) == (0, f'{mounted.path}\n'), result
        assert re.fullmatch(rf'umlfs: {mounted.path}: [^\n]*dead[^\n]*detached\n', result.stderr)
        assert len(mounts_below(place.path)) == 1
        assert mounted.do(read_file, mounted / 'etc/hostname') == b'guest\n'


def test_mount_elsewhere_detaches_what_a_dead_daemon_left(place, base):
    for name in ('mnt', 'other'):
        place.do(os.mkdir, place / name)
    mounted = killed(place, base, mountpoint=place / 'mnt')
    result = run('mount', base, mounted.session, place / 'other', user=place.user)
    assert result.status == 0 and f'{mounted.path}: ' in result.stderr and 'detached' in result.stderr, result
    assert [m[0] for m in mounts_below(place.path)] == [place / 'other']
    assert place.do(read_file, place / 'other/etc/new') == b'new'


@pytest.mark.parametrize('what', ['session', 'mountpoint', 'relative'])
def test_umount_detaches_what_a_dead_daemon_left_and_says_so(place, base, what):
    mounted = killed(place, base)
    word = {'session': mounted.session, 'mountpoint': mounted.path, 'relative': 'session/rootfs'}[what]
    result = run('umount', word, user=place.user, cwd=place.path)
    assert (result.status, result.stdout) == (0, ''), result
    assert re.fullmatch(rf'umlfs: {mounted.path}: [^\n]*dead[^\n]*detached\n', result.stderr)
    assert mounts_below(place.path) == []
    assert place.mount(base).do(read_file, mounted / 'etc/new') == b'new'


def test_commands_work_on_a_session_whose_daemon_was_killed(place, base):
    mounted = killed(place, base)
    assert 'pid' not in mounted.status()
    place.run('snapshot', mounted.session, 'one')
    place.run('reset', mounted.session, '@base')
    assert json.loads(place.run('list', '--json', mounted.session))['standing'] == '@base'
    place.run('umount', mounted.session)
    mounted = place.mount(base)
    assert not mounted.do(os.path.exists, mounted / 'etc/new')
    place.run('reset', mounted.session, 'one')
    assert mounted.do(read_file, mounted / 'etc/new') == b'new'


@pytest.mark.parametrize('seed', range(3))
def test_a_killed_daemon_loses_nothing_that_was_acknowledged(place, seed):
    chance = random.Random(seed)
    base = place.imported_base()
    for round_ in range(6):
        mounted = place.mount(base)
        for _ in range(30):
            mounted.do(random_change, chance, mounted.path)
        if round_ == 2:
            place.run('snapshot', mounted.session, 'one')
        state, pid = mounted.dump(), mounted.pid
        kill_and_wait(pid)
        place.run('umount', mounted.session)
        mounted = place.mount(base)
        assert differences_after_a_kill(mounted.dump(), state) == [], round_
        mounted.umount()


def test_a_killed_daemon_loses_nothing_of_a_file_that_is_being_written(place):
    base = place.imported_base()
    mounted = place.mount(base)
    fd = mounted.do(os.open, mounted / 'etc/log', os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    try:
        for i in range(300):
            mounted.do(os.write, fd, b'line %d\n' % i)
        before = mounted.do(os.stat, mounted / 'etc/log')
        kill_and_wait(mounted.pid)
    finally:
        os.close(fd)
    place.run('umount', mounted.session)
    mounted = place.mount(base)
    assert mounted.do(read_file, mounted / 'etc/log') == b''.join(b'line %d\n' % i for i in range(300))
    after = mounted.do(os.stat, mounted / 'etc/log')
    assert (after.st_size, after.st_ino) == (before.st_size, before.st_ino)
    assert abs(after.st_mtime_ns - before.st_mtime_ns) < 10**9


def spin(seconds):
    """Lets a moment pass that nothing marks: the point is to kill anywhere."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pass


def layers_on_disk(session):
    return sorted(os.listdir(f'{session}/layers'), key=int)


def layers_of_manifest(session):
    return sorted(re.findall(r'^layer (\d+)', read_file(f'{session}/manifest').decode(errors='replace'), re.MULTILINE), key=int)


def seconds_of_each(place, mounted, base, live):
    """{command: how long it takes} here and now: a build for tests, or another load, takes many times longer."""
    found = {}
    for command in 'snapshot', 'reset', 'delete':
        if not live:
            mounted.umount()
        with start(command, mounted.session, 'whole') as process:
            begin = time.monotonic()
            assert ends(process) == 0
            found[command] = time.monotonic() - begin
        if not live:
            place.mount(base)
    return found


@as_root
@live_and_offline
def test_a_kill_during_snapshot_reset_and_delete_leaves_before_or_after(place, live):
    chance = random.Random(60 + live)
    base = place.imported_base()
    mounted = place.mount(base)
    states = {'@base': mounted.dump()}
    seconds = seconds_of_each(place, mounted, base, live)
    survived = 0
    for round_ in range(60):
        for _ in range(chance.randrange(3)):
            random_change(chance, mounted.path)
        if chance.random() < 0.3:
            overwrite(mounted / 'tmp/large', os.urandom(300000))
        before = mounted.dump()
        command = chance.choice(['snapshot', 'reset', 'reset', 'delete'] if len(states) > 2 else ['snapshot', 'reset'])
        name = f's{round_}' if command == 'snapshot' else chance.choice(sorted(set(states) - {'@base'} or {'@base'}))
        if not live:
            mounted.umount()
        with start(command, mounted.session, name, stderr=subprocess.DEVNULL) as process:
            spin(chance.random() * 1.2 * seconds[command])
            if live:
                kill_and_wait(daemon_of(mounted))
            else:
                process.kill()
            status = process.wait(PATIENCE)
        mounted = Mount(place, mounted.session, mounted.path)
        run('umount', mounted.session)
        mounted = place.mount(base)
        names = {s['name'] for s in json.loads(place.run('list', '--json', mounted.session))['snapshots']}
        after = mounted.dump()
        assert layers_on_disk(mounted.session) == layers_of_manifest(mounted.session)
        if command == 'snapshot':
            done = name in names
            states |= {name: before} if done else {}
        elif command == 'delete':
            done = name not in names
            if done:
                del states[name]
        else:
            done = differences_after_a_kill(after, before) != []
        assert names == set(states) - {'@base'}, (round_, command)
        if status == 0 and command != 'reset':
            assert done, (round_, command, 'was acknowledged')
        expected = states[name] if command == 'reset' and done else before
        assert differences_after_a_kill(after, expected) == [], (round_, command)
        survived += done
    assert 0 < survived < 60, 'the kills all came too late or too soon'


def daemon_of(mounted):
    with open(f'{mounted.session}/lock', encoding='ascii') as stream:
        return int(stream.read())


# --- the base is the session's -----------------------------------------------------------------------------------

def replace_target(base):
    os.unlink(f'{base}/bin')
    os.symlink('sbin', f'{base}/bin')


CHANGES = {
    'content': (lambda base: overwrite(f'{base}/etc/hostname', b'other content'), 'etc/hostname'),
    'content of the same size': (lambda base: overwrite(f'{base}/etc/hostname', b'GUEST\n'), 'etc/hostname'),
    'mode': (lambda base: os.chmod(f'{base}/usr/bin/tool', 0o700), 'usr/bin/'),
    'added': (lambda base: overwrite(f'{base}/etc/added', b''), 'etc/added'),
    'removed': (lambda base: os.unlink(f'{base}/home/user/notes'), 'home/user/notes'),
    'link target': (replace_target, 'bin'),
    'type': (lambda base: (os.unlink(f'{base}/run/fifo'), os.mkdir(f'{base}/run/fifo')), 'run/fifo'),
}


def session_state(session):
    """All that is on disk of a session but who had it last."""
    return {path: entry for path, entry in dump(session, ['mtime']).items() if path != 'lock'}


def mismatch(result, base, session):
    """The paths that a refusal of another base names."""
    lines = result.stderr.splitlines()
    assert (result.status, result.stdout) == (1, ''), result
    assert lines[0].startswith(f'umlfs: {base}: ') and session in lines[0], result
    assert 1 <= len(lines) - 1 <= 5, result
    paths = [re.fullmatch(r'(?:umlfs:)? +(\S[^\n]*): [^:\n]+', line) for line in lines[1:]]
    assert all(paths), result
    return [match[1] for match in paths]


@pytest.mark.parametrize('kind', sorted(CHANGES))
def test_a_plain_base_that_changed_is_refused_with_the_paths(place, kind):
    change_it, path = CHANGES[kind]
    base = place.plain_base()
    mounted = place.mount(base)
    mounted.do(overwrite, mounted / 'etc/new', b'new')
    mounted.umount()
    before = session_state(mounted.session)
    place.do(change_it, base)
    named = mismatch(run('mount', base, mounted.session, user=place.user), base, mounted.session)
    assert any(name.startswith(path) for name in named), named
    assert mounts_below(place.path) == []
    assert differences(session_state(mounted.session), before) == []


def test_a_plain_base_that_was_restored_is_taken_again(place):
    base = place.plain_base()
    mounted = place.mount(base)
    mounted.do(overwrite, mounted / 'etc/new', b'new')
    mounted.umount()
    place.do(os.chmod, f'{base}/etc', 0o700)
    mismatch(run('mount', base, mounted.session, user=place.user), base, mounted.session)
    place.do(os.chmod, f'{base}/etc', 0o755)
    assert place.mount(base).do(read_file, mounted / 'etc/new') == b'new'


def test_an_imported_base_that_was_replaced_is_refused_with_the_paths(place):
    base = place.imported_base()
    mounted = place.mount(base)
    mounted.umount()
    members = [(name, changes, b'replaced' if name == 'etc/passwd' else data) for name, changes, data in small_members()
               if name != 'home/user/empty'] + [('etc/extra', {}, b'')]
    place.run('import', '--force', write_archive(place / 'other.tar', members), base)
    named = mismatch(run('mount', base, mounted.session, user=place.user), base, mounted.session)
    assert sorted(named) == ['etc/extra', 'etc/passwd', 'home/user/empty']
    archive = write_archive(place / 'same.tar', small_members())
    place.run('import', '--force', archive, base)
    assert place.mount(base).do(read_file, mounted / 'etc/hostname') == b'guest\n'


def test_another_base_is_refused(place):
    mounted = place.mount(place.imported_base())
    mounted.umount()
    archive = write_archive(place / 'other.tar', [('.', {'type': b'5', 'mode': 0o755}, b''), ('only', {}, b'')])
    other = place.imported_base('other', archive)
    mismatch(run('mount', other, mounted.session, user=place.user), other, mounted.session)
    assert place.mount(place / 'base').do(read_file, mounted / 'etc/hostname') == b'guest\n'


def test_the_same_base_at_another_path_is_taken(place, base):
    mounted = place.mount(base)
    mounted.do(overwrite, mounted / 'etc/new', b'new')
    mounted.umount()
    place.do(os.rename, base, place / 'moved')
    mounted = place.mount(place / 'moved')
    assert mounted.do(read_file, mounted / 'etc/new') == b'new'
    assert mounted.do(read_file, mounted / 'etc/passwd').startswith(b'root')
    assert mounted.status()['base'] == place / 'moved'


def test_a_base_file_that_changes_while_mounted_is_an_error_that_names_it(place, base):
    place.noisy = True
    mounted = place.mount(base)
    place.do(overwrite, f'{base}/etc/hostname', b'other')
    place.do(os.unlink, f'{base}/home/user/notes')
    for path in ('etc/hostname', 'home/user/notes'):
        with pytest.raises(OSError) as caught:
            mounted.do(read_file, mounted / path)
        assert caught.value.errno == errno.EIO
        assert f'{base}/{path}' in mounted.status()['problem']
        assert f'{base}/{path}' in place.run('status', mounted.session)
        assert f'{base}/{path}' in mounted.log()
    assert mounted.do(read_file, mounted / 'etc/passwd').startswith(b'root')


# --- names of every kind -----------------------------------------------------------------------------------------

ODD = {'space': 'a b', 'comma': 'a,b=c', 'newline': 'a\nb', 'backslash': 'a\\b\\040c', 'non-UTF-8': os.fsdecode(b'\xff\xe4'),
       'quotes': '\'"$(x)`', 'percent': '%s%n%20', 'dash': '-o', 'long': 'x' * 200, 'hash': '#a', 'colon': 'a:b'}


@pytest.mark.parametrize('kind', ODD)
def test_sessions_and_bases_may_have_odd_names(place, kind):
    base = place.imported_base(f'base-{ODD[kind]}')
    top = place / ODD[kind]
    place.do(os.mkdir, top)
    mounted = place.mount(base, f'{top}/{ODD[kind]}')
    assert mounted.path == f'{top}/{ODD[kind]}/rootfs'
    assert mounted.do(read_file, mounted / 'etc/hostname') == b'guest\n'
    mounted.do(overwrite, mounted / 'etc/new', b'new')
    place.run('snapshot', mounted.session, 'one')
    status = mounted.status()
    assert [status[key] for key in ('session', 'base', 'mountpoint', 'standing')] \
        == [mounted.session, base, mounted.path, 'one']
    assert {'session': mounted.session, 'mountpoint': mounted.path} \
        in json.loads(place.run('status', '--json'))['mounts']
    with holder(place, 'cd "$1"', mounted.path) as process:
        assert str(process.pid) in one_error(run('reset', mounted.session, '@base', user=place.user))
        assert str(process.pid) in one_error(run('umount', mounted.path, user=place.user))
    place.run('reset', mounted.session, '@base')
    mounted.umount()
    place.run('reset', mounted.session, 'one')
    mounted = place.mount(base, mounted.session)
    assert mounted.do(read_file, mounted / 'etc/new') == b'new'
    kill_and_wait(mounted.pid)
    place.run('umount', mounted.path)
    assert mounts_below(place.path) == []


def one_error(result):
    """What a command said that must have failed, wherever its lines break."""
    assert result.status == 1 and result.stdout == '' and result.stderr.startswith('umlfs: '), result
    return result.stderr


def test_a_session_may_lie_deeper_than_a_socket_address_is_long(place):
    base = place.imported_base()
    session = place.path + '/' + '/'.join('d' * 100 for _ in range(8))
    place.do(os.makedirs, session)
    mounted = place.mount(base, f'{session}/session')
    assert len(mounted.session) > 800
    mounted.do(overwrite, mounted / 'etc/new', b'new')
    place.run('snapshot', mounted.session, 'one')
    assert mounted.status()['standing'] == 'one'
    place.run('reset', mounted.session, '@base')
    assert not mounted.do(os.path.exists, mounted / 'etc/new')
    mounted.umount()


def test_a_session_may_be_reached_through_a_symlink(place):
    base = place.imported_base()
    place.do(os.mkdir, place / 'real')
    place.do(os.symlink, 'real', place / 'link')
    assert place.run('mount', base, place / 'link/session') == f'{place.path}/real/session/rootfs\n'
    place.run('snapshot', place / 'link/session', 'one')
    place.run('umount', place / 'link/session')
    place.run('mount', base, place / 'link/session')
    place.run('umount', place / 'link/session/rootfs')
    assert mounts_below(place.path) == []


# --- the command line --------------------------------------------------------------------------------------------

# These have exit statuses of their own: test_diff.py, test_run.py, test_doctor.py.
PROGRAMS = [*COMMANDS, 'diff', 'run', 'doctor', 'clean']


def test_help_tells_of_every_command():
    for words in ['--help'], ['-h'], ['help']:
        result = run(*words)
        assert (result.status, result.stderr) == (0, '')
        assert all(re.search(rf'^  {command} ', result.stdout, re.MULTILINE) for command in PROGRAMS)
        assert all(len(line) <= 80 for line in result.stdout.split('\n'))
    result = run()
    assert (result.status, result.stdout) == (2, '') and result.stderr.startswith('usage: ')


@pytest.mark.parametrize('command', PROGRAMS)
def test_every_command_has_help(command):
    for words in [command, '--help'], [command, '-h'], [command, 'x', '--help']:
        result = run(*words)
        assert (result.status, result.stderr) == (0, '')
        assert result.stdout.startswith(f'usage: umlfs {command} ')
        assert all(len(line) <= 80 for line in result.stdout.split('\n')), result.stdout


def test_version_is_the_projects():
    for word in '--version', '-V':
        result = run(word)
        assert result.status == 0 and re.fullmatch(r'umlfs \d+\.\d+\.\d+ \(libfuse 3\.[^\n]+\)\n', result.stdout), result


@pytest.mark.parametrize('words', [['nonsense'], [''], ['Mount'], ['--nonsense'], ['-x']])
def test_unknown_commands_are_usage_errors(words):
    result = run(*words)
    assert (result.status, result.stdout) == (2, ''), result
    assert re.fullmatch(r'umlfs: [^\n]*: [^\n]+\n', result.stderr), result


@pytest.mark.parametrize('command', COMMANDS)
def test_unknown_options_and_wrong_arguments_are_usage_errors(place, command):
    most = {'import': 2, 'mount': 3, 'snapshot': 2, 'reset': 2, 'delete': 2, 'export': 2, 'commit': 2}.get(command, 1)
    cases = [['--nonsense', 'a', 'b'], ['-x', 'a', 'b'], ['a', 'b', '--nonsense']]
    if command != 'import':     # which takes any number
        cases.append(['a'] * (most + 1))
    if command != 'status':
        cases.append([])
    if command in ('mount', 'import', 'snapshot', 'delete', 'export', 'commit'):
        cases.append(['a'])
    if command == 'mount':
        cases += [['-o'], ['a', 'b', '-o']]
    for words in cases:
        place.refused(command, *words, status=2, cwd=place.path)
    assert os.listdir(place.path) == []


@pytest.mark.parametrize('command', COMMANDS)
def test_an_empty_argument_is_an_error(place, command):
    most = {'import': 2, 'mount': 3, 'snapshot': 2, 'reset': 2, 'delete': 2, 'export': 2, 'commit': 2}.get(command, 1)
    for at in range(most):
        words = ['a'] * most
        words[at] = ''
        result = run(command, *words, user=place.user, cwd=place.path)
        assert result.status in (1, 2) and result.stderr.startswith('umlfs: '), (words, result)
        assert os.listdir(place.path) == []


def test_options_end_with_two_dashes(place):
    base = place.imported_base()
    place.run('mount', base, '--', '-session', cwd=place.path)
    place.run('snapshot', '--', '-session', 'one', cwd=place.path)
    assert json.loads(place.run('list', '--json', '--', '-session', cwd=place.path))['standing'] == 'one'
    place.run('umount', '--', '-session', cwd=place.path)


@as_root
def test_only_the_owner_and_root_may_command_a_daemon(place):
    mounted = place.mount(place.imported_base(), options='allow_other')
    os.chmod(mounted.session, 0o777)
    os.chmod(f'{mounted.session}/control', 0o666)
    for words in ['snapshot', 'one'], ['reset', '@base'], ['list', None], ['status', None]:
        result = run(words[0], mounted.session, *([words[1]] if words[1] else []), user='ordinary')
        assert result.status == 1 and re.fullmatch(r'umlfs: [^\n]+\n', result.stderr), result
    assert json.loads(place.run('list', '--json', mounted.session))['snapshots'] == []


@as_ordinary
@pytest.mark.skipif(not ROOT, reason='needs root')
def test_root_may_command_an_ordinary_users_daemon(place):
    mounted = place.mount(place.imported_base())
    mounted.do(overwrite, mounted / 'etc/new', b'new')
    assert run('snapshot', mounted.session, 'one', user='root').status == 0
    assert run('reset', mounted.session, '@base', user='root').status == 0
    assert not mounted.do(os.path.exists, mounted / 'etc/new')
    assert json.loads(run('status', '--json', mounted.session, user='root').stdout)['standing'] == '@base'
    assert run('umount', mounted.session, user='root').status == 0
    assert mounts_below(place.path) == []
