"""The trees that cases work on, as tar archives and as lists of names.

The base has 100,000 entries:
  flat/            10,000 empty files in one directory
  read/dNN/        10,000 files of 4 KiB in 100 directories
  tree/dNNN/       the rest: directories of 99 entries, empty files and now and then a symbolic link

The large base has 1,000,000 entries: directories of 99 empty files.

The image base has one file of 1 GiB; the sources are 600 small C files and a Makefile.
"""

import io
import tarfile

BASE_ENTRIES = 100_000
LARGE_ENTRIES = 1_000_000
FLAT_FILES = 10_000
READ_DIRS = 100
READ_FILES = 100  # in each
PAGE = 4096
TREE_ENTRIES = 99  # in each directory
ARCHIVE_DIRS, ARCHIVE_FILES, ARCHIVE_BYTES = 100, 99, 1024
TIME = 1_700_000_000
IMAGE, IMAGE_BYTES = "image", 1 << 30
SOURCE_DIRS, SOURCE_FILES = 20, 30

FLAT = [f"flat/libsomething-{i:05}.so" for i in range(FLAT_FILES)]
READ = [f"read/d{d:02}/document-{i:03}.txt" for d in range(READ_DIRS) for i in range(READ_FILES)]


def _tree_names():
    """Yields directories (ending in /) and what is in them, as many as make the base whole."""
    left = BASE_ENTRIES - (1 + len(FLAT)) - (1 + READ_DIRS + len(READ)) - 1
    directory = 0
    while left > 0:
        yield f"tree/d{directory:03}/"
        inside = min(TREE_ENTRIES, left - 1)
        for i in range(inside):
            yield f"tree/d{directory:03}/module-{i:02}.ko"
        left -= 1 + inside
        directory += 1


TREE = list(_tree_names())


def _member(name, kind=tarfile.REGTYPE, size=0, target=""):
    info = tarfile.TarInfo(name.rstrip("/"))
    info.type, info.size, info.linkname, info.mtime = kind, size, target, TIME
    info.mode = {tarfile.DIRTYPE: 0o755, tarfile.SYMTYPE: 0o777}.get(kind, 0o664)
    return info


def _base_members():
    for name in ["flat/", "read/", "tree/"] + [f"read/d{d:02}/" for d in range(READ_DIRS)]:
        yield _member(name, tarfile.DIRTYPE)
    for name in FLAT:
        yield _member(name)
    for name in READ:
        yield _member(name, size=PAGE)
    for number, name in enumerate(TREE):
        if name.endswith("/"):
            yield _member(name, tarfile.DIRTYPE)
        elif number % 50 == 49:
            yield _member(name, tarfile.SYMTYPE, target="module-00.ko")
        else:
            yield _member(name)


def _archive_members():
    for d in range(ARCHIVE_DIRS):
        yield _member(f"unpacked/d{d:02}/", tarfile.DIRTYPE)
        for i in range(ARCHIVE_FILES):
            yield _member(f"unpacked/d{d:02}/source-{i:02}.c", size=ARCHIVE_BYTES)


def _write(path, members):
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as archive:
        for info in members:
            archive.addfile(info, io.BytesIO(b"x" * info.size) if info.size else None)


def write_base(path):
    _write(path, _base_members())


class _Empty:
    """Headers of empty members that differ in their names alone: a million by way of tarfile take most of a minute."""

    def __init__(self, kind):
        header = _member("", kind).tobuf(tarfile.USTAR_FORMAT)
        self.before, self.after = header[100:148], header[156:]
        self.sum = sum(self.before) + sum(self.after) + 8 * ord(" ")

    def named(self, name):
        name = name.encode()
        return b"%s%s%06o\0 %s" % (name.ljust(100, b"\0"), self.before, self.sum + sum(name), self.after)


def _large_headers():
    folder, file = _Empty(tarfile.DIRTYPE), _Empty(tarfile.REGTYPE)
    for d in range(LARGE_ENTRIES // (TREE_ENTRIES + 1)):
        directory = f"part-{d // 100:02}/" + (f"d{d % 100:02}/" if d % 100 else "")
        yield folder.named(directory)
        for i in range(TREE_ENTRIES):
            yield file.named(f"{directory}module-{i:02}.ko")


def write_large_base(path):
    with open(path, "wb") as archive:
        archive.writelines(_large_headers())
        archive.write(bytes(2 * tarfile.BLOCKSIZE))


def write_archive(path):
    """10,000 entries below unpacked/, which is not an entry itself."""
    _write(path, _archive_members())


class _Numbers(io.RawIOBase):
    """Bytes of which no page is like another."""

    def __init__(self, size):
        self.left, self.number = size, 0

    def read(self, size=-1):
        size = min(self.left, size if size >= 0 else self.left) // PAGE * PAGE
        self.left -= size
        pages = range(self.number, self.number + size // PAGE)
        self.number += len(pages)
        return b"".join(page.to_bytes(8, "little") * (PAGE // 8) for page in pages)


def write_image_base(path):
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as archive:
        archive.addfile(_member(IMAGE, size=IMAGE_BYTES), _Numbers(IMAGE_BYTES))


def write_sources(root):
    for d in range(SOURCE_DIRS):
        directory = root / f"part-{d:02}"
        directory.mkdir()
        for i in range(SOURCE_FILES):
            body = "\n".join(f"int f_{d}_{i}_{n}(int x) {{ return x * {n} + {i}; }}" for n in range(20))
            (directory / f"source-{i:02}.c").write_text(f"#include <stdio.h>\n{body}\n")
    (root / "Makefile").write_text(
        "OBJECTS = $(patsubst %.c,%.o,$(wildcard part-0*/*.c))\n"
        "all: $(OBJECTS)\n\tar rc all.a $(OBJECTS)\n"
        "%.o: %.c\n\t$(CC) -O0 -c -o $@ $<\n")
