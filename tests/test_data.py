"""Random reads and writes of every kind through a mount give the bytes that a model in memory has.

UMLFS_DATA_OPS and UMLFS_DATA_SEED choose how many and which; a failure prints the seed and the last of them.
"""

import copy
import errno
import mmap
import os
import random

import pytest

from calls import FALLOC_KEEP_SIZE, FALLOC_PUNCH_HOLE, FALLOC_ZERO_RANGE, fallocate
from places import PAIRS
from umlfs_cli import Place

OPERATIONS = int(os.environ.get('UMLFS_DATA_OPS', 3000))
SEED = int(os.environ.get('UMLFS_DATA_SEED', 1))
BLOCK = 4096
GIB = 1 << 30
LEAST_KEPT = 24


# --- the model ---------------------------------------------------------------------------------------------------

class Bytes:
    """A file's content: blocks that are not there are zeros, and so is what lies behind the end."""

    def __init__(self):
        self.size, self.blocks = 0, {}

    def read(self, at, length):
        out = bytearray()
        end = min(at + length, self.size)
        while at < end:
            block, start = divmod(at, BLOCK)
            n = min(BLOCK - start, end - at)
            out += self.blocks[block][start:start + n] if block in self.blocks else bytes(n)
            at += n
        return bytes(out)

    def write(self, at, data):
        self.size = max(self.size, at + len(data)) if data else self.size
        while data:
            block, start = divmod(at, BLOCK)
            n = min(BLOCK - start, len(data))
            self.blocks.setdefault(block, bytearray(BLOCK))[start:start + n] = data[:n]
            at, data = at + n, data[n:]

    def zero(self, at, length):
        """Within the file and behind its end; the size stays."""
        end = at + length
        for block in [block for block in self.blocks if at < (block + 1) * BLOCK and block * BLOCK < end]:
            start, stop = max(at - block * BLOCK, 0), min(end - block * BLOCK, BLOCK)
            self.blocks[block][start:stop] = bytes(stop - start)

    def truncate(self, size):
        if size < self.size:
            self.zero(size, self.size - size)
            self.blocks = {block: data for block, data in self.blocks.items() if block * BLOCK < size}
        self.size = size

    def is_zero(self, at, end):
        return not any(any(data[max(at - block * BLOCK, 0):max(min(end - block * BLOCK, BLOCK), 0)])
                       for block, data in self.blocks.items() if at < (block + 1) * BLOCK and block * BLOCK < end)


class File:
    def __init__(self, paths, is_large=False):
        self.paths, self.is_large, self.bytes = paths, is_large, Bytes()


def starting_files(dice):
    """{name: File} of the base."""
    files = {'small': File(['small']), 'empty': File(['empty']), 'linked': File(['linked', 'dir/one', 'dir/sub/two']),
             'middle': File(['dir/middle']), 'parts': File(['dir/parts', 'parts']),
             'large': File(['large', 'dir/large'], True)}
    files['small'].bytes.write(0, b'a few bytes')
    files['linked'].bytes.write(0, dice.randbytes(30_000))
    files['middle'].bytes.write(0, dice.randbytes(700_001))
    files['parts'].bytes.write(0, dice.randbytes(3_000_001))
    for at in (0, GIB - 5, 4 * GIB - 3000, 5 * GIB + 100):
        files['large'].bytes.write(at, dice.randbytes(9000))
    files['large'].bytes.truncate(6 * GIB + 17)
    return files


def make_files(top, files):
    os.makedirs(f'{top}/dir/sub')
    for file in files.values():
        with open(f'{top}/{file.paths[0]}', 'wb') as stream:
            for block, data in sorted(file.bytes.blocks.items()):
                stream.seek(block * BLOCK)
                stream.write(data)
            stream.truncate(file.bytes.size)
        for path in file.paths[1:]:
            os.link(f'{top}/{file.paths[0]}', f'{top}/{path}')


# --- what is done to it ------------------------------------------------------------------------------------------

class Run:
    """A mount, the model of its files, and their open descriptors."""

    def __init__(self, place, kind, seed):
        self.place, self.dice, self.done, self.saved = place, random.Random(seed), [], {}
        self.files = starting_files(self.dice)
        self.open, self.maps, self.number = [], [], 0
        place.do(make_files, f'{place.path}/source', self.files)
        self.base = f'{place.path}/source'
        if kind == 'imported':
            place.run('import', self.base, f'{place.path}/base')
            self.base = f'{place.path}/base'
        self.saved['@base'] = copy.deepcopy(self.files)
        self.mount = place.mount(self.base, options=None if kind == 'imported' else 'posix')

    # choices

    def some_file(self):
        return self.files[self.dice.choice(sorted(self.files))]

    def some_offset(self, file):
        near = [0, file.bytes.size, self.dice.randrange(60_000)]
        near += [4 * GIB, GIB, self.dice.randrange(7 * GIB)] if file.is_large else []
        return max(0, self.dice.choice(near) + self.dice.choice([0, -1, 1, -BLOCK, BLOCK, self.dice.randint(-9000, 9000)]))

    def some_length(self):
        return self.dice.choice([1, 7, BLOCK, self.dice.randrange(1, 300), self.dice.randrange(1, 20_000),
                                 self.dice.randrange(1, 150_000)])

    def some_fd(self, file):
        """An open one, or a new one under one of the names; appending ones are append()'s."""
        fds = [fd for owner, fd in self.open if owner is file]
        if fds and self.dice.random() < 0.8:
            return self.dice.choice(fds)
        if len(self.open) > LEAST_KEPT:
            os.close(self.open.pop(self.dice.randrange(len(self.open)))[1])
        fd = os.open(f'{self.mount}/{self.dice.choice(file.paths)}', os.O_RDWR)
        self.open.append((file, fd))
        return fd

    # operations: each returns what it did, for the message

    def read(self):
        file = self.some_file()
        at, length = self.some_offset(file), self.some_length()
        got = os.pread(self.some_fd(file), length, at)
        assert got == file.bytes.read(at, length), (file.paths, at, length, len(got))
        return file.paths[0], at, length

    def write(self):
        file = self.some_file()
        at, data = self.some_offset(file), self.dice.randbytes(self.some_length())
        assert os.pwrite(self.some_fd(file), data, at) == len(data)
        file.bytes.write(at, data)
        return file.paths[0], at, len(data)

    def append(self):
        file = self.some_file()
        data = self.dice.randbytes(self.some_length())
        fd = os.open(f'{self.mount}/{self.dice.choice(file.paths)}', os.O_WRONLY | os.O_APPEND)
        try:
            assert os.write(fd, data) == len(data)
        finally:
            os.close(fd)
        file.bytes.write(file.bytes.size, data)
        return file.paths[0], len(data)

    def truncate(self):
        file = self.some_file()
        size = self.some_offset(file)
        if self.dice.random() < 0.5:
            os.ftruncate(self.some_fd(file), size)
        else:
            os.truncate(f'{self.mount}/{self.dice.choice(file.paths)}', size)
        file.bytes.truncate(size)
        return file.paths[0], size

    def open_and_truncate(self):
        file = self.some_file()
        if file.is_large or self.dice.random() < 0.7:
            return 'nothing'
        os.close(os.open(f'{self.mount}/{self.dice.choice(file.paths)}', os.O_WRONLY | os.O_TRUNC))
        file.bytes.truncate(0)
        return file.paths[0]

    def map(self):
        """Writes and reads through a mapping, which stays for a while."""
        file = self.some_file()
        start = self.some_offset(file) // BLOCK * BLOCK
        length = min(file.bytes.size - start, self.some_length())
        if length <= 0:
            return 'nothing'
        mapped = mmap.mmap(self.some_fd(file), length, offset=start)
        assert mapped[:] == file.bytes.read(start, length), (file.paths, start, length)
        at, data = self.dice.randrange(length), self.dice.randbytes(self.dice.randrange(1, 9000))
        data = data[:length - at]
        mapped[at:at + len(data)] = data
        file.bytes.write(start + at, data)
        self.maps.append((file, start, length, mapped))
        if len(self.maps) > 8:
            self.maps.pop(0)[3].close()
        return file.paths[0], start, length, at, len(data)

    def look_at_maps(self):
        """What is within the file: behind its end is SIGBUS."""
        for file, start, length, mapped in self.maps:
            length = min(length, file.bytes.size - start)
            if length > 0:
                assert mapped[:length] == file.bytes.read(start, length), (file.paths, start, length)
        return len(self.maps)

    def allocate(self):
        file = self.some_file()
        at, length = self.some_offset(file), self.some_length()
        mode = self.dice.choice([0, FALLOC_KEEP_SIZE, FALLOC_PUNCH_HOLE | FALLOC_KEEP_SIZE, FALLOC_ZERO_RANGE,
                                 FALLOC_PUNCH_HOLE | FALLOC_KEEP_SIZE, FALLOC_ZERO_RANGE | FALLOC_KEEP_SIZE])
        fallocate(self.some_fd(file), mode, at, length)
        if mode & (FALLOC_PUNCH_HOLE | FALLOC_ZERO_RANGE):
            file.bytes.zero(at, length)
        if not mode & FALLOC_KEEP_SIZE:
            file.bytes.size = max(file.bytes.size, at + length)
        return mode, file.paths[0], at, length

    def copy(self):
        source, target = self.some_file(), self.some_file()
        at, to, length = self.some_offset(source), self.some_offset(target), self.some_length()
        if source is target and at < to + length and to < at + length:
            return 'nothing'
        data = source.bytes.read(at, length)
        n = os.copy_file_range(self.some_fd(source), self.some_fd(target), length, at, to)
        assert n == len(data) or 0 < n < len(data), (source.paths, at, target.paths, to, length, n)
        target.bytes.write(to, data[:n])
        return source.paths[0], at, target.paths[0], to, length, n

    def sync(self):
        file = self.some_file()
        if self.dice.random() < 0.8:
            return 'nothing'
        os.fsync(self.some_fd(file))
        return file.paths[0]

    def make(self):
        """A new file, or one goes: its open descriptors stay useful, but nothing looks."""
        new = sorted(name for name in self.files if name.startswith('new'))
        if len(new) > 4:
            name = self.dice.choice(new)
            for path in self.files[name].paths:
                os.unlink(f'{self.mount}/{path}')
            self.let_go(self.files.pop(name))
            return 'unlinked', name
        self.number += 1
        name = f'new-{self.number}'
        self.files[name] = File([f'dir/{name}'], self.dice.random() < 0.3)
        os.close(os.open(f'{self.mount}/dir/{name}', os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644))
        return 'made', name

    def link(self):
        file = self.some_file()
        if len(file.paths) > 3 or (len(file.paths) > 1 and self.dice.random() < 0.5):
            path = file.paths.pop(self.dice.randrange(len(file.paths)))
            os.unlink(f'{self.mount}/{path}')
            return 'unlinked', path
        self.number += 1
        os.link(f'{self.mount}/{file.paths[0]}', f'{self.mount}/link-{self.number}')
        file.paths.append(f'link-{self.number}')
        return file.paths[0], file.paths[-1]

    def seek(self):
        """Data and holes cover the file in turns, and there is nothing in the holes.

        The kernel asks without writing what mappings have changed.
        """
        file = self.some_file()
        self.flush_maps(file)
        fd, at, size = self.some_fd(file), 0, file.bytes.size
        assert os.fstat(fd).st_size == size, (file.paths, os.fstat(fd).st_size, size)
        while at < size:
            try:
                data = os.lseek(fd, at, os.SEEK_DATA)
            except OSError as error:
                assert error.errno == errno.ENXIO
                data = size
            assert at <= data <= size and file.bytes.is_zero(at, data), (file.paths, at, data, size)
            at = data
            if at < size:
                at = os.lseek(fd, at, os.SEEK_HOLE)
                assert data < at <= size, (file.paths, data, at, size)
        return file.paths[0]

    # layers

    def let_go(self, file=None):
        """Closes descriptors and mappings, of one file or of all."""
        for owner, _, _, mapped in self.maps:
            if file in (None, owner):
                mapped.close()
        for owner, fd in self.open:
            if file in (None, owner):
                os.close(fd)
        self.maps = [entry for entry in self.maps if file not in (None, entry[0])]
        self.open = [entry for entry in self.open if file not in (None, entry[0])]

    def flush_maps(self, file=None):
        """What is in a mapping alone is in no snapshot."""
        for owner, _, _, mapped in self.maps:
            if file in (None, owner):
                mapped.flush()

    def change_layers(self):
        name = f's{self.dice.randrange(4)}'
        kind = self.dice.choice(['snapshot', 'reset', 'reset', 'remount'])
        if kind == 'remount':
            self.place.do(self.let_go)
            self.mount.umount()
            self.mount = self.place.mount(self.base, options=None if 'base' in self.base else 'posix')
        elif kind == 'snapshot' and name not in self.saved:
            self.place.do(self.flush_maps)
            self.place.run('snapshot', self.mount.session, name)
            self.saved[name] = copy.deepcopy(self.files)
        elif kind == 'reset':
            name = self.dice.choice(sorted(self.saved))
            self.place.do(self.let_go)
            self.place.run('reset', self.mount.session, name)
            self.files = copy.deepcopy(self.saved[name])
        self.done.append((kind, name))
        self.place.do(self.compare)

    def compare(self):
        for file in self.files.values():
            for path in file.paths:
                st = os.stat(f'{self.mount}/{path}')
                assert (st.st_size, st.st_nlink) == (file.bytes.size, len(file.paths)), (path, st, file.bytes.size)
            fd = os.open(f'{self.mount}/{file.paths[-1]}', os.O_RDONLY)
            try:
                for block in file.bytes.blocks:
                    assert os.pread(fd, BLOCK, block * BLOCK) == file.bytes.read(block * BLOCK, BLOCK), (path, block)
            finally:
                os.close(fd)

    def some(self, count):
        """So many operations on bytes, as the mount's user."""
        calls = [self.read] * 5 + [self.write] * 4 + [self.append, self.truncate, self.truncate, self.open_and_truncate,
                 self.map, self.map, self.look_at_maps, self.allocate, self.allocate, self.allocate, self.copy, self.copy,
                 self.sync, self.make, self.link, self.seek, self.seek]
        for _ in range(count):
            call = self.dice.choice(calls)
            self.done.append((call.__name__, 'began'))
            self.done[-1] = (call.__name__, call())

    def all(self, count):
        while count > 0:
            n = min(count, self.dice.randrange(1, 120))
            self.place.do(self.some, n)
            self.change_layers()
            count -= n


@pytest.mark.parametrize('kind, user', PAIRS)
def test_random_writes_give_the_bytes_of_the_model(kind, user):
    with Place(user) as place:
        run = Run(place, kind, SEED)
        try:
            run.all(OPERATIONS)
        except BaseException:
            print(f'UMLFS_DATA_SEED={SEED}; the last of {len(run.done)} operations:', *run.done[-40:], sep='\n  ')
            raise
        finally:
            place.do(run.let_go)
