"""The temporary directory of a run: bases in it are made when first asked for, and nothing of it is left at the end."""

import contextlib
import ctypes
import functools
import json
import os
import pathlib
import re
import tempfile

from . import trees
from .processes import Failed, progress, run, undisturbed

LIBC = ctypes.CDLL(None, use_errno=True)


def build(project):
    """A release build below the project; gives the program's path."""
    directory = project / "build-bench"
    progress("building ...")
    if not (directory / "build.ninja").exists():
        run("meson", "setup", "--buildtype=release", directory, project)
    run("ninja", "-C", directory)
    return directory / "tools" / "umlfs"


def _mounts_below(directory):
    """(mountpoint, type) of each, the last mounted first."""
    found = []
    for line in pathlib.Path("/proc/self/mountinfo").read_text().splitlines():
        before, _, after = line.partition(" - ")
        point = re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), before.split()[4])
        if point.startswith(f"{directory}/"):
            found.append((point, after.split()[0]))
    return found[::-1]


class Workspace:
    def __init__(self, umlfs, parent=None):
        self.umlfs = umlfs
        self._serial = 0
        self._made = {}
        with undisturbed():
            self.path = pathlib.Path(tempfile.mkdtemp(prefix="umlfs-bench-", dir=parent)).resolve()
        with contextlib.suppress(Failed):
            run("chattr", "+T", self.path)

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        with undisturbed():
            progress("cleaning up ...")
            self._clean_up()
            progress("")

    def _clean_up(self):
        for point, kind in _mounts_below(self.path):
            unmount = (self.umlfs, "umount") if kind == "fuse.umlfs" else ("umount",)
            try:
                run(*unmount, point, interruptible=False)
            except Failed:
                run("umount", "--lazy", point, interruptible=False)
        if _mounts_below(self.path):
            raise Failed(f"{self.path}: something is mounted there still: not removed")
        run("rm", "-rf", "--one-file-system", self.path, interruptible=False)

    def new_path(self, label):
        """
        A name not used before. ext4 finds inodes slowly for minutes where many were freed; with the flag T it puts
        each new directory in a region of its own.
        """
        self._serial += 1
        return self.path / f"{label}-{self._serial}"

    def sync(self):
        """What earlier cases wrote shall not be written during this one."""
        fd = os.open(self.path, os.O_RDONLY)
        LIBC.syncfs(fd)
        os.close(fd)

    @staticmethod
    def remove(directory):
        run("rm", "-rf", "--one-file-system", directory)

    @functools.cached_property
    def base(self):
        return Base(self, "base", trees.write_base)

    @functools.cached_property
    def image_base(self):
        """One large file."""
        return Base(self, "image-base", trees.write_image_base)

    @functools.cached_property
    def large_base(self):
        """A million entries."""
        return Base(self, "large-base", trees.write_large_base)

    @functools.cached_property
    def guest_base(self):
        """A Debian root."""
        return Base(self, "guest-base", write_debian)

    def once(self, kind):
        """kind(self), made when it is first asked for."""
        if kind not in self._made:
            self._made[kind] = kind(self)
        return self._made[kind]

    @functools.cached_property
    def archive(self):
        path = self.path / "archive.tar"
        trees.write_archive(path)
        return path

    @functools.cached_property
    def repository(self):
        """What `git clone` reads: a repository of small C files and a Makefile."""
        path = self.path / "repository"
        path.mkdir()
        trees.write_sources(path)
        identity = ("-c", "user.name=bench", "-c", "user.email=bench@localhost")
        for words in (("init", "--quiet"), ("add", "."), (*identity, "commit", "--quiet", "--message", "all")):
            run("git", "-C", path, *words)
        return path

    def session(self, base=None, **options):
        return Session(self, base or self.base.imported, **options)


def write_debian(path):
    run("mmdebstrap", "--quiet", "--variant=minbase", "bookworm", path)


class Base:
    """A tree that sessions stand on, in the forms that the file systems want; each is made when first asked for."""

    def __init__(self, space, name, write):
        self.space, self.name, self._write = space, name, write

    @functools.cached_property
    def _archive(self):
        progress(f"making the {self.name} ...")
        path = self.space.path / f"{self.name}.tar"
        self._write(path)
        return path

    @functools.cached_property
    def imported(self):
        """As `umlfs import` makes it."""
        path = self.space.path / f"{self.name}-imported"
        archive = self._archive
        progress(f"importing the {self.name} ...")
        self._import_seconds = run(self.space.umlfs, "import", archive, path)[0]
        return path

    @property
    def import_seconds(self):
        """What `umlfs import` took."""
        assert self.imported
        return self._import_seconds

    @functools.cached_property
    def extracted(self):
        """As tar makes it; nobody writes to it."""
        return self.extract("extracted")

    def extract(self, label):
        directory = self.space.path / f"{self.name}-{label}"
        directory.mkdir()
        run("tar", "-xf", self._archive, "-C", directory)
        return directory


class Session:
    """A new session, mounted; as a context it is unmounted and removed at the end."""

    def __init__(self, space, base, files=None):
        self.space, self.base, self.files = space, base, files
        self.path = space.new_path("session")
        self.root = self.path / "rootfs"
        self.mount()

    def mount(self):
        limit = ("prlimit", f"--nofile={self.files}:{self.files}") if self.files else ()
        self.mount_seconds = run(*limit, self.space.umlfs, "mount", self.base, self.path, interruptible=False)[0]

    def umount(self):
        run(self.space.umlfs, "umount", self.path, interruptible=False)

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.close()

    def close(self):
        self.umount()
        self.space.remove(self.path)

    def command(self, verb, *arguments):
        """Seconds that `umlfs VERB SESSION ...` took."""
        return run(self.space.umlfs, verb, self.path, *arguments)[0]

    def status(self):
        return json.loads(run(self.space.umlfs, "status", "--json", self.path)[1])
