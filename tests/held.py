"""Programs that wait in calls to the host until a test lets them go on: hold_calls.c does it."""

import concurrent.futures
import contextlib
import os
import select

import pytest

from umlfs_cli import ROOT, Place, ids, write_archive

HELD_USERS = ['root'] if ROOT else ['ordinary']     # of root alone: threads of the test reach the mount as who they are
PATIENCE = 20
AT_ONCE = 24        # calls of a test


class Gate:
    """What a program waits at, which was started with env."""

    def __init__(self, place):
        if 'UMLFS_HOLD_CALLS' not in os.environ:
            pytest.skip('UMLFS_HOLD_CALLS is not set; meson test sets it')
        self.place, self.directory, self.begun = place, f'{place.path}/hold', []
        os.mkdir(self.directory)
        for name in ('held', 'go'):
            os.mkfifo(f'{self.directory}/{name}')
            if ROOT:
                os.chown(f'{self.directory}/{name}', *ids(place.user))
        self.held, self.go = (os.open(f'{self.directory}/{name}', os.O_RDWR) for name in ('held', 'go'))
        self.env = os.environ | {'UMLFS_HOLD': self.directory, 'LD_PRELOAD': os.environ['UMLFS_HOLD_CALLS'],
                                 'ASAN_OPTIONS': os.environ.get('ASAN_OPTIONS', '') + ':verify_asan_link_order=0'}

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.close()

    def hold(self, which):
        with open(f'{self.directory}/{which}', 'xb'):
            pass

    def expect(self, letter, seconds=PATIENCE):
        """Returns when a call waits."""
        assert select.select([self.held], [], [], seconds)[0], [future.exception() for future in self.begun if future.done()]
        assert os.read(self.held, 1) == letter

    def let_go(self, calls=20):
        """All that wait, and from now on everybody."""
        for which in ('reads', 'syncs', 'removals', 'exchanges'):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(f'{self.directory}/{which}')
        os.write(self.go, b'x' * calls)

    def let_one_go(self):
        os.write(self.go, b'x')

    def close(self):
        self.let_go()
        os.close(self.held)
        os.close(self.go)


MOUNTER = """#!/bin/sh
echo $$ >{0}/held
read line <{0}/go
exec fusermount3 "$@"
"""


@contextlib.contextmanager
def holding_mounter(place):
    """Of a daemon with this environment: fusermount3 tells its pid, then waits for a line. Both as descriptors."""
    if 'UMLFS_HOLD_CALLS' not in os.environ:
        pytest.skip('UMLFS_HOLD_CALLS is not set; meson test sets it')
    directory = place / 'hold'
    with contextlib.ExitStack() as stack:
        place.do(os.mkdir, directory)
        for name in ('held', 'go'):
            place.do(os.mkfifo, f'{directory}/{name}')
        with open(f'{directory}/mounter', 'w', encoding='ascii') as stream:
            stream.write(MOUNTER.format(directory))
        os.chmod(f'{directory}/mounter', 0o755)
        fds = [os.open(f'{directory}/{name}', os.O_RDWR) for name in ('held', 'go')]
        for fd in fds:
            stack.callback(os.close, fd)
        yield fds, os.environ | {'UMLFS_HOLD': directory, 'LD_PRELOAD': os.environ['UMLFS_HOLD_CALLS'],
                                 'ASAN_OPTIONS': os.environ.get('ASAN_OPTIONS', '') + ':verify_asan_link_order=0'}


class Held(Gate):
    """A mount whose daemon's reads, syncs and removals of content wait when the test wants it."""

    def __init__(self, place, members, session):
        super().__init__(place)
        self.pool = concurrent.futures.ThreadPoolExecutor(AT_ONCE)
        base = place.imported_base(archive=write_archive(place / 'base.tar', members))
        self.mount = place.mount(base, session, options='posix', env=self.env)
        self.pid = self.mount.pid

    def begin(self, call, *args):
        """In a thread."""
        self.begun.append(self.pool.submit(call, *args))
        return self.begun[-1]

    def path(self, name):
        return f'{self.mount}/{name}'

    def close(self):
        self.let_go()
        self.pool.shutdown()
        super().close()


@contextlib.contextmanager
def held_mount(user, members, make_disk=None):
    """make_disk: called with the place, tells what the session lies on."""
    with Place(user) as place:
        made = Held(place, members, make_disk(place) / 'session' if make_disk else 'session')
        try:
            yield made
        finally:
            made.close()
