"""Where the same work is done in turn: a plain directory and three file systems that stand on the same base."""

import shutil

from .processes import run


class Directory:
    """A copy of the base without any file system in between; being mounted anew means nothing to it."""

    name = "directory"

    def __init__(self, space, base):
        self.base, self.root = base, base.extract("directory")

    def renew(self):
        pass

    def restore(self, name):
        """Makes a directory of the base what it was."""
        run("cp", "-a", self.base.extracted / name, self.root)

    def requests(self):
        return None


class Overlay:
    name = "overlayfs"

    def __init__(self, space, base):
        self.space, self.base = space, base
        self.root = space.new_path(f"{self.name}-mount")
        self.root.mkdir()
        self._mount()

    def _mount_command(self, options):
        return ["mount", "-t", "overlay", "-o", options, "overlay"]

    def _mount(self):
        self.layer = self.space.new_path(self.name)
        for directory in (self.layer, self.layer / "upper", self.layer / "work"):
            directory.mkdir()
        options = f"lowerdir={self.base.extracted},upperdir={self.layer}/upper,workdir={self.layer}/work"
        run(*self._mount_command(options), self.root, interruptible=False)

    def restore(self, name):
        self.renew()

    def renew(self):
        run("umount", self.root, interruptible=False)
        self.space.remove(self.layer)
        self._mount()

    def requests(self):
        return None


class FuseOverlay(Overlay):
    name = "fuse-overlayfs"

    def _mount_command(self, options):
        return ["fuse-overlayfs", "-o", options]


class Umlfs:
    name = "umlfs"

    def __init__(self, space, base):
        self.space, self.base = space, base
        self._mount()

    def _mount(self):
        self.session = self.space.session(base=self.base.imported)
        self.root = self.session.root

    def restore(self, name):
        self.renew()

    def renew(self):
        self.session.close()
        self._mount()

    def requests(self):
        return self.session.status()["requests"]


KINDS = (Directory, Overlay, FuseOverlay, Umlfs)


def make_all(space, base):
    """All that this machine has."""
    return [kind(space, base) for kind in KINDS if kind is not FuseOverlay or shutil.which("fuse-overlayfs")]
