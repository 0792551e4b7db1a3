"""The base's name means what it meant before, or the whole new base, however an import ends."""

import contextlib
import os
import random
import re
import shutil
import signal
import subprocess
import tarfile

import pytest

pytest.register_assert_rewrite('importing')
from importing import (MIB, area, both_users, content, imported, index_bytes, index_of, needs_programs, needs_root,
                       python_tar, refused, start_import, umlfs_import, write)
from umlfs_cli import PATIENCE, without_leak_check

pytestmark = needs_programs

TEMPORARY = r'\.base\.importing-[a-z0-9]{6}'
SIGNALS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]


@pytest.fixture
def archive(area):
    """Of 8 MiB, none of which compresses."""
    noise = random.Random(1)
    os.mkdir(f'{area}/in')
    members = [(f'dir-{number}/file', {}, noise.randbytes(MIB)) for number in range(8)]
    return python_tar(f'{area}/in/a.tar', members)


@pytest.fixture
def out(area):
    """Where bases are made: everybody may write there."""
    os.mkdir(f'{area}/out')
    os.chmod(f'{area}/out', 0o777)
    return f'{area}/out'


@contextlib.contextmanager
def begun(archive, base, *flags, user='root'):
    """An import that waits in the middle of the archive: what was written is more than a pipe and its buffer hold."""
    process = start_import(*flags, '-', base, user=user, stdin=subprocess.PIPE)
    try:
        with open(archive, 'rb') as stream:
            process.stdin.write(stream.read(4 * MIB))
            process.stdin.flush()
            process.rest = stream.read()
        yield process
    finally:
        process.kill()
        process.communicate()


def finish(process):
    stderr = process.communicate(process.rest)[1]
    return process.returncode, stderr.decode()


def old_base(area, out, user='root'):
    python_tar(f'{area}/old.tar', [('old', {}, b'old')])
    imported(f'{area}/old.tar', f'{out}/base', user=user)
    return index_bytes(f'{out}/base')


@both_users
@pytest.mark.parametrize('number', SIGNALS, ids=lambda number: number.name)
def test_a_signal_leaves_nothing(archive, out, user, number):
    with begun(archive, f'{out}/base', user=user) as process:
        assert re.fullmatch(TEMPORARY, ''.join(os.listdir(out)))
        process.send_signal(number)
        assert process.wait(timeout=PATIENCE) != 0
    assert os.listdir(out) == []


@both_users
@pytest.mark.parametrize('flags', [[], ['--force']])
def test_what_a_kill_leaves_goes_with_the_next_import(archive, area, out, user, flags):
    if flags:
        old = old_base(area, out, user)
    with begun(archive, f'{out}/base', *flags, user=user) as process:
        process.kill()
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
    with begun(archive, f'{out}/base') as first, begun(archive, f'{out}/base') as second:
        assert finish(second)[0] == 0
        assert len(os.listdir(out)) == 2
        status, stderr = finish(first)
    assert status == 1
    assert f'{out}/base: ' in stderr and 'exists' in stderr
    assert os.listdir(out) == ['base']


@both_users
def test_an_existing_base_is_replaced_by_force_only(archive, area, out, user):
    old = old_base(area, out, user)
    assert 'use --force to replace it' in refused(archive, f'{out}/base', user=user)
    assert index_bytes(f'{out}/base') == old
    entries = imported(archive, f'{out}/base', '--force', user=user)
    assert b'old' not in entries and b'dir-7/file' in entries
    assert not os.path.exists(f'{out}/base/old')
    assert os.listdir(out) == ['base']


def test_a_failing_import_leaves_the_old_base(archive, area, out):
    old = old_base(area, out)
    with open(archive, 'rb') as stream:
        write(f'{area}/cut.tar', stream.read(5 * MIB))
    refused(f'{area}/cut.tar', f'{out}/base', '--force')
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
def small_disk(area):
    """A file system of 4 MiB."""
    os.mkdir(f'{area}/disk')
    options = 'size=4m,nr_inodes=200,mode=1777'
    subprocess.run(['mount', '-t', 'tmpfs', '-o', options, 'tmpfs', f'{area}/disk'], check=True)
    yield f'{area}/disk'
    subprocess.run(['umount', '-l', f'{area}/disk'], check=True)


@needs_root
@both_users
def test_a_full_disk_leaves_nothing(archive, area, small_disk, user):
    old = old_base(area, small_disk)
    used = os.statvfs(small_disk).f_bfree
    for flags, name in ([], 'new'), (['--force'], 'base'):
        line = refused(archive, f'{small_disk}/{name}', *flags, user='root' if flags else user)
        assert re.search(r'/a\.tar: dir-\d/file: No space left on device', line)
        assert os.statvfs(small_disk).f_bfree == used
    assert index_bytes(f'{small_disk}/base') == old


@needs_root
def test_a_disk_without_inodes_leaves_nothing(area, small_disk):
    python_tar(f'{area}/many.tar', [(f'd{number}/file', {}, b'') for number in range(300)])
    free = os.statvfs(small_disk).f_ffree
    assert re.search(r'many\.tar: d\d+/file: No space left', refused(f'{area}/many.tar', f'{small_disk}/base'))
    assert os.statvfs(small_disk).f_ffree == free


CALLS = ['openat', 'openat2', 'mkdirat', 'fchmodat', 'pwrite64', 'ftruncate', 'linkat', 'newfstatat', 'syncfs',
         'renameat2', 'fsync', 'getrandom', 'flock']
OF_ARCHIVES = ['read', 'unlinkat']
OF_DIRECTORIES = ['pread64', 'getdents64', 'llistxattr', 'lgetxattr', 'readlinkat', 'lseek']
# Imports work where locks cannot be had, a directory cannot be synced, and holes are not known.
HARMLESS = ['flock', 'fsync', 'lseek']


def make_source(area, kind):
    """Small, and with something of everything; changes of mind too where the source can have them."""
    if kind == 'archive':
        directory = {'type': tarfile.DIRTYPE}
        return python_tar(f'{area}/source', [
            ('d/e/file', {}, b'x' * 5000), ('again', {'type': tarfile.LNKTYPE, 'linkname': 'd/e/file'}, b''),
            ('d', directory, b''), ('f', {'type': tarfile.FIFOTYPE}, b''), ('f', {}, b'now a file'),
            ('f', directory, b''), ('g', {}, b'last'),
            ('hole', {'pax_headers': {'GNU.sparse.map': '0,1', 'GNU.sparse.size': '9999'}}, b'x')])
    os.makedirs(f'{area}/source/d/e')
    write(f'{area}/source/d/e/file', b'x' * 5000)
    os.link(f'{area}/source/d/e/file', f'{area}/source/again')
    os.symlink('target', f'{area}/source/symlink')
    os.setxattr(f'{area}/source/d', 'user.name', b'value')
    os.truncate(f'{area}/source/again', 9999)
    return f'{area}/source'


def import_with_failing(call, number, source, base):
    """(was there such a call, exit status, what was said)"""
    trace = f'{source}.trace'
    run = subprocess.run(['strace', '-o', trace, '-e', f'trace={call}', '-e', f'inject={call}:error=EIO:when={number}',
                          os.environ['UMLFS'], 'import', source, base],
                         stderr=subprocess.PIPE, text=True, check=False,
                         env=without_leak_check())
    with open(trace, encoding='utf-8') as lines:
        return '(INJECTED)' in lines.read(), run.returncode, run.stderr


@pytest.mark.skipif(shutil.which('strace') is None, reason='no strace on this machine')
@pytest.mark.parametrize('kind, call', [*[('archive', call) for call in CALLS + OF_ARCHIVES],
                                        *[('directory', call) for call in CALLS + OF_DIRECTORIES]])
def test_every_system_call_may_fail(area, out, kind, call):
    """Each in turn, once: then the base is there and right, or there is nothing and one line that says why."""
    source = make_source(area, kind)
    imported(source, f'{area}/right')
    injected, n_failures, number = True, 0, 0
    while injected:
        number += 1
        injected, status, stderr = import_with_failing(call, number, source, f'{out}/base')
        if 'LeakSanitizer does not work under ptrace' in stderr:
            shutil.rmtree(f'{out}/base')    # the call that failed was the sanitizer's own, for its options: the import is done
        elif status == 0:
            assert index_bytes(f'{out}/base') == index_bytes(f'{area}/right') or call == 'lseek', number
            assert content(f'{out}/base', b'again').startswith(b'x' * 5000)
            shutil.rmtree(f'{out}/base')
        else:
            n_failures += 1
            ours = stderr.startswith('umlfs: ')
            assert ours or 'shared libraries' in stderr or "ERROR: Can't create directory" in stderr, (number, stderr)  # a sanitizer's
        assert os.listdir(out) == [], (number, stderr)
    # glibc 2.41 and newer take random bytes from the kernel's vDSO, without a call; those that are left are its own.
    assert (n_failures > 0) == (call not in HARMLESS) or call == 'getrandom'
