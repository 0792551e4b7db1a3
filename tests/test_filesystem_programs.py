"""Programs that hold a file system to its word, and several at the same time."""

import os
import random
import shutil
import subprocess

import pytest

from calls import (RENAME_EXCHANGE, at_the_same_time, call_all, forked, opened, outcome, read_file, renameat2, sh,
                   write_file)
from places import (Here, as_on_the_host, difference, dump, here, in_process, link_counts_are_right, none, shape,
                    through_a_mount)


# --- programs --------------------------------------------------------------------------------------------------

@as_on_the_host
def test_programs_run_from_it():
    shutil.copy(shutil.which('true'), 'program')
    os.chmod('program', 0o755)
    write_file('script', b'#!/bin/sh\necho "$0 $1"\n', 0o755)
    return subprocess.run(['./program'], check=False).returncode, subprocess.run(
        ['./script', 'said'], check=True, stdout=subprocess.PIPE).stdout


@through_a_mount
def test_cp_and_tar_carry_a_tree_in_and_out(here):
    shape_of_twin = shape(here.twin)
    sh('cp -a "$TWIN" in && tar -cf all.tar --sort=name -C in . && mkdir out && tar -xpf all.tar -C out',
       env=os.environ | {'TWIN': here.twin})
    none(difference(shape('in'), shape_of_twin))
    out = shape('out')
    del shape_of_twin[b'.'], out[b'.']
    none(difference(out, shape_of_twin))


@pytest.mark.skipif(not shutil.which('git'), reason='git is not there')
@as_on_the_host
def test_git_keeps_a_repository_in_it():
    environment = os.environ | {'HOME': os.getcwd(), 'GIT_CONFIG_NOSYSTEM': '1', 'GIT_AUTHOR_DATE': '1000000000 +0000',
                                'GIT_COMMITTER_DATE': '1000000000 +0000', 'GIT_AUTHOR_NAME': 'A', 'GIT_AUTHOR_EMAIL': 'a@b',
                                'GIT_COMMITTER_NAME': 'A', 'GIT_COMMITTER_EMAIL': 'a@b', 'GIT_CONFIG_COUNT': '1',
                                'GIT_CONFIG_KEY_0': 'safe.directory', 'GIT_CONFIG_VALUE_0': '*'}
    sh('mkdir repo && cp -r many dir repo && cd repo && git init -q -b main && git add . && git commit -q -m one &&'
       'rm -r dir && echo new >many/new && git add -A && git commit -q -m two && git checkout -q HEAD~1 &&'
       'git checkout -q main && git gc -q --prune=now && git fsck --full --strict 2>&1 && git status --porcelain >../status',
       env=environment)
    head = subprocess.run(['git', '-C', 'repo', 'rev-parse', 'HEAD'], check=True, stdout=subprocess.PIPE, env=environment)
    status = read_file('status')
    tracked = sorted(os.listdir('repo'))
    shutil.rmtree('repo/.git')                      # its index holds times and numbers
    return head.stdout, status, tracked


# --- at the same time ------------------------------------------------------------------------------------------

def struggle(seed):
    """Makes, moves and removes names that others make, move and remove."""
    dice = random.Random(seed)
    names = ['many/a', 'many/b', 'dir/a', 'dir/sub/b', 'plain', 'many/a/c', 'dir/sub', 'many/007']

    def put(path):
        with opened(path, os.O_RDWR | os.O_CREAT) as fd:
            os.write(fd, path.encode())
    steps = [put, os.unlink, os.rmdir, os.mkdir, os.stat, os.listdir,
             lambda path: os.rename(path, dice.choice(names)), lambda path: os.link(path, dice.choice(names)),
             lambda path: os.symlink('x', path), lambda path: renameat2(path, dice.choice(names), RENAME_EXCHANGE)]
    expected = {'EEXIST', 'ENOENT', 'ENOTDIR', 'EISDIR', 'ENOTEMPTY', 'EINVAL', 'EPERM', 'ELOOP', 'ESTALE'}
    for _ in range(600):
        result = outcome(dice.choice(steps), dice.choice(names))
        assert not isinstance(result, str) or result in expected, result


@through_a_mount
def test_processes_that_struggle_for_names(here):
    at_the_same_time([lambda seed=seed: struggle(seed) for seed in range(4)])
    link_counts_are_right()


@pytest.mark.parametrize('kind', ['imported', 'plain'])
def test_trees_are_unpacked_while_snapshots_are_taken(place, kind):
    here = Here(place, kind)

    def pack():
        sh('mkdir tree && for i in 1 2 3 4; do cp -a many tree/$i; cp -a dir tree/$i; done && tar -cf ../tree.tar tree')
    here.beside(pack)
    unpacking = [place.start('status', here.session, stdout=subprocess.DEVNULL)]
    commands = [['sh', '-c', f'for n in 1 2 3; do mkdir -p {top}/$n && tar -xf {place.path}/tree.tar -C {top}/$n || exit; done']
                for top in ('one', 'two')]

    def unpack():
        processes = [subprocess.Popen(command) for command in commands]
        return [process.wait() for process in processes]

    def supervise():
        assert in_process(here.owner, here.root, unpack) == [0, 0]
    pid = forked(supervise)
    taken = 0
    while os.waitpid(pid, os.WNOHANG) == (0, 0):
        here.run('snapshot', here.session, f'snapshot-{taken}')
        here.run('status', '--json', here.session)
        taken += 1
    unpacking[0].wait()
    assert taken > 1
    want = here.beside(shape, 'tree')
    for top in ('one', 'two'):
        for number in range(1, 4):
            none(difference(here.within(shape, f'{top}/{number}/tree'), want))
    after = here.within(dump)
    for number in (0, taken // 2):
        here.run('reset', here.session, f'snapshot-{number}')
        here.within(link_counts_are_right)
    here.run('reset', here.session, f'snapshot-{taken - 1}')
    here.remount()
    here.within(link_counts_are_right)
    assert len(after) > 1000
    assert here.mount.log() == ''


def test_a_read_only_mount_changes_nothing(place):
    here = Here(place, 'plain', 'ro')

    def body():
        return call_all([
            lambda: write_file('new'), lambda: os.mkdir('new'), lambda: os.unlink('plain'), lambda: os.chmod('plain', 0),
            lambda: os.truncate('plain', 0), lambda: os.rename('plain', 'new'), lambda: os.utime('plain'),
            lambda: read_file('plain')])
    assert [result for _, result in here.within(body)] == ['EROFS'] * 7 + [b'plain content\n']
