"""Tables of system calls, each made on an umlfs mount and on a plain directory of the host, as any of several users.

    Thing       something that lies in a case's directory before its call
    Case        things, and one call by one user in their directory
    KINDS       what a name can mean; things() makes a case's things of one
    Pair        a mount with -o posix and a plain directory beside it: must_be_alike(cases)

Compared are what the call gave back or its error, what every name means afterwards, and of every inode that was there
before: type, mode, owner, links, size, blocks, device, link target, and for each of its times whether it stayed, became
now, or what was asked for. Nothing is waited for: times before the calls are long ago, of ctime the clock's next tick.

The plain directory is mounted with noatime, because umlfs changes a time of access only when it is told to.
A test file imports the fixtures `room` and `pair`.
"""

import contextlib
import os
import resource
import stat
import subprocess
import time
import zlib
from typing import NamedTuple

import pytest

from calls import CLOCK_REALTIME_COARSE, clock_has_moved, outcome, write_file
from places import in_process
from umlfs_cli import Place

OWNER, GROUP, OTHER, MEMBER, PEER = 65534, 65534, 65533, 65532, 65531

# (uid, gid, supplementary groups)
ACTORS = {
    'root': (0, 0, []),
    'owner': (OWNER, GROUP, []),
    'other': (OTHER, OTHER, []),
    'member': (MEMBER, MEMBER, [GROUP, OTHER]),     # supplementary
    'peer': (PEER, GROUP, []),
}

# Which three bits of the mode are theirs, of what belongs to OWNER and GROUP.
SHIFTS = {'root': 0, 'owner': 6, 'other': 0, 'member': 3, 'peer': 3}

LONG_AGO = 1_000_000_000 * 10**9    # ns; what things' times are before a call
CHUNK = 400                         # cases whose inodes are held open at one time


class Thing(NamedTuple):
    name: str
    kind: str           # one of MAKERS
    mode: int = 0o755
    uid: int = 0
    gid: int = 0
    arg: str = ''       # what a symlink says; what a hard link has beside it as its inode's first name


class Case(NamedTuple):
    actor: str
    things: list        # in the order in which they are made
    call: tuple         # a function and its arguments
    umask: int = 0

    def __str__(self):
        things = ', '.join(f'{t.kind} {t.name[:20]} {t.mode:o} {t.uid}:{t.gid}' for t in self.things)
        args = ', '.join(str(arg)[:60] for arg in self.call[1:])
        return f'{self.actor}: {self.call[0].__name__}({args}) with {things}'


MAKERS = {
    'file': lambda thing: write_file(thing.name, b'content of a file\n'),
    'empty': lambda thing: write_file(thing.name),
    'dir': lambda thing: os.mkdir(thing.name),
    'symlink': lambda thing: os.symlink(thing.arg, thing.name),
    'hard': lambda thing: os.link(f'{os.path.dirname(thing.name) or "."}/{thing.arg}', thing.name),
    'fifo': lambda thing: os.mkfifo(thing.name),
    'socket': lambda thing: os.mknod(thing.name, stat.S_IFSOCK | 0o600),
    'char': lambda thing: os.mknod(thing.name, stat.S_IFCHR | 0o600, os.makedev(1, 3)),
    'block': lambda thing: os.mknod(thing.name, stat.S_IFBLK | 0o600, os.makedev(3999, 7)),
}

# One of everything that a name can mean.
KINDS = {
    'file': [Thing('{}', 'file', 0o644)],
    'empty': [Thing('{}', 'empty', 0o644)],
    'linked': [Thing('{}', 'file', 0o644), Thing('{}-too', 'hard', arg='{}')],
    'dir': [Thing('{}', 'dir')],
    'full': [Thing('{}', 'dir'), Thing('{}/in', 'empty', 0o644)],
    'dangling': [Thing('{}', 'symlink', arg='no-such')],
    'to-file': [Thing('{}-end', 'file', 0o644), Thing('{}', 'symlink', arg='{}-end')],
    'to-dir': [Thing('{}-end', 'dir'), Thing('{}', 'symlink', arg='{}-end')],
    'loop': [Thing('{}', 'symlink', arg='{}')],
    'fifo': [Thing('{}', 'fifo', 0o644)],
    'socket': [Thing('{}', 'socket', 0o644)],
    'char': [Thing('{}', 'char', 0o644)],
    'block': [Thing('{}', 'block', 0o644)],
    'nothing': [],
}


def things(kind, name, mode=None, uid=0, gid=0):
    """A kind under a name; mode is that of what the name means in the end."""
    for thing in KINDS[kind]:
        given = mode is not None and thing.name in ('{}', '{}-end')
        yield thing._replace(name=thing.name.format(name), arg=thing.arg.format(os.path.basename(name)),
                             mode=mode if given else thing.mode, uid=uid, gid=gid)


def modes_for(actor):
    """What a user may be allowed, when nobody else is allowed anything, or everybody else is."""
    theirs = [bits << SHIFTS[actor] for bits in (range(8) if actor in ('owner', 'member', 'other') else (0, 6))]
    return theirs + [0o777 & ~(7 << SHIFTS[actor])]


# --- before and after ------------------------------------------------------------------------------------------

def make_case(directory, case):
    """In a directory of its own, which is everybody's to look into and root's to write to."""
    os.mkdir(directory)
    os.chdir(directory)
    for thing in case.things:
        MAKERS[thing.kind](thing)
    for thing in case.things:
        if thing.kind != 'hard':
            os.chown(thing.name, thing.uid, thing.gid, follow_symlinks=False)
            if thing.kind != 'symlink':
                os.chmod(thing.name, thing.mode)
    for thing in (*reversed(case.things), Thing('.', 'dir')):
        os.utime(thing.name, ns=(LONG_AGO, LONG_AGO), follow_symlinks=False)
    os.chdir('..')


def make_cases(numbered):
    os.umask(0o022)
    for number, case in numbered:
        make_case(f'{number:04}', case)


def of_inode(st):
    """Of an os.stat_result, what must be alike but for times: what a directory's size is, is a file system's own business."""
    kind = stat.S_IFMT(st.st_mode)
    size = () if kind == stat.S_IFDIR else (f'{st.st_size} bytes',)
    blocks = (f'{st.st_blocks} blocks',) if kind == stat.S_IFREG else ()
    device = (f'device {st.st_rdev:x}',) if kind in (stat.S_IFCHR, stat.S_IFBLK) else ()
    return (f'{st.st_mode:o}', f'{st.st_uid}:{st.st_gid}', f'{st.st_nlink} links') + size + blocks + device


def time_of(ns, since):
    """'now' when it came with the call."""
    return 'now' if ns >= since else ns


def of_time(before, after, since):
    return 'stayed' if before == after else time_of(after, since)


def of_times(before, after, since):
    return {f'{field} time': of_time(getattr(before, f'st_{field}_ns'), getattr(after, f'st_{field}_ns'), since)
            for field in ('atime', 'mtime', 'ctime')}


class Held:
    """The inodes of a case, whatever becomes of their names."""

    def __init__(self, stack, directory, case):
        self.directory, self.fds = directory, {}
        for name in ('.', *(thing.name for thing in case.things)):
            fd = os.open(f'{directory}/{name}', os.O_PATH | os.O_NOFOLLOW)
            stack.callback(os.close, fd)
            self.fds[name] = fd
        self.before = {name: os.stat(fd) for name, fd in self.fds.items()}

    def after(self, since):
        """{what: answer} of everything that was there before, and of every name that is there now."""
        found, known = {}, {}
        for name, fd in self.fds.items():
            st, was = os.stat(fd), self.before[name]
            known.setdefault(st.st_ino, name)
            found[name] = of_inode(st)
            found |= {f'{name} {field}': value for field, value in of_times(was, st, since).items()}
        for top, dirs, files in os.walk(self.directory):
            for name in sorted(dirs + files):
                path = os.path.join(top, name)
                found[f'name {os.path.relpath(path, self.directory)}'] = self.meaning(path, known, since)
        return found

    @staticmethod
    def meaning(path, known, since):
        st = os.lstat(path)
        if st.st_ino in known:
            return f'was {known[st.st_ino]}'
        target = os.readlink(path) if stat.S_ISLNK(st.st_mode) else ''
        times = [time_of(ns, since) for ns in (st.st_atime_ns, st.st_mtime_ns, st.st_ctime_ns)]
        return (*of_inode(st), target, *times)


# --- calls -----------------------------------------------------------------------------------------------------

def make_calls(root, numbered):
    """What each case's call gives back, as the process's user."""
    answers = {}
    for number, case in numbered:
        os.chdir(f'{root}/{number:04}')
        os.umask(case.umask)
        answers[number] = outcome(case.call[0], *case.call[1:])
    return answers


def make_all_calls(root, numbered):
    """The same, each user's calls in a process of its own."""
    answers = {}
    for actor, user in ACTORS.items():
        answers |= in_process(user, root, make_calls, root, [pair for pair in numbered if pair[1].actor == actor])
    return answers


def run_cases(root, cases):
    """[{what: answer}], one for each case."""
    found = []
    for first in range(0, len(cases), CHUNK):
        numbered = list(enumerate(cases[first:first + CHUNK], first))
        with contextlib.ExitStack() as stack:
            held = {number: Held(stack, f'{root}/{number:04}', case) for number, case in numbered}
            clock_has_moved()
            since = time.clock_gettime_ns(CLOCK_REALTIME_COARSE)
            answers = make_all_calls(root, numbered)
            found += [{'result': answers[number]} | inodes.after(since) for number, inodes in held.items()]
    return found


def unlike(case, got, want):
    return [f'{case}: {what}: {str(got.get(what))[:200]}, not {str(want.get(what))[:200]}'
            for what in sorted(got.keys() | want.keys()) if got.get(what) != want.get(what)]


# --- the two sides ---------------------------------------------------------------------------------------------

class Pair:
    """A mount and a plain directory. Of a third of the cases the base brings the things along, of another a snapshot; the rest are new."""

    def __init__(self, place, name, options='posix'):
        self.place, self.session, self.options = place, f'session-{name}', options
        self.read_only = 'ro' in options.split(',')
        self.mountpoint, self.twin, self.base = (f'{place.path}/{name}/{side}' for side in ('mountpoint', 'twin', 'base'))
        for path in (self.mountpoint, self.twin, self.base):
            os.makedirs(path, 0o755)
        if self.read_only:      # a bind mount that is read-only lets the file system itself believe that it is not
            self.mount_twin('-t', 'tmpfs', 'tmpfs')
        else:
            self.mount_twin('--bind', self.twin)
        for path in (self.base, self.twin):
            write_file(f'{path}/hostname')      # an empty directory is no base

    def mount_twin(self, *words):
        subprocess.run(['mount', *words, self.twin], check=True)

    def mount(self):
        self.place.mount(self.base, self.session, options=self.options, mountpoint=self.mountpoint)
        self.mount_twin('-o', 'remount,ro,noatime' if self.read_only else 'remount,bind,noatime')

    def differences(self, cases):
        cases = list(cases)
        numbered = list(enumerate(cases))
        in_process(ACTORS['root'], self.twin, make_cases, numbered)
        parts = [[], [], []]
        for number, case in numbered:
            parts[0 if self.read_only else zlib.crc32(b'%d' % number) % 3].append((number, case))
        in_process(ACTORS['root'], self.base, make_cases, parts[0])
        self.mount()
        in_process(ACTORS['root'], self.mountpoint, make_cases, parts[1])
        if not self.read_only:
            self.place.run('snapshot', f'{self.place.path}/{self.session}', 'made')
        in_process(ACTORS['root'], self.mountpoint, make_cases, parts[2])
        resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
        got, want = (in_process(ACTORS['root'], top, run_cases, top, cases) for top in (self.mountpoint, self.twin))
        return [line for case, *answers in zip(cases, got, want) for line in unlike(case, *answers)]

    def must_be_alike(self, cases):
        problems = self.differences(cases)
        assert not problems, f'{len(problems)} differences:\n' + '\n'.join(problems[:60])


@pytest.fixture(scope='module')
def room():
    """One place for all: a file system makes files slowly while it still remembers many that were just removed."""
    with Place('root') as place:
        yield place


@pytest.fixture
def pair(room, request):
    return Pair(room, request.node.name)
