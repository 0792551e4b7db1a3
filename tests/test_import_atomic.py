"""The base's name means what it meant before, or the whole new base, however an import ends."""

import os
import random
import re
import shutil
import signal
import subprocess
import tarfile

import pytest

pytest.register_assert_rewrite('importing')
from importing import (MIB, as_user, both_users, content, imported, index_bytes, index_of, needs_programs, needs_root,
                       place, python_tar, refused, start_import, umlfs_import, write)

pytestmark = needs_programs

TEMPORARY = r'\.base\.importing-[a-z0-9]{6}'
SIGNALS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]


@pytest.fixture
def archive(place):
    """Of 8 MiB, none of which compresses."""
    noise = random.Random(1)
    os.mkdir(f'{place}/in')
    members = [(f'dir-{number}/file', {}, noise.randbytes(MIB)) for number in range(8)]
    return python_tar(f'{place}/in/a.tar', members)


@pytest.fixture
def out(place):
    """Where bases are made: everybody may write there."""
    os.mkdir(f'{place}/out')
    os.chmod(f'{place}/out', 0o777)
    return f'{place}/out'


def begun(archive, base, *flags, user='root'):
    """An import that waits in the middle of the archive: what was written is more than a pipe and its buffer hold."""
    process = start_import(*flags, '-', base, user=user, stdin=subprocess.PIPE)
    with open(archive, 'rb') as stream:
        process.stdin.write(stream.read(4 * MIB))
        process.stdin.flush()
        process.rest = stream.read()
    return process


def finish(process):
    stderr = process.communicate(process.rest)[1]
    return process.returncode, stderr.decode()


def old_base(place, out):
    python_tar(f'{place}/old.tar', [('old', {}, b'old')])
    imported(f'{place}/old.tar', f'{out}/base')
    return index_bytes(f'{out}/base')


@both_users
@pytest.mark.parametrize('number', SIGNALS, ids=lambda number: number.name)
def test_a_signal_leaves_nothing(archive, out, user, number):
    process = begun(archive, f'{out}/base', user=user)
    assert re.fullmatch(TEMPORARY, ''.join(os.listdir(out)))
    process.send_signal(number)
    process.stderr.read()
    assert process.wait() != 0
    process.stdin.close()
    assert os.listdir(out) == []


@both_users
@pytest.mark.parametrize('flags', [[], ['--force']])
def test_what_a_kill_leaves_goes_with_the_next_import(archive, place, out, user, flags):
    if flags:
        old = old_base(place, out)
        subprocess.run(['chown', '-R', '65534:65534', f'{out}/base'] if user == 'ordinary' else ['true'], check=False)
    process = begun(archive, f'{out}/base', *flags, user=user)
    process.kill()
    process.wait()
    assert [name for name in os.listdir(out) if re.fullmatch(TEMPORARY, name)]
    if flags:
        assert index_bytes(f'{out}/base') == old
    status, stderr = umlfs_import(*flags, archive, f'{out}/base', user=user)
    assert status == 0, stderr
    assert 'removed what an interrupted import had left' in stderr
    assert os.listdir(out) == ['base']
    assert len(index_of(f'{out}/base')) == 17


def test_only_leftovers_of_the_same_base_go(archive, out):
    kept = ['.base.importing-12345', '.base.importing-1234567', '.base.importing-a/b'.replace('/', '.'),
            '.base2.importing-123456', 'base.importing-123456', '.base.importing-12345_']
    for name in kept:
        os.mkdir(f'{out}/{name}')
    write(f'{out}/.base.importing-file00')
    os.makedirs(f'{out}/.base.importing-dead00/a/b')
    imported(archive, f'{out}/base')
    assert sorted(os.listdir(out)) == sorted([*kept, 'base', '.base.importing-file00'])


def test_an_import_that_is_alive_is_left_alone(archive, out):
    first = begun(archive, f'{out}/base')
    second = begun(archive, f'{out}/base')
    assert finish(second)[0] == 0
    assert len(os.listdir(out)) == 2
    status, stderr = finish(first)
    assert status == 1
    assert f'{out}/base: ' in stderr and 'exists' in stderr
    assert os.listdir(out) == ['base']


@both_users
def test_an_existing_base_is_replaced_by_force_only(archive, place, out, user):
    python_tar(f'{place}/old.tar', [('old', {}, b'old')])
    imported(f'{place}/old.tar', f'{out}/base', user=user)
    old = index_bytes(f'{out}/base')
    assert 'use --force to replace it' in refused(archive, f'{out}/base', user=user)
    assert index_bytes(f'{out}/base') == old
    entries = imported(archive, f'{out}/base', '--force', user=user)
    assert b'old' not in entries and b'dir-7/file' in entries
    assert not os.path.exists(f'{out}/base/old')
    assert os.listdir(out) == ['base']


def test_a_failing_import_leaves_the_old_base(archive, place, out):
    old = old_base(place, out)
    with open(archive, 'rb') as stream:
        write(f'{place}/cut.tar', stream.read(5 * MIB))
    refused(f'{place}/cut.tar', f'{out}/base', '--force')
    assert index_bytes(f'{out}/base') == old
    assert content(f'{out}/base', b'old') == b'old'


@both_users
@pytest.mark.parametrize('base', ['base', 'base/', 'base//', './base', 'link'])
def test_an_empty_directory_becomes_the_base(archive, out, user, base):
    os.mkdir(f'{out}/base')
    os.chmod(f'{out}/base', 0o777)
    os.symlink('base', f'{out}/link')
    imported(archive, f'{out}/{base}', user=user)
    assert sorted(os.listdir(out)) == ['base', 'link']
    assert os.readlink(f'{out}/link') == 'base'
    assert b'dir-7/file' in index_of(f'{out}/base')


@both_users
def test_a_base_may_have_the_longest_name_and_lie_here(archive, out, user):
    name = 'b\xe4' + 'b' * 252
    assert len(name.encode()) == 255
    status, stderr = umlfs_import(archive, name, user=user, cwd=out)
    assert status == 0, stderr
    assert os.listdir(out) == [name]


def test_the_same_archive_gives_the_same_bytes(archive, out):
    for name in ('one', 'two'):
        imported(archive, f'{out}/{name}')
    assert index_bytes(f'{out}/one') == index_bytes(f'{out}/two')


# --- a host that refuses -----------------------------------------------------------------------------------

@pytest.fixture
def small_disk(place):
    """A file system of 4 MiB."""
    os.mkdir(f'{place}/disk')
    subprocess.run(['mount', '-t', 'tmpfs', '-o', 'size=4m,nr_inodes=200,mode=1777', 'tmpfs', f'{place}/disk'], check=True)
    yield f'{place}/disk'
    subprocess.run(['umount', '-l', f'{place}/disk'], check=True)


@needs_root
@both_users
def test_a_full_disk_leaves_nothing(archive, place, small_disk, user):
    old = old_base(place, small_disk)
    used = os.statvfs(small_disk).f_bfree
    for flags, name in ([], 'new'), (['--force'], 'base'):
        line = refused(archive, f'{small_disk}/{name}', *flags, user='root' if flags else user)
        assert re.search(r'/a\.tar: dir-\d/file: No space left on device', line)
        assert os.statvfs(small_disk).f_bfree == used
    assert index_bytes(f'{small_disk}/base') == old


@needs_root
def test_a_disk_without_inodes_leaves_nothing(place, small_disk):
    python_tar(f'{place}/many.tar', [(f'd{number}/file', {}, b'') for number in range(300)])
    free = os.statvfs(small_disk).f_ffree
    assert re.search(r'many\.tar: d\d+/file: No space left', refused(f'{place}/many.tar', f'{small_disk}/base'))
    assert os.statvfs(small_disk).f_ffree == free


CALLS = ['openat', 'openat2', 'mkdirat', 'fchmodat', 'pwrite64', 'ftruncate', 'linkat', 'unlinkat', 'newfstatat', 'syncfs',
         'renameat2', 'fsync', 'read', 'getrandom', 'flock']


@pytest.mark.skipif(shutil.which('strace') is None, reason='no strace on this machine')
@pytest.mark.parametrize('call', CALLS)
def test_every_system_call_may_fail(place, out, call):
    """Each in turn, once: then the base is there and right, or there is nothing and one line that says why."""
    directory = {'type': tarfile.DIRTYPE}
    python_tar(f'{place}/right.tar', [
        ('d/e/file', {}, b'x' * 5000), ('again', {'type': tarfile.LNKTYPE, 'linkname': 'd/e/file'}, b''), ('d', directory, b''),
        ('f', {'type': tarfile.FIFOTYPE}, b''), ('f', {}, b'now a file'), ('f', directory, b''), ('g', {}, b'last'),
        ('hole', {'pax_headers': {'GNU.sparse.map': '0,1', 'GNU.sparse.size': '9999'}}, b'x')])
    imported(f'{place}/right.tar', f'{place}/right')
    umlfs, failures = os.environ['UMLFS'], 0
    for number in range(1, 200):
        injection = f'inject={call}:error=EIO:when={number}'
        run = subprocess.run(['strace', '-o', f'{place}/trace', '-e', f'trace={call}', '-e', injection, umlfs, 'import',
                              f'{place}/right.tar', f'{out}/base'], stderr=subprocess.PIPE, text=True, check=False)
        with open(f'{place}/trace', encoding='utf-8') as trace:
            injected = '(INJECTED)' in trace.read()
        if run.returncode == 0:
            assert index_bytes(f'{out}/base') == index_bytes(f'{place}/right'), injection
            assert content(f'{out}/base', b'again') == b'x' * 5000
            shutil.rmtree(f'{out}/base')
        else:
            failures += 1
            assert run.stderr.startswith('umlfs: ') or 'shared libraries' in run.stderr, (injection, run.stderr)
        assert os.listdir(out) == [], (injection, run.stderr)
        if not injected:
            break
    assert not injected
    # Where locks cannot be had, or a directory cannot be synced, imports still work.
    assert (failures > 0) == (call not in ('flock', 'fsync'))
