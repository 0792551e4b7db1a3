"""Small files: what is measured on every place in turn."""

import os

from . import trees
from .processes import Failed, run
from .work import REQUEST, Work, fresh

MANY = 10_000
PROCESSES = 8


def ask(place, space, number):
    """What no kernel caches of a FUSE file system."""
    for _ in range(MANY):
        os.statvfs(place.root)


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


def open_files(place, space, number):
    for name in trees.FLAT:
        os.close(os.open(f"{place.root}/{name}", os.O_RDONLY))


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


def unlink_files(place, space, number):
    for file in range(MANY):
        os.unlink(f"{place.root}/made-{number}/file-{file}")


def rename_files(place, space, number):
    for file in range(MANY):
        os.rename(f"{place.root}/made-{number}/file-{file}", f"{place.root}/made-{number}/renamed-{file}")


def make_files(place, space, number):
    make_directory(place, space, number)
    create_files(place, space, number)


def remove_made(place, space, number):
    run("rm", "-rf", place.root / f"made-{number}")


def make_directories(place, space, number):
    for file in range(MANY):
        os.mkdir(f"{place.root}/made-{number}/directory-{file}")


def create_in_processes(place, space, number):
    """Each process in a directory of its own."""
    pids = []
    for process in range(PROCESSES):
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                top = f"{place.root}/made-{number}/{process}"
                os.mkdir(top)
                for file in range(MANY // PROCESSES):
                    os.close(os.open(f"{top}/file-{file}", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644))
                status = 0
            finally:
                os._exit(status)
        pids.append(pid)
    if any([os.waitpid(pid, 0)[1] for pid in pids]):
        raise Failed("a process could not make its files")


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


def chown(place, space, number):
    run("chown", "-R", "7:7", place.root / "read")


def chown_back(place, space, number):
    run("chown", "-R", "0:0", place.root / "read")


def append(place, space, number):
    for name in trees.READ:
        fd = os.open(f"{place.root}/{name}", os.O_WRONLY | os.O_APPEND)
        os.write(fd, b"x")
        os.close(fd)


def remove_base(place, space, number):
    run("rm", "-rf", place.root / "read")


def restore_base(place, space, number):
    place.restore("read")


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
    Work(REQUEST, "10,000 statvfs, a request each", ask, prepare=fresh),
    Work("find-first", "find, 100,000 entries, new mount", find, prepare=fresh),
    Work("find-again", "find, again", find, prepare=find),
    Work("stat", "stat 10,000 known files", stat_files, prepare=stat_files),
    Work("miss-first", "10,000 lookups that miss", miss, prepare=renew_and_enter),
    Work("miss-again", "10,000 lookups that miss, again", miss, prepare=miss),
    Work("read-first", "read 10,000 files, new mount", read_files, prepare=fresh),
    Work("read-again", "read 10,000 files, again", read_files, prepare=read_files),
    Work("create", "create and close 10,000 files", create_files, prepare=make_directory, undo=remove_made),
    Work("pwrite", "10,000 pwrites of 4 KiB", write_pages, undo=remove_pages),
    Work("open", "open and close 10,000 known files", open_files, prepare=open_files),
    Work("create-8", "create 10,000 files, 8 processes", create_in_processes, prepare=make_directory, undo=remove_made),
    Work("mkdir", "make 10,000 directories", make_directories, prepare=make_directory, undo=remove_made),
    Work("rename-files", "rename 10,000 files", rename_files, prepare=make_files, undo=remove_made),
    Work("unlink", "unlink 10,000 files", unlink_files, prepare=make_files, undo=remove_made),
    Work("chmod", "chmod -R, 10,000 base files", chmod, prepare=renew_and_find, undo=chmod_back),
    Work("chown", "chown -R, 10,000 base files", chown, prepare=renew_and_find, undo=chown_back),
    Work("append", "append to 10,000 base files", append, prepare=renew_and_find),
    Work("remove-base", "rm -rf of 10,000 base files", remove_base, prepare=renew_and_find, undo=restore_base),
    Work("rename", "rename base directory of 10,000", rename, undo=rename_back),
    Work("untar", "untar 10,000 entries", unpack, prepare=make_place_to_unpack),
    Work("remove", "rm -rf of them", remove_unpacked, prepare=unpack_if_missing),
]
