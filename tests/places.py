"""Where file system tests run: a mount beside a plain host directory with the same content.

A test's body runs in a process of its own, as the user that mounted, with the mountpoint as current directory and no
umask. After each, the mount must have kept its promises: nothing in the daemon's log, and the same tree, to the last
nanosecond, after mounting anew and after a snapshot, damage and a reset.

A test file imports the fixture `here`: on an imported base as one user, on a plain one as another.
"""

import contextlib
import functools
import hashlib
import os
import pickle
import shutil
import signal
import stat
import subprocess
import traceback

import pytest

from calls import whole_listing, write_file
from umlfs_cli import PATIENCE, ROOT, Place, ids

SECONDS_MAX = PATIENCE


class Again(Exception):
    """What a test saw may have come from elsewhere: see in_clean_rounds()."""


# --- other users -----------------------------------------------------------------------------------------------

def become(uid, gid, groups=()):
    """For good, in this process."""
    os.setgroups(groups)
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)


def _answer(owner, directory, call, args):
    try:
        signal.alarm(SECONDS_MAX)
        if os.geteuid() == 0 and owner[0] != 0:
            become(*owner)
        os.umask(0)
        os.chdir(directory)
        return 'done', call(*args)
    except pytest.skip.Exception as skipped:
        return 'skip', skipped.msg
    except Again:
        return 'again', traceback.format_exc()
    except BaseException:
        return 'failed', traceback.format_exc()


def in_process(owner, directory, call, *args):
    """Runs call(*args) as (uid, gid[, groups]) in a directory, in a process of its own, and gives back what it gives back."""
    read_end, write_end = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(read_end)
        with open(write_end, 'wb') as stream:
            pickle.dump(_answer(owner, directory, call, args), stream)
        os._exit(0)
    os.close(write_end)
    with open(read_end, 'rb') as stream:
        data = stream.read()
    status = os.waitpid(pid, 0)[1]
    if not data:
        pytest.fail(f'the process that ran the test ended with {os.waitstatus_to_exitcode(status)}')
    kind, value = pickle.loads(data)
    if kind == 'skip':
        pytest.skip(value)
    if kind == 'again':
        raise Again(value)
    if kind == 'failed':
        pytest.fail(value, pytrace=False)
    return value


# --- what a tree is --------------------------------------------------------------------------------------------

def digest(path, st):
    """Of a file's bytes; of a long one only of its data and where it is."""
    if st.st_size == 0:
        return ''
    total = hashlib.sha256()
    fd = os.open(path, os.O_RDONLY)
    try:
        end, at = st.st_size, 0
        while at < end:
            try:
                at = os.lseek(fd, at, os.SEEK_DATA) if end > 1 << 30 else at
            except OSError:
                break
            block = os.pread(fd, 1 << 20, at)
            if end <= 1 << 30 or block.strip(b'\0'):
                total.update(block)
            at += len(block)
            if not block:
                break
    finally:
        os.close(fd)
    return total.hexdigest()


def paths_below(top=b'.'):
    top = os.fsencode(top)
    paths = [b'.']
    for directory, dirs, files in os.walk(top):
        paths += [os.path.relpath(os.path.join(directory, name), top) for name in dirs + files]
    return sorted(paths)


def entry_of(path):
    st = os.lstat(path)
    kind = stat.S_IFMT(st.st_mode)
    if kind == stat.S_IFREG:
        # Who may not read it on a plain directory has looked at enough.
        what = digest(path, st) if os.access(path, os.R_OK) or st.st_size == 0 else 'unreadable'
    else:
        what = os.readlink(path) if kind == stat.S_IFLNK else ''
    return {
        'type': kind, 'mode': stat.S_IMODE(st.st_mode), 'uid': st.st_uid, 'gid': st.st_gid, 'ino': st.st_ino,
        'nlink': st.st_nlink, 'rdev': st.st_rdev, 'size': st.st_size, 'what': what,
        'mtime': st.st_mtime_ns, 'ctime': st.st_ctime_ns, 'atime': st.st_atime_ns,
    }


def dump(top=b'.'):
    """Everything that stat and reading tell about a tree, below the current directory."""
    return {path: entry_of(os.path.join(os.fsencode(top), path)) for path in paths_below(top)}


def shape(top=b'.', without=('uid', 'gid', 'ino', 'mtime', 'ctime', 'atime')):
    """What must be the same on another file system: directories have no size there, and count their subdirectories."""
    tree = dump(top)
    for path, entry in tree.items():
        if entry['type'] == stat.S_IFDIR:
            entry['size'] = 0
            entry['nlink'] = 2 + sum(e.is_dir(follow_symlinks=False) for e in os.scandir(os.path.join(os.fsencode(top), path)))
        if entry['type'] not in (stat.S_IFCHR, stat.S_IFBLK):
            entry['rdev'] = 0
        for field in without:
            entry.pop(field)
    return tree


def difference(got, want):
    """The first few paths at which two trees differ, for a message."""
    lines = []
    for path in sorted(got.keys() | want.keys()):
        a, b = got.get(path), want.get(path)
        if a is None or b is None:
            lines.append(f'{path}: {"missing" if a is None else "should not be there"}')
        elif a != b:
            lines += [f'{path}: {field} {a[field]!r}, not {b[field]!r}' for field in a if a[field] != b[field]]
    return lines[:20]


def link_counts_are_right(top=b'.', fresh=False):
    """Files count their names, directories their subdirectories; every listing's numbers are those of stat.

    fresh: that of '..' too. The kernel keeps the listing of a directory that moves, with its old parent's number.
    """
    names, problems = {}, []
    for path in paths_below(top):
        full = os.path.join(os.fsencode(top), path)
        st = os.lstat(full)
        if stat.S_ISDIR(st.st_mode):
            entries = list(os.scandir(full))
            subdirs = sum(e.is_dir(follow_symlinks=False) for e in entries)
            if st.st_nlink != 2 + subdirs:
                problems.append(f'{path}: {st.st_nlink} links, {subdirs} subdirectories')
            listed = {name: number for name, number, _, _ in whole_listing(full)}
            dots = [os.stat(os.path.join(full, name)).st_ino for name in (b'.', b'..')]
            if fresh and path != b'.' and [listed[b'.'], listed[b'..']] != dots:
                problems.append(f'{path}: . and .. listed with numbers {listed[b"."]} and {listed[b".."]}')
            problems += [f'{path}: {e.name} listed with number {e.inode()}' for e in entries
                         if e.inode() != e.stat(follow_symlinks=False).st_ino]
        else:
            names.setdefault((st.st_ino, st.st_nlink), []).append(path)
    problems += [f'{paths}: {count} links' for (_, count), paths in names.items() if len(paths) != count]
    assert not problems, problems


# --- a mount beside its twin -----------------------------------------------------------------------------------

class Here:
    """A mount in a umlfs_cli.Place, and .twin, a plain host directory that has the same tree."""

    def __init__(self, place, kind, options=None, mountpoint=None):
        self.place, self.options = place, {'options': options, 'mountpoint': mountpoint}
        self.owner = ids(place.user)
        in_process(self.owner, place.path, make_base, kind)
        if kind == 'imported':
            place.run('import', f'{place.path}/tar', f'{place.path}/base')
        self.twin = f'{place.path}/twin'
        self.base = f'{place.path}/base'
        self.mount = place.mount(self.base, **self.options)
        self.root, self.session = self.mount.path, self.mount.session

    def remount(self):
        self.mount.umount()
        self.mount = self.place.mount(self.base, **self.options)

    def begin_anew(self):
        """Mounts another session, in which nothing has happened."""
        self.mount.umount()
        self.mount = self.place.mount(self.base, f'{self.session}-again', **self.options)
        self.root, self.session = self.mount.path, self.mount.session

    def run(self, *args):
        return self.place.run(*args)

    def requests(self):
        """{kind: how many came}; asking causes none."""
        return self.mount.status()['requests']

    def contents(self):
        """The content files of all layers, as LAYER/NUMBER. A layer may go meanwhile: it is deleted after the reset has answered."""
        layers, found = f'{self.session}/layers', []
        for layer in os.listdir(layers):
            with contextlib.suppress(FileNotFoundError):
                found += [f'{layer}/{name}' for name in os.listdir(f'{layers}/{layer}/content')]
        return sorted(found)

    def within(self, call, *args):
        """In a process of the mount's user, below the mountpoint."""
        return in_process(self.owner, self.root, call, *args)

    def beside(self, call, *args):
        """The same below the twin."""
        return in_process(self.owner, self.twin, call, *args)


# --- a tree to work on -----------------------------------------------------------------------------------------

def make_tree(top):
    """The same every time, for base and twin; every file's content is its own."""
    os.makedirs(f'{top}/dir/sub/deep')
    os.makedirs(f'{top}/other')
    os.makedirs(f'{top}/empty-dir')
    os.makedirs(f'{top}/many')
    write_file(f'{top}/plain', b'plain content\n')
    write_file(f'{top}/second', b'second content\n', 0o600)
    write_file(f'{top}/empty')
    write_file(f'{top}/large', bytes(range(256)) * 4096 + b'end')
    write_file(f'{top}/read-only', b'read only', 0o444)
    write_file(f'{top}/setuid', b'#!/bin/sh\n', 0o4755)
    write_file(f'{top}/dir/file', b'in a directory')
    write_file(f'{top}/dir/sub/deep/file', b'deep down')
    write_file(f'{top}/other/linked', b'linked content')
    os.link(f'{top}/other/linked', f'{top}/dir/sub/linked-too')
    os.symlink('plain', f'{top}/symlink')
    os.symlink('nowhere/at/all', f'{top}/dangling')
    os.symlink('dir', f'{top}/to-dir')
    os.mkfifo(f'{top}/fifo', 0o640)
    os.chmod(f'{top}/fifo', 0o640)
    for number in range(60):
        write_file(f'{top}/many/{number:03}', b'%d' % number)
    with open(f'{top}/sparse', 'wb') as stream:
        stream.seek(1 << 20)
        stream.write(b'x' * 4096)
        stream.truncate(3 << 20)
    os.chmod(f'{top}/sparse', 0o644)
    paths = [os.path.join(directory, name) for directory, dirs, files in os.walk(top) for name in dirs + files]
    for number, path in enumerate(sorted([top, *paths], reverse=True)):
        time = (1_600_000_000 + number) * 10**9 + 123_456_789
        os.utime(path, ns=(time, time), follow_symlinks=False)


def archive_of(top, archive):
    """As root packs it, with its holes."""
    subprocess.run(['tar', '--format=pax', '--sparse', '--owner=0', '--group=0', '-cf', archive, '-C', top, '.'], check=True)


def make_base(kind):
    """base of a kind and twin with the same content, in the current directory."""
    make_tree('twin')
    if kind == 'plain':
        make_tree('base')
    else:
        archive_of('twin', 'tar')


# --- what every test must leave --------------------------------------------------------------------------------

def damage():
    """Does to a tree what a bad day does."""
    for name in sorted(os.listdir('.')):
        if os.path.isdir(name) and not os.path.islink(name):
            shutil.rmtree(name)
        elif len(name) % 2:
            os.unlink(name)
        else:
            os.rename(name, 'moved-' + name[:200])
    os.mkdir('dir')
    write_file('plain', b'not what it was')
    os.chmod('.', 0o500)


def assert_kept(here):
    """The same tree after mounting anew, and after a snapshot, damage and a reset; and nothing in the log."""
    before = here.within(dump)
    here.within(link_counts_are_right)
    here.remount()
    here.within(link_counts_are_right, b'.', True)
    none(difference(here.within(dump), before))
    here.run('snapshot', here.session, 'good')
    here.within(damage)
    here.run('reset', here.session)
    none(difference(here.within(dump), before))
    none(here.mount.log())


# Each kind of base and each user, not all pairs: what a mount does about one has nothing to do with the other.
PAIRS = [('imported', 'ordinary'), ('plain', 'root')] if ROOT else [('imported', 'ordinary'), ('plain', 'ordinary')]


@pytest.fixture(params=PAIRS, ids=['-'.join(pair) for pair in PAIRS])
def here(request):
    kind, user = request.param
    with Place(user) as place:
        yield Here(place, kind)


def none(problems):
    assert not problems, problems


def same_shape(here):
    """The mount and the twin have the same tree."""
    none(difference(here.within(shape), here.beside(shape)))


# --- shapes of tests -------------------------------------------------------------------------------------------

def in_clean_rounds(test):
    """test(here), up to three times, each in a new session, for as long as it raises Again. One clean round is proof.

    The host's kernel lets go of pages, names and inodes whenever it likes (when memory is short; where DAMON reclaims, when they
    are old), reads ahead in the background, and asks for them once more. What umlfs itself costs too much, it costs in every round.
    """
    @functools.wraps(test)
    def rounds(here, *args, **options):
        for _ in range(2):
            try:
                return test(here, *args, **options)
            except Again as again:
                print(f'again, because of {again}')
            here.begin_anew()
        return test(here, *args, **options)
    return rounds


def _named(test, body):
    test.__name__, test.__doc__ = body.__name__, body.__doc__
    return test


def through_a_mount(body):
    """body(here) runs in the mount; what it leaves is kept."""
    def test(here):
        here.within(body, here)
        assert_kept(here)
    return _named(test, body)


def unlike(got, want):
    """In what two answers differ, item by item where they have items."""
    if not isinstance(got, (list, tuple)) or not isinstance(want, (list, tuple)) or len(got) != len(want):
        return [] if got == want else [f'{str(got)[:300]}, not {str(want)[:300]}']
    return [f'{number}: {line}' for number, items in enumerate(zip(got, want)) for line in unlike(*items)]


def as_on_the_host(body):
    """body() runs in the mount and in the twin: it gives back the same and leaves the same, and the mount keeps it."""
    def test(here):
        got, want = here.within(body), here.beside(body)
        none(unlike(got, want))
        same_shape(here)
        assert_kept(here)
    return _named(test, body)
