"""What a call on a mount costs in requests, and calls that should cost none the second time."""

import json
import mmap
import os
import subprocess

from calls import on, opened, outcome, sh
from places import Again, paths_below
from umlfs_cli import program


def status(here):
    """As umlfs_cli's, from a process that is the mount's user already."""
    answer = subprocess.run([program(), 'status', '--json', here.session], cwd='/', stdin=subprocess.DEVNULL, check=True,
                            stdout=subprocess.PIPE)
    return json.loads(answer.stdout)


def reads_of(pid):
    """How often a process called read(2): a daemon does for every request, also for a kind that it does not count."""
    with open(f'/proc/{pid}/io', encoding='ascii') as stream:
        return int(dict(line.split(': ') for line in stream)['syscr'])


def cost(here, call, *args):
    """{kind: number} of the requests that a call causes; 'uncounted' is there when the daemon got one that it hides."""
    before = status(here)
    reads = reads_of(before['pid'])
    call(*args)
    silent = reads_of(before['pid']) == reads
    after = status(here)['requests']
    found = {kind: after[kind] - before['requests'].get(kind, 0) for kind in after
             if after[kind] != before['requests'].get(kind, 0)}
    return found if found or silent else {'uncounted': 1}


def agree(found, *wanted):
    """Of requests: others than these may be the kernel's doing, so that the round does not count."""
    if found not in wanted:
        raise Again(f'{found}, not {" or ".join(map(str, wanted))}')


def costs(wanted, here, call, *args):
    agree(cost(here, call, *args), wanted)


def warm(*calls):
    """Twice: after a page or a listing was read, the kernel asks once more for what it takes for a new access time."""
    for call in calls * 2:
        call()


def files():
    return [path for path in paths_below() if os.path.isfile(path) and not os.path.islink(path)]


def directories():
    return [path for path in paths_below() if os.path.isdir(path) and not os.path.islink(path)]


def read_slowly(path):
    """With one system call more than needed, and none that asks for the terminal that a file is not."""
    with opened(path) as fd:
        while os.read(fd, 4096 * 16):
            pass


def absent_names():
    for top in directories():
        for name in (b'absent', b'.hidden', b'n' * 255):
            assert not os.path.lexists(os.path.join(top, name))


LOOKING = {
    'stat': lambda: [os.lstat(path) for path in paths_below()],
    'stat of an open file': lambda: [on(path, os.O_RDONLY, os.fstat) for path in files()],
    'open and close': lambda: [on(path, flags, int) for path in files() for flags in (os.O_RDONLY, os.O_RDWR)],
    'access': lambda: [os.access(path, os.R_OK | os.W_OK | os.X_OK) for path in paths_below()],
    'read': lambda: [read_slowly(path) for path in files()],
    'mapped read': lambda: [on('large', os.O_RDONLY, lambda fd: mmap.mmap(fd, 0, prot=mmap.PROT_READ).find(b'end'))],
    'readlink': lambda: [os.readlink(path) for path in paths_below() if os.path.islink(path)],
    'following links': lambda: [os.stat('to-dir/sub/deep/file'), os.stat('symlink'), outcome(os.stat, 'dangling')],
    'absent names': absent_names,
    'listing': lambda: [os.listdir(path) for path in directories()],
    'listing one by one': lambda: [sum(1 for _ in os.scandir(path)) for path in directories()],
    'find': lambda: sh('find . -newer plain -o -size +1k -perm /111 -print'),
    'ls -lR': lambda: sh('ls -lR --color=always .'),
    'cat': lambda: sh('cat $(find . -type f)'),
    'tar': lambda: sh('tar -cf - . | cat'),
}


def costs_nothing(here, what):
    """In one of three times: it can be tried again at once."""
    found = [cost(here, LOOKING[what]) for _ in range(3)]
    assert nothing(what) in found, (what, found)


def nothing(what):
    """find asks on which file system it is, and what a file system has left is not kept anywhere."""
    return {'statfs': 1} if what in ('find', 'cat') else {}
