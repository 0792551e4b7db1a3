"""`umlfs clean` takes what the dead left, and nothing else."""

import contextlib
import json
import os
import pathlib
import re
import signal
import subprocess

from run_site import read_until, told
from umlfs_cli import PATIENCE, ROOT, children, identity, kill_and_wait, mounts_below, needs_root, run, wait_pid


def tracer(pid):
    with open(f'/proc/{pid}/status', encoding='ascii', errors='replace') as stream:
        return int(re.search(r'^TracerPid:\s+(\d+)$', stream.read(), re.M)[1])


def cleaned(place, *words, user=None):
    """The lines of `umlfs clean`, but for those about dead mounts elsewhere: the machine may have some of others."""
    result = run('clean', *words, user=user or place.user, env={**os.environ, 'TMPDIR': f'{place.path}/tmp'})
    assert place.path not in result.stderr, result
    return [line for line in result.stdout.splitlines() if place.path in line or ': dead mount: ' not in line]


def test_a_dead_mount_is_found_and_cleaned(place, base):
    mounted = place.mount(base)
    mounted.do(pathlib.Path(mounted / 'made').write_text, 'kept\n')
    kill_and_wait(mounted.pid)
    told_by_doctor, = (fact for fact in json.loads(run('doctor', '--json', '/bin/true', user=place.user).stdout)['facts']
                       if fact['name'] == 'mounts')
    assert told_by_doctor['verdict'] == 'limit' and told_by_doctor['mend'] == 'umlfs clean'
    assert cleaned(place, '--dry-run') == [f'{mounted.path}: dead mount: would be detached']
    assert cleaned(place) == [f'{mounted.path}: dead mount: detached']
    assert mounts_below(place.path) == [] and cleaned(place) == []
    mounted = place.mount(base)
    assert mounted.do(pathlib.Path(mounted / 'made').read_text) == 'kept\n'


@needs_root
def test_a_dead_mount_is_root_s_or_its_user_s_to_clean(place, base):
    place.do(os.mkdir, place / 'elsewhere')
    mounted = place.mount(base, mountpoint=place / 'elsewhere')
    kill_and_wait(mounted.pid)
    other = 'root' if place.user == 'ordinary' else 'ordinary'
    if other == 'ordinary':     # who may look into the session's directory is not the point
        os.rename(mounted.session, f'{mounted.session}-gone')
    assert cleaned(place, user=other) == ([f'{mounted.path}: dead mount: detached'] if other == 'root' else [])
    assert bool(mounts_below(place.path)) == (other != 'root')
    cleaned(place)


def test_a_living_mount_is_not_cleaned(place, base):
    mounted = place.mount(base)
    assert cleaned(place) == []
    assert [path for path, _, _ in mounts_below(place.path)] == [mounted.path]


def test_a_living_mount_is_not_cleaned_when_another_session_is_where_its_was(place, base):
    mounted = place.mount(base)
    place.do(os.rename, mounted.session, place / 'moved')
    place.mount(base).umount()
    assert cleaned(place) == []
    assert [path for path, _, _ in mounts_below(place.path)] == [place / 'moved/rootfs']


def test_a_living_mount_whose_session_is_elsewhere_now_is_not_cleaned(place, base):
    """As a mount that was made in a chroot looks from outside."""
    place.do(os.mkdir, place / 'elsewhere')
    mounted = place.mount(base, mountpoint=place / 'elsewhere')
    os.rename(mounted.session, f'{mounted.session}-moved')
    assert cleaned(place) == []
    assert [path for path, _, _ in mounts_below(place.path)] == [mounted.path]
    os.rename(f'{mounted.session}-moved', mounted.session)


class Run:
    """`umlfs run` with a kernel that never ends, in a temporary directory of the place."""

    def __init__(self, place, *flags):
        self.place, self.tmp = place, f'{place.path}/tmp'
        place.do(os.mkdir, self.tmp)
        place.do(os.mkfifo, place / 'started')
        kernel = pathlib.Path(place / 'kernel')
        kernel.write_text(f'#!/bin/sh\n[ "$1" = --version ] && {{ echo 6.18.0; exit; }}\necho $$ >{place / "started"}\nexec sleep 1000\n')
        kernel.chmod(0o755)
        self.process = place.start('run', '--kernel', kernel, *flags, place.imported_base(), '--', '/none',
                                   env={**os.environ, 'TMPDIR': self.tmp}, stderr=subprocess.DEVNULL)
        try:
            kernel_pid = int(pathlib.Path(place / 'started').read_text())
            self.keeper, = children(self.process.pid)
            self.server, = (pid for pid in children(self.keeper) if pid != kernel_pid)
        except BaseException:
            self.end(signal.SIGTERM)
            raise

    def end(self, number):
        with self.process:
            self.process.send_signal(number)

    def kill_all(self):
        os.kill(self.keeper, signal.SIGSTOP)
        kill_and_wait(self.server)
        kill_and_wait(self.keeper)
        self.end(signal.SIGKILL)


def test_what_a_killed_run_left_is_cleaned(place):
    ran = Run(place)
    assert cleaned(place) == [] and len(os.listdir(ran.tmp)) == 1, 'a run that goes on was cleaned'
    ran.kill_all()
    name, = os.listdir(ran.tmp)
    assert cleaned(place, '--dry-run')[-1] == f'{ran.tmp}/{name}: directory of a killed run: would be removed'
    dead, = (path for path, _, _ in mounts_below(ran.tmp))
    assert cleaned(place) == [f'{dead}: dead mount: detached', f'{ran.tmp}/{name}: directory of a killed run: removed']
    assert os.listdir(ran.tmp) == [] and mounts_below(ran.tmp) == []


def test_a_session_that_a_run_was_to_keep_is_not_cleaned(place):
    ran = Run(place, '--keep', 'always')
    ran.end(signal.SIGTERM)
    name, = os.listdir(ran.tmp)
    assert cleaned(place) == []
    assert os.path.exists(f'{ran.tmp}/{name}/session/manifest')


def test_directories_that_only_look_like_one_stay(place):
    """Another's, a file, a link, a longer name."""
    tmp = place / 'tmp'
    place.do(os.mkdir, tmp)
    place.do(os.mkdir, f'{tmp}/umlfs-run-1234567')
    place.do(pathlib.Path(f'{tmp}/umlfs-run-abcdef').write_text, '')
    place.do(os.symlink, place.path, f'{tmp}/umlfs-run-ghijkl')
    if ROOT and place.user == 'ordinary':
        os.mkdir(f'{tmp}/umlfs-run-mnopqr', 0o755)
    before = sorted(os.listdir(tmp))
    assert cleaned(place) == []
    assert sorted(os.listdir(tmp)) == before
    with contextlib.suppress(FileNotFoundError):
        os.rmdir(f'{tmp}/umlfs-run-mnopqr')


# --- what `umlfs run` leaves when it is killed ---------------------------------------------------------------------

def test_a_killed_keeper_takes_guest_and_mount_along(site):
    """What is left then is a directory, which `umlfs clean` knows."""
    with site.start(site.base, '--', 'sh', '-c', 'echo ready; sleep 1000', stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE) as process:
        read_until(process.stdout, b'ready\n')
        keeper, = children(process.pid)
        os.kill(keeper, signal.SIGKILL)
        assert process.wait(PATIENCE) == 125
        assert process.stderr.read() == (       # to its end: the server has ended too
            b'umlfs: run: a process of it was killed: `umlfs clean` takes away what is left\n')
    assert mounts_below(site.place.path) == [] and [words for _, words in site.processes()] == []
    left, = os.listdir(site.tmp)
    assert cleaned(site.place) == [f'{site.tmp}/{left}: directory of a killed run: removed']


def test_of_a_run_that_was_killed_whole_nothing_runs_on_but_what_clean_ends(site):
    """The guest's program ends with its kernel: it would go on as a program of the host."""
    with told(site, site.base, '--', 'perl', '-e', '$| = 1; print "ready\\n"; 1 while 1') as (process, guest):
        read_until(process.stdout, b'ready\n')
        keeper, = children(process.pid)
        traced = [pid for pid in children(guest['pid']) if tracer(pid) == guest['pid']]
        for pid in (process.pid, keeper):
            os.kill(pid, signal.SIGKILL)
        assert traced and all(map(wait_pid, [keeper, guest['pid'], *traced]))
        process.stderr.read()       # to its end: the server has ended too
    assert mounts_below(site.place.path) == []
    left = {pid for pid, _ in site.processes()}
    said = cleaned(site.place, '--dry-run')
    assert {pid for pid, _ in site.processes()} == left
    *processes, directory = cleaned(site.place)
    assert said == [re.sub('(?<=: )(?=(ended|removed|detached)$)', 'would be ', line) for line in [*processes, directory]]
    assert set(processes) == {f"{pid}: process of a killed run's guest: ended" for pid in left}
    assert directory == f'{guest["directory"]}: directory of a killed run: removed'
    assert site.left() == []


def test_clean_ends_what_is_left_of_a_guest_and_nobody_else(site):
    """Not who only looks into the directory, nor who is only in the group."""
    directory = f'{site.tmp}/umlfs-run-abcdef'
    site.place.do(os.makedirs, f'{directory}/umlfs-run-abcdef')

    with contextlib.ExitStack() as stack:
        def sleeper(cwd, group):
            process = subprocess.Popen(['sleep', '1000'], cwd=cwd, preexec_fn=lambda: os.setpgid(0, group),
                                       **identity('ordinary'))
            stack.callback(process.wait)
            stack.callback(process.kill)
            return process

        leader = sleeper(directory, 0)
        helper, looking, elsewhere = sleeper(directory, leader.pid), sleeper(directory, 0), sleeper('/', leader.pid)
        site.place.do(pathlib.Path(directory, 'umlfs-run-abcdef', 'pid').write_text, f'{leader.pid}\n')
        assert set(cleaned(site.place)) == {f"{leader.pid}: process of a killed run's guest: ended",
                                            f"{helper.pid}: process of a killed run's guest: ended",
                                            f'{directory}: directory of a killed run: removed'}
        assert [leader.wait(PATIENCE), helper.wait(PATIENCE), looking.poll(), elsewhere.poll()] == [-9, -9, None, None]
