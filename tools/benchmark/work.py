"""The same work on every place in turn: how it is described, and how it is measured."""

import dataclasses
import errno
from collections.abc import Callable

from . import places
from .processes import Failed, progress, timed

KILO = 1000
REQUEST = "request"     # the case that tells what a request takes that asks for next to nothing


@dataclasses.dataclass(frozen=True)
class Work:
    name: str
    title: str
    run: Callable                                          # (place, workspace, round): what is timed
    prepare: Callable = lambda place, space, number: None
    undo: Callable = lambda place, space, number: None     # so that the next round finds what this one found
    rounds_max: int = 5
    too_slow: tuple = ()        # places where it was seen to take over ten minutes, and is not measured
    measure: Callable = timed                              # (run, place, workspace, round): seconds


def fresh(place, space, number):
    place.renew()


def grown(before, after):
    """The FUSE requests, by kind, that came in between; None for a place that has none."""
    if before is None:
        return None
    return {kind: n - before.get(kind, 0) for kind, n in after.items() if n > before.get(kind, 0)}


def measure_once(work, place, space, number):
    """(milliseconds, FUSE requests by kind)"""
    work.prepare(place, space, number)
    before = place.requests()
    seconds = work.measure(work.run, place, space, number)
    requests = grown(before, place.requests())
    work.undo(place, space, number)
    return seconds * KILO, requests


def measure_places(work, everywhere, space, rounds, results):
    values = {place.name: [] for place in everywhere}
    problems, requests = {name: "OVER 10 MIN" for name in work.too_slow}, {}
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


def measure(space, base, cases, only, rounds, results):
    """Of the cases those in `only`; base gives the tree that all places stand on, when it is needed."""
    chosen = [work for work in cases if work.name in only]
    if not chosen:
        return
    everywhere = places.make_all(space, base())
    for work in chosen:
        measure_places(work, everywhere, space, rounds, results)
