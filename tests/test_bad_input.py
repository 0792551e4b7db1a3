"""Whatever is given or missing: one line that says what, why and what to do, and nothing is left behind."""

import errno
import gzip
import os
import re
import subprocess

import pytest

import guest
from calls import overwrite, read_file
from traces import refused_without_trace
from umlfs_cli import PATIENCE, as_ordinary, as_root, identity, kill_and_wait, needs_root, program, run, small_archive


# --- bases -------------------------------------------------------------------------------------------------------

def test_a_missing_base_is_refused(place):
    line = refused_without_trace(place, 'mount', place / 'no-base', place / 'session')
    assert line.startswith(place / 'no-base: ') and 'umlfs import' in line


def test_an_empty_base_is_refused(place):
    place.do(os.mkdir, place / 'base')
    line = refused_without_trace(place, 'mount', place / 'base', place / 'session')
    assert line.startswith(place / 'base: ') and 'empty' in line


@pytest.mark.parametrize('name', ['root.tar', 'text', 'fifo'])
def test_a_file_as_base_is_refused(place, name):
    path = place / name
    if name == 'root.tar':
        small_archive(path)
    elif name == 'text':
        place.do(overwrite, path, b'text')
    else:
        place.do(os.mkfifo, path)
    line = refused_without_trace(place, 'mount', path, place / 'session')
    assert line.startswith(f'{path}: ') and 'umlfs import' in line


def test_a_base_that_is_a_dangling_symlink_is_refused(place):
    place.do(os.symlink, 'nowhere', place / 'base')
    assert refused_without_trace(place, 'mount', place / 'base', place / 'session').startswith(place / 'base: ')


@as_ordinary
@pytest.mark.parametrize('path', ['', '/home/user'])
def test_an_unreadable_directory_of_a_base_is_named(place, path):
    base = place.plain_base()
    place.do(os.chmod, base + path, 0o000)
    line = refused_without_trace(place, 'mount', base, place / 'session')
    place.do(os.chmod, base + path, 0o700)
    assert line.startswith(base + path) and 'ermission denied' in line, line
    assert place.mount(base).do(read_file, place / 'session/rootfs/etc/hostname') == b'guest\n'


@as_ordinary
@needs_root
def test_an_unreadable_file_of_a_base_is_an_error_of_that_file_alone(place):
    place.noisy = True
    base = place.plain_base()
    os.chown(f'{base}/etc/shadow', 0, 0)
    os.chmod(f'{base}/etc/shadow', 0)
    mounted = place.mount(base)
    with pytest.raises(OSError) as caught:
        mounted.do(read_file, mounted / 'etc/shadow')
    assert caught.value.errno in (errno.EACCES, errno.EIO)
    assert f'{base}/etc/shadow' in mounted.log()
    assert mounted.do(read_file, mounted / 'etc/hostname') == b'guest\n'


# --- sessions ----------------------------------------------------------------------------------------------------

def test_a_file_as_session_is_refused(place, base):
    place.do(overwrite, place / 'session', b'text')
    assert refused_without_trace(place, 'mount', base, place / 'session').startswith(place / 'session: ')


def test_a_session_in_a_missing_directory_is_refused(place, base):
    assert refused_without_trace(place, 'mount', base, place / 'a/b').startswith(place / 'a/b: ')


@as_ordinary
def test_a_session_where_one_may_not_write_is_refused(place, base):
    place.do(os.mkdir, place / 'closed', 0o500)
    line = refused_without_trace(place, 'mount', base, place / 'closed/session')
    assert line.startswith(place / 'closed/session: ') and 'ermission denied' in line
    line = refused_without_trace(place, 'mount', base, place / 'closed')
    assert line.startswith(place / 'closed') and 'ermission denied' in line


def test_a_session_inside_the_base_is_refused(place, base):
    place.do(os.symlink, 'base', place / 'link')
    for session in f'{base}/session', base, f'{base}/tmp', place / 'link/session':
        line = refused_without_trace(place, 'mount', base, session)
        assert line.startswith(f'{session}: ') and base in line.removeprefix(session), line


def test_a_base_inside_the_session_is_refused(place):
    place.do(os.mkdir, place / 'session')
    base = place.plain_base('session/base')
    assert base in refused_without_trace(place, 'mount', base, place / 'session')


def test_a_directory_with_other_files_does_not_become_a_session(place, base):
    place.do(os.mkdir, place / 'session')
    place.do(overwrite, place / 'session/thesis.txt', b'precious')
    line = refused_without_trace(place, 'mount', base, place / 'session')
    assert line.startswith(place / 'session: ')


COMMANDS = [['list'], ['list', '--json'], ['status'], ['status', '--json'], ['snapshot', 'one'], ['reset'],
            ['reset', '--force'], ['delete', 'one']]


@pytest.mark.parametrize('what', ['missing', 'file', 'empty', 'other', 'base'])
@pytest.mark.parametrize('words', COMMANDS, ids=' '.join)
def test_commands_on_what_is_no_session_are_refused(place, words, what):
    path = place / what
    if what == 'file':
        place.do(overwrite, path, b'')
    elif what == 'base':
        place.imported_base()
    elif what != 'missing':
        place.do(os.mkdir, path)
    if what == 'other':
        place.do(overwrite, f'{path}/thesis.txt', b'precious')
    flags = [word for word in words[1:] if word.startswith('--')]
    names = [word for word in words[1:] if not word.startswith('--')]
    assert refused_without_trace(place, words[0], *flags, path, *names).startswith(f'{path}: ')


@pytest.mark.parametrize('what', ['missing', 'file', 'directory', 'session'])
def test_umount_of_what_is_not_mounted_is_refused(place, what):
    path = place / what
    if what == 'file':
        place.do(overwrite, path, b'')
    elif what == 'directory':
        place.do(os.mkdir, path)
    elif what == 'session':
        place.mount(place.imported_base(), what).umount()
    assert refused_without_trace(place, 'umount', path).startswith(f'{path}: ')


@as_root
def test_umount_touches_no_mount_of_others(place):
    os.mkdir(place / 'mnt')
    subprocess.run(['mount', '-t', 'tmpfs', 'tmpfs', place / 'mnt'], check=True)
    overwrite(place / 'mnt/file', b'')
    refused_without_trace(place, 'umount', place / 'mnt')


@as_ordinary
@needs_root
def test_another_users_session_is_refused(place):
    base = place.imported_base()
    mounted = place.mount(base)
    mounted.umount()
    os.chown(mounted.session, 0, 0)
    os.chmod(mounted.session, 0o700)
    for words in [['mount', base, mounted.session], ['list', mounted.session], ['snapshot', mounted.session, 'one']]:
        assert 'ermission denied' in place.refused(*words)


# --- mountpoints -------------------------------------------------------------------------------------------------

def mountpoint_cases(place, base):
    """What is wrong -> (mountpoint, how to make it)"""
    return {
        'missing': (place / 'mnt', lambda: None),
        'file': (place / 'mnt', lambda: overwrite(place / 'mnt', b'')),
        'not empty': (place / 'mnt', lambda: (os.mkdir(place / 'mnt'), overwrite(place / 'mnt/file', b''))),
        'the base': (base, lambda: None),
        'inside the base': (f'{base}/tmp', lambda: None),
        'the session': (place / 'session', lambda: None),
        'above the session': (place.path, lambda: None),
        'inside the layers': (place / 'session/layers', lambda: None),
        'a symlink to the base': (place / 'mnt', lambda: os.symlink(base, place / 'mnt')),
        'dangling': (place / 'mnt', lambda: os.symlink('nowhere', place / 'mnt')),
    }


@pytest.mark.parametrize('new', [True, False], ids=['new', 'there'])
@pytest.mark.parametrize('kind', mountpoint_cases(type('', (), {'__truediv__': lambda *_: '', 'path': ''})(), ''))
def test_a_mountpoint_that_will_not_do_is_refused(place, base, kind, new):
    mountpoint, make = mountpoint_cases(place, base)[kind]
    if not new:
        place.mount(base).umount()
    place.do(make)
    line = refused_without_trace(place, 'mount', base, place / 'session', mountpoint)
    assert mountpoint in line or os.path.realpath(mountpoint) in line, line
    assert (kind == 'not empty') == ('not empty' in line), line


def test_a_mountpoint_that_is_mounted_is_refused(place, base):
    place.do(os.mkdir, place / 'mnt')
    one = place.mount(base, 'one', place / 'mnt')
    line = refused_without_trace(place, 'mount', base, place / 'other', place / 'mnt')
    assert one.path in line and one.session in line
    kill_and_wait(one.pid)
    line = refused_without_trace(place, 'mount', base, place / 'other', place / 'mnt')
    assert one.path in line, line


def test_a_default_mountpoint_that_is_not_empty_is_refused(place, base):
    place.mount(base).umount()
    place.do(overwrite, place / 'session/rootfs/file', b'')
    assert 'rootfs' in refused_without_trace(place, 'mount', base, place / 'session')


@as_ordinary
@needs_root
def test_a_mountpoint_of_somebody_else_is_refused(place, base):
    os.mkdir(place / 'mnt')
    line = refused_without_trace(place, 'mount', base, place / 'session', place / 'mnt')
    assert line.startswith(place / 'mnt: '), line


# --- archives: the rest is import's own test ---------------------------------------------------------------------

def truncated(path):
    overwrite(path, read_file(small_archive(path))[:2000])


def corrupt(path):
    data = bytearray(gzip.compress(read_file(small_archive(path)), mtime=0))
    data[len(data) // 2] ^= 0x55
    overwrite(path, data)


def with_password(path):
    subprocess.run(['zip', '-q', '-P', 'secret', f'{path}.zip', 'hostname'], check=True, cwd='/etc')
    os.rename(f'{path}.zip', path)


ARCHIVES = {'empty': lambda path: overwrite(path, b''), 'text': lambda path: overwrite(path, b'no archive\n' * 100),
            'truncated': truncated, 'corrupt': corrupt, 'password': with_password}


@pytest.mark.parametrize('kind', ARCHIVES)
def test_a_bad_archive_makes_no_base(place, kind):
    ARCHIVES[kind](place / 'archive')
    os.chmod(place / 'archive', 0o644)
    assert place / 'archive' in refused_without_trace(place, 'import', place / 'archive', place / 'base')


def test_a_base_that_is_there_is_not_replaced_unless_told(place):
    base = place.imported_base()
    small_archive(place / 'archive')
    assert '--force' in refused_without_trace(place, 'import', place / 'archive', base)
    place.do(os.mkdir, place / 'thesis')
    place.do(overwrite, place / 'thesis/chapter', b'precious')
    refused_without_trace(place, 'import', '--force', place / 'archive', place / 'thesis')


def test_an_import_from_a_closed_standard_input_is_refused(place):
    """What is opened in its place must not be waited for."""
    done = subprocess.run(['sh', '-c', 'exec "$0" import - "$1" <&-', program(), place / 'new'], check=False, timeout=PATIENCE,
                          capture_output=True, text=True, **identity(place.user))
    assert done.returncode == 1 and re.fullmatch(r'umlfs: [^\n]+\n', done.stderr), done
    assert os.listdir(place.path) == []


# --- what to do about it -----------------------------------------------------------------------------------------

MISSING = [
    (['import', 'absent.tar', 'new'], r'absent\.tar: no such archive or directory: .*'),
    (['import', 'session', 'new'], r'session: is a session: `umlfs commit` makes a base of one'),
    (['import', '--image', 'v2', 'small.tar', 'new'], r'small\.tar: is no image: leave out --platform and --image'),
    (['import', 'base', 'absent/new'], r'absent: no such directory: make it first, for the base'),
    (['run', 'absent', '--', 'true'], r'absent: no such base or session: `umlfs import ARCHIVE absent` makes a base'),
    *((words, r'absent: no such session: `umlfs mount BASE absent` makes one')
      for words in (['snapshot', 'absent', 'one'], ['status', 'absent'], ['reset', 'absent'], ['list', 'absent'],
                    ['delete', 'absent', 'one'], ['diff', 'absent'], ['export', 'absent', 'x.tar'], ['commit', 'absent', 'new'])),
    (['check', 'absent'], r'absent: no such session or base: give the path of one'),
    (['verify', 'absent'], r'absent: no such base: make one with `umlfs import ARCHIVE absent`'),
    *((words, r'base: is a base, and no session: `umlfs mount base SESSION` makes one on it')
      for words in (['list', 'base'], ['status', 'base'], ['diff', 'base'], ['commit', 'base', 'new'])),
    (['list', 'file'], r'file: is no session: it is no directory.*'),
    (['verify', 'session'], r'session: is a session: `umlfs check session` checks it; `umlfs verify` is for bases'),
    (['delete', 'session', '@base'], r'@base: is the base, and stays'),
    (['delete', 'session', 'none'], r'none: no such snapshot of session: `umlfs list session` lists them'),
    (['reset', 'session', 'none'], r'none: no such snapshot of session: `umlfs list session` lists them'),
    *((words, r"the name of a snapshot of session is empty: `umlfs list session` lists them")
      for words in (['export', 'session@', 'x.tar'], ['export', '--diff=', 'session', 'x.tar'], ['diff', 'session', ''])),
    (['reset', 'session', ''], r"the name: a snapshot's name may not be empty"),
    (['mount', 'base', 'session', 'absent'], r'absent: no such directory: make the mountpoint first'),
    (['mount', 'base', 'session', 'file'], r'\S*/file: is no directory: give an empty directory as mountpoint'),
    (['run', '--kernel', './absent', 'base', '--', 'true'], r'--kernel \./absent: no such file: give a User-Mode Linux kernel'),
]


def test_a_line_says_what_to_do(place):
    place.imported_base()
    place.do(overwrite, place / 'file', b'')
    small_archive(place / 'small.tar')
    place.mount(place / 'base').umount()
    for words, line in MISSING:
        found = run(*words, user=place.user, cwd=place.path)
        assert found.status != 0 and re.fullmatch(f'umlfs: {line}\n', found.stderr), (words, found)


@pytest.mark.parametrize('name, words, line', [
    ('UMLFS_KERNEL', ['run', 'base', '--', 'true'], r'UMLFS_KERNEL=/absent: no such file: give a User-Mode Linux kernel'),
    ('TMPDIR', ['run', 'base', '--', 'true'], r'TMPDIR=/absent: no such directory: make it, or set TMPDIR to another'),
])
def test_a_variable_that_leads_nowhere_is_named(place, name, words, line):
    if 'linux.uml' not in os.environ.get('UMLFS_KERNEL', 'linux.uml') or guest.uml_kernel() is None:
        pytest.skip('no linux.uml')
    place.imported_base()
    found = run(*words, user=place.user, cwd=place.path, env={**os.environ, name: '/absent'})
    assert found.status == 125 and re.fullmatch(f'umlfs: {line}\n', found.stderr), found


@pytest.mark.parametrize('words, missing', [
    (['mount'], 'BASE'), (['mount', '-o', 'ro', 'base'], 'SESSION'), (['import', 'a'], 'BASE'), (['snapshot', 'a'], 'NAME'),
    (['delete'], 'SESSION'), (['export', 'a'], r'FILE\|-'), (['diff'], 'SESSION'), (['import'], r'ARCHIVE\|DIR\|IMAGE\|-\.\.\.'),
])
def test_an_argument_that_is_missing_is_named(place, words, missing):
    assert re.fullmatch(f'{words[0]}: {missing} is missing', place.refused(*words, status=2))


def test_a_number_of_files_is_asked_for_as_one(place):
    assert place.refused('mount', '--inodes', '-1', 'base', 'session', status=2) == '--inodes -1: not a number above 0, such as 10000'
    assert place.refused('mount', '--size', '-1', 'base', 'session', status=2) == '--size -1: not a number above 0, such as 500M'


def test_one_entry_is_not_several(place):
    place.do(os.mkdir, place / 'root')
    place.do(overwrite, place / 'root/file', b'')
    assert re.match(r'\S+: 1 entry, ', run('import', place / 'root', place / 'new', user=place.user).stderr)
