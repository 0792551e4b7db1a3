"""What umlfs and the kernel have agreed on: what costs a request and what none, and what each profile checks.

Capabilities are seen by what they do: NO_OPEN, NO_OPENDIR, READDIRPLUS and CACHE_SYMLINKS by requests that do not come,
DONT_MASK by modes, HANDLE_KILLPRIV by setuid bits, EXPLICIT_INVAL_DATA by pages that stay until a reset.
"""

import contextlib
import json
import mmap
import os
import shutil
import stat
import subprocess
import time

import pytest

from calls import (RENAME_EXCHANGE, RENAME_NOREPLACE, call_all, facts, fallocate, on, opened, outcome, read_file,
                   renameat2, reopening_walk, sh, write_file)
from places import (Again, Here, damage, difference, dump, here, in_clean_rounds, in_process, none, paths_below, same_shape, shape,
                    unlike)
from umlfs_cli import PATIENCE, ids, program

ONCE = ('open', 'opendir', 'flush', 'access', 'create')     # refused the first time, then the kernel knows
NEVER = ('release', 'releasedir')


# --- counting --------------------------------------------------------------------------------------------------

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


@pytest.mark.parametrize('what', list(LOOKING))
def test_looking_at_what_did_not_change_costs_nothing_the_second_time(here, what):
    here.within(lambda: [warm(LOOKING[what]), costs_nothing(here, what)])


def costs_nothing(here, what):
    """In one of three times: it can be tried again at once."""
    found = [cost(here, LOOKING[what]) for _ in range(3)]
    assert nothing(what) in found, (what, found)


def nothing(what):
    """find asks on which file system it is, and what a file system has left is not kept anywhere."""
    return {'statfs': 1} if what in ('find', 'cat') else {}


@pytest.mark.parametrize('size', [512, 32768])
@in_clean_rounds
def test_a_walk_that_reopens_costs_one_empty_answer(here, size):
    """hostfs asks for what comes behind the last name, and no kernel keeps that there is nothing."""
    def body():
        os.mkdir('new')
        for number in range(400):
            os.mknod(f'new/{number}')
        for top, count in (('new', 400), ('many', 60), ('empty-dir', 0)):
            warm(lambda: os.lstat(top), lambda: reopening_walk(top, size=size))
            costs({'readdirplus': 1}, here, lambda: reopening_walk(top, size=size))
            assert len(reopening_walk(top, size=size)) == count
    here.within(body)


def test_looking_at_what_the_session_made_costs_nothing_the_second_time(here):
    def body():
        shutil.copytree('dir', 'new', symlinks=True)
        for number in range(300):
            write_file(f'new/{number}', b'%d' % number)
        os.symlink('new', 'to-new')
        warm(*LOOKING.values())
        for what in LOOKING:
            costs_nothing(here, what)
    here.within(body)


def test_looking_leaves_nothing_behind(here):
    """No request to let go of what was never held, and no kind of request that was refused comes twice."""
    def body():
        for _ in range(3):
            for look in LOOKING.values():
                look()
            write_file('new', b'x')
            os.unlink('new')
        requests = status(here)['requests']
        assert {kind: requests.get(kind, 0) for kind in ONCE if requests.get(kind, 0) > 1} == {}
        assert {kind: requests[kind] for kind in NEVER if kind in requests} == {}
        assert requests['getxattr'] == 1
    here.within(body)


@in_clean_rounds
def test_asking_for_the_status_costs_nothing(here):
    here.within(lambda: [LOOKING['stat'](), status(here)])
    first = here.requests()
    for _ in range(3):
        agree(here.requests(), first)


@in_clean_rounds
def test_a_cold_listing_brings_the_attributes_along(here):
    def body():
        found = cost(here, lambda: sh('ls -l many'))
        assert found['readdirplus'] > 0
        agree(found.get('lookup', 0), 0, 1)         # many itself
        agree(found['readdirplus'], 1, 2, 3)
        agree(found.get('getattr', 0), 0, 1)
    here.within(body)


# --- what changes something ------------------------------------------------------------------------------------

def ready():
    """The first of each kind, after which the kernel knows what is not there."""
    write_file('first', b'x')
    os.listdir('.')
    with opened('first', os.O_RDWR) as fd:
        os.pwrite(fd, b'first', 0)
        os.fsync(fd)
    for look in ('stat', 'absent names'):
        LOOKING[look]()


def create(path):
    """As hostfs does, without O_EXCL."""
    os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o644))


@in_clean_rounds
def test_a_create_is_one_request(here):
    def body():
        ready()
        for name in ('absent', 'dir/absent', 'many/.hidden'):       # hostfs has looked before it makes
            costs({'mknod': 1}, here, create, name)
        costs({'lookup': 1, 'mknod': 1}, here, create, 'not-looked-at')
        os.unlink('absent')
        assert outcome(os.stat, 'absent') == 'ENOENT'               # the kernel asks once after it went
        costs({'mknod': 1}, here, create, 'absent')
        write_file('not-looked-at', b'')
        costs({}, here, create, 'not-looked-at')
    here.within(body)


@in_clean_rounds
def test_a_write_is_one_request(here):
    def body():
        ready()
        for name in ('large', 'plain', 'first'):
            with opened(name, os.O_RDWR) as fd:
                page = os.urandom(4096)
                costs({'write': 1}, here, os.pwrite, fd, page, 0)
                costs({'write': 1}, here, os.pwrite, fd, page, 8192)
                costs({'write': 1}, here, os.pwrite, fd, b'a few bytes', 100)
                costs({'write': 1}, here, os.write, fd, page * 256)
    here.within(body)


@in_clean_rounds
def test_what_was_written_is_read_back_without_a_request(here):
    def body():
        ready()
        with opened('large', os.O_RDWR) as fd:
            page = os.urandom(4096)
            costs({'write': 1}, here, lambda: (os.pwrite(fd, page, 4096), os.pread(fd, 4096, 4096)))
            os.fstat(fd)
            costs({}, here, lambda: (os.pread(fd, 4096, 4096), os.fstat(fd)))
    here.within(body)


@in_clean_rounds
def test_every_change_is_one_request(here):
    def body():
        ready()
        changes = [
            ('mkdir', lambda: os.mkdir('many/absent')),
            ('symlink', lambda: os.symlink('x', 'dir/absent')),
            ('mknod', lambda: os.mkfifo('dir/sub/absent')),
            ('link', lambda: os.link('plain', 'other/absent')),
            ('setattr', lambda: os.chmod('plain', 0o600)),
            ('setattr', lambda: os.chown('plain', 5, 6)),
            ('setattr', lambda: os.utime('plain', ns=(1, 2))),
            ('setattr', lambda: os.truncate('large', 10)),
            ('rename', lambda: os.rename('many/001', 'many/.hidden')),
            ('rename', lambda: os.rename('many/002', 'many/003')),
            ('rename', lambda: os.rename('dir/sub', 'other/.hidden')),
            ('rename', lambda: renameat2('many/010', 'many/011', RENAME_EXCHANGE)),
            ('rename', lambda: renameat2('many/012', 'dir/.hidden', RENAME_NOREPLACE)),
            ('rmdir', lambda: os.rmdir('empty-dir')),
            ('fallocate', lambda: on('second', os.O_RDWR, fallocate, 0, 0, 8192)),
            ('fsync', lambda: on('second', os.O_RDWR, os.fsync)),
            ('fsyncdir', lambda: on('dir', os.O_RDONLY, os.fsync)),
            ('statfs', lambda: os.statvfs('.')),
        ]
        for number, (kind, change) in enumerate(changes):
            found = cost(here, change)
            found.pop('forget', None)
            if kind in ('mkdir', 'symlink', 'mknod', 'link', 'rename'):
                agree(found.pop('lookup', 1), 1)        # the kernel wants to be sure that the name is free
            agree((number, found), (number, {kind: 1}))
        found = cost(here, os.unlink, 'many/020')
        found.pop('forget', None)
        agree(found, {'unlink': 1})
    here.within(body)


@in_clean_rounds
def test_a_change_leaves_the_rest_warm(here):
    def body():
        ready()
        warm(*LOOKING.values())
        rest = [path for path in paths_below() if b'many' not in path]
        rest_files = [path for path in files() if path in rest]
        write_file('many/absent', b'made')
        os.unlink('many/007')
        costs({}, here, lambda: [os.lstat(path) for path in rest])
        costs({}, here, lambda: [read_slowly(path) for path in rest_files])
        costs({}, here, lambda: [os.lstat(f'many/{number:03}') for number in range(60) if number != 7])
        assert outcome(os.stat, 'many/007') == 'ENOENT'
        costs({}, here, lambda: outcome(os.stat, 'many/007'))
    here.within(body)


# --- snapshots and resets --------------------------------------------------------------------------------------

@in_clean_rounds
def test_a_snapshot_leaves_everything_warm(here):
    def still_warm():
        for what in LOOKING:
            costs_nothing(here, what)
    here.within(lambda: (write_file('new', b'x'), warm(*LOOKING.values())))
    before = here.requests()
    here.run('snapshot', here.session, 'one')
    agree(here.requests(), before)
    here.within(still_warm)


@in_clean_rounds
def test_what_a_reset_does_not_change_stays_warm(here):
    def make():
        os.mkdir('thousand')
        for number in range(1000):
            write_file(f'thousand/{number}', b'%d' % number)

    def look():
        for number in range(1000):
            if number != 500:
                os.lstat(f'thousand/{number}')
                read_slowly(f'thousand/{number}')
        for number in range(60):
            if number != 7:
                read_slowly(f'many/{number:03}')
        os.listdir('thousand')
        os.listdir('many')

    def change():
        warm(look)
        write_file('thousand/500', b'another content')
        write_file('many/007', b'another content')
        os.chmod('dir/file', 0)

    def still_warm():
        costs({}, here, look)
        assert (read_file('thousand/500'), read_file('many/007')) == (b'500', b'7')
        assert os.stat('dir/file').st_mode & 0o777 == 0o644
    here.within(make)
    here.run('snapshot', here.session, 'good')
    here.within(change)
    here.run('reset', here.session)
    here.within(still_warm)


def change_in_place():
    """The same inodes, with other bytes, sizes, modes and owners, and other names in the same directories."""
    for path in files():
        with opened(path, os.O_RDWR) as fd:
            size = os.fstat(fd).st_size
            os.pwrite(fd, b'#' * min(size, 8192), 0)
            os.ftruncate(fd, size + 1 if size % 2 else size // 2)
    for path in directories():
        os.chmod(path, 0o711)
        write_file(os.path.join(path, b'absent'), b'should never have been')
    os.unlink('dir/file')
    os.rename('dir/sub/deep', 'empty-dir/deep')
    renameat2('symlink', 'dangling', RENAME_EXCHANGE)
    os.chown('many', 1, 2)


@pytest.mark.parametrize('to', ['@base', 'made'])
@pytest.mark.parametrize('harm', [change_in_place, damage])
def test_after_a_reset_no_cache_knows_the_state_before(here, to, harm):
    """All is looked at, changed, looked at again, reset, and looked at once more."""
    def make():
        os.mkdir('new')
        write_file('new/file', b'made')
        write_file('plain', b'made anew')
        os.unlink('second')
    if to != '@base':
        here.within(make)
        here.run('snapshot', here.session, to)
    names = here.within(paths_below)

    def look_at_all():
        for call in LOOKING.values():
            with contextlib.suppress(OSError, AssertionError):
                call()
        for name in [*names, *(os.path.join(name, b'absent') for name in names)]:
            outcome(os.lstat, name)
        return dump()

    def by_name():
        """Without a listing, which would bring names along."""
        return {name: outcome(lambda: (os.lstat(name), os.path.isfile(name) and read_file(name))) for name in names}
    before, want = here.within(by_name), here.within(look_at_all)
    here.within(harm)
    assert here.within(by_name) != before
    assert here.within(look_at_all) != want
    here.run('reset', here.session, to)
    after = here.within(by_name)
    none([name for name in names if after[name] != before[name]])
    none(difference(here.within(look_at_all), want))
    assert here.within(absent_names) is None
    here.remount()
    none(difference(here.within(dump), want))


@in_clean_rounds
def test_after_a_reset_the_kernel_lets_go_of_what_is_gone(here):
    def make():
        os.mkdir('new')
        for number in range(50):
            write_file(f'new/{number}', b'x')
        write_file('dir/new', b'x')
    here.within(make)
    agree('forget' in here.requests(), False)
    here.run('reset', here.session)
    until = time.monotonic() + PATIENCE
    while 'forget' not in here.requests():
        assert time.monotonic() < until
    assert here.within(lambda: (outcome(os.lstat, 'new'), outcome(os.lstat, 'dir/new'))) == ('ENOENT', 'ENOENT')


# --- the guest profile -----------------------------------------------------------------------------------------

def test_the_hosts_umask_does_not_count_for_a_guest(here):
    def body():
        os.umask(0o077)
        os.close(os.open('file', os.O_WRONLY | os.O_CREAT, 0o666))
        os.mkdir('made', 0o777)
        os.mkfifo('made/fifo', 0o622)
        return [stat.S_IMODE(os.stat(name).st_mode) for name in ('file', 'made', 'made/fifo')]
    assert here.within(body) == [0o666, 0o777, 0o622]


@pytest.mark.parametrize('user', ['ordinary'], indirect=True)
def test_others_may_not_enter_an_ordinary_users_mount(place):
    here = Here(place, 'plain')
    if os.geteuid() != 0:
        pytest.skip('needs another user')
    assert outcome(os.listdir, here.root) == 'EACCES'


# --- the posix profile -----------------------------------------------------------------------------------------

POSIX = pytest.mark.parametrize('kind', ['imported', 'plain'])
AS_ROOT = pytest.mark.parametrize('user', ['root'], indirect=True)


def set_the_scene():
    """By root, for an ordinary user to try."""
    os.chmod('.', 0o755)
    for name, mode in (('open', 0o777), ('closed', 0o700), ('search', 0o711), ('sticky', 0o1777), ('readable', 0o755)):
        os.mkdir(name)
        os.chmod(name, mode)
        write_file(f'{name}/roots', b'root wrote this', 0o644)
        write_file(f'{name}/secret', b'root only', 0o600)
        write_file(f'{name}/shared', b'anybody', 0o666)
        write_file(f'{name}/setuid', b'anybody', 0o4777)
        write_file(f'{name}/setgid', b'anybody', 0o2777)
    os.mkdir('group')
    os.chown('group', 0, 4242)
    os.chmod('group', 0o2777)


def try_everything():
    owner = os.getuid(), os.getgid()
    results = []
    for top in ('open', 'closed', 'search', 'sticky', 'readable'):
        results += call_all([
            lambda: sorted(os.listdir(top)),
            lambda: facts(os.stat(f'{top}/roots')),
            lambda: read_file(f'{top}/roots'),
            lambda: read_file(f'{top}/secret'),
            lambda: on(f'{top}/roots', os.O_WRONLY, os.write, b'x'),
            lambda: on(f'{top}/shared', os.O_WRONLY, os.write, b'x'),
            lambda: [os.access(f'{top}/{name}', mode) for name in ('roots', 'secret', 'shared', 'setuid')
                     for mode in (os.R_OK, os.W_OK, os.X_OK)],
            lambda: os.truncate(f'{top}/roots', 0),
            lambda: os.chmod(f'{top}/shared', 0o600),
            lambda: os.chown(f'{top}/shared', *owner),
            lambda: os.utime(f'{top}/shared', ns=(1, 2)),
            lambda: os.utime(f'{top}/shared'),
            lambda: create(f'{top}/mine'),
            lambda: os.mkdir(f'{top}/my-dir', 0o777),
            lambda: os.mkdir(f'{top}/roots/x'),
            lambda: os.symlink('x', f'{top}/my-link'),
            lambda: os.mkfifo(f'{top}/my-fifo', 0o666),
            lambda: os.rename(f'{top}/shared', f'{top}/taken'),
            lambda: os.rename(f'{top}/mine', f'{top}/still-mine'),
            lambda: os.unlink(f'{top}/secret'),
            lambda: os.unlink(f'{top}/my-link'),
            lambda: os.chmod(f'{top}/still-mine', 0o751),
            lambda: os.chown(f'{top}/still-mine', 0, -1),
            lambda: os.chown(f'{top}/still-mine', -1, 0),
            lambda: os.chown(f'{top}/still-mine', *owner),
            lambda: on(f'{top}/setuid', os.O_WRONLY, os.write, b'x'),
            lambda: os.truncate(f'{top}/setgid', 2),
            lambda: stat.S_IMODE(os.stat(f'{top}/setuid').st_mode),
            lambda: stat.S_IMODE(os.stat(f'{top}/setgid').st_mode),
        ])
    return results


def ordinary_and_mount(place, kind):
    os.mkdir(f'{place.path}/mountpoint')        # a session is its owner's alone
    here = Here(place, kind, 'posix', f'{place.path}/mountpoint')
    here.within(set_the_scene)
    here.beside(set_the_scene)
    return here, ids('ordinary')


def same_owners(here):
    times = ('ino', 'mtime', 'ctime', 'atime')
    none(difference(here.within(shape, '.', times), here.beside(shape, '.', times)))


@AS_ROOT
@POSIX
def test_permissions_are_checked_for_host_processes(place, kind):
    here, ordinary = ordinary_and_mount(place, kind)
    none(unlike(in_process(ordinary, here.root, try_everything), in_process(ordinary, here.twin, try_everything)))
    same_owners(here)
    here.remount()
    same_owners(here)


@AS_ROOT
@POSIX
def test_host_processes_own_what_they_make_as_their_umask_says(place, kind):
    here, ordinary = ordinary_and_mount(place, kind)

    def make():
        for umask in (0, 0o022, 0o027, 0o777):
            os.umask(umask)
            for top in ('open', 'group'):
                os.close(os.open(f'{top}/file-{umask}', os.O_WRONLY | os.O_CREAT, 0o4777))
                os.mkdir(f'{top}/dir-{umask}', 0o777)
                os.mkfifo(f'{top}/fifo-{umask}', 0o666)
                os.symlink('x', f'{top}/link-{umask}')
    for who in (ordinary, (0, 0)):
        for top in (here.root, here.twin):
            in_process(who, top, make) if who != (0, 0) else None
    same_owners(here)
    st = in_process((0, 0), here.root, os.stat, 'group/file-0')
    assert (st.st_uid, st.st_gid) == (ordinary[0], 4242)


@AS_ROOT
@POSIX
def test_a_write_by_an_ordinary_user_takes_setuid_away(place, kind):
    here, ordinary = ordinary_and_mount(place, kind)

    def body():
        def modes():
            return [stat.S_IMODE(os.stat(f'open/{name}').st_mode) for name in ('setuid', 'setgid')]
        found = [modes()]
        for name in ('setuid', 'setgid'):
            on(f'open/{name}', os.O_WRONLY, os.write, b'program')
        found.append(modes())
        return found
    by_root, as_root = here.within(body), here.beside(body)
    assert by_root == as_root == [[0o4777, 0o2777]] * 2
    got, want = in_process(ordinary, here.root, body), in_process(ordinary, here.twin, body)
    assert got == want == [[0o4777, 0o2777], [0o777, 0o777]]


@AS_ROOT
@POSIX
def test_a_new_owner_takes_setuid_away(place, kind):
    here, ordinary = ordinary_and_mount(place, kind)

    def body():
        for name in ('open/setuid', 'open/setgid', 'group'):
            os.chown(name, *ordinary)
        return [stat.S_IMODE(os.stat(name).st_mode) for name in ('open/setuid', 'open/setgid', 'group')]
    assert here.within(body) == here.beside(body) == [0o777, 0o777, 0o2777]


@AS_ROOT
def test_extended_attributes_are_there_for_host_processes(place):
    here, ordinary = ordinary_and_mount(place, 'plain')

    def body():
        return call_all([
            lambda: os.setxattr('open/shared', 'user.name', b'value'),
            lambda: os.getxattr('open/shared', 'user.name'),
            lambda: os.setxattr('open/roots', 'user.name', b'value'),
            lambda: os.setxattr('open/shared', 'trusted.name', b'value'),
            lambda: outcome(os.getxattr, 'open/secret', 'user.name'),
        ])
    none(unlike(in_process(ordinary, here.root, body), in_process(ordinary, here.twin, body)))
    same_shape(here)
