"""Runs the program UMLFS names, as root and as an ordinary user, and looks at trees through its mounts.

    run(*args, user=)       the program's Result, whatever it is
    succeed(*args, user=)   its standard output; it must have ended with 0
    refused(*args, user=)   what it said; it must have ended with 1 (or status=) and one line "umlfs: what: why"
    Place                   a private directory of a user, with bases and sessions in it; leaves nothing behind
    as_root, as_ordinary    marks of tests that one of the users does alone
    dump(), differences()   a directory tree as {path: Entry}, and what two of them differ in

Users are 'root' and 'ordinary'. A FUSE mount lets nobody in but its user, not even root: what a test does under a mountpoint
goes through Place.do(function, ...), which is a call in a thread that is this user for good.
"""

import concurrent.futures
import contextlib
import ctypes
import hashlib
import io
import json
import os
import pwd
import re
import select
import shutil
import signal
import stat
import subprocess
import tarfile
import tempfile
import time
from typing import NamedTuple

import pytest

TEST_USER = 'umlfs-test'
ROOT = os.geteuid() == 0
USERS = ['root', 'ordinary'] if ROOT else ['ordinary']
as_root = pytest.mark.parametrize('user', ['root'], indirect=True)
as_ordinary = pytest.mark.parametrize('user', ['ordinary'], indirect=True)
needs_root = pytest.mark.skipif(not ROOT, reason='needs root')
REPORT = r'Sanitizer|runtime error:'  # what a daemon built with sanitizers says at its end, or when it is damaged
PATIENCE = int(os.environ.get('UMLFS_TEST_PATIENCE', 60))     # seconds for what takes milliseconds


# --- the program -------------------------------------------------------------------------------------------------

class Result(NamedTuple):
    status: int
    stdout: str     # bytes that are no UTF-8 as surrogates, as os.fsdecode() has them
    stderr: str


def program():
    if 'UMLFS' not in os.environ:
        pytest.skip('UMLFS is not set; meson test sets it')
    return os.environ['UMLFS']


def ids(user):
    """(uid, gid) of 'root' or 'ordinary'."""
    if user == 'root' or not ROOT:
        return os.geteuid(), os.getegid()
    try:
        entry = pwd.getpwnam(TEST_USER)
    except KeyError:
        pytest.skip(f'no user {TEST_USER}: tools/setup makes it')
    return entry.pw_uid, entry.pw_gid


def identity(user):
    """Arguments of subprocess.Popen() that make the process this user."""
    if user == 'root' or not ROOT:
        return {}
    uid, gid = ids(user)
    return {'user': uid, 'group': gid, 'extra_groups': []}


NO_LEAK_CHECK = {'ASAN_OPTIONS': f'{os.environ.get("ASAN_OPTIONS", "")}:detect_leaks=0'}


def without_leak_check():
    """The environment for a program that is traced, or may not trace: the leak checker of a build with sanitizers traces it itself."""
    return {**os.environ, **NO_LEAK_CHECK}


def start(*args, user='root', **options):
    """A process of the program; standard input is /dev/null and the working directory / unless options say otherwise."""
    return subprocess.Popen([program(), *args], **{'stdin': subprocess.DEVNULL, 'cwd': '/'} | identity(user) | options)


def run(*args, user='root', timeout=PATIENCE, **options):
    """Returns when the program has ended *and* nobody holds its standard output or error any more."""
    process = start(*args, user=user, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options)
    with process:
        try:
            stdout, stderr = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            process.stdout.close()
            process.stderr.close()
            raise
    return Result(process.returncode, os.fsdecode(stdout), os.fsdecode(stderr))


def succeed(*args, **options):
    result = run(*args, **options)
    assert result.status == 0, result
    return result.stdout


def refused(*args, status=1, **options):
    """The line without "umlfs: " and the newline. A usage error (status=2) also says how to use the command."""
    result = run(*args, **options)
    usage = r'(usage: umlfs [^\n]+\n( +[^\n]+\n)*)?' if status == 2 else ''
    assert result.status == status and result.stdout == '', result
    assert re.fullmatch(rf'umlfs: [^\n]+: [^\n]+\n{usage}', result.stderr), result
    return result.stderr.removeprefix('umlfs: ').split('\n')[0]


# --- processes and mounts ----------------------------------------------------------------------------------------

def wait_pid(pid, seconds=PATIENCE):
    """Returns when a process that need not be a child has ended; False when it does not."""
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([pidfd], [], [], seconds)[0])
    finally:
        os.close(pidfd)


def ends(process):
    """The exit status of a child that must end by itself."""
    return process.wait(PATIENCE)


def kill_and_wait(pid, number=signal.SIGKILL):
    """Signals a process and returns when it has ended."""
    pidfd = os.pidfd_open(pid)
    try:
        signal.pidfd_send_signal(pidfd, number)
        assert select.select([pidfd], [], [], PATIENCE)[0], f'process {pid} does not end'
    finally:
        os.close(pidfd)


def processes_of(directory):
    """Pids of the program's processes, however it was called, that were given a path below this directory."""
    needle, name = os.fsencode(directory), os.fsencode(os.path.basename(program()))
    pids = []
    for entry in os.listdir('/proc'):
        if not entry.isdigit():
            continue
        try:
            with open(f'/proc/{entry}/cmdline', 'rb') as stream:
                words = stream.read().split(b'\0')
            with open(f'/proc/{entry}/stat', encoding='utf-8', errors='replace') as stream:
                state = stream.read().rpartition(')')[2].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            continue
        if os.path.basename(words[0]) == name and any(needle in word for word in words) and state not in 'ZX':
            pids.append(int(entry))
    return pids


def children(pid):
    """Pids of a process's children, of whichever of its threads."""
    found = []
    for thread in os.listdir(f'/proc/{pid}/task'):
        with open(f'/proc/{pid}/task/{thread}/children', encoding='ascii') as stream:
            found += map(int, stream.read().split())
    return found


def unescape_mount(text):
    return os.fsdecode(re.sub(rb'\\([0-7]{3})', lambda match: bytes([int(match[1], 8)]), os.fsencode(text)))


def mounts_below(directory):
    """[(mountpoint, type, source)] of everything that is mounted below, the newest first."""
    found = []
    with open('/proc/self/mountinfo', encoding='utf-8', errors='surrogateescape') as table:
        for line in table.read().split('\n')[:-1]:
            fields, _, rest = line.partition(' - ')
            mountpoint, (kind, source) = unescape_mount(fields.split(' ')[4]), rest.split(' ')[:2]
            if mountpoint.startswith(f'{directory}/'):
                found.append((mountpoint, kind, unescape_mount(source)))
    return found[::-1]


# --- a user's place ----------------------------------------------------------------------------------------------

def become(user):
    """Makes the calling thread alone an ordinary user: the C library's setuid() would take all threads along."""
    uid, gid = ids(user)
    syscall = ctypes.CDLL(None, use_errno=True).syscall
    numbers = {'x86_64': (116, 119, 117), 'aarch64': (159, 149, 147)}.get(os.uname().machine)
    if numbers is None:
        pytest.skip(f'no system call numbers for {os.uname().machine}')
    for number, args in zip(numbers, ((0, None), (gid, gid, gid), (uid, uid, uid))):
        if syscall(number, *args) != 0:
            raise OSError(ctypes.get_errno(), f'system call {number}')


class Mount:
    """A session that is mounted; path is its mountpoint."""

    def __init__(self, place, session, path):
        self.place, self.session, self.path = place, session, path

    def __str__(self):
        return self.path

    def __truediv__(self, name):
        return f'{self.path}/{name}'

    @property
    def pid(self):
        return self.status()['pid']

    def status(self):
        """What `umlfs status --json` says."""
        return json.loads(self.place.run('status', '--json', self.session))

    def do(self, function, *args, **options):
        return self.place.do(function, *args, **options)

    def dump(self, **options):
        return self.do(dump, self.path, **options)

    def layers(self):
        """Of a layer that is being made there is not all yet."""
        return [layer for layer in os.listdir(f'{self.session}/layers') if os.path.isdir(f'{self.session}/layers/{layer}/content')]

    def reset_for_good(self, but=()):
        """A reset by force; returns when the daemon has deleted what the layers held, but for those that a snapshot has."""
        contents = [os.open(f'{self.session}/layers/{layer}/content', os.O_RDONLY | os.O_DIRECTORY)
                    for layer in self.layers() if layer not in but]
        self.place.run('reset', '--force', self.session)
        deadline = time.monotonic() + PATIENCE
        try:
            while any(map(os.listdir, contents)):
                assert time.monotonic() < deadline, 'what was dropped is still there'
        finally:
            for fd in contents:
                os.close(fd)

    def umount(self):
        """Returns when the daemon has ended."""
        self.place.run('umount', self.session)

    def log(self):
        """What the daemon said since the mount was there."""
        with contextlib.suppress(FileNotFoundError), open(f'{self.session}/log', errors='surrogateescape') as stream:
            return stream.read()
        return ''


class Place:
    """A user's private directory, as a context manager: afterwards nothing of it is mounted, runs or is there.

    user    'root' or 'ordinary'
    path    the directory: owned by the user; others may pass through it
    noisy   set it when daemons are meant to complain; else their logs must be empty at the end
    """

    def __init__(self, user='root', path=None):
        self.user, self.noisy, self._given, self._thread = user, False, path, None
        program()

    def __enter__(self):
        self.path = tempfile.mkdtemp(prefix='umlfs-place-', dir=self._given)
        os.chmod(self.path, 0o755)
        if ROOT:
            os.chown(self.path, *ids(self.user))
            if self.user != 'root':
                self._thread = concurrent.futures.ThreadPoolExecutor(1, initializer=become, initargs=(self.user,))
        return self

    def __exit__(self, kind, *exc):
        try:
            complaints = self._end_mounts()
            complaints += [f'process {pid} was left' for pid in processes_of(self.path) if not wait_pid(pid, 5)]
            complaints += [line for line in self._logs() if not self.noisy or re.search(REPORT, line)]
        finally:
            self._clear()
        assert kind or not complaints, complaints

    def __truediv__(self, name):
        return f'{self.path}/{name}'

    def do(self, function, *args, **options):
        """Calls the function as the place's user."""
        if self._thread is None:
            return function(*args, **options)
        return self._thread.submit(function, *args, **options).result()

    def run(self, *args, **options):
        """succeed() as the place's user."""
        return succeed(*args, user=self.user, **options)

    def refused(self, *args, **options):
        """refused() as the place's user."""
        return refused(*args, user=self.user, **options)

    def start(self, *args, **options):
        """start() as the place's user."""
        return start(*args, user=self.user, **options)

    def imported_base(self, name='base', archive=None):
        """A base made by `umlfs import`, of small_archive() when no other is given. Its path."""
        source = archive or small_archive(f'{self.path}/.{os.path.basename(name)}.tar')
        self.run('import', source, f'{self.path}/{name}')
        if archive is None:
            os.unlink(source)
        return f'{self.path}/{name}'

    def plain_base(self, name='base', archive=None):
        """The same tree as a plain extracted directory (an ordinary user gets no devices and owns all). Its path."""
        source = archive or small_archive(f'{self.path}/.{os.path.basename(name)}.tar', devices=self.user == 'root' and ROOT)
        self.do(os.mkdir, f'{self.path}/{name}', 0o755)
        subprocess.run(['tar', '-C', f'{self.path}/{name}', '--numeric-owner', '-xpf', source], check=True,
                       **identity(self.user))
        if archive is None:
            os.unlink(source)
        return f'{self.path}/{name}'

    def mount(self, base, session='session', mountpoint=None, options=None, words=(), **more):
        """Mounts a session (a name in this place, or a path) and returns the Mount. options: as behind -o; words: more of them."""
        session = os.path.join(self.path, session)
        where = [base, session, *([mountpoint] if mountpoint else [])]
        printed = self.run('mount', *(['-o', options] if options else []), *words, *where, **more)
        assert printed.endswith('\n'), printed
        return Mount(self, session, printed[:-1])

    def _end_mounts(self):
        complaints = []
        for mountpoint, kind, _ in mounts_below(self.path):
            if kind == 'fuse.umlfs':
                result = run('umount', mountpoint, user=self.user)
                if result.status != 0:
                    complaints.append(f'{mountpoint}: {result}')
        return complaints

    def _logs(self):
        """Of the sessions directly below; a session elsewhere is its test's own business."""
        found = []
        for entry in os.scandir(self.path):
            with contextlib.suppress(OSError), open(f'{entry.path}/log', errors='surrogateescape') as stream:
                if text := stream.read():
                    found.append(f'{entry.path}/log: {text[-4000:]}')
        return found

    def _clear(self):
        """By force: nothing, whatever went wrong."""
        for mountpoint, _, _ in mounts_below(self.path):
            subprocess.run(['umount', '-lf', mountpoint] if ROOT else ['fusermount3', '-uz', mountpoint], check=False)
        for pid in processes_of(self.path):
            with contextlib.suppress(ProcessLookupError):
                kill_and_wait(pid)
        if self._thread is not None:
            self._thread.shutdown()
        remove_tree(self.path)


def remove_tree(path):
    """Also when directories are closed to their owner."""
    def open_and_retry(function, name, info):
        os.chmod(os.path.dirname(name), 0o700)
        if os.path.isdir(name) and not os.path.islink(name):
            os.chmod(name, 0o700)
            shutil.rmtree(name)
        else:
            function(name)
    shutil.rmtree(path, onerror=open_and_retry)


# --- trees -------------------------------------------------------------------------------------------------------

def small_members(devices=True):
    """(name, changes of the TarInfo, content) of a tree with something of everything."""
    kinds = {'dir': {'type': tarfile.DIRTYPE, 'mode': 0o755}}
    members = [
        ('.', kinds['dir'], b''), ('etc', kinds['dir'], b''), ('etc/hostname', {}, b'guest\n'),
        ('etc/passwd', {'mode': 0o644}, b'root:x:0:0::/root:/bin/sh\n'),
        ('etc/shadow', {'mode': 0o600, 'gid': 42}, b'root:*\n'),
        ('usr', kinds['dir'], b''), ('usr/bin', kinds['dir'], b''),
        ('usr/bin/tool', {'mode': 0o4755}, b'#!/bin/sh\n' + b'# padding\n' * 2000),
        ('usr/bin/same', {'type': tarfile.LNKTYPE, 'linkname': 'usr/bin/tool'}, b''),
        ('bin', {'type': tarfile.SYMTYPE, 'linkname': 'usr/bin', 'mode': 0o777}, b''),
        ('tmp', {'type': tarfile.DIRTYPE, 'mode': 0o1777}, b''),
        ('home', kinds['dir'], b''), ('home/user', {'type': tarfile.DIRTYPE, 'mode': 0o700, 'uid': 1000}, b''),
        ('home/user/notes', {'uid': 1000, 'gid': 1000}, b'by the user\n'), ('home/user/empty', {}, b''),
        ('run', kinds['dir'], b''), ('run/fifo', {'type': tarfile.FIFOTYPE}, b''),
    ]
    if devices:
        members += [('dev', kinds['dir'], b''),
                    ('dev/null', {'type': tarfile.CHRTYPE, 'mode': 0o666, 'devmajor': 1, 'devminor': 3}, b'')]
    return members


def write_archive(archive, members):
    with tarfile.open(archive, 'w', format=tarfile.PAX_FORMAT) as stream:
        for name, changes, data in members:
            info = tarfile.TarInfo(name)
            info.mtime, info.size = 1_000_000_000, len(data)
            for key, value in changes.items():
                setattr(info, key, value)
            stream.addfile(info, io.BytesIO(data))
    os.chmod(archive, 0o644)
    return archive


def small_archive(archive, devices=True):
    return write_archive(archive, small_members(devices))


class Entry(NamedTuple):
    type: str       # as find -type has it
    mode: int       # 12 bits
    uid: int
    gid: int
    nlink: int
    size: int       # 0 for directories
    mtime: int      # nanoseconds
    rdev: tuple     # (major, minor)
    target: str     # of a symlink
    sha256: str     # of a regular file; 'closed' when it may not be read


def entry_of(path, forget=()):
    st = os.lstat(path)
    kind = {stat.S_IFREG: 'f', stat.S_IFDIR: 'd', stat.S_IFLNK: 'l', stat.S_IFCHR: 'c', stat.S_IFBLK: 'b',
            stat.S_IFIFO: 'p', stat.S_IFSOCK: 's'}[stat.S_IFMT(st.st_mode)]
    digest = ''
    if kind == 'f' and 'sha256' not in forget:
        try:
            with open(path, 'rb') as stream:
                digest = hashlib.sha256(stream.read()).hexdigest()
        except PermissionError:
            digest = 'closed'
    entry = Entry(kind, stat.S_IMODE(st.st_mode), st.st_uid, st.st_gid, st.st_nlink, 0 if kind == 'd' else st.st_size,
                  st.st_mtime_ns, (os.major(st.st_rdev), os.minor(st.st_rdev)) if kind in 'cb' else (0, 0),
                  os.readlink(path) if kind == 'l' else '', digest)
    return entry._replace(**{name: None for name in forget})


def dump(tree, forget=(), leave_out=()):
    """{path below tree: Entry}, sorted, '.' among them. forget: fields of Entry that shall be None.

    leave_out: whole paths that are not looked at, nor what is below them.
    """
    found = {'.': entry_of(tree, forget)}
    for top, dirs, files in os.walk(tree, onerror=lambda error: None):
        dirs[:] = [name for name in dirs if os.path.join(top, name) not in leave_out]
        for name in dirs + files:
            path = os.path.join(top, name)
            found[os.path.relpath(path, tree)] = entry_of(path, forget)
    return dict(sorted(found.items()))


def differences(one, other, most=10):
    """Lines that say in what two dumps differ, `most` of them; [] when in nothing."""
    lines = []
    for path in sorted(one.keys() | other.keys()):
        a, b = one.get(path), other.get(path)
        if a is None or b is None:
            lines.append(f'{path}: only in {"the other" if a is None else "the one"}')
        elif a != b:
            lines.append(f'{path}: ' + ', '.join(f'{name} {x!r} != {y!r}' for name, x, y in zip(Entry._fields, a, b)
                                                 if x != y))
    return lines[:most] + ([f'and {len(lines) - most} more'] if len(lines) > most else [])
