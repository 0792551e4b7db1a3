"""Large files: what is measured on every place in turn."""

import os

from . import trees
from .processes import run
from .work import Work, fresh

CHUNK = 1 << 20
PAGE = 4096
MANY = 10_000


def write_first_byte(place, space, number):
    fd = os.open(f"{place.root}/{trees.IMAGE}", os.O_WRONLY)
    os.pwrite(fd, b"x", trees.IMAGE_BYTES // 2)
    os.close(fd)


def read_image(place, space, number):
    fd = os.open(f"{place.root}/{trees.IMAGE}", os.O_RDONLY)
    while os.read(fd, CHUNK):
        pass
    os.close(fd)


def read_pages(place, space, number):
    """In an order that no reading ahead helps."""
    fd = os.open(f"{place.root}/{trees.IMAGE}", os.O_RDONLY)
    for i in range(MANY):
        os.pread(fd, PAGE, i * 7919 % (trees.IMAGE_BYTES // PAGE) * PAGE)
    os.close(fd)


def write_image(place, space, number):
    chunk = b"x" * CHUNK
    fd = os.open(f"{place.root}/written", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
    for _ in range(trees.IMAGE_BYTES // CHUNK):
        os.write(fd, chunk)
    os.close(fd)


def remove_written(place, space, number):
    run("rm", "-f", place.root / "written")


CASES = [
    Work("first-byte", "first byte written to a base file, 1 GiB", write_first_byte, prepare=fresh, undo=fresh, rounds_max=3),
    Work("read-large", "read 1 GiB, new mount", read_image, prepare=fresh, rounds_max=3),
    Work("read-large-again", "read 1 GiB, again", read_image, prepare=read_image, rounds_max=3),
    Work("pread", "10,000 preads of 4 KiB", read_pages, prepare=read_image, rounds_max=3),
    Work("write-large", "write 1 GiB", write_image, undo=remove_written, rounds_max=3),
]
