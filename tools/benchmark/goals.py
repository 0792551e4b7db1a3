"""The cases that have a goal: what umlfs promises of its commands, its memory and its descriptors."""

import dataclasses
import os
import pathlib
import re
from collections.abc import Callable

from . import trees
from .processes import Failed, progress, run, timed

KILO, MEGA = 1000, 1_000_000
DATA_MEGABYTES = 500
FILES_LIMIT = 1024   # what `ulimit -n` says of the daemon whose descriptors are counted
SNAPSHOTS = 200
FILES_PER_SNAPSHOT = 25


@dataclasses.dataclass(frozen=True)
class Goal:
    name: str
    title: str
    measure: Callable           # (workspace) -> one value
    unit: str = "ms"
    limit: float | None = None  # the value shall be no more
    often: int = 1              # how many times in a round: short cases need more to be judged
    rounds_max: int = 10
    ratio_to: str | None = None  # the case of the other way to do the same ...
    ratio_limit: float = 0.0     # ... and this part of it the value shall be no more


# --- what happens in a session before it is measured -------------------------------------------------------------

def make_files(root):
    """10,000 files of 100 bytes in 10 directories."""
    for d in range(10):
        directory = f"{root}/made-{d}"
        os.mkdir(directory)
        for i in range(KILO):
            with open(f"{directory}/file-{i}", "wb", buffering=0) as file:
                file.write(b"x" * 100)


def boot(root):
    """200 entries, as a boot leaves them: directories and files made, files changed, others removed."""
    os.mkdir(f"{root}/run")
    for i in range(49):
        with open(f"{root}/run/file-{i}", "wb", buffering=0) as file:
            file.write(b"x" * 100)
    for name in trees.READ[:50]:
        with open(f"{root}/{name}", "ab", buffering=0) as file:
            file.write(b"x" * 100)
    for name in trees.READ[50:100]:
        os.chmod(f"{root}/{name}", 0o600)
    for name in trees.READ[100:150]:
        os.unlink(f"{root}/{name}")


def change_all(root):
    run("chown", "-R", "7:7", root)


def write_data(root):
    chunk = os.urandom(MEGA)
    with open(f"{root}/data", "wb", buffering=0) as file:
        for _ in range(DATA_MEGABYTES):
            file.write(chunk)


def nothing(root):
    pass


# --- how it is measured ----------------------------------------------------------------------------------------

def spawn(space):
    return run("true")[0] * KILO


def after(change, verb, *arguments, entries=0, size=0):
    """Milliseconds that a command takes after a change to a new session, which shall have so many entries or bytes."""
    def measure(space):
        space.sync()
        with space.session() as session:
            change(session.root)
            state = session.status()
            if state["entries"] < entries or state["bytes"] < size:
                raise Failed(f"too few changes to measure: {state['entries']} entries, {state['bytes']} bytes")
            return session.command(verb, *arguments) * KILO
    return measure


def renew_overlay(space):
    """Milliseconds to unmount the kernel's overlayfs, remove what was made in it, and mount it again."""
    top = space.new_path("overlay-reset")
    options = f"lowerdir={space.base.extracted},upperdir={top}/upper,workdir={top}/work"
    mount = f"mkdir {top}/upper {top}/work && mount -t overlay -o {options} overlay {top}/mnt"
    (top / "mnt").mkdir(parents=True)
    run("sh", "-c", mount, interruptible=False)
    make_files(top / "mnt")
    space.sync()
    seconds = run("sh", "-c", f"umount {top}/mnt && rm -rf {top}/upper {top}/work && {mount}", interruptible=False)[0]
    run("umount", top / "mnt", interruptible=False)
    space.remove(top)
    return seconds * KILO


def mount_imported(space):
    with space.session() as session:
        return session.mount_seconds * KILO


def mount_directory(space):
    run("find", space.base.extracted, "-size", "+1")
    with space.session(base=space.base.extracted) as session:
        return session.mount_seconds * KILO


def memory(space):
    """MiB that the daemon holds after everything was looked at."""
    with space.session() as session:
        pid = session.status()["pid"]
        run("find", session.root, "-size", "+1")
        status = pathlib.Path(f"/proc/{pid}/status").read_text()
        return int(re.search(r"^VmRSS:\s+(\d+) kB", status, re.MULTILINE)[1]) / 1024


def read_and_write(root, number):
    """Reads and writes the files that are number's share."""
    first = number * FILES_PER_SNAPSHOT
    for name in trees.READ[first:first + FILES_PER_SNAPSHOT]:
        with open(f"{root}/{name}", "r+b", buffering=0) as file:
            file.read()
            file.write(b"changed")


def open_files(space):
    """The most descriptors that the daemon had open."""
    with space.session(files=FILES_LIMIT) as session:
        descriptors = f"/proc/{session.status()['pid']}/fd"
        most = 0
        for number in range(SNAPSHOTS):
            read_and_write(session.root, number)
            session.command("snapshot", f"snapshot-{number}")
            most = max(most, len(os.listdir(descriptors)))
        return most


def write_first_byte(root):
    """Milliseconds for a byte into the middle of the base file of 1 GiB."""
    fd = os.open(f"{root}/{trees.IMAGE}", os.O_WRONLY)
    seconds = timed(os.pwrite, fd, b"x", trees.IMAGE_BYTES // 2)
    os.close(fd)
    return seconds * KILO


def first_byte(space):
    with space.session(base=space.image_base.imported) as session:
        return write_first_byte(session.root)


def first_byte_disk(space):
    """KiB that all files of the session take more for it, records and folders included."""
    with space.session(base=space.image_base.imported) as session:
        before = disk_use(session.path)
        write_first_byte(session.root)
        space.sync()
        return (disk_use(session.path) - before) / 1024


def disk_use(session):
    return sum(path.lstat().st_blocks * 512 for name in ("layers", "manifest", "log") for path in
               [session / name, *(session / name).rglob("*")] if path.exists())


CASES = [
    Goal("spawn", "starting any process (true)", spawn, often=10),
    Goal("snapshot-empty", "snapshot, nothing changed", after(nothing, "snapshot", "new"), limit=5, often=3),
    Goal("snapshot-files", "snapshot, 10,000 files made",
         after(make_files, "snapshot", "new", entries=10_000), limit=5),
    Goal("snapshot-changes", "snapshot, 100,000 entries changed",
         after(change_all, "snapshot", "new", entries=100_000), limit=5, rounds_max=3),
    Goal("snapshot-data", "snapshot, 500 MB of fresh data",
         after(write_data, "snapshot", "new", size=DATA_MEGABYTES * MEGA), limit=5, rounds_max=3),
    Goal("reset-boot", "reset, a boot's changes (200 entries)", after(boot, "reset", entries=200), limit=5, often=3),
    Goal("overlayfs-reset", "overlayfs: unmount, remove, mount", renew_overlay, rounds_max=3),
    Goal("reset-files", "reset, 10,000 files made", after(make_files, "reset", entries=10_000), limit=60,
         ratio_to="overlayfs-reset", ratio_limit=0.1),
    Goal("mount-imported", "mount, imported base of 100,000", mount_imported, limit=50, often=3),
    Goal("mount-directory", "mount, directory of 100,000, cache warm", mount_directory, limit=1000),
    Goal("memory", "memory after a walk of 100,000", memory, unit="MiB", limit=40, rounds_max=3),
    Goal("first-write", "first byte written to a base file, 1 GiB", first_byte, limit=10, often=3),
    Goal("first-write-disk", "disk that it takes", first_byte_disk, unit="KiB", limit=1024),
    Goal("open-files", "files open: 5,000 written, 200 snapshots", open_files, unit="files", limit=511, rounds_max=1),
]


def measure(space, cases, only, rounds, results):
    for goal in cases:
        # The ratio needs both figures of the same run.
        needed = any(other.ratio_to == goal.name and other.name in only for other in cases)
        if goal.name not in only and not needed:
            continue
        values, problem = [], None
        try:
            for number in range(min(rounds, goal.rounds_max) * goal.often):
                progress(f"{goal.name} {number + 1} ...")
                values.append(goal.measure(space))
        except (Failed, OSError) as failed:
            problem = str(failed)
        results.add_goal(goal, values, problem)
