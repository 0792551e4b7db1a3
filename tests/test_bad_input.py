"""Whatever is given, missing, full or damaged: one line that says what, why and what to do, and nothing is left behind."""

import contextlib
import errno
import gzip
import json
import os
import random
import re
import resource
import shutil
import signal
import subprocess
import tarfile

import pytest

from calls import overwrite, read_file
from newer import newer, newer_manifest
from disk import Disk
from umlfs_cli import (PATIENCE, ROOT, differences, dump, ids, kill_and_wait, mounts_below, processes_of,
                       program, run, small_archive, small_members, wait_pid, write_archive)

as_root = pytest.mark.parametrize('user', ['root'], indirect=True)
as_ordinary = pytest.mark.parametrize('user', ['ordinary'], indirect=True)
needs_root = pytest.mark.skipif(not ROOT, reason='needs root')
live_and_offline = pytest.mark.parametrize('live', [True, False], ids=['live', 'offline'])

MIB = 1 << 20


def state(directory):
    """What is on disk below, but what umlfs has mounted there, times, and who had a lock last."""
    mounts = {mountpoint for mountpoint, kind, _ in mounts_below(directory) if kind == 'fuse.umlfs'}
    found = dump(directory, forget=['mtime', 'nlink'], leave_out=mounts)
    return {path: entry._replace(sha256=None, size=None) if os.path.basename(path) == 'lock' else entry
            for path, entry in found.items()}


@contextlib.contextmanager
def nothing_changes(place):
    """Files, mounts and processes of the place are afterwards what they were before."""
    before, mounts, processes = state(place.path), mounts_below(place.path), processes_of(place.path)
    yield
    for pid in set(processes_of(place.path)) - set(processes):
        assert wait_pid(pid, 10), f'process {pid} is left'
    assert mounts_below(place.path) == mounts
    assert differences(state(place.path), before) == []


def refused_without_trace(place, *args, **options):
    """The line that the program refuses with; it must have left everything as it was."""
    with nothing_changes(place):
        return place.refused(*args, **options)


# --- bases -------------------------------------------------------------------------------------------------------

def test_a_missing_base_is_refused(place):
    line = refused_without_trace(place, 'mount', place / 'no-base', place / 'session')
    assert line.startswith(place / 'no-base: ') and 'umlfs import' in line


def test_an_empty_base_is_refused(place):
    place.do(os.mkdir, place / 'base')
    line = refused_without_trace(place, 'mount', place / 'base', place / 'session')
    assert line.startswith(place / 'base: ') and 'empty' in line


@pytest.mark.parametrize('name', ['root.tar', 'text', 'fifo'])
def test_a_file_as_base_is_refused(place, name):
    path = place / name
    if name == 'root.tar':
        small_archive(path)
    elif name == 'text':
        place.do(overwrite, path, b'text')
    else:
        place.do(os.mkfifo, path)
    line = refused_without_trace(place, 'mount', path, place / 'session')
    assert line.startswith(f'{path}: ') and 'umlfs import' in line


def test_a_base_that_is_a_dangling_symlink_is_refused(place):
    place.do(os.symlink, 'nowhere', place / 'base')
    assert refused_without_trace(place, 'mount', place / 'base', place / 'session').startswith(place / 'base: ')


@as_ordinary
@pytest.mark.parametrize('path', ['', '/home/user'])
def test_an_unreadable_directory_of_a_base_is_named(place, path):
    base = place.plain_base()
    place.do(os.chmod, base + path, 0o000)
    line = refused_without_trace(place, 'mount', base, place / 'session')
    place.do(os.chmod, base + path, 0o700)
    assert line.startswith(base + path) and 'ermission denied' in line, line
    assert place.mount(base).do(read_file, place / 'session/rootfs/etc/hostname') == b'guest\n'


@as_ordinary
@needs_root
def test_an_unreadable_file_of_a_base_is_an_error_of_that_file_alone(place):
    place.noisy = True
    base = place.plain_base()
    os.chown(f'{base}/etc/shadow', 0, 0)
    os.chmod(f'{base}/etc/shadow', 0)
    mounted = place.mount(base)
    with pytest.raises(OSError) as caught:
        mounted.do(read_file, mounted / 'etc/shadow')
    assert caught.value.errno in (errno.EACCES, errno.EIO)
    assert f'{base}/etc/shadow' in mounted.log()
    assert mounted.do(read_file, mounted / 'etc/hostname') == b'guest\n'


# --- sessions ----------------------------------------------------------------------------------------------------

def test_a_file_as_session_is_refused(place, base):
    place.do(overwrite, place / 'session', b'text')
    assert refused_without_trace(place, 'mount', base, place / 'session').startswith(place / 'session: ')


def test_a_session_in_a_missing_directory_is_refused(place, base):
    assert refused_without_trace(place, 'mount', base, place / 'a/b').startswith(place / 'a/b: ')


@as_ordinary
def test_a_session_where_one_may_not_write_is_refused(place, base):
    place.do(os.mkdir, place / 'closed', 0o500)
    line = refused_without_trace(place, 'mount', base, place / 'closed/session')
    assert line.startswith(place / 'closed/session: ') and 'ermission denied' in line
    line = refused_without_trace(place, 'mount', base, place / 'closed')
    assert line.startswith(place / 'closed') and 'ermission denied' in line


def test_a_session_inside_the_base_is_refused(place, base):
    place.do(os.symlink, 'base', place / 'link')
    for session in f'{base}/session', base, f'{base}/tmp', place / 'link/session':
        line = refused_without_trace(place, 'mount', base, session)
        assert line.startswith(f'{session}: ') and base in line.removeprefix(session), line


def test_a_base_inside_the_session_is_refused(place):
    place.do(os.mkdir, place / 'session')
    base = place.plain_base('session/base')
    assert base in refused_without_trace(place, 'mount', base, place / 'session')


def test_a_directory_with_other_files_does_not_become_a_session(place, base):
    place.do(os.mkdir, place / 'session')
    place.do(overwrite, place / 'session/thesis.txt', b'precious')
    line = refused_without_trace(place, 'mount', base, place / 'session')
    assert line.startswith(place / 'session: ')


COMMANDS = [['list'], ['list', '--json'], ['status'], ['status', '--json'], ['snapshot', 'one'], ['reset'],
            ['reset', '--force'], ['delete', 'one']]


@pytest.mark.parametrize('what', ['missing', 'file', 'empty', 'other', 'base'])
@pytest.mark.parametrize('words', COMMANDS, ids=' '.join)
def test_commands_on_what_is_no_session_are_refused(place, words, what):
    path = place / what
    if what == 'file':
        place.do(overwrite, path, b'')
    elif what == 'base':
        place.imported_base()
    elif what != 'missing':
        place.do(os.mkdir, path)
    if what == 'other':
        place.do(overwrite, f'{path}/thesis.txt', b'precious')
    flags = [word for word in words[1:] if word.startswith('--')]
    names = [word for word in words[1:] if not word.startswith('--')]
    assert refused_without_trace(place, words[0], *flags, path, *names).startswith(f'{path}: ')


@pytest.mark.parametrize('what', ['missing', 'file', 'directory', 'session'])
def test_umount_of_what_is_not_mounted_is_refused(place, what):
    path = place / what
    if what == 'file':
        place.do(overwrite, path, b'')
    elif what == 'directory':
        place.do(os.mkdir, path)
    elif what == 'session':
        place.mount(place.imported_base(), what).umount()
    assert refused_without_trace(place, 'umount', path).startswith(f'{path}: ')


@as_root
def test_umount_touches_no_mount_of_others(place):
    os.mkdir(place / 'mnt')
    subprocess.run(['mount', '-t', 'tmpfs', 'tmpfs', place / 'mnt'], check=True)
    overwrite(place / 'mnt/file', b'')
    refused_without_trace(place, 'umount', place / 'mnt')


@as_ordinary
@needs_root
def test_another_users_session_is_refused(place):
    base = place.imported_base()
    mounted = place.mount(base)
    mounted.umount()
    os.chown(mounted.session, 0, 0)
    os.chmod(mounted.session, 0o700)
    for words in [['mount', base, mounted.session], ['list', mounted.session], ['snapshot', mounted.session, 'one']]:
        assert 'ermission denied' in place.refused(*words)


# --- mountpoints -------------------------------------------------------------------------------------------------

def mountpoint_cases(place, base):
    """What is wrong -> (mountpoint, how to make it)"""
    return {
        'missing': (place / 'mnt', lambda: None),
        'file': (place / 'mnt', lambda: overwrite(place / 'mnt', b'')),
        'not empty': (place / 'mnt', lambda: (os.mkdir(place / 'mnt'), overwrite(place / 'mnt/file', b''))),
        'the base': (base, lambda: None),
        'inside the base': (f'{base}/tmp', lambda: None),
        'the session': (place / 'session', lambda: None),
        'above the session': (place.path, lambda: None),
        'inside the layers': (place / 'session/layers', lambda: None),
        'a symlink to the base': (place / 'mnt', lambda: os.symlink(base, place / 'mnt')),
        'dangling': (place / 'mnt', lambda: os.symlink('nowhere', place / 'mnt')),
    }


@pytest.mark.parametrize('new', [True, False], ids=['new', 'there'])
@pytest.mark.parametrize('kind', mountpoint_cases(type('', (), {'__truediv__': lambda *_: '', 'path': ''})(), ''))
def test_a_mountpoint_that_will_not_do_is_refused(place, base, kind, new):
    mountpoint, make = mountpoint_cases(place, base)[kind]
    if not new:
        place.mount(base).umount()
    place.do(make)
    line = refused_without_trace(place, 'mount', base, place / 'session', mountpoint)
    assert mountpoint in line or os.path.realpath(mountpoint) in line, line
    assert (kind == 'not empty') == ('not empty' in line), line


def test_a_mountpoint_that_is_mounted_is_refused(place, base):
    place.do(os.mkdir, place / 'mnt')
    one = place.mount(base, 'one', place / 'mnt')
    line = refused_without_trace(place, 'mount', base, place / 'other', place / 'mnt')
    assert one.path in line and one.session in line
    kill_and_wait(one.pid)
    line = refused_without_trace(place, 'mount', base, place / 'other', place / 'mnt')
    assert one.path in line, line


def test_a_default_mountpoint_that_is_not_empty_is_refused(place, base):
    place.mount(base).umount()
    place.do(overwrite, place / 'session/rootfs/file', b'')
    assert 'rootfs' in refused_without_trace(place, 'mount', base, place / 'session')


@as_ordinary
@needs_root
def test_a_mountpoint_of_somebody_else_is_refused(place, base):
    os.mkdir(place / 'mnt')
    line = refused_without_trace(place, 'mount', base, place / 'session', place / 'mnt')
    assert line.startswith(place / 'mnt: '), line


# --- archives: the rest is import's own test ---------------------------------------------------------------------

def truncated(path):
    overwrite(path, read_file(small_archive(path))[:2000])


def corrupt(path):
    data = bytearray(gzip.compress(read_file(small_archive(path)), mtime=0))
    data[len(data) // 2] ^= 0x55
    overwrite(path, data)


def with_password(path):
    subprocess.run(['zip', '-q', '-P', 'secret', f'{path}.zip', 'hostname'], check=True, cwd='/etc')
    os.rename(f'{path}.zip', path)


ARCHIVES = {'empty': lambda path: overwrite(path, b''), 'text': lambda path: overwrite(path, b'no archive\n' * 100),
            'truncated': truncated, 'corrupt': corrupt, 'password': with_password}


@pytest.mark.parametrize('kind', ARCHIVES)
def test_a_bad_archive_makes_no_base(place, kind):
    ARCHIVES[kind](place / 'archive')
    os.chmod(place / 'archive', 0o644)
    assert place / 'archive' in refused_without_trace(place, 'import', place / 'archive', place / 'base')


def test_a_base_that_is_there_is_not_replaced_unless_told(place):
    base = place.imported_base()
    small_archive(place / 'archive')
    assert '--force' in refused_without_trace(place, 'import', place / 'archive', base)
    place.do(os.mkdir, place / 'thesis')
    place.do(overwrite, place / 'thesis/chapter', b'precious')
    refused_without_trace(place, 'import', '--force', place / 'archive', place / 'thesis')


# --- a full disk -------------------------------------------------------------------------------------------------

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


# --- a machine that is not ready ---------------------------------------------------------------------------------

def run_elsewhere(place, prepare, *args, **options):
    """Runs the program as the place's user where root has changed the file system, for it alone, by a shell script."""
    uid, gid = ids(place.user)
    become = 'setpriv --reuid=%d --regid=%d --clear-groups' % (uid, gid) if place.user != 'root' else ''
    words = ['unshare', '--mount', 'sh', '-euc', f'{prepare}\nexec {become} "$@"', 'sh', program(), *args]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True,
                          cwd='/', **options) as process:
        stdout, stderr = process.communicate(timeout=PATIENCE)
    return process.returncode, stdout, stderr


def refused_elsewhere(place, prepare, *args):
    with nothing_changes(place):
        status, stdout, stderr = run_elsewhere(place, prepare, *args)
    assert (status, stdout) == (1, '') and re.fullmatch(r'umlfs: [^\n]+: [^\n]+\n', stderr), (status, stdout, stderr)
    return stderr


EMPTY_DEV = 'mount -t tmpfs tmpfs /dev\nmknod -m 666 /dev/null c 1 3\n'


@needs_root
def test_no_dev_fuse_names_the_command_that_mends_it(place, base):
    line = refused_elsewhere(place, EMPTY_DEV, 'mount', base, place / 'session')
    assert line.startswith('umlfs: /dev/fuse: ') and 'modprobe fuse' in line


@needs_root
def test_a_dev_fuse_without_a_driver_names_the_command_that_mends_it(place, base):
    line = refused_elsewhere(place, EMPTY_DEV + 'mknod -m 666 /dev/fuse c 10 254\n', 'mount', base, place / 'session')
    assert line.startswith('umlfs: /dev/fuse: ') and 'modprobe fuse' in line


@needs_root
@as_ordinary
def test_a_closed_dev_fuse_names_the_command_that_mends_it(place, base):
    line = refused_elsewhere(place, EMPTY_DEV + 'mknod -m 600 /dev/fuse c 10 229\n', 'mount', base, place / 'session')
    assert line.startswith('umlfs: /dev/fuse: ') and 'chmod' in line and '/dev/fuse`' in line


@as_ordinary
def test_no_fusermount3_names_the_package(place, base):
    path = os.environ | {'PATH': '/nonexistent'}
    line = refused_without_trace(place, 'mount', base, place / 'session', env=path)
    assert line.startswith('fusermount3: ') and 'fuse3' in line
    mounted = place.mount(base)
    line = refused_without_trace(place, 'umount', mounted.session, env=path)
    assert line.startswith('fusermount3: ') and 'fuse3' in line


@as_ordinary
@needs_root
def test_a_fusermount3_without_its_set_uid_bit_is_named(place, base):
    shutil.copy(shutil.which('fusermount3'), place / 'fusermount3')
    os.chmod(place / 'fusermount3', 0o755)
    prepare = f'mount --bind {place / "fusermount3"} "$(command -v fusermount3)"'
    line = refused_elsewhere(place, prepare, 'mount', base, place / 'session')
    assert 'fusermount3' in line


@as_root
def test_root_needs_no_fusermount3(place, base):
    env = os.environ | {'PATH': '/nonexistent'}
    mounted = place.mount(base, env=env)
    assert read_file(mounted / 'etc/hostname') == b'guest\n'
    place.run('umount', mounted.session, env=env)


@as_ordinary
@needs_root
@pytest.mark.parametrize('options', ['allow_other', 'posix', 'posix,allow_other'])
@pytest.mark.parametrize('allowed', [False, True])
def test_allow_other_needs_the_administrators_word(place, base, options, allowed):
    with open(place / 'fuse.conf', 'w', encoding='ascii') as conf:
        conf.write('user_allow_other\n' if allowed else '')
    prepare = f'mount --bind {place / "fuse.conf"} /etc/fuse.conf'
    words = ['-o', options, base, place / 'session']
    if not allowed and 'allow_other' in options:
        line = refused_elsewhere(place, prepare, 'mount', *words)
        assert 'user_allow_other' in line and '/etc/fuse.conf' in line
        return
    # The namespace ends with its last process: the daemon.
    status, stdout, stderr = run_elsewhere(place, prepare, 'mount', *words)
    assert (status, stdout, stderr) == (0, f'{place.path}/session/rootfs\n', '')
    pid = json.loads(place.run('status', '--json', place / 'session'))['pid']
    assert os.path.exists(f'/proc/{pid}/root/etc/fuse.conf')
    inside = subprocess.run(['nsenter', '--mount', f'--target={pid}', 'cat', place / 'session/rootfs/etc/hostname'],
                            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=False)
    kill_and_wait(pid, signal.SIGTERM)
    assert inside.stdout == (b'guest\n' if 'allow_other' in options else b'')


# --- damage ------------------------------------------------------------------------------------------------------

class Kept:
    """A session with two snapshots, unmounted, and what it held; files can be damaged and put back."""

    def __init__(self, place):
        self.place, self.base = place, place.imported_base()
        mounted = place.mount(self.base)
        self.session, self.mountpoint = mounted.session, mounted.path
        for name in ('one', 'two', None):
            mounted.do(overwrite, mounted / f'etc/{name}', str(name).encode() * 100)
            mounted.do(os.mkdir, mounted / f'tmp/{name}')
            mounted.do(os.chmod, mounted / 'etc/passwd', 0o600 + len(str(name)))
            if name:
                place.run('snapshot', self.session, name)
        self.seen = mounted.dump()
        mounted.umount()

    def mount(self):
        return run('mount', self.base, self.session, user=self.place.user)

    def assert_whole(self):
        mounted = self.place.mount(self.base)
        assert differences(mounted.dump(), self.seen) == []
        mounted.umount()


@pytest.fixture
def kept(place):
    return Kept(place)


@contextlib.contextmanager
def damaged(path, data):
    """The file holds other bytes meanwhile (None: it is missing)."""
    st = os.stat(path)
    aside = f'{os.path.dirname(os.path.dirname(path))}/.aside-{os.path.basename(path)}'
    os.rename(path, aside)
    try:
        if data is not None:
            overwrite(path, data)
            os.chmod(path, st.st_mode)
            os.chown(path, st.st_uid, st.st_gid)
        yield
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)     # rename() does nothing when both are names of one file
        os.rename(aside, path)


def flips(data, count, seed=1):
    """`count` copies of the data with one bit flipped in each, spread over the whole."""
    chance = random.Random(seed)
    for at in sorted(chance.sample(range(len(data)), min(count, len(data)))):
        copy = bytearray(data)
        copy[at] ^= 1 << chance.randrange(8)
        yield at, bytes(copy)


def cuts(data, count, seed=2):
    chance = random.Random(seed)
    for at in sorted({0, len(data) - 1} | set(chance.sample(range(len(data)), min(count, len(data))))):
        yield at, data[:at]


def the_line(result, path):
    """The one line of a refusal, which must begin with the file's path."""
    assert result.status == 1 and result.stdout == '', result
    assert re.fullmatch(rf'umlfs: {re.escape(path)}: [^\n]+\n', result.stderr), (path, result)
    return result.stderr


def test_a_damaged_manifest_is_named_and_nothing_is_lost(place, kept):
    path = f'{kept.session}/manifest'
    whole = read_file(path)
    for _, data in [*flips(whole, 25), *cuts(whole, 8), (0, b'\0' * len(whole)), (0, whole + b'x'), (0, whole * 2)]:
        with damaged(path, data):
            for result in kept.mount(), run('list', kept.session, user=place.user), \
                    run('snapshot', kept.session, 'new', user=place.user), run('reset', kept.session, '@base', user=place.user):
                line = the_line(result, path)
                assert 'damaged' in line, line
            assert read_file(path) == data
    kept.assert_whole()


def test_a_manifest_of_a_newer_version_asks_for_an_update(place, kept):
    path = f'{kept.session}/manifest'
    with damaged(path, newer_manifest(read_file(path))):
        for result in kept.mount(), run('list', kept.session, user=place.user):
            line = the_line(result, path)
            assert 'newer' in line and 'update' in line
    kept.assert_whole()


@pytest.mark.parametrize('how', ['deep', 'content', 'names', 'attributes'])
def test_a_missing_manifest_never_makes_a_new_session_of_an_old_one(place, how):
    if how == 'deep':
        kept = Kept(place)
        base, session, seen = kept.base, kept.session, kept.seen
    else:
        base = place.imported_base()
        mounted = place.mount(base)
        mounted.do({'content': lambda: overwrite(mounted / 'etc/new', b'new'), 'names': lambda: os.mkdir(mounted / 'new'),
                    'attributes': lambda: os.chmod(mounted / 'etc', 0o711)}[how])
        session, seen = mounted.session, mounted.dump()
        mounted.umount()
    path = f'{session}/manifest'
    with damaged(path, None):
        before = state(session)
        result = run('mount', base, session, user=place.user)
        assert 'missing' in the_line(result, path), result
        result = run('list', session, user=place.user)
        assert result.status == 1 and re.fullmatch(r'umlfs: [^\n]+manifest[^\n]*\n', result.stderr), result
        assert differences(state(session), before) == []
    mounted = place.mount(base, session)
    assert differences(mounted.dump(), seen) == []


def test_a_damaged_index_of_a_base_is_named(place, kept):
    path = f'{kept.base}/.umlfs/index'
    whole = read_file(path)
    for _, data in [*flips(whole, 60), *cuts(whole, 20), (0, whole + b'x'), (0, b'\0' * len(whole))]:
        with damaged(path, data):
            before = state(kept.session)
            line = the_line(kept.mount(), path)
            assert 'damaged' in line and 'import' in line, line
            assert differences(state(kept.session), before) == []
    kept.assert_whole()


def test_a_missing_or_newer_index_of_a_base_is_named(place, kept):
    path = f'{kept.base}/.umlfs/index'
    with damaged(path, None):
        line = the_line(kept.mount(), path)
        assert 'missing' in line and 'import' in line
    with damaged(path, newer(read_file(path))):
        line = the_line(kept.mount(), path)
        assert 'newer' in line and 'update' in line
    kept.assert_whole()


def test_a_damaged_copy_of_the_index_is_named_and_mended_by_a_mount(place, kept):
    path = f'{kept.session}/base.index'
    whole = read_file(path)
    for _, data in [*flips(whole, 12), *cuts(whole, 3), (0, None)]:
        with damaged(path, data):
            line = the_line(run('snapshot', kept.session, 'new', user=place.user), path)
            assert 'mount' in line, line
            kept.assert_whole()
            place.run('snapshot', kept.session, 'new')
            place.run('delete', kept.session, 'new')
            assert read_file(path) == whole
    kept.assert_whole()


def journals(session):
    return sorted((f'{session}/layers/{layer}/journal' for layer in os.listdir(f'{session}/layers')),
                  key=lambda path: int(path.split('/')[-2]))


@pytest.mark.parametrize('layer', [0, 1, 2], ids=['lowest', 'middle', 'top'])
def test_a_damaged_journal_is_named_with_the_place_and_nothing_is_touched(place, kept, layer):
    """The tail of the top layer alone may be an operation that was cut short: that is dropped with a warning."""
    path = journals(kept.session)[layer]
    whole = read_file(path)
    dropped = 0
    for at, data in [*flips(whole, 40), *cuts(whole, 15)]:
        with damaged(path, data):
            before = state(kept.session)
            result = kept.mount()
            if result.status == 0:
                assert layer == 2 and re.fullmatch(rf'umlfs: warning: {path}: [^\n]+\n', result.stderr), (at, result)
                place.run('umount', kept.session)
                assert len(data) - 200 < at or len(data) < len(whole), at
                dropped += 1
                continue
            line = the_line(result, path)
            assert 'damaged' in line and 'byte' in line, line
            assert differences(state(kept.session), before) == []
    assert layer < 2 or dropped
    kept.assert_whole()


def test_a_cut_at_the_end_of_an_operation_is_an_earlier_state(place, kept):
    """What a crash of the machine may leave of a journal: every prefix is some state of the past, in order."""
    path = journals(kept.session)[2]
    whole = read_file(path)
    last = None
    for length in range(len(whole), 40, -97):
        with damaged(path, whole[:length]):
            assert kept.mount().status == 0
            names = place.do(os.listdir, f'{kept.mountpoint}/tmp'), place.do(os.listdir, f'{kept.mountpoint}/etc')
            count = len(names[0]) + len(names[1])
            assert last is None or count <= last
            last = count
            place.run('umount', kept.session)
            mounted = place.mount(kept.base)        # what the first mount has cut off is all that it has
            assert (mounted.do(os.listdir, mounted / 'tmp'), mounted.do(os.listdir, mounted / 'etc')) == names
            mounted.umount()
    kept.assert_whole()


def test_a_missing_or_newer_journal_is_named(place, kept):
    for path in journals(kept.session):
        whole = read_file(path)
        for data, word in (None, 'No such file'), (newer(whole), 'newer'), (b'', 'damaged'), (b'other', 'damaged'):
            with damaged(path, data):
                assert word in the_line(kept.mount(), path)
    kept.assert_whole()


def test_a_damaged_layer_can_be_reset_away(place, kept):
    path = journals(kept.session)[2]
    whole = read_file(path)
    overwrite(path, whole[:60] + b'\xff' + whole[61:])
    assert 'umlfs reset' in the_line(kept.mount(), path)
    result = run('reset', kept.session, user=place.user)
    assert result.status == 0, result
    mounted = place.mount(kept.base)
    seen = mounted.dump()
    assert 'tmp/two' in seen and 'tmp/None' not in seen
    mounted.do(os.mkdir, mounted / 'tmp/after')
    mounted.umount()


@pytest.mark.parametrize('what', ['layers', 'layers/1', 'layers/2/journal'])
def test_a_missing_layer_is_named(place, kept, what):
    path = f'{kept.session}/{what}'
    os.rename(path, place / 'aside')
    before = state(kept.session)
    for result in kept.mount(), run('snapshot', kept.session, 'new', user=place.user):
        assert result.status == 1 and re.fullmatch(r'umlfs: [^\n]+: [^\n]+\n', result.stderr), result
        assert path in result.stderr, result
        assert differences(state(kept.session), before) == []
    os.rename(place / 'aside', path)
    kept.assert_whole()


@pytest.mark.parametrize('data', [None, b'', b'short'], ids=['missing', 'empty', 'short'])
def test_a_damaged_content_file_is_an_error_and_never_other_data(place, kept, data):
    place.noisy = True
    path = next(path for layer in sorted(os.listdir(f'{kept.session}/layers'))
                for path in [f'{kept.session}/layers/{layer}/content/{name}'
                             for name in os.listdir(f'{kept.session}/layers/{layer}/content')])
    with damaged(path, data):
        result = kept.mount()
        if result.status != 0:
            the_line(result, path)
        else:
            with pytest.raises(OSError) as caught:
                place.do(read_file, f'{kept.mountpoint}/etc/one')
            assert caught.value.errno == errno.EIO
            assert path in json.loads(place.run('status', '--json', kept.session))['problem']
            assert place.do(read_file, f'{kept.mountpoint}/etc/two') == b'two' * 100
            place.run('umount', kept.session)
    kept.assert_whole()


# --- many open files ---------------------------------------------------------------------------------------------

MANY = 2500


def use_many(top, watch):
    """Has MANY files open at once; reads all, writes to some, makes and unlinks some; calls watch() now and then."""
    with contextlib.ExitStack() as stack:
        kept = []
        for i in range(MANY):
            kept.append(stack.enter_context(open(f'{top}/many/{i}', 'r+b', buffering=0)))
            assert kept[i].read() == b'%d' % i
            if i % 5 == 0:
                kept[i].write(b' more')
                os.unlink(f'{top}/many/{i}')
                with open(f'{top}/many/new-{i}', 'xb') as stream:
                    stream.write(b'new')
            if i % 50 == 0:
                watch()
        for i in random.Random(3).sample(range(MANY), MANY):
            kept[i].seek(0)
            assert kept[i].read() == (b'%d more' if i % 5 == 0 else b'%d') % i
        watch()


@pytest.mark.parametrize('user, limit', [('root', 1024), ('ordinary', 1024), ('ordinary', 200)], indirect=['user'])
def test_a_daemon_needs_few_descriptors_for_thousands_of_open_files(place, more_descriptors, limit):
    members = small_members() + [('many', {'type': tarfile.DIRTYPE, 'mode': 0o755}, b'')] \
        + [(f'many/{i}', {}, b'%d' % i) for i in range(MANY)]
    base = place.imported_base('base', write_archive(place / 'many.tar', members))
    place.run('mount', base, place / 'session',
              preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit)))
    pid = json.loads(place.run('status', '--json', place / 'session'))['pid']
    counts = []
    place.do(use_many, place / 'session/rootfs', lambda: counts.append(os.listdir(f'/proc/{pid}/fd')))
    most = max(len(count) for count in counts)
    assert 20 < most < min(512, limit), most
    assert place.do(read_file, place / 'session/rootfs/many/new-5') == b'new'
