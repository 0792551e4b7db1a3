"""The cases that are measured on every place in turn."""

import dataclasses
import errno
import os
from collections.abc import Callable

from . import places, trees
from .processes import Failed, progress, run, timed

KILO = 1000
MANY = 10_000


@dataclasses.dataclass(frozen=True)
class Work:
    name: str
    title: str
    run: Callable                                          # (place, workspace, round): what is timed
    prepare: Callable = lambda place, space, number: None
    undo: Callable = lambda place, space, number: None     # so that the next round finds what this one found
    rounds_max: int = 5


def fresh(place, space, number):
    place.renew()


def find(place, space, number):
    """Looks at the attributes of every entry: -size needs them."""
    run("find", place.root, "-size", "+1")


def stat_files(place, space, number):
    for name in trees.FLAT:
        os.stat(f"{place.root}/{name}")


def miss(place, space, number):
    for file in range(MANY):
        os.path.lexists(f"{place.root}/tree/absent-{file}")


def renew_and_enter(place, space, number):
    place.renew()
    os.stat(f"{place.root}/tree")


def read_files(place, space, number):
    for name in trees.READ:
        fd = os.open(f"{place.root}/{name}", os.O_RDONLY)
        os.read(fd, trees.PAGE)
        os.close(fd)


def make_directory(place, space, number):
    os.mkdir(f"{place.root}/made-{number}")


def create_files(place, space, number):
    for file in range(MANY):
        os.close(os.open(f"{place.root}/made-{number}/file-{file}", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644))


def write_pages(place, space, number):
    page = b"x" * trees.PAGE
    fd = os.open(f"{place.root}/pages", os.O_WRONLY | os.O_CREAT, 0o644)
    try:
        for position in range(MANY):
            os.pwrite(fd, page, position * trees.PAGE)
    finally:
        os.close(fd)


def remove_pages(place, space, number):
    os.unlink(f"{place.root}/pages")


def renew_and_find(place, space, number):
    place.renew()
    run("find", place.root / "read", "-size", "+1")


def chmod(place, space, number):
    run("chmod", "-R", "g-w", place.root / "read")


def chmod_back(place, space, number):
    run("chmod", "-R", "g+w", place.root / "read")


def rename(place, space, number):
    os.rename(f"{place.root}/flat", f"{place.root}/renamed")


def rename_back(place, space, number):
    os.rename(f"{place.root}/renamed", f"{place.root}/flat")


def make_place_to_unpack(place, space, number):
    os.mkdir(f"{place.root}/round-{number}")


def unpack(place, space, number):
    run("tar", "-xf", space.archive, "-C", place.root / f"round-{number}")


def unpack_if_missing(place, space, number):
    """The case before this one has, unless it was left out."""
    if not os.path.exists(f"{place.root}/round-{number}"):
        make_place_to_unpack(place, space, number)
        unpack(place, space, number)


def remove_unpacked(place, space, number):
    run("rm", "-rf", place.root / f"round-{number}" / "unpacked")


CASES = [
    Work("find-first", "find, 100,000 entries, new mount", find, prepare=fresh),
    Work("find-again", "find, again", find, prepare=find),
    Work("stat", "stat 10,000 known files", stat_files, prepare=stat_files),
    Work("miss-first", "10,000 lookups that miss", miss, prepare=renew_and_enter),
    Work("miss-again", "10,000 lookups that miss, again", miss, prepare=miss),
    Work("read-first", "read 10,000 files, new mount", read_files, prepare=fresh),
    Work("read-again", "read 10,000 files, again", read_files, prepare=read_files),
    Work("create", "create and close 10,000 files", create_files, prepare=make_directory),
    Work("pwrite", "10,000 pwrites of 4 KiB", write_pages, undo=remove_pages),
    Work("chmod", "chmod -R, 10,000 base files", chmod, prepare=renew_and_find, undo=chmod_back),
    Work("rename", "rename base directory of 10,000", rename, undo=rename_back),
    Work("untar", "untar 10,000 entries", unpack, prepare=make_place_to_unpack),
    Work("remove", "rm -rf of them", remove_unpacked, prepare=unpack_if_missing),
]


def grown(before, after):
    """The FUSE requests, by kind, that came in between; None for a place that has none."""
    if before is None:
        return None
    return {kind: n - before.get(kind, 0) for kind, n in after.items() if n > before.get(kind, 0)}


def measure_once(work, place, space, number):
    """(milliseconds, FUSE requests by kind)"""
    work.prepare(place, space, number)
    before = place.requests()
    seconds = timed(work.run, place, space, number)
    requests = grown(before, place.requests())
    work.undo(place, space, number)
    return seconds * KILO, requests


def measure_places(work, everywhere, space, rounds, results):
    values = {place.name: [] for place in everywhere}
    problems, requests = {}, {}
    for number in range(min(rounds, work.rounds_max)):
        for place in everywhere:
            if place.name in problems:
                continue
            progress(f"{work.name} {number + 1}: {place.name} ...")
            try:
                value, requests[place.name] = measure_once(work, place, space, number)
                values[place.name].append(value)
            except OSError as error:
                problems[place.name] = errno.errorcode.get(error.errno, str(error))
            except Failed as failed:
                problems[place.name] = str(failed)
    results.add_work(work, values, problems, requests.get("umlfs"))


def measure(space, only, rounds, results):
    chosen = [work for work in CASES if work.name in only]
    if not chosen:
        return
    progress("mounting ...")
    everywhere = places.make_all(space)
    for work in chosen:
        measure_places(work, everywhere, space, rounds, results)
