"""A mount with -o posix answers every call of every user as a plain directory of the host does: tables of names and owners."""

import itertools
import os
import stat

import pytest

from calls import AT_SYMLINK_NOFOLLOW, RENAME_EXCHANGE, RENAME_NOREPLACE, UTIME_NOW, open_and_close, renameat2, utimensat
from side_by_side import ACTORS, GROUP, KINDS, OTHER, OWNER, Case, Thing, modes_for, pair, room, things
from umlfs_cli import ROOT

pytestmark = pytest.mark.skipif(not ROOT, reason='needs root')

product = itertools.product


def access_of(path):
    return [os.access(path, mode, effective_ids=True) for mode in (os.R_OK, os.W_OK, os.X_OK)]


def list_all(path):
    return sorted(os.listdir(path))


def kind_and_size(path):
    st = os.stat(path)
    return st.st_mode, 0 if stat.S_ISDIR(st.st_mode) else st.st_size


def touch(path):
    utimensat(path, UTIME_NOW, UTIME_NOW)


def touch_link(path):
    utimensat(path, UTIME_NOW, UTIME_NOW, AT_SYMLINK_NOFOLLOW)


def link_through(source, target):
    os.link(source, target)         # linkat() with AT_SYMLINK_FOLLOW


def link(source, target):
    os.link(source, target, follow_symlinks=False)


def make_of(mode):
    def make(path):
        os.mknod(path, mode, os.makedev(1, 3))
    make.__name__ = f'mknod_{mode:o}'
    return make


def symlink(path):
    os.symlink('anywhere', path)


def getxattr(path):
    return os.getxattr(path, 'user.none')


def chdir(path):
    os.chdir(path)


RD, WR, RDWR, NONBLOCK = os.O_RDONLY, os.O_WRONLY, os.O_RDWR, os.O_NONBLOCK

# Every call that takes one path.
ONE_PATH = [
    (kind_and_size,), (os.readlink,), (access_of,), (list_all,), (chdir,), (getxattr,),
    (open_and_close, RD | NONBLOCK), (open_and_close, WR | NONBLOCK), (open_and_close, WR | NONBLOCK | os.O_TRUNC),
    (open_and_close, RDWR | NONBLOCK | os.O_CREAT, 0o640), (open_and_close, RDWR | os.O_CREAT | os.O_EXCL, 0o640),
    (os.mkdir, 0o755), (os.mkfifo, 0o644), (make_of(stat.S_IFREG | 0o644),), (make_of(stat.S_IFSOCK | 0o644),),
    (make_of(stat.S_IFCHR | 0o644),), (make_of(stat.S_IFBLK | 0o644),), (symlink,),
    (os.unlink,), (os.rmdir,), (os.truncate, 7), (os.chmod, 0o751), (os.chown, OWNER, GROUP), (os.lchown, OWNER, GROUP),
    (touch,), (touch_link,),
]
TWO_PATHS = [(os.rename,), (link,), (link_through,)]


def calls_on(path, other):
    """Every call with this path, the other one being in order."""
    yield from ((call, path, *args) for call, *args in ONE_PATH)
    for (call,) in TWO_PATHS:
        yield (call, path, 'fresh')
        yield (call, other, path)


# --- names -----------------------------------------------------------------------------------------------------

LONG = 'n' * 255
PATHS = ['x', 'x/', 'x/.', 'x/..', 'x/y', 'x/y/z']
ODD_PATHS = ['', '.', '..', './', '/', LONG, LONG + 'n', f'{LONG}n/x', './' * 2047 + 'x', './' * 2047 + 'xx',
             'other/' + LONG, f'{LONG}/x']


def test_every_call_on_every_kind_of_path(pair):
    pair.must_be_alike([Case('root', [*things(kind, 'x'), *things('file', 'other')], call)
                 for kind in KINDS for path in PATHS for call in calls_on(path, 'other')])


def test_every_call_on_odd_paths(pair):
    pair.must_be_alike([Case(actor, [*things('file', 'other')], call) for actor in ('root', 'owner')
                 for path in ODD_PATHS for call in calls_on(path, 'other')
                 if path != '/' or call[0] in (kind_and_size, os.mkdir, os.rmdir, os.unlink)])


def test_a_rename_of_every_kind_over_every_kind(pair):
    pair.must_be_alike([Case('root', [*things(source, 'a'), *things('dir', 'to'), *things(target, where)],
                      (renameat2, 'a', where, flags))
                 for source, target in product(KINDS, KINDS) for where in ('b', 'to/b')
                 for flags in (0, RENAME_NOREPLACE, RENAME_EXCHANGE)])


def test_a_rename_of_one_of_the_names_of_an_inode(pair):
    pair.must_be_alike([Case('root', [*things('linked', 'a'), *things('full', 'd')], (renameat2, source, target, flags))
                 for source, target in product(['a', 'a-too', 'd', 'd/in', 'd/.', '.', 'd/new', 'd/in/x'], repeat=2)
                 for flags in (0, RENAME_NOREPLACE, RENAME_EXCHANGE, RENAME_NOREPLACE | RENAME_EXCHANGE)])


# --- what owners and modes allow -------------------------------------------------------------------------------

USERS = list(ACTORS)


def test_every_call_in_a_directory_of_every_mode(pair):
    def in_directory(actor, mode):
        directory = [Thing('d', 'dir', mode, OWNER, GROUP), *things('file', 'other', 0o666, OWNER, GROUP)]
        for call in calls_on('d/x', 'other'):
            yield Case(actor, [*directory, *things('file', 'd/x', 0o666, OWNER, GROUP)], call)
        for call in [(os.mkdir, 'd/new'), (symlink, 'd/new'), (open_and_close, 'd/new', RDWR | os.O_CREAT), (os.unlink, 'd/new'),
                     (os.mkfifo, 'd/new'), (list_all, 'd'), (os.rename, 'other', 'd/new'), (link, 'other', 'd/new')]:
            yield Case(actor, directory, call)
    pair.must_be_alike(case for actor in USERS for mode in modes_for(actor) for case in in_directory(actor, mode))


def test_every_call_on_a_file_of_every_mode(pair):
    other = [*things('file', 'other', 0o666, OWNER, GROUP)]
    calls = [call for call in calls_on('x', 'other') if call[0] not in (os.mkdir, os.mkfifo, symlink)]
    pair.must_be_alike([Case(actor, [*things(kind, 'x', mode, OWNER, GROUP), *other], call)
                 for actor in USERS for mode in modes_for(actor) for kind in ('file', 'dir') for call in calls])


def test_who_may_take_names_from_a_sticky_directory(pair):
    def cases(kind, mode, dir_owner, owner):
        made = [Thing('d', 'dir', mode, dir_owner, 0), *things(kind, 'd/x', None, owner, 0),
                Thing('e', 'dir', 0o777, OWNER, 0), *things('dir' if kind in ('dir', 'full') else 'file', 'e/y', 0o666, OWNER, 0),
                Thing('s', 'dir', 0o1777, dir_owner, 0)]
        for call in [(os.unlink, 'd/x'), (os.rmdir, 'd/x'), (os.rename, 'd/x', 'd/z'), (os.rename, 'd/x', 'e/z'),
                     (os.rename, 'e/y', 'd/x'), (renameat2, 'd/x', 'e/y', RENAME_EXCHANGE), (os.rename, 'e/y', 's/y'),
                     (renameat2, 'e/y', 'd/x', RENAME_NOREPLACE), (os.mkdir, 's/new')]:
            yield Case('owner', made, call)
    pair.must_be_alike([case for kind in ('file', 'dir', 'full', 'dangling', 'fifo', 'linked')
                 for mode in (0o777, 0o1777) for dir_owner, owner in product((0, OWNER, OTHER), repeat=2)
                 for case in cases(kind, mode, dir_owner, owner)])


def test_a_directory_that_moves_must_be_writable_itself(pair):
    pair.must_be_alike([Case(actor, [Thing('a', 'dir', 0o777), Thing('b', 'dir', 0o777), Thing('a/d', 'dir', mode, uid, GROUP)],
                      (os.rename, 'a/d', target))
                 for actor in USERS for mode in (0o755, 0o555, 0o077, 0o707, 0o770) for uid in (0, OWNER)
                 for target in ('a/e', 'b/d')])


def test_who_may_link_what(pair):
    pair.must_be_alike([Case(actor, [Thing('d', 'dir', 0o777), *things(kind, 'x', mode, uid, GROUP)], (call, 'x', 'd/new'))
                 for actor in USERS for kind in KINDS for mode in (0o666, 0o4755, 0o600)
                 for uid in (0, OWNER) for call in (link, link_through) if kind != 'nothing'])
