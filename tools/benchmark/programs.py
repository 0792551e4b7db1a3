"""Programs that people run: what is measured on every place in turn."""

from .processes import run
from .work import Work


def clone(place, space, number):
    run("git", "clone", "--quiet", "--no-hardlinks", space.repository, place.root / f"clone-{number}")


def remove_clone(place, space, number):
    run("rm", "-rf", place.root / f"clone-{number}")


def status(place, space, number):
    run("git", "-C", place.root / f"clone-{number}", "status", "--short")


def compile_all(place, space, number):
    run("make", "-s", "-j2", "-C", place.root / f"clone-{number}")


CASES = [
    Work("git-clone", "git clone, 600 files", clone, undo=remove_clone),
    Work("git-status", "git status there", status, prepare=clone, undo=remove_clone),
    Work("compile", "make -j2 there, 300 objects", compile_all, prepare=clone, undo=remove_clone, rounds_max=3),
]
