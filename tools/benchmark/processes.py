"""Runs other programs, and times them as a user sees them."""

import contextlib
import os
import signal
import sys
import time

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Failed(Exception):
    """Says what failed and why."""


class Ended(BaseException):
    """A signal asked for an end; its argument is the signal's number."""


def _end(number, frame):
    raise Ended(number)


def end_on_signals():
    """Every signal that asks for an end is an exception, so that what is mounted is unmounted."""
    for number in ENDING:
        signal.signal(number, _end)


@contextlib.contextmanager
def undisturbed():
    """Signals that ask for an end wait until the block is over."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _wait(pid, interruptible):
    if not interruptible:
        return os.waitpid(pid, 0)[1]
    try:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDING)
        return os.waitpid(pid, 0)[1]
    except Ended:
        os.kill(pid, signal.SIGTERM)
        os.waitpid(pid, 0)
        raise


def _read(fd):
    return os.pread(fd, os.fstat(fd).st_size, 0).decode(errors="replace")


def run(*command, interruptible=True):
    """Runs a program to its end: (seconds, what it printed). Its group is its own: Ctrl-C reaches this script alone."""
    command = [str(word) for word in command]
    out = os.memfd_create("output")
    actions = [(os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
               (os.POSIX_SPAWN_DUP2, out, 1), (os.POSIX_SPAWN_DUP2, out, 2)]
    try:
        with undisturbed():
            start = time.perf_counter()
            try:
                pid = os.posix_spawnp(command[0], command, os.environ, file_actions=actions, setpgroup=0, setsigmask=[])
            except OSError as error:
                raise Failed(f"{command[0]}: {error.strerror}") from error
            status = _wait(pid, interruptible)
            seconds = time.perf_counter() - start
        printed = _read(out)
    finally:
        os.close(out)
    if status != 0:
        why = printed.strip() or f"exit status {os.waitstatus_to_exitcode(status)}"
        raise Failed(f"{' '.join(command)}: {why}")
    return seconds, printed


def timed(call, *arguments):
    start = time.perf_counter()
    call(*arguments)
    return time.perf_counter() - start


def progress(text):
    """One line that the next one replaces, on a terminal only."""
    if sys.stderr.isatty():
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)
