"""`umlfs doctor` finds what is missing, and a guest really boots."""

import json
import os
import pathlib
import re
import shutil
import subprocess
import tempfile

import pytest

import guest
from umlfs_cli import PATIENCE, ROOT, USERS, identity, program, run, without_leak_check

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

def installed():
    """Where the program looks for its other parts when they are not beside it."""
    return re.search(rb'\0(/[^\0]*)/%s\0', pathlib.Path(program()).read_bytes())[1]


@with_kernel
@pytest.mark.skipif('UMLFS' in os.environ and os.path.isdir(installed()), reason='umlfs is installed: nothing can be missing')
@pytest.mark.parametrize('absent', ['umlfs-run', 'umlfs-init'])
def test_a_part_of_umlfs_that_is_missing_is_found(absent):
    """As of a program that was copied alone."""
    with tempfile.TemporaryDirectory(prefix='umlfs-bin-') as directory:
        os.chmod(directory, 0o755)
        for name in {'umlfs', 'umlfs-run', 'umlfs-init', 'libumlfs-xstate.so'} - {absent}:
            shutil.copy(pathlib.Path(program()).parent / name, directory)
        done = subprocess.run([f'{directory}/umlfs', 'doctor', '--json'], stdin=subprocess.DEVNULL, capture_output=True, text=True,
                              timeout=PATIENCE, cwd='/', check=False, **identity('ordinary'))
    facts = {fact['name']: fact for fact in json.loads(done.stdout)['facts']}
    refused('guest', '^install umlfs again$', done.returncode, facts)
    assert facts['guest']['text'].endswith(f'/{absent}: No such file or directory'), facts
