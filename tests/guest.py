"""Boots User-Mode Linux with a host directory as its root and runs one script in it.

Owns everything that a guest needs and leaves: its processes, a private directory, pipes. The script reaches the
guest in its initramfs, so the root under test is entered untouched; see guest_init.c for the other side.

    result = run_guest(root, 'cat /etc/hostname')
    assert result.status == 0, result

    with Guest(root, 'touch /a; echo made; read -r _ </dev/tty0') as guest:
        guest.wait_for('made')
        ...                                         # the host looks at /a while the guest runs
        guest.send('go on')
        result = guest.wait()

Environment:
    UMLFS_GUEST_INIT    the compiled guest_init.c, needed
    UMLFS_XSTATE        libumlfs-xstate.so, used whenever it is set
    UMLFS_KERNEL        another kernel than linux.uml
"""

import contextlib
import dataclasses
import fcntl
import functools
import os
import pathlib
import pwd
import select
import shutil
import signal
import subprocess
import tempfile
import time
from typing import Optional

# What a guest may write while nobody reads it.
PIPE_BYTES = 1 << 20

# More than half of a boot is btrfs measuring which checksum code is fastest.
FAST_BOOT = 'initcall_blacklist=raid6_select_algo,calibrate_xor_blocks'


class GuestError(Exception):
    """The guest did not run the script to its end; .result holds what it said."""

    def __init__(self, why, result):
        super().__init__(f'{why}\n{result}')
        self.why = why
        self.result = result


class GuestTimeout(GuestError):
    pass


@dataclasses.dataclass
class Result:
    status: Optional[int]       # of the script, as a shell's $?; None if it did not end
    stdout: str                 # the script's output and errors
    kernel_log: str
    host_log: str               # what linux.uml itself said, a panic's registers among it
    boot_seconds: Optional[float]
    run_seconds: Optional[float]

    def __str__(self):
        parts = [f'status: {self.status}']
        for name in ('stdout', 'kernel_log', 'host_log'):
            parts += [f'--- {name}', getattr(self, name).rstrip()]
        return '\n'.join(parts)


# --- what the rig is made of -----------------------------------------------------------------------------------

def xstate_preload():
    """The path of libumlfs-xstate.so, or None when the environment names none."""
    return os.environ.get('UMLFS_XSTATE') or None


def guest_init():
    path = os.environ.get('UMLFS_GUEST_INIT')
    if not path:
        raise RuntimeError('UMLFS_GUEST_INIT is not set: it names the compiled tests/guest_init.c')
    return path


def uml_kernel():
    """The kernel's path, or None when there is none on this machine."""
    return shutil.which(os.environ.get('UMLFS_KERNEL') or 'linux.uml')


def cpio_archive(tree):
    """The directory as a newc archive owned by root, which the kernel unpacks; several may follow each other."""
    names = ['.'] + sorted(str(p.relative_to(tree)) for p in pathlib.Path(tree).rglob('*'))
    return subprocess.run(['cpio', '--quiet', '-o', '-H', 'newc', '-R', '0:0'], cwd=tree, check=True,
                          input='\n'.join(names).encode() + b'\n', stdout=subprocess.PIPE).stdout


@functools.lru_cache(maxsize=None)
def initramfs(init):
    """The part that is the same for every guest."""
    with tempfile.TemporaryDirectory(prefix='umlfs-initramfs-') as tree:
        shutil.copy(init, f'{tree}/init')
        os.chmod(f'{tree}/init', 0o755)
        os.mkdir(f'{tree}/newroot')
        return cpio_archive(tree)


def script_archive(script, files):
    """/files with the script and copies of `files`, a dictionary of name -> host path."""
    with tempfile.TemporaryDirectory(prefix='umlfs-script-') as tree:
        os.chmod(tree, 0o755)
        os.makedirs(f'{tree}/files/share')
        for name, path in files.items():
            shutil.copy(path, f'{tree}/files/{name}')
        pathlib.Path(f'{tree}/files/script').write_text(script)
        os.chmod(f'{tree}/files/script', 0o755)
        return cpio_archive(tree)


def memory_dir():
    """Where the guest's memory file can be: UML maps it executable, and container hosts mount /dev/shm noexec."""
    for path in ('/dev/shm', tempfile.gettempdir()):
        if os.path.isdir(path) and not os.statvfs(path).f_flag & os.ST_NOEXEC:
            return path
    raise RuntimeError('neither /dev/shm nor the temporary directory allows executable mappings')


def kernel_word(name, value):
    """NAME=VALUE as one word; the guest's kernel removes the quotes."""
    if '"' in value or '\n' in value:
        raise ValueError(f'a kernel command line cannot carry {value!r}')
    return f'{name}="{value}"'


# --- processes -------------------------------------------------------------------------------------------------

def session_members(sid):
    """The pids of a session's living processes."""
    members = []
    for entry in os.listdir('/proc'):
        if not entry.isdigit():
            continue
        try:
            fields = pathlib.Path(f'/proc/{entry}/stat').read_text().rpartition(')')[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(fields[3]) == sid and fields[0] not in 'ZX':
            members.append(int(entry))
    return members


def kill_session(sid, patience=10):
    """Ends a session's processes and waits until they have ended. Returns the pids that would not.

    Those wait, beyond any signal, for a FUSE server that has taken their request and does not answer.
    The caller has not reaped the leader yet, so the number is not anyone else's.
    """
    deadline = time.monotonic() + patience
    while (members := session_members(sid)) and time.monotonic() < deadline:
        for pid in members:
            try:
                pidfd = os.pidfd_open(pid)
            except ProcessLookupError:
                continue
            try:
                signal.pidfd_send_signal(pidfd, signal.SIGKILL)
                select.select([pidfd], [], [], max(0, deadline - time.monotonic()))
            except ProcessLookupError:
                pass
            finally:
                os.close(pidfd)
    return members


def as_user(user):
    """The words that run a command as `user` (name; None: as it is) and let it leave no core file."""
    words = ['prlimit', '--core=0']
    if user is not None and pwd.getpwnam(user).pw_uid != os.getuid():
        entry = pwd.getpwnam(user)
        words += ['setpriv', f'--reuid={entry.pw_uid}', f'--regid={entry.pw_gid}', '--clear-groups']
    return words


@contextlib.contextmanager
def heir(group, directory):
    """For the time of the context: if this process is killed, the process group ends and the directory goes.

    Killing linux.uml alone is not enough, its helpers and the guest's processes would go on without it.
    """
    will = 'read -r _; kill -s KILL -- "-$0"; rm -rf -- "$1"'
    process = subprocess.Popen(['sh', '-c', will, str(group), directory], stdin=subprocess.PIPE,
                               stderr=subprocess.DEVNULL, start_new_session=True)
    try:
        yield
    finally:
        process.kill()
        process.wait()
        process.stdin.close()


class Stream:
    """The reading end of one of the guest's outputs."""

    def __init__(self):
        self.fd, self.guest_fd = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(self.fd, False)
        try:
            fcntl.fcntl(self.guest_fd, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        except PermissionError:
            pass                # over fs.pipe-user-pages-soft: a small pipe only makes the guest wait
        self.data = bytearray()

    def read(self):
        """Takes what is there; False at the end."""
        try:
            while chunk := os.read(self.fd, 1 << 16):
                self.data += chunk
        except BlockingIOError:
            return True
        return False

    def text(self):
        return self.data.decode(errors='replace')

    def close_guest_end(self):
        if self.guest_fd is not None:
            os.close(self.guest_fd)
            self.guest_fd = None

    def close(self):
        self.close_guest_end()
        os.close(self.fd)


class Guest:
    """A running guest, as a context manager: whatever happens, nothing of it is left afterwards.

    root        host directory that becomes the guest's /, through hostfs
    script      text for the guest's /bin/sh, or for what its #! line names; standard input is /dev/null,
                /dev/tty0 reads what send() sent. What the root itself has below /dev, /run, /proc and /sys
                is behind mounts; `mount --bind / /run/root` shows it on /run/root
    files       name -> host path: copied into the guest beside the script, in $UMLFS_DIR
    share       another host directory, at $UMLFS_DIR/share in the guest. hostfs=DIR confines every hostfs mount
                of a guest to one directory, so a guest with a share is not confined
    user        who linux.uml runs as (a name; only root can choose)
    preload     a library for linux.uml; xstate_preload() when there is none
    timeout     seconds from the start to the end
    words       more words for the kernel's command line

    Output is read while wait() or wait_for() run, so the seconds in the result are right when they are
    called at once.
    """

    def __init__(self, root, script, *, files=None, share=None, user=None, mem='256M', timeout=120, preload=None,
                 words=()):
        self.root = os.path.abspath(root)
        self.share = os.path.abspath(share) if share is not None else None
        self.script, self.files, self.user = script, files or {}, user
        self.mem, self.timeout, self.words = mem, timeout, words
        self.preload = preload or xstate_preload()
        self.process = None
        self.started = self.ended = None

    def __enter__(self):
        with contextlib.ExitStack() as stack:
            self.dir = tempfile.mkdtemp(prefix='umlfs-guest-')
            stack.callback(shutil.rmtree, self.dir)
            self.stdout, self.status, self.kernel, self.host = self.streams = [Stream() for _ in range(4)]
            for stream in self.streams:
                stack.callback(stream.close)
            self.input_for_guest, self.input = os.pipe2(os.O_CLOEXEC)
            stack.callback(os.close, self.input)
            stack.callback(os.close, self.input_for_guest)
            command = self._command()
            if self.user is not None:
                shutil.chown(self.dir, self.user)
            self._start(command)
            stack.callback(self._end)
            stack.enter_context(heir(self.process.pid, self.dir))
            self._cleanup = stack.pop_all()
        return self

    def __exit__(self, *exc):
        self._cleanup.close()

    def _command(self):
        """The whole command line; makes the files that it names in the private directory."""
        pathlib.Path(f'{self.dir}/initrd').write_bytes(
            initramfs(guest_init()) + script_archive(self.script, self.files))
        words = ['env', f'TMPDIR={memory_dir()}']
        if self.preload:
            shutil.copy(self.preload, f'{self.dir}/preload.so')     # where `user` can read it
            words.append(f'LD_PRELOAD={self.dir}/preload.so')
        words += [uml_kernel() or 'linux.uml', f'mem={self.mem}', f'initrd={self.dir}/initrd', FAST_BOOT,
                  f'uml_dir={self.dir}/', 'umid=guest', 'con=null',
                  f'con0=fd:{self.input_for_guest},fd:{self.stdout.guest_fd}',
                  f'con1=null,fd:{self.status.guest_fd}', f'con2=null,fd:{self.kernel.guest_fd}', 'console=tty2']
        if self.share is None and ',' not in self.root:             # a comma would end hostfs=DIR
            words += [f'hostfs={self.root}', 'UMLFS_ROOT=/']
        else:
            words.append(kernel_word('UMLFS_ROOT', self.root))
        if self.share is not None:
            words.append(kernel_word('UMLFS_SHARE', self.share))
        return [*as_user(self.user), *words, *self.words]

    def _start(self, command):
        self.born = time.monotonic()
        self.process = subprocess.Popen(
            command, cwd=self.dir, start_new_session=True, stdin=subprocess.DEVNULL,
            stdout=self.host.guest_fd, stderr=subprocess.STDOUT,
            pass_fds=[self.input_for_guest] + [s.guest_fd for s in self.streams[:3]])
        self.pidfd = os.pidfd_open(self.process.pid)
        for stream in self.streams:
            stream.close_guest_end()

    def _end(self):
        """Leaves no process; idempotent. Then everything that the guest said has been read."""
        if self.pidfd is None:
            return
        os.close(self.pidfd)
        self.pidfd = None
        stuck = kill_session(self.process.pid)
        if stuck:
            raise GuestError(f'processes {stuck} cannot be killed', self._result())
        self.process.wait()
        for stream in self.streams:
            stream.read()

    def _pump(self, until):
        """Reads until until() is true, the guest has ended (False) or its time is over (exception)."""
        open_streams = list(self.streams)
        while not until():
            if self.pidfd is None:
                return False
            left = self.born + self.timeout - time.monotonic()
            if left <= 0:
                self._end()
                raise GuestTimeout(f'the guest was still running after {self.timeout} s', self._result())
            ready = select.select([self.pidfd, *(s.fd for s in open_streams)], [], [], left)[0]
            open_streams = [s for s in open_streams if s.fd not in ready or s.read()]
            self._note_times()
            if self.pidfd in ready:
                self._end()         # reads what was said last
        return True

    def _note_times(self):
        if self.started is None and b'start' in self.status.data:
            self.started = time.monotonic()
        if self.ended is None and b'status ' in self.status.data:
            self.ended = time.monotonic()

    def _status_word(self, word):
        for line in self.status.text().splitlines():
            if line.startswith(f'{word} '):
                return line[len(word) + 1:]
        return None

    def _result(self):
        status = self._status_word('status')
        return Result(status=int(status) if status is not None else None, stdout=self.stdout.text(),
                      kernel_log=self.kernel.text(), host_log=self.host.text(),
                      boot_seconds=self.started - self.born if self.started else None,
                      run_seconds=self.ended - self.started if self.ended and self.started else None)

    def _failure(self):
        """Why there is no status."""
        if why := self._status_word('error'):
            return why
        for line in (self.kernel.text() + self.host.text()).splitlines():
            if 'Kernel panic' in line:
                return line.strip()
        return f'linux.uml ended with {self.process.returncode}'

    def wait_for(self, text):
        """Returns when the script has written `text`; GuestError when it ended without, GuestTimeout."""
        if not self._pump(lambda: text.encode() in self.stdout.data):
            raise GuestError(f'the guest ended before it wrote {text!r}', self._result())

    def read_until(self, enough):
        """The same when enough(everything that the script has written) is true."""
        if not self._pump(lambda: enough(self.stdout.data)):
            raise GuestError('the guest ended before it wrote enough', self._result())

    def send(self, text):
        """Gives a line to whoever reads the guest's /dev/tty0."""
        os.write(self.input, text.encode() + b'\n')

    def wait(self):
        """Returns the Result when the guest has powered off; GuestError when it did not run the script."""
        self._pump(lambda: False)
        result = self._result()
        if result.status is None:
            raise GuestError(f'{self._failure()} (root: {self.root})', result)
        return result


def run_guest(root, script, **options):
    """Boots a guest, runs the script, returns the Result. Options and errors as for Guest."""
    with Guest(root, script, **options) as guest:
        return guest.wait()
