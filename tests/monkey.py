"""Random changes of a tree, one at a time."""

import contextlib
import os
import random
import shutil
import stat
import subprocess

from calls import RENAME_EXCHANGE, overwrite, renameat2

# Of a small base, and others: what random_change() makes, changes and removes.
NAMES = ['file', 'etc/hostname', 'etc/made', 'dir', 'dir/file', 'home/user/notes', 'home/user', 'usr/bin/more',
         'bin', 'etc', 'run/fifo', 'dir/deep', 'dir/deep/link', 'tmp/a', 'tmp/b']


def random_change(chance, tree):
    """One change of the tree, whatever the names are at the moment; what cannot be done is not done."""
    path, other = (f'{tree}/{chance.choice(NAMES)}' for _ in range(2))
    word = str(chance.random()).encode()
    what = chance.choice([
        lambda: overwrite(path, word * chance.choice([0, 1, 500])), lambda: overwrite(path, word[:6].ljust(6)),
        lambda: os.mkdir(path), lambda: os.symlink(word, path), lambda: os.unlink(path), lambda: shutil.rmtree(path),
        lambda: os.link(path, other, follow_symlinks=False), lambda: os.rename(path, other),
        lambda: os.truncate(path, 3), lambda: os.utime(path, ns=(chance.randrange(10**18), chance.randrange(10**18))),
        lambda: os.chmod(path, chance.randrange(0o10000) | 0o700), lambda: os.mkfifo(path),
    ])
    if stat.S_ISFIFO(os.lstat(path).st_mode) if os.path.lexists(path) else False:
        what = lambda: os.unlink(path)  # noqa: E731: opening a fifo waits for a writer
    with contextlib.suppress(OSError, shutil.Error):
        what()


def is_below(path, directory):
    return path == directory or path.startswith(directory + '/')


class Monkey:
    """Does random things to a tree."""

    def __init__(self, top, seed):
        self.top, self.chance, self.count = top, random.Random(seed), 0

    def pick(self, want):
        found = [self.top]
        for directory, dirs, files in os.walk(self.top):
            found += [os.path.join(directory, name) for name in dirs + files]
        return self.chance.choice([path for path in found if want(path)] or [self.top])

    def file(self):
        return self.pick(lambda path: os.path.isfile(path) and not os.path.islink(path))

    def directory(self):
        return self.pick(lambda path: os.path.isdir(path) and not os.path.islink(path))

    def any(self):
        return self.pick(lambda path: path != self.top)

    def new(self):
        self.count += 1
        return os.path.join(self.directory(), f'{self.chance.choice("abcdef")}{self.count % 7}')

    def data(self):
        return self.chance.choice([b'', b'a', b'b' * 5000, b'c' * 5000])

    def step(self):
        kind = self.chance.choice(['write', 'write', 'create', 'create', 'mkdir', 'move', 'move', 'exchange', 'unlink', 'link',
                                   'symlink', 'chmod', 'chown', 'truncate', 'replace', 'remake', 'remove', 'back'])
        with contextlib.suppress(OSError):
            getattr(self, f'do_{kind}')()

    def do_write(self):
        overwrite(self.file(), self.data())

    def do_create(self):
        overwrite(self.new(), self.data())

    def do_mkdir(self):
        os.mkdir(self.new())

    def do_move(self):
        os.rename(self.any(), self.chance.choice([self.new, self.any])())

    def do_back(self):
        one, other = self.any(), self.new()
        os.rename(one, other)
        os.rename(other, one)

    def do_exchange(self):
        renameat2(self.any(), self.any(), RENAME_EXCHANGE)

    def do_unlink(self):
        path = self.any()
        os.rmdir(path) if os.path.isdir(path) and not os.path.islink(path) else os.unlink(path)

    def do_link(self):
        os.link(self.file(), self.new())

    def do_symlink(self):
        os.symlink(self.chance.choice(['x', 'y']), self.new())

    def do_chmod(self):
        path = self.any()
        if not os.path.islink(path):
            os.chmod(path, self.chance.choice([0o755, 0o777, 0o700]))

    def do_chown(self):
        os.chown(self.any(), self.chance.choice([0, 5]), self.chance.choice([0, 6]), follow_symlinks=False)

    def do_truncate(self):
        os.truncate(self.file(), self.chance.choice([0, 1, 4096, 5000]))

    def do_replace(self):
        path, new = self.file(), self.new()
        with open(path, 'rb') as stream:
            data = stream.read()
        overwrite(new, self.chance.choice([data, self.data()]))
        os.rename(new, path)

    def do_remake(self):
        """A directory gets another with what it had."""
        path, new = self.directory(), self.new()
        if path == self.top or is_below(new, path):
            return
        os.mkdir(new)
        for name in os.listdir(path):
            if self.chance.random() < 0.8:
                os.rename(os.path.join(path, name), os.path.join(new, name))
        renameat2(path, new, RENAME_EXCHANGE)

    def do_remove(self):
        if self.chance.random() < 0.2:
            subprocess.run(['rm', '-rf', self.any()], check=True)
