"""Where the tests of `umlfs run` run it: a base, a temporary directory that must be empty afterwards, a terminal.

    site            the Site, one for all tests; afterwards nothing is left of what the test ran
    one_line()      what a refusal must look like
    told()          a run, and what it tells of itself
    read_until()    waits for words of a process
    Terminal        `umlfs run` on a pseudo-terminal
"""

import contextlib
import fcntl
import json
import os
import pathlib
import re
import select
import struct
import subprocess
import tempfile
import termios
import time

import pytest

import guest
import umlfs_cli
from debian import debian_root
from umlfs_cli import PATIENCE, Place, identity, mounts_below, program


class Site:
    """An imported Debian, and a temporary directory that everything of a run must be in, and gone from at the end.

    The base is an ordinary user's; root uses it as well.
    """

    def __init__(self, place, base):
        self.place, self.base, self.tmp = place, base, place / 'tmp'
        place.do(os.mkdir, self.tmp)
        os.chmod(self.tmp, 0o777)

    def options(self, options):
        env = {**os.environ, 'TMPDIR': self.tmp, **options.get('env', {})}
        return {'stdin': subprocess.DEVNULL, 'cwd': self.tmp, **options, 'env': env}

    def start(self, *words, user='ordinary', **options):
        return subprocess.Popen([program(), 'run', *words], **identity(user), **self.options(options))

    def run(self, *words, user='ordinary', **options):
        return umlfs_cli.run('run', *words, user=user, **self.options(options))

    def script(self, script, *flags, **options):
        return self.run(*flags, self.base, '--', 'sh', '-c', script, **options)

    def left(self):
        """What a run has left: names in the temporary directory, mounts, processes."""
        return os.listdir(self.tmp) + mounts_below(self.place.path) + self.processes()

    def processes(self):
        """The living that were given a path in this place."""
        found = []
        for entry in filter(str.isdigit, os.listdir('/proc')):
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                words = pathlib.Path(f'/proc/{entry}/cmdline').read_bytes()
                if os.fsencode(self.place.path) in words:
                    found.append((int(entry), words))
        return found

    def session(self, name, snapshot='one'):
        """A session that stands on a snapshot where /made is there. Not mounted."""
        mounted = self.place.mount(self.base, name)
        mounted.do(pathlib.Path(mounted / 'made').write_text, 'made before\n')
        self.place.run('snapshot', mounted.session, snapshot)
        mounted.umount()
        return mounted.session

    def status(self, session):
        return json.loads(self.place.run('status', '--json', session))


@pytest.fixture(scope='session')
def everything():
    if guest.uml_kernel() is None:
        pytest.skip('no linux.uml: apt-get install user-mode-linux')
    with tempfile.TemporaryDirectory(prefix='umlfs-debian-') as scratch, Place('ordinary') as place:
        archive = debian_root(os.environ.get('UMLFS_TEST_CACHE') or scratch).archive
        with open(archive, 'rb') as stream:     # the cache may lie where the user may not go
            subprocess.run([program(), 'import', '-', place / 'base'], stdin=stream, check=True, cwd='/',
                           stderr=subprocess.DEVNULL, **identity('ordinary'))
        yield Site(place, place / 'base')


@pytest.fixture
def site(everything):
    """Checks that nothing is left, and sees to it in any case."""
    assert not everything.left(), everything.left()
    yield everything
    left = everything.left()
    for pid, words in everything.processes():
        if not words.startswith(os.fsencode(program())):        # a guest; without it the keeper goes by itself
            umlfs_cli.kill_and_wait(pid)
    everything.place._end_mounts()
    for name in os.listdir(everything.tmp):
        umlfs_cli.remove_tree(f'{everything.tmp}/{name}')
    assert not left, left


def one_line(result, status=125):
    assert (result.status, result.stdout) == (status, ''), result
    assert re.fullmatch(r'umlfs: [^\n]+: [^\n]+\n(usage: umlfs run [^\n]+\n( +[^\n]+\n)*)?', result.stderr), result
    return result.stderr


@contextlib.contextmanager
def told(site, *words):
    """A run with its streams, and what it tells of itself."""
    read_end, write_end = os.pipe()
    with site.start('--json-status-fd', str(write_end), *words, pass_fds=[write_end], stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE) as process, open(read_end, encoding='ascii') as events:
        os.close(write_end)
        yield process, json.loads(events.readline())


def read_until(stream, words):
    """Reads a process's output, byte by byte, up to these words."""
    seen = b''
    while words not in seen:
        byte = stream.read(1)
        assert byte, f'ended after {seen!r}'
        seen += byte
    return seen


class Terminal:
    """`umlfs run` on a terminal of its own, as a context manager."""

    def __init__(self, site, *words, env=None, **options):
        self.site, self.words, self.seen = site, words, b''
        self.options = {'env': {'TERM': 'vt220', **(env or {})}, **options}

    def __enter__(self):
        self.fd, self.theirs = os.openpty()
        self.resize(33, 101)
        self.before = termios.tcgetattr(self.theirs)
        self.process = self.site.start(
            *self.words, stdin=self.theirs, stdout=self.theirs, stderr=self.theirs, start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0), **self.options)
        return self

    def __exit__(self, *exc):
        if self.process.poll() is None:
            self.process.terminate()
            self.process.wait(PATIENCE)
        os.close(self.fd)
        os.close(self.theirs)

    def resize(self, rows, cols):
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack('HHHH', rows, cols, 0, 0))

    def type(self, text):
        os.write(self.fd, text.encode())

    def wait_for(self, words, seconds=20):
        """Returns when the terminal shows them; what it shows later counts next time."""
        words, deadline = words.encode(), time.monotonic() + seconds
        while words not in self.seen:
            assert select.select([self.fd], [], [], max(0, deadline - time.monotonic()))[0], (words, self.seen)
            self.seen += os.read(self.fd, 4096)
        self.seen = self.seen.partition(words)[2]

    def rest(self):
        """What it shows and nobody has waited for."""
        while select.select([self.fd], [], [], 0)[0]:
            self.seen += os.read(self.fd, 4096)
        return self.seen.decode(errors='replace')

    def ended(self):
        """The status; the terminal must be as it was."""
        status = self.process.wait(PATIENCE)
        assert termios.tcgetattr(self.theirs) == self.before
        return status
