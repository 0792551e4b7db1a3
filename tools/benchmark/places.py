"""Where the same work is done in turn: a plain directory and three file systems that stand on the same base."""

import shutil

from .processes import run


class Directory:
    """A copy of the base without any file system in between; being mounted anew means nothing to it."""

    name = "directory"

    def __init__(self, space):
        self.root = space.extract("directory")

    def renew(self):
        pass

    def requests(self):
        return None


class Overlay:
    name = "overlayfs"

    def __init__(self, space):
        self.space = space
        self.top = space.path / self.name
        self.root = self.top / "mnt"
        self.root.mkdir(parents=True)
        self._mount()

    def _mount_command(self, options):
        return ["mount", "-t", "overlay", "-o", options, "overlay"]

    def _mount(self):
        for name in ("upper", "work"):
            (self.top / name).mkdir()
        options = f"lowerdir={self.space.extracted},upperdir={self.top}/upper,workdir={self.top}/work"
        run(*self._mount_command(options), self.root, interruptible=False)

    def renew(self):
        run("umount", self.root, interruptible=False)
        self.space.remove(self.top / "upper", self.top / "work")
        self._mount()

    def requests(self):
        return None


class FuseOverlay(Overlay):
    name = "fuse-overlayfs"

    def _mount_command(self, options):
        return ["fuse-overlayfs", "-o", options]


class Umlfs:
    name = "umlfs"

    def __init__(self, space):
        self.space = space
        self._mount()

    def _mount(self):
        self.session = self.space.session("compared")
        self.root = self.session.root

    def renew(self):
        self.session.close()
        self._mount()

    def requests(self):
        return self.session.status()["requests"]


KINDS = (Directory, Overlay, FuseOverlay, Umlfs)


def make_all(space):
    """All that this machine has."""
    return [kind(space) for kind in KINDS if kind is not FuseOverlay or shutil.which("fuse-overlayfs")]
