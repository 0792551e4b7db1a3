"""How long others wait while one process moves a gigabyte: statvfs(2) is asked for again and again, by another process.

statvfs is a question that no kernel answers for a FUSE file system by itself.
"""

import json
import os
import signal
import time

from . import trees
from .large import CHUNK, read_image, remove_written, write_image
from .processes import Failed, run
from .work import Work

PAUSE = 0.0005      # seconds between two questions
SYNC_EVERY = 128    # MiB
PART = 0.99

latest = {}         # place and kind of work: seconds that the questions of the last round took, sorted


def forget_image(place):
    """The host has nothing of it in memory any more."""
    files = [place.base.extracted / trees.IMAGE, place.base.imported / trees.IMAGE]
    if place.requests() is None:
        files.append(place.root / trees.IMAGE)
    for path in files:
        fd = os.open(path, os.O_RDONLY)
        os.fsync(fd)
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(fd)


def renew_cold(place, space, number):
    place.renew()
    forget_image(place)


def write_and_sync(place, space, number):
    chunk = b"x" * CHUNK
    fd = os.open(f"{place.root}/written", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
    for number in range(trees.IMAGE_BYTES // CHUNK):
        os.write(fd, chunk)
        if number % SYNC_EVERY == SYNC_EVERY - 1:
            os.fsync(fd)
    os.close(fd)


def copy_image(place, space, number):
    run("cp", place.root / trees.IMAGE, place.root / "written")


def ask(root, to):
    """Until a signal comes; then tells how long each question took."""
    asking, seconds = True, []

    def stop(*_):
        nonlocal asking
        asking = False
    signal.signal(signal.SIGTERM, stop)
    os.write(to, b"\n")
    while asking:
        start = time.perf_counter()
        os.statvfs(root)
        seconds.append(time.perf_counter() - start)
        time.sleep(PAUSE)
    with open(to, "w", encoding="ascii") as stream:
        json.dump(seconds, stream)


def others_wait(kind):
    """Measures PART of what the questions took while the work was done."""
    def measure(work, place, space, number):
        read_end, write_end = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(read_end)
            try:
                ask(place.root, write_end)
            finally:
                os._exit(0)
        os.close(write_end)
        with open(read_end, "rb") as stream:
            stream.readline()
            try:
                work(place, space, number)
            finally:
                os.kill(pid, signal.SIGTERM)
                text = stream.read()
                os.waitpid(pid, 0)
        if not text:
            raise Failed("who asked has died")
        latest[place.name, kind] = sorted(json.loads(text))
        return latest[place.name, kind][int(len(latest[place.name, kind]) * PART)]
    return measure


def longest(kind):
    """Of the round before, of the same work."""
    def measure(work, place, space, number):
        if (place.name, kind) not in latest:
            raise Failed("the case before this one was left out")
        return latest[place.name, kind][-1]
    return measure


def nothing(place, space, number):
    pass


def pair(kind, title, work, prepare, undo):
    """The longest is of the last round alone."""
    return [Work(f"wait-{kind}", f"statvfs during {title}: 99 of 100", work, prepare=prepare, undo=undo, rounds_max=3,
                 measure=others_wait(kind)),
            Work(f"wait-{kind}-longest", "the longest", nothing, rounds_max=1, measure=longest(kind))]


CASES = [
    *pair("read", "a cold read of 1 GiB", read_image, renew_cold, lambda place, space, number: None),
    *pair("write", "1 GiB written", write_image, lambda place, space, number: None, remove_written),
    *pair("sync", "1 GiB written and synced", write_and_sync, lambda place, space, number: None, remove_written),
    *pair("copy", "cp of 1 GiB", copy_image, renew_cold, remove_written),
]
