"""`umlfs doctor` finds what is missing and a guest really boots; `umlfs clean` takes what the dead left, and nothing else."""

import contextlib
import json
import os
import pathlib
import re
import signal
import subprocess
import tempfile

import pytest

import guest
from umlfs_cli import (PATIENCE, ROOT, USERS, children, identity, kill_and_wait, mounts_below, program, run, wait_pid,
                       without_leak_check)

as_root = pytest.mark.skipif(not ROOT, reason='needs root: makes mounts of its own')
with_kernel = pytest.mark.skipif(guest.uml_kernel() is None, reason='no linux.uml: apt-get install user-mode-linux')

# Refuses ptrace() to what comes behind it, as a container's filter does: seccomp(2).
WITHOUT_PTRACE = '''
import ctypes, os, platform, struct, sys
NR = {"x86_64": 101, "aarch64": 117}[platform.machine()]
code = struct.pack("HBBI" * 4, 0x20, 0, 0, 0, 0x15, 0, 1, NR, 0x06, 0, 0, 0x00050000 | 1, 0x06, 0, 0, 0x7fff0000)
held = ctypes.create_string_buffer(code)
program = ctypes.create_string_buffer(struct.pack("HxxxxxxP", 4, ctypes.addressof(held)))
prctl = ctypes.CDLL(None).prctl
assert prctl(38, 1, 0, 0, 0) == 0 and prctl(22, 2, program, 0, 0) == 0
os.execv(sys.argv[1], sys.argv[1:])
'''


def facts_of(*words, before=(), user='ordinary', **options):
    """(exit status, {name: fact}) of the doctor, behind the words of another command."""
    done = subprocess.run([*before, program(), 'doctor', '--json', *words], stdin=subprocess.DEVNULL, capture_output=True,
                          text=True, timeout=PATIENCE, cwd='/', check=False, **(identity(user) if not before else {}),
                          **options)
    assert done.stderr == '', done
    answer = json.loads(done.stdout)
    assert answer['boots'] == (done.returncode == 0) == all(fact['verdict'] != 'fail' for fact in answer['facts'])
    return done.returncode, {fact['name']: fact for fact in answer['facts']}


def elsewhere(script, user='ordinary'):
    """Words that run the rest in a mount namespace of its own, after the script, as the user."""
    ids = identity(user)
    drop = f"setpriv --reuid {ids['user']} --regid {ids['group']} --clear-groups" if ids else ''
    return ['unshare', '--mount', 'sh', '-ec', f'{script}\nexec {drop} "$@"', 'sh']


def refused(fact, mend, status, facts, verdict='fail'):
    assert facts[fact]['verdict'] == verdict and re.search(mend, facts[fact]['mend']), facts[fact]
    assert status == (1 if verdict == 'fail' else 0)


@with_kernel
@pytest.mark.parametrize('user', USERS)
def test_a_machine_that_boots_guests_is_told_to(user):
    status, facts = facts_of(user=user)
    assert status == 0, facts
    assert re.fullmatch(r'boots and ends in [\d.]+ s', facts['guest']['text'])
    assert all((fact['mend'] is None) == (fact['verdict'] == 'ok') for fact in facts.values()), facts
    assert 'panics' not in facts['xstate']['text'], 'it was not tried'


@with_kernel
@pytest.mark.parametrize('user', USERS)
def test_every_line_of_text_has_a_verdict_and_what_mends_it(user):
    result = run('doctor', user=user)
    assert result.status == 0 and result.stderr == ''
    for line in result.stdout.splitlines():
        assert re.match(r'(ok|limit|fail) +[a-z/_3 ]+ {2}\S| {28}-> \S', line), line


@as_root
@with_kernel
def test_a_system_without_a_mount_table_is_found():
    """As mmdebstrap makes it: fusermount3 mounts there, and then cannot unmount."""
    before = elsewhere('mount -t tmpfs x /mnt; cp -a /etc/. /mnt; rm /mnt/mtab; mount --bind /mnt /etc')
    status, facts = facts_of(before=before)
    refused('fusermount3', 'ln -s .*/etc/mtab', status, facts)
    with tempfile.TemporaryDirectory() as directory:
        os.chmod(directory, 0o777)
        os.mkdir(f'{directory}/base')
        done = subprocess.run([*before, program(), 'mount', f'{directory}/base', f'{directory}/session'], stdin=subprocess.DEVNULL,
                              capture_output=True, text=True, timeout=PATIENCE, cwd='/', check=False)
    assert done.returncode == 1 and re.fullmatch('umlfs: /etc/mtab: without it [^\n]+\n', done.stderr), done


@as_root
@with_kernel
def test_a_closed_fuse_device_is_found():
    script = 'd=$(mktemp); trap "rm -f $d" EXIT; mount -t tmpfs x /mnt; mknod -m 600 /mnt/f c 10 229; mount --bind /mnt/f /dev/fuse; rm -f "$d"'
    status, facts = facts_of(before=elsewhere(script))
    refused('/dev/fuse', 'chmod 0666 /dev/fuse', status, facts)
    assert facts['guest']['verdict'] == 'fail'


@as_root
@with_kernel
def test_fusermount3_that_is_missing_or_not_setuid_is_found():
    status, facts = facts_of('linux.uml', env={**os.environ, 'PATH': '/nonexistent'})
    refused('fusermount3', 'apt-get install fuse3', status, facts)
    with tempfile.TemporaryDirectory(prefix='umlfs-bin-') as directory:
        os.chmod(directory, 0o755)
        plain = pathlib.Path(directory, 'fusermount3')
        plain.write_text('#!/bin/sh\nexit 1\n')
        plain.chmod(0o755)
        status, facts = facts_of(env={**os.environ, 'PATH': f'{directory}:{os.environ["PATH"]}'})
        refused('fusermount3', r'chmod u\+s', status, facts)


@as_root
@with_kernel
@pytest.mark.parametrize('options, verdict', [('noexec', 'fail'), ('size=8m', 'limit')])
def test_a_place_for_memory_that_will_not_do_is_found(options, verdict):
    script = f'mount -t tmpfs -o mode=1777,noexec x /mnt; mount -t tmpfs -o mode=1777,{options} x /dev/shm'
    status, facts = facts_of(before=elsewhere(script), env={**os.environ, 'TMPDIR': '/mnt'})
    assert facts['guest memory']['verdict'] == verdict and 'mount -o remount' in facts['guest memory']['mend']
    assert (status == 1) or verdict == 'limit'


@with_kernel
def test_ptrace_that_is_forbidden_is_found():
    status, facts = facts_of(before=['/usr/bin/python3', '-c', WITHOUT_PTRACE], env=without_leak_check())
    refused('ptrace', 'ptrace', status, facts)
    assert facts['guest']['verdict'] == 'fail'


@with_kernel
def test_few_descriptors_are_found():
    status, facts = facts_of(before=['prlimit', '--nofile=128:128'])
    refused('open files', 'ulimit -n', status, facts, verdict='limit')


@pytest.mark.parametrize('words, mend', [(['/bin/true'], 'another file'), ([], 'apt-get install user-mode-linux')])
def test_a_kernel_that_is_none_is_found(words, mend):
    status, facts = facts_of(*words, env={'PATH': '/nonexistent'}, user='root')
    refused('kernel', mend, status, facts)


def cleaned(place, *words, user=None):
    """The lines of `umlfs clean` about this place: the dead of others may be on the machine too."""
    result = run('clean', *words, user=user or place.user, env={**os.environ, 'TMPDIR': f'{place.path}/tmp'})
    assert place.path not in result.stderr, result
    return [line for line in result.stdout.splitlines() if line.startswith(place.path)]


def test_a_dead_mount_is_found_and_cleaned(place, base):
    mounted = place.mount(base)
    mounted.do(pathlib.Path(mounted / 'made').write_text, 'kept\n')
    kill_and_wait(mounted.pid)
    _, facts = facts_of('/bin/true', user=place.user)
    assert facts['mounts']['verdict'] == 'limit' and facts['mounts']['mend'] == 'umlfs clean'
    assert cleaned(place, '--dry-run') == [f'{mounted.path}: dead mount: would be detached']
    assert cleaned(place) == [f'{mounted.path}: dead mount: detached']
    assert mounts_below(place.path) == [] and cleaned(place) == []
    mounted = place.mount(base)
    assert mounted.do(pathlib.Path(mounted / 'made').read_text) == 'kept\n'


@as_root
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
