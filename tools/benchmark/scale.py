"""What grows: a base of a million entries, a million changes, a hundred thousand names, fifty snapshots, a hundred sessions."""

import os
import pathlib
import re
import statistics
import time

from . import trees
from .goals import Goal
from .processes import Failed, run
from .work import Work

KILO = 1000
NAMES = 100_000
SNAPSHOTS = 50
CHANGES_PER_SNAPSHOT = 100
SESSIONS = 100


def held(session):
    """MiB that the session's daemon holds. Pss: of what it shares with others only its part."""
    text = pathlib.Path(f"/proc/{session.status()['pid']}/smaps_rollup").read_text()
    return int(re.search(r"^Pss:\s+(\d+) kB", text, re.MULTILINE)[1]) / 1024


# --- a base of a million entries --------------------------------------------------------------------------------

def import_large(space):
    return space.large_base.import_seconds


def mount_large(space):
    with space.session(space.large_base.imported) as session:
        return session.mount_seconds * KILO


def find_large(space):
    with space.session(space.large_base.imported) as session:
        return run("find", session.root, "-size", "+1")[0]


def memory_large(space):
    with space.session(space.large_base.imported) as session:
        run("find", session.root, "-size", "+1")
        return held(session)


# --- a session of a million changes ------------------------------------------------------------------------------

class Changed:
    """The session whose every entry has another owner now; the cases follow each other."""

    def __init__(self, space):
        self.session = space.session(space.large_base.imported)
        self.frozen = False
        self.seconds = run("chown", "-R", "7:7", self.session.root)[0]
        if self.session.status()["entries"] < trees.LARGE_ENTRIES:
            raise Failed("too few changes to measure")


def of_changed(measure):
    """measure(session of a million changes) as a case; the session is made once in a run."""
    def case(space):
        return measure(space.once(Changed))
    return case


def remount(changed):
    changed.session.umount()
    changed.session.mount()
    return changed.session.mount_seconds * KILO


def snapshot(changed):
    changed.frozen = True
    return changed.session.command("snapshot", "all") * KILO


def umount_frozen(changed):
    """The first one writes the snapshot's table."""
    if not changed.frozen:
        snapshot(changed)
    start = time.perf_counter()
    changed.session.umount()
    seconds = time.perf_counter() - start
    changed.session.mount()
    return seconds


def mount_frozen(changed):
    if not changed.frozen:
        umount_frozen(changed)
    return remount(changed)


def held_frozen(changed):
    """Just mounted: what is looked at comes into memory."""
    mount_frozen(changed)
    return held(changed.session)


def reset(changed):
    return changed.session.command("reset", "@base") * KILO


# --- fifty snapshots -----------------------------------------------------------------------------------------------

class Chain:
    """Fifty snapshots, one on the other, a hundred files changed in each."""

    def __init__(self, space):
        self.session = space.session()
        for number in range(SNAPSHOTS):
            first = number * CHANGES_PER_SNAPSHOT
            for name in trees.READ[first:first + CHANGES_PER_SNAPSHOT]:
                os.chmod(f"{self.session.root}/{name}", 0o600)
            self.session.command("snapshot", f"number-{number}")
        self.session.umount()
        self.session.mount()


def mount_chain(space):
    return space.once(Chain).session.mount_seconds * KILO


def stat_names(root):
    for name in trees.READ:
        os.lstat(f"{root}/{name}")


def timed_stat(session):
    start = time.perf_counter()
    stat_names(session.root)
    return (time.perf_counter() - start) * KILO


def lookup_chain(space):
    return timed_stat(space.once(Chain).session)


def lookup_unchanged(space):
    with space.session() as session:
        return timed_stat(session)


# --- a hundred sessions --------------------------------------------------------------------------------------------

class Crowd:
    """A hundred sessions on one base, all mounted."""

    def __init__(self, space):
        self.sessions = [space.session() for _ in range(SESSIONS)]


def mount_crowd(space):
    return statistics.median(session.mount_seconds for session in space.once(Crowd).sessions) * KILO


def memory_crowd(space):
    return statistics.median(held(session) for session in space.once(Crowd).sessions)


CASES = [
    Goal("scale-import", "import, 1,000,000 entries", import_large, unit="s", rounds_max=1),
    Goal("scale-mount", "mount, base of 1,000,000", mount_large, limit=100),
    Goal("scale-find", "first find, base of 1,000,000", find_large, unit="s"),
    Goal("scale-memory", "memory after it", memory_large, unit="MiB", rounds_max=1),
    Goal("scale-changes-made", "chown -R of 1,000,000", of_changed(lambda changed: changed.seconds), unit="s", rounds_max=1),
    Goal("scale-changes-mount", "mount, 1,000,000 changes", of_changed(remount)),
    Goal("scale-changes-memory", "memory with 1,000,000 changes", of_changed(lambda changed: held(changed.session)),
         unit="MiB", rounds_max=1),
    Goal("scale-changes-snapshot", "snapshot, 1,000,000 changes", of_changed(snapshot), limit=5, rounds_max=1),
    Goal("scale-snapshot-umount", "umount after it, a table written", of_changed(umount_frozen), unit="s", rounds_max=1),
    Goal("scale-snapshot-mount", "mount, snapshot of 1,000,000 changes", of_changed(mount_frozen)),
    Goal("scale-snapshot-memory", "memory of it, just mounted", of_changed(held_frozen), unit="MiB", rounds_max=1),
    Goal("scale-changes-reset", "reset to the base, 1,000,000 changes", of_changed(reset), rounds_max=1),
    Goal("scale-chain-mount", "mount, chain of 50 snapshots", mount_chain, rounds_max=1),
    Goal("scale-lookup", "10,000 first lookups, no snapshot", lookup_unchanged),
    Goal("scale-chain-lookup", "10,000 first lookups, 50 snapshots", lookup_chain, rounds_max=1,
         ratio_to="scale-lookup", ratio_limit=1.5),
    Goal("scale-sessions-mount", "mount, each of 100 sessions", mount_crowd, rounds_max=1),
    Goal("scale-sessions-memory", "memory of each of 100 sessions", memory_crowd, unit="MiB", rounds_max=1),
]


# --- a directory of a hundred thousand names; on every place in turn ---------------------------------------------------

def make_names(place, space, number):
    os.mkdir(f"{place.root}/names-{number}")
    for file in range(NAMES):
        os.close(os.open(f"{place.root}/names-{number}/name-{file}", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644))


def make_names_if_missing(place, space, number):
    """The case before this one has, unless it was left out."""
    if not os.path.exists(f"{place.root}/names-{number}"):
        make_names(place, space, number)


def list_names(place, space, number):
    if len(os.listdir(f"{place.root}/names-{number}")) != NAMES:
        raise Failed("names are missing")


def look_names_up(place, space, number):
    for file in range(NAMES):
        os.lstat(f"{place.root}/names-{number}/name-{file}")


def remove_names(place, space, number):
    for file in range(NAMES):
        os.unlink(f"{place.root}/names-{number}/name-{file}")


def remove_directory(place, space, number):
    os.rmdir(f"{place.root}/names-{number}")


SLOW = ("fuse-overlayfs",)

WORK = [
    Work("scale-names-make", "make 100,000 names in one directory", make_names, rounds_max=1, too_slow=SLOW),
    Work("scale-names-list", "list them", list_names, prepare=make_names_if_missing, rounds_max=1, too_slow=SLOW),
    Work("scale-names-lookup", "look them all up", look_names_up, prepare=make_names_if_missing, rounds_max=1, too_slow=SLOW),
    Work("scale-names-remove", "remove them all", remove_names, prepare=make_names_if_missing, undo=remove_directory, rounds_max=1,
         too_slow=SLOW),
]
