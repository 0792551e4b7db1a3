"""What a command that was refused may have left in a place: files, mounts, processes."""

import contextlib
import os

from umlfs_cli import differences, dump, mounts_below, processes_of, wait_pid


def state(directory):
    """What is on disk below, but what umlfs has mounted there, times, and who had a lock last."""
    mounts = {mountpoint for mountpoint, kind, _ in mounts_below(directory) if kind == 'fuse.umlfs'}
    found = dump(directory, forget=['mtime', 'nlink'], leave_out=mounts)
    return {path: entry._replace(sha256=None, size=None) if os.path.basename(path) == 'lock' else entry
            for path, entry in found.items()}


@contextlib.contextmanager
def nothing_changes(place):
    """Files, mounts and processes of the place are afterwards what they were before."""
    before, mounts, processes = state(place.path), mounts_below(place.path), processes_of(place.path)
    yield
    for pid in set(processes_of(place.path)) - set(processes):
        assert wait_pid(pid, 10), f'process {pid} is left'
    assert mounts_below(place.path) == mounts
    assert differences(state(place.path), before) == []


def refused_without_trace(place, *args, **options):
    """The line that the program refuses with; it must have left everything as it was."""
    with nothing_changes(place):
        return place.refused(*args, **options)
