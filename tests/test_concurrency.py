"""Many processes at once on one mount, while snapshots are taken and the status is asked for.

Each kind of load checks its own result. Afterwards the tree is sound, after a remount too, and the daemon has kept
nothing of it: no descriptor, no inode that the kernel has forgotten, no memory to speak of.
"""

import contextlib
import mmap
import os
import random
import select
import shutil
import signal
import subprocess
import time

import pytest

from calls import RENAME_EXCHANGE, ended, forked, opened, outcome, read_file, renameat2, sh, whole_listing, write_file
from places import PAIRS, Here, difference, dump, in_process, link_counts_are_right, none, shape
from umlfs_cli import PATIENCE, Place

KIB_MAX = 24 << 10     # what the daemon may grow by: the maps of what was made
GIT = {'GIT_CONFIG_NOSYSTEM': '1', 'GIT_CONFIG_GLOBAL': '/dev/null', 'GIT_AUTHOR_NAME': 'A', 'GIT_AUTHOR_EMAIL': 'a@b',
       'GIT_COMMITTER_NAME': 'A', 'GIT_COMMITTER_EMAIL': 'a@b', 'GIT_CONFIG_COUNT': '2', 'GIT_CONFIG_KEY_0': 'safe.directory',
       'GIT_CONFIG_VALUE_0': '*', 'GIT_CONFIG_KEY_1': 'protocol.file.allow', 'GIT_CONFIG_VALUE_1': 'always'}


@pytest.fixture(params=PAIRS, ids=['-'.join(pair) for pair in PAIRS])
def here(request):
    kind, user = request.param
    with Place(user) as place:
        yield Here(place, kind, None if kind == 'imported' else 'posix')


# --- loads: each is called below the mountpoint, in a process of its own, and checks what it did ---------------------

def unpack(twin, top):
    os.mkdir(top)
    sh(f'tar -C "$TWIN" -cf - dir many other plain large sparse | tar -C {top} -xf -', env=os.environ | {'TWIN': twin})
    want = {path: entry for path, entry in shape(twin).items()
            if path.split(b'/')[0] in (b'dir', b'many', b'other', b'plain', b'large', b'sparse')}
    got = shape(top)
    del got[b'.']
    none(difference(got, want))


def clone(source, top):
    env = os.environ | GIT | {'HOME': os.getcwd(), 'SOURCE': source}
    sh(f'git clone -q --no-hardlinks "$SOURCE" {top} && cd {top} && git checkout -q -b other HEAD~3 && echo more >more && git add more'
       ' && git commit -q -m more && git checkout -q main && git merge -q other -m merged && git gc -q --prune=now'
       ' && git fsck --full --strict >fsck 2>&1 && git status --porcelain >../status-of-clone', env=env)
    assert read_file('status-of-clone') == b'?? fsck\n'


def compile_project(top):
    os.mkdir(top)
    names = [f'part{number}' for number in range(12)]
    for number, name in enumerate(names):
        write_file(f'{top}/{name}.c', f'#include "all.h"\nint {name}(void) {{ return {number}; }}\n'.encode())
    write_file(f'{top}/all.h', ''.join(f'int {name}(void);\n' for name in names).encode())
    write_file(f'{top}/main.c', f'#include "all.h"\nint main(void) {{ return {" + ".join(name + "()" for name in names)}; }}\n'.encode())
    objects = ' '.join(f'{name}.o' for name in [*names, 'main'])
    write_file(f'{top}/Makefile', f'sum: {objects}\n\t$(CC) -o $@ $^\n%.o: %.c all.h\n\t$(CC) -c -o $@ $<\n'.encode())
    sh(f'make -s -j4 -C {top} && make -s -q -C {top}')
    assert subprocess.run([f'{top}/sum'], check=False).returncode == sum(range(12))


def post_mail(top, seed, count=250):
    """Files are made, appended to, read and removed, and hold what they should."""
    dice, mails, number = random.Random(seed), {}, 0
    for number in range(4):
        os.makedirs(f'{top}/{number}')
    for number in range(count):
        path = f'{top}/{dice.randrange(4)}/{number}'
        mails[path] = dice.randbytes(dice.randrange(20_000))
        write_file(path, mails[path])
        path = dice.choice(list(mails))
        with open(path, 'ab') as stream:
            stream.write(b'and more')
        mails[path] += b'and more'
        path = dice.choice(list(mails))
        assert read_file(path) == mails[path]
        if len(mails) > 100:
            path = dice.choice(list(mails))
            os.unlink(path)
            del mails[path]
    found = [os.path.join(directory, name) for directory, _, names in os.walk(top) for name in names]
    assert sorted(found) == sorted(mails)
    for path, data in mails.items():
        assert read_file(path) == data


STORM = [f'storm/{directory}{name}' for directory in ('', 'a/', 'b/') for name in ('x', 'y', 'z', 'a', 'b')]
STORM_ERRORS = {'ENOENT', 'EEXIST', 'ENOTDIR', 'EISDIR', 'ENOTEMPTY', 'EINVAL', 'ESTALE'}


def rename_in_a_storm(seed, count=700):
    """Names go to and fro between directories that others rename too; a file's content goes with it."""
    dice = random.Random(seed)

    def make(path):
        with opened(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL) as fd:
            os.write(fd, b'a whole content')
    steps = [lambda path: os.rename(path, dice.choice(STORM)), lambda path: os.rename(path, dice.choice(STORM)),
             lambda path: renameat2(path, dice.choice(STORM), RENAME_EXCHANGE), make, os.mkdir, os.listdir, os.unlink, os.rmdir]
    for _ in range(count):
        result = outcome(dice.choice(steps), dice.choice(STORM))
        assert not isinstance(result, str) or result in STORM_ERRORS, result


def make_and_remove_the_same(seed, count=700):
    """Of those who make a name, or take it away, exactly one is told that it was done: see who_won()."""
    made = removed = 0
    dice = random.Random(seed)
    for _ in range(count):
        path = f'same/{dice.randrange(3)}'
        if dice.random() < 0.5:
            made += outcome(os.mkdir, path) is None
        else:
            removed += outcome(os.rmdir, path) is None
    write_file(f'won-{seed}', f'{made - removed}'.encode())


def list_while_others_remove(top, seconds_max=PATIENCE):
    """What is there all the time is in each listing, once; until there is nothing else."""
    end = time.monotonic() + seconds_max
    while time.monotonic() < end:
        names = [entry[0] for entry in whole_listing(top, 1024)]
        assert len(names) == len(set(names))
        assert {b'keep-%03d' % number for number in range(100)} <= set(names)
        if not any(name.startswith(b'go-') for name in names):
            return
    raise AssertionError('names that were removed are still listed')


def remove_while_others_list(top):
    for number in range(900):
        os.unlink(f'{top}/go-{number:03}')


ROUNDS = 400


def write_pages(path):
    """Whole pages of one byte each, one round after the other."""
    with opened(path, os.O_RDWR) as fd:
        for number in range(ROUNDS):
            os.pwrite(fd, bytes([number % 256]) * mmap.PAGESIZE, number % 4 * mmap.PAGESIZE)
        os.pwrite(fd, b'!' * mmap.PAGESIZE * 4, 0)


def read_pages(path):
    """Through a mapping no byte is ever one that was not written, and the last ones come."""
    with opened(path, os.O_RDONLY) as fd, mmap.mmap(fd, mmap.PAGESIZE * 4, prot=mmap.PROT_READ) as mapped:
        end = time.monotonic() + PATIENCE
        while mapped[:] != b'!' * mmap.PAGESIZE * 4:
            assert time.monotonic() < end, 'what was written last does not come'


def prepare(source):
    """What the loads begin with, and a repository beside the mount."""
    for directory in ('storm', 'storm/a', 'storm/b', 'same', 'listed'):
        os.mkdir(directory)
    for number in range(100):
        write_file(f'listed/keep-{number:03}')
    for number in range(900):
        write_file(f'listed/go-{number:03}')
    write_file('pages', bytes(mmap.PAGESIZE * 4))
    sh('git init -q -b main "$SOURCE" && cd "$SOURCE" && for n in 1 2 3 4 5 6; do mkdir -p d$n && for m in 1 2 3 4 5 6 7 8; do'
       ' echo $n $m >d$n/$m; done && git add . && git commit -q -m "$n"; done',
       env=os.environ | GIT | {'HOME': os.path.dirname(source), 'SOURCE': source})


def struggle(twin, source):
    """All loads at the same time."""
    loads = [lambda top=top: unpack(twin, top) for top in ('unpacked-1', 'unpacked-2')]
    loads += [lambda: clone(source, 'clone'), lambda: compile_project('project')]
    loads += [lambda seed=seed: post_mail(f'mail-{seed}', seed) for seed in (1, 2)]
    loads += [lambda seed=seed: rename_in_a_storm(seed) for seed in (1, 2, 3)]
    loads += [lambda seed=seed: make_and_remove_the_same(seed) for seed in (1, 2)]
    loads += [lambda: list_while_others_remove('listed'), lambda: remove_while_others_list('listed')]
    loads += [lambda: write_pages('pages'), lambda: read_pages('pages'), lambda: read_pages('pages')]
    pids = [forked(load) for load in loads]
    assert ended(pids) == [0] * len(loads)


def who_won():
    """As many names were made as removed, but for those that are there."""
    assert sum(int(read_file(f'won-{seed}')) for seed in (1, 2)) == len(os.listdir('same'))


# --- what must be so afterwards ----------------------------------------------------------------------------------

def facts_of(pid):
    """(descriptors, KiB resident) of a process; 0 KiB with the address sanitizer, which keeps what was freed and looks for leaks itself."""
    with open(f'/proc/{pid}/status', encoding='ascii') as stream:
        kib = next(int(line.split()[1]) for line in stream if line.startswith('VmRSS:'))
    with open(f'/proc/{pid}/maps', encoding='utf-8', errors='surrogateescape') as stream:
        sanitized = '/libasan.so' in stream.read()
    return len(os.listdir(f'/proc/{pid}/fd')), 0 if sanitized else kib


def assert_few_descriptors(pid):
    """Content files are kept open, up to a limit, but none that is gone."""
    opened_files = [os.readlink(f'/proc/{pid}/fd/{number}') for number in os.listdir(f'/proc/{pid}/fd')]
    assert len(opened_files) < 300
    assert not [path for path in opened_files if path.endswith(' (deleted)')]


def remove_all():
    for name in os.listdir('.'):
        if os.path.isdir(name) and not os.path.islink(name):
            shutil.rmtree(name)
        else:
            os.unlink(name)


@contextlib.contextmanager
def commands_meanwhile(here, pid):
    """Snapshots, deletions and questions for as long as a process runs; then whether it ended well."""
    pidfd, taken = os.pidfd_open(pid), 0
    try:
        while not select.select([pidfd], [], [], 0)[0]:
            here.run('snapshot', here.session, f'n{taken}')
            here.run('status', '--json', here.session)
            if taken > 3:
                here.run('delete', here.session, f'n{taken - 3}')
            taken += 1
        yield taken
    finally:
        os.close(pidfd)


def supervise(here, call, *args):
    """A process that runs call in the mount, as its user."""
    return forked(in_process, here.owner, here.root, call, *args)


def remount_what_is_sound(here):
    """Nothing is in the session that no name leads to."""
    here.mount.umount()
    here.run('check', here.session)
    here.mount = here.place.mount(here.base, **here.options)


@pytest.mark.skipif(not all(map(shutil.which, ('git', 'make', 'cc'))), reason='git, make or a compiler is not there')
def test_many_processes_on_one_mount(here):
    here.within(prepare, f'{here.place.path}/repository')
    pid = here.mount.pid
    kib = facts_of(pid)[1]
    worker = supervise(here, struggle, here.twin, f'{here.place.path}/repository')
    with commands_meanwhile(here, worker) as taken:
        assert ended([worker]) == [0]
    assert taken > 5
    here.within(who_won)
    here.within(link_counts_are_right)
    before = here.within(dump)
    here.run('snapshot', here.session, 'last')
    assert facts_of(pid)[1] - kib < KIB_MAX
    assert_few_descriptors(pid)
    here.within(remove_all)
    here.run('reset', here.session)
    none(difference(here.within(dump), before))
    here.run('reset', here.session, 'n0')
    here.within(link_counts_are_right)
    here.run('reset', here.session, 'last')
    remount_what_is_sound(here)
    none(difference(here.within(dump), before))
    here.within(link_counts_are_right, b'.', True)
    none(here.mount.log())


def churn(count):
    for number in range(count):
        with opened(f'churned-{number}', os.O_RDWR | os.O_CREAT) as fd:
            os.write(fd, b'x' * 5000)
            os.unlink(f'churned-{number}')


def test_files_that_are_gone_leave_nothing_in_the_daemon(here):
    """Were an inode not let go of, its content file would stay; were a record, memory would grow."""
    contents = len(here.contents())
    here.within(churn, 500)
    fds, kib = facts_of(here.mount.pid)
    here.within(churn, 3000)
    after = facts_of(here.mount.pid)
    end = time.monotonic() + PATIENCE
    while len(here.contents()) > contents + 2:  # they go behind the scenes
        assert time.monotonic() < end
    assert after[0] <= fds + 2
    assert_few_descriptors(here.mount.pid)
    assert after[1] - kib < 128     # KiB: a record of each would be 500


# --- processes that stop in the middle ---------------------------------------------------------------------------

def write_for_ever(number):
    data = b'w' * 300_000
    while True:
        with opened(f'endless-{number}', os.O_RDWR | os.O_CREAT) as fd:
            os.pwrite(fd, data, 0)
            os.pread(fd, len(data), 0)
        with contextlib.suppress(FileNotFoundError):
            os.rename(f'endless-{number}', f'renamed-{number}')
        os.listdir('.')


def wait_for(condition):
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end


def mistreat(seed):
    """Starts writers, stops, continues and kills them at any moment; what they leave can be used."""
    dice = random.Random(seed)
    pids = [forked(write_for_ever, number) for number in range(4)]
    try:
        for number in range(4):
            wait_for(lambda number=number: os.path.exists(f'renamed-{number}'))
        for turn in range(60):
            victim = dice.randrange(4)
            os.kill(pids[victim], signal.SIGSTOP)
            os.waitpid(pids[victim], os.WUNTRACED)
            write_file('by-another', b'%d' % turn)
            assert read_file('by-another') == b'%d' % turn
            if turn % 3:
                os.kill(pids[victim], signal.SIGCONT)
                continue
            os.kill(pids[victim], signal.SIGKILL)
            os.waitpid(pids[victim], 0)
            pids[victim] = forked(write_for_ever, victim)
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        ended(pids)
    link_counts_are_right()
    for number in range(4):
        for name in (f'endless-{number}', f'renamed-{number}'):
            if os.path.exists(name):
                assert set(read_file(name)) <= {ord('w')}
                os.unlink(name)


def test_processes_that_are_stopped_or_killed_in_the_middle(here):
    pid = here.mount.pid
    worker = supervise(here, mistreat, 1)
    with commands_meanwhile(here, worker) as taken:
        assert ended([worker]) == [0]
    assert taken > 2
    assert here.mount.pid == pid
    assert_few_descriptors(pid)
    before = here.within(dump)
    here.within(link_counts_are_right)
    remount_what_is_sound(here)
    none(difference(here.within(dump), before))
    none(here.mount.log())
