"""A daemon killed at any moment loses nothing that was answered, and the next mount goes on from there by itself.

Worker processes do operations that a seed fixes and tell each one before it begins and after it was answered. Then the daemon
is killed. The same operations, done to an ordinary directory, give the tree to compare with; the one that a worker was in may
be there or not. UMLFS_SURVIVAL_KILLS and UMLFS_SURVIVAL_SEED choose how often and from where.
"""

import ctypes
import faulthandler
import errno
import itertools
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tarfile
import time

import pytest

from umlfs_cli import PATIENCE, USERS, Place, differences, dump, identity, ids, kill_and_wait, run, wait_pid, write_archive

KILLS = int(os.environ.get('UMLFS_SURVIVAL_KILLS', '40'))     # of all tests together
SEED = int(os.environ.get('UMLFS_SURVIVAL_SEED', '1'))
WORKERS = 2
PAGE = 4096     # a write that is cut short ends at the end of a page
GONE = (errno.ENOTCONN, errno.ECONNABORTED, errno.ECONNREFUSED)


# --- one operation -----------------------------------------------------------------------------------------------

def letters(seed, length):
    return random.Random(seed).randbytes(length)


def apply(tree, op, part=None):
    """Does the operation in the tree: 0 or the errno. part: so many bytes of a write."""
    kind, *args = op
    paths = [os.path.join(tree, arg) for arg in args if isinstance(arg, str)]
    numbers = [arg for arg in args if not isinstance(arg, str)]
    try:
        if kind == 'create':
            os.mknod(paths[0], 0o100000 | numbers[0])
        elif kind == 'write':
            fd = os.open(paths[0], os.O_WRONLY)
            try:
                data = letters(numbers[0], numbers[2])[:part]
                if data and os.pwrite(fd, data, numbers[1]) < len(data):
                    return errno.ENOTCONN   # the kernel made two requests of it, and the daemon died in between
            finally:
                os.close(fd)
        elif kind == 'append':
            size = os.stat(paths[0]).st_size
            return apply(tree, ['write', args[0], numbers[0], size, numbers[1]], part)
        elif kind == 'symlink':
            os.symlink(args[1], paths[0])
        elif kind == 'mkdir':
            os.mkdir(paths[0], numbers[0])
        else:
            getattr(os, kind)(*paths, *numbers)     # truncate chmod rename link unlink rmdir
    except OSError as error:
        return error.errno
    return 0


def choose(chance, top):
    """An operation below this directory: most of them can be done."""
    def directory():
        return chance.choice([top, f'{top}/d0', f'{top}/d1', f'{top}/d0/d2'])

    def name():
        return f'{directory()}/{chance.choice(["base0", "base1", "new0", "new1", "new2", "new3"])}'

    kind = chance.choice(['create'] * 3 + ['write'] * 4 + ['append'] * 3 + ['truncate', 'rename', 'rename', 'link', 'unlink',
                         'mkdir', 'rmdir', 'chmod', 'symlink'])
    some = chance.choice([1, 100, 4096, 5000, 20000])
    return {
        'create': lambda: [kind, name(), chance.choice([0o644, 0o600])],
        'write': lambda: [kind, name(), chance.randrange(1000), chance.choice([0, 10, 4096, 9000]), some],
        'append': lambda: [kind, name(), chance.randrange(1000), some],
        'truncate': lambda: [kind, name(), chance.choice([0, 7, 5000, 30000])],
        'rename': lambda: [kind, name(), name()] if chance.randrange(4) else [kind, f'{top}/d0', f'{top}/d1/moved'],
        'link': lambda: [kind, name(), name()],
        'symlink': lambda: [kind, name(), chance.choice(['base0', '../nowhere'])],
        'mkdir': lambda: [kind, f'{directory()}/d{chance.randrange(3)}', 0o755],
        'rmdir': lambda: [kind, f'{directory()}/d{chance.randrange(3)}'],
        'unlink': lambda: [kind, name()],
        'chmod': lambda: [kind, name(), chance.choice([0o600, 0o640, 0o755])],
    }[kind]()


COMMANDS = ['snapshot', 'reset', 'delete']


def command(session, op):
    """A command line instead of a system call; its status."""
    kind, name = op
    return subprocess.run([os.environ['UMLFS'], kind, session, *([name] if name else [])], stdin=subprocess.DEVNULL,
                          stderr=subprocess.DEVNULL, check=False).returncode


def work(tree, top, seed, session):
    """What a worker process does: says "[op]" before and the result behind each, until the daemon is gone."""
    os.umask(0)
    chance = random.Random(seed)
    for number in itertools.count():
        if session and number % 5 == 4:
            op = [chance.choice(COMMANDS), chance.choice(['one', 'two', 'three'])]
        else:
            op = choose(chance, top)
        print(json.dumps(op), flush=True)
        result = command(session, op) if op[0] in COMMANDS else apply(tree, op)
        if result in GONE or not os.path.ismount(tree) or (op[0] in COMMANDS and not answers(tree)):
            return
        print(result, flush=True)


def answers(tree):
    try:
        os.statvfs(tree)    # goes to the daemon each time
    except OSError:
        return False
    return True


class Worker:
    """A worker process, and what it said."""

    def __init__(self, mounted, top, seed, session=''):
        self.said = []
        self.process = subprocess.Popen([sys.executable, __file__, mounted.path, top, str(seed), session], cwd='/',
                                        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True,
                                        **identity(mounted.place.user))

    def listen(self, lines):
        while len(self.said) < lines:
            line = self.process.stdout.readline()
            assert line, 'the worker ended before the daemon did'
            self.said.append(line)

    def end(self):
        """[(op, result)] of what was answered, and the operation in doubt or None. The daemon must be dead."""
        with self.process:
            self.said += self.process.stdout.read().splitlines()
        assert self.process.returncode == 0
        told = [json.loads(line) for line in self.said]
        done = list(zip(told[0::2], told[1::2]))
        return done, told[-1] if len(told) % 2 else None


# --- a session and its double ------------------------------------------------------------------------------------

class Double:
    """A session, and an ordinary directory in which everything is done once more."""

    def __init__(self, place):
        place.noisy = True  # a daemon that finds a command's socket closed may say so
        self.place, self.mounted = place, None
        self.tree, self.named = place / 'double', {}
        # The user's own: the host lets nobody link what belongs to others.
        owner = dict(zip(('uid', 'gid'), ids(place.user)))
        folder = owner | {'type': tarfile.DIRTYPE, 'mode': 0o755}
        members = [('.', folder, b'')]
        for worker in range(WORKERS):
            for path in (f'w{worker}', f'w{worker}/d0', f'w{worker}/d1'):
                members += [(path, folder, b''), (f'{path}/base0', owner | {'mode': 0o644}, letters(path, 10000)),
                            (f'{path}/base1', owner | {'mode': 0o644}, letters(path, 50))]
        archive = write_archive(place / 'base.tar', members)
        self.base = place.imported_base(archive=archive)
        place.do(self._extract, archive)
        os.unlink(archive)
        self.keep('@base')

    def _extract(self, archive):
        with tarfile.open(archive) as stream:
            for member in stream:
                member.uid, member.gid = os.geteuid(), os.getegid()
                stream.extract(member, self.tree, numeric_owner=True)

    def keep(self, name):
        self.named[name] = f'{self.tree}-{name}'
        self.copy(self.tree, self.named[name])

    def seen(self):
        """The double as a dump of the mount must be."""
        return plain(self.place.do(dump, self.tree, forget=FORGET))

    def do(self, op, part=None):
        """What `op` answers and does, in the double. Commands: 0 or 1."""
        if op[0] not in COMMANDS:
            return self.place.do(apply, self.tree, op, part)
        kind, name = op
        if kind == 'snapshot':
            if name in self.named:
                return 1
            self.keep(name)
            return 0
        if name not in self.named:
            return 1
        if kind == 'delete':
            del self.named[name]
        else:
            self.copy(self.named[name], self.tree)
        return 0

    def mount(self):
        self.mounted = self.place.mount(self.base)
        return self.mounted

    def snapshots(self):
        return {entry['name'] for entry in json.loads(self.place.run('list', '--json', self.mounted.session))['snapshots']}

    def is_same(self):
        wanted = set(self.named) - {'@base'}
        seen = plain(self.mounted.dump(forget=FORGET))
        return differences(seen, self.seen()) + ([] if self.snapshots() == wanted else [f'snapshots: {wanted}'])

    def expect(self, workers, when):
        """The session is the double with all that was answered; what was in doubt is there or not."""
        doubts = []
        for done, doubt in workers:
            for op, result in done:
                assert self.do(op) == result, (when, op, result)
            if doubt:
                doubts.append(doubt)
        before = {'tree': self.copy(self.tree, f'{self.tree}~'), 'named': dict(self.named)}
        first = None
        for chosen in itertools.product(*(self.parts_of(doubt) for doubt in doubts)):
            for op, part in filter(None, chosen):
                self.do(op, part)
            wrong = self.is_same()
            if not wrong:
                return
            first = first or wrong
            self.copy(before['tree'], self.tree)
            self.named = dict(before['named'])
        assert False, (when, doubts, first)

    def copy(self, one, other):
        """Makes a directory the copy of another. Its path."""
        self.place.do(shutil.rmtree, other, ignore_errors=True)
        self.place.do(subprocess.run, ['cp', '-a', one, other], check=True)
        return other

    def parts_of(self, op):
        """How much of an operation may have been done: nothing, all, of a write also some pages."""
        yield None
        yield op, None
        if op[0] == 'append' and self.place.do(os.path.isfile, f'{self.tree}/{op[1]}'):
            op = ['write', op[1], op[2], self.place.do(os.path.getsize, f'{self.tree}/{op[1]}'), op[3]]
        if op[0] == 'write':
            first = PAGE - op[3] % PAGE
            yield from ((op, part) for part in range(first, op[4], PAGE))

    def leaves_nothing_behind(self):
        """On disk are the layers of the manifest alone, and in the one being written no file that nobody can reach."""
        with open(f'{self.mounted.session}/manifest', encoding='utf-8') as stream:
            lines = [line.split() for line in stream]
        layers = {words[1] for words in lines if words[0] == 'layer'}
        top = next(words[1] for words in lines if words[0] == 'top')
        assert set(os.listdir(f'{self.mounted.session}/layers')) == layers
        held = set(os.listdir(f'{self.mounted.session}/layers/{top}/content'))
        assert held <= self.mounted.do(numbers_below, self.mounted.path)


FORGET = ['uid', 'gid', 'mtime']


def plain(seen):
    """Without what file systems of the host count differently."""
    return {path: entry._replace(nlink=None) if entry.type == 'd' else entry for path, entry in seen.items()}


def numbers_below(tree):
    return {str(os.lstat(os.path.join(top, name)).st_ino) for top, _, files in os.walk(tree) for name in files}


def share(of):
    """The seeds of one test: it has so many of 30 kills of each user."""
    return range(SEED, SEED + max(1, KILLS * of // (30 * len(USERS))))


@pytest.fixture
def double(user):
    """In memory where the host has /dev/shm: what a killed process leaves is the same there, and a sync costs nothing."""
    with Place(user, '/dev/shm' if os.access('/dev/shm', os.W_OK) else None) as place:
        yield Double(place)


# --- the promises ------------------------------------------------------------------------------------------------

def test_a_killed_daemon_loses_nothing_that_was_answered(double):
    for seed in share(12):
        chance = random.Random(seed)
        mounted = double.mount()
        workers = [Worker(mounted, f'w{number}', seed * WORKERS + number) for number in range(WORKERS)]
        for worker in workers:
            worker.listen(chance.randrange(1, 120))
        kill_and_wait(mounted.pid)
        told = [worker.end() for worker in workers]
        double.mount()
        double.expect(told, f'seed {seed}')
        double.mounted.umount()
        double.mount()
        assert double.is_same() == []
        double.leaves_nothing_behind()
        kill_and_wait(double.mounted.pid)


def test_snapshots_and_resets_are_whole_or_absent_when_the_daemon_is_killed(double):
    for seed in share(10):
        chance = random.Random(seed)
        mounted = double.mount()
        worker = Worker(mounted, 'w0', seed, mounted.session)
        # Every second time in the middle of a command: the fifth operation of five.
        worker.listen(chance.randrange(6) * 10 + 9 if seed % 2 else chance.randrange(1, 60))
        kill_and_wait(mounted.pid)
        told = [worker.end()]
        double.mount()
        double.expect(told, f'seed {seed}')
        kill_and_wait(double.mounted.pid)
        double.mount()
        assert double.is_same() == []
        double.mounted.umount()
        double.mount()
        double.leaves_nothing_behind()
        double.mounted.umount()


def kill_after(process, seconds):
    """The status, 0 when it had ended. Looks at the clock meanwhile: a kill at a moment of milliseconds cannot be slept for."""
    end = time.monotonic() + seconds
    while time.monotonic() < end and process.poll() is None:
        pass
    process.kill()
    return process.wait()


def test_a_daemon_killed_while_it_mounts_leaves_a_session_that_mounts(double):
    mounted = double.mount()
    session, path = mounted.session, mounted.path
    for seed in share(5):
        chance = random.Random(seed)
        # A layer without a name, so that the mount has two to join, and two files of it: the next one hides the first.
        for op in ['write', 'w0/base0', seed, 0, 5000], ['write', 'w0/base1', seed, 0, 300], ['snapshot', 'one'], \
                ['append', 'w0/base0', seed, 300]:
            assert (command_as(double.place, session, op) if op[0] in COMMANDS else mounted.do(apply, path, op)) == 0
            assert double.do(op) == 0
        assert command_as(double.place, session, ['delete', 'one']) == double.do(['delete', 'one']) == 0
        kill_and_wait(mounted.pid)
        process = double.place.start('mount', '-f', double.base, session, stdout=subprocess.DEVNULL,
                                     stderr=subprocess.DEVNULL)
        kill_after(process, chance.random() * 0.03)
        mounted = double.mount()
        assert double.is_same() == [], seed
        double.leaves_nothing_behind()


def command_as(place, session, op):
    return run(op[0], session, op[1], user=place.user).status


def test_a_command_killed_on_a_session_that_is_not_mounted_is_whole_or_absent(double):
    session = double.mount().session
    double.mounted.umount()
    for seed in share(3):
        chance = random.Random(seed)
        for op in ['snapshot', 'one'], ['reset', '@base'], ['reset', 'one'], ['delete', 'one']:
            mounted = double.mount()
            change = ['write', 'w0/base1', seed, 0, 5000]
            assert mounted.do(apply, mounted.path, change) == double.do(change) == 0
            mounted.umount()
            process = double.place.start(op[0], session, op[1], stderr=subprocess.DEVNULL)
            done = kill_after(process, chance.random() * 0.02) == 0
            double.mount()
            double.expect([([(op, 0)], None) if done else ([], op)], f'seed {seed}')
            double.leaves_nothing_behind()
            double.mounted.umount()
        command_as(double.place, session, ['delete', 'one'])
        double.do(['delete', 'one'])


STORM = """import os, sys
try:
    while True:
        os.mkdir(sys.argv[1])
        os.rmdir(sys.argv[1])
except OSError:
    pass
"""


def make_files(directory, prefix):
    for number in range(1000):
        os.mknod(f'{directory}/{prefix}{number}')


def kill(pid, seed):
    kill_and_wait(pid)


CRASHES = [signal.SIGABRT, signal.SIGSEGV, signal.SIGILL, signal.SIGFPE]
WITHOUT_REPORTS = os.environ.get('ASAN_OPTIONS', '') + ':handle_segv=0:handle_sigill=0:handle_sigfpe=0'    # a log stays clean


def crash(pid, seed):
    kill_and_wait(pid, CRASHES[seed % len(CRASHES)])


def crash_apart(pid, seed):
    """In a thread that shares no descriptors with the others: it has two."""
    apart = [int(tid) for tid in os.listdir(f'/proc/{pid}/task') if len(os.listdir(f'/proc/{pid}/task/{tid}/fd')) == 2]
    assert len(apart) == 2
    assert ctypes.CDLL(None).tgkill(pid, apart[seed % 2], CRASHES[seed // 2 % len(CRASHES)]) == 0
    assert wait_pid(pid), f'process {pid} does not end'


@pytest.mark.parametrize('end', [kill, crash, crash_apart], ids=['killed', 'dumping core', 'dumping core in a thread apart'])
def test_nobody_waits_for_a_daemon_that_dies_while_it_tells_the_kernel_of_a_reset(place, monkeypatch, end):
    """Clients hold the directory's lock nearly all the time, and so what tells the kernel waits for it when the signal comes.

    Before a core is dumped the kernel waits for all threads, with the daemon's descriptors open.
    """
    monkeypatch.setenv('ASAN_OPTIONS', WITHOUT_REPORTS)
    base = place.imported_base()
    for seed in share(10):
        mounted = place.mount(base)
        mounted.do(os.mkdir, mounted / f'dir{seed}')
        mounted.do(make_files, mounted / f'dir{seed}', 'old')
        place.run('snapshot', mounted.session, f'good{seed}')
        mounted.do(make_files, mounted / f'dir{seed}', 'new')
        pid = mounted.pid
        processes = [subprocess.Popen([sys.executable, '-c', STORM, mounted / f'dir{seed}/storm{number}'],
                                      **identity(place.user)) for number in range(2)]
        processes.append(place.start('reset', mounted.session, stderr=subprocess.DEVNULL))
        kill_after(processes[-1], random.Random(seed).random() * 0.03)
        end(pid, seed)
        for process in processes:
            process.wait(PATIENCE)
        place.run('umount', mounted.session)


@pytest.mark.parametrize('number', CRASHES)
def test_a_crash_ends_a_daemon_that_inherited_the_signal_as_ignored(place, monkeypatch, number):
    monkeypatch.setenv('ASAN_OPTIONS', WITHOUT_REPORTS)
    signal.signal(number, signal.SIG_IGN)
    try:
        mounted = place.mount(place.imported_base())
    finally:
        signal.signal(number, signal.SIG_DFL)
        faulthandler.enable()   # which pytest has on, and needs these signals
    pid = mounted.pid
    kill_and_wait(pid, number)
    place.run('umount', mounted.session)


if __name__ == '__main__':
    work(sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4])
