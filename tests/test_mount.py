"""`umlfs mount` shows the base at the mountpoint and changes nothing of it; its daemon depends on nobody."""

import os
import re
import resource
import select
import shutil
import subprocess

import pytest

from bench import settle
from calls import on, outcome, overwrite, read_file
from umlfs_cli import (PATIENCE, Mount, differences, dump, ends, identity, ids, kill_and_wait, mounts_below, needs_root,
                       program, run, small_members)

MIB = 1 << 20
SMALL_STACK = 64 << 10


def readable(fd, seconds=PATIENCE):
    return bool(select.select([fd], [], [], seconds)[0])


def test_mount_prints_the_mountpoint_and_nothing_else(place, base):
    result = run('mount', base, place / 'session', user=place.user)
    assert result == (0, f'{place.path}/session/rootfs\n', '')
    assert place.do(read_file, place / 'session/rootfs/etc/hostname') == b'guest\n'


def test_mount_shows_the_archive(place):
    members = small_members()
    mounted = place.mount(place.imported_base())
    found = mounted.dump(forget=['sha256'])
    assert sorted(found) == sorted(name for name, _, _ in members)
    for name, changes, data in members:
        entry = found[name]
        if 'linkname' not in changes:
            assert (name, entry.mode) == (name, changes.get('mode', 0o644))
            assert (name, entry.uid, entry.gid) == (name, changes.get('uid', 0), changes.get('gid', 0))
            assert (name, entry.size, entry.mtime) == (name, len(data), 10**18)
    assert found['bin'].target == 'usr/bin' and found['usr/bin/same'].nlink == 2
    assert mounted.do(read_file, mounted / 'usr/bin/same') == dict((n, d) for n, _, d in members)['usr/bin/tool']


def test_mount_shows_a_plain_directory(place):
    base = place.plain_base()
    before = place.do(dump, base)
    shown = place.mount(base).dump()
    root_uid, root_gid = ids(place.user)
    for path, entry in before.items():
        owner = {} if place.user == 'root' else {'uid': entry.uid - root_uid, 'gid': entry.gid - root_gid}
        before[path] = entry._replace(**owner)
    assert differences(shown, before) == []


def test_a_given_mountpoint_is_used(place, base):
    place.do(os.mkdir, place / 'mnt')
    mounted = place.mount(base, mountpoint=place / 'mnt')
    assert mounted.path == place / 'mnt'
    assert mounted.status()['mountpoint'] == place / 'mnt'
    assert place.do(read_file, place / 'mnt/etc/hostname') == b'guest\n'
    assert place.do(os.listdir, place / 'session/rootfs') == []


def test_paths_may_be_relative(place):
    place.imported_base()
    place.do(os.mkdir, place / 'mnt')
    for mountpoint, path in ([], 'session/rootfs'), (['mnt'], 'mnt'), (['./mnt/'], 'mnt'):
        assert place.run('mount', 'base', './session', *mountpoint, cwd=place.path) == f'{place.path}/{path}\n'
        place.run('snapshot', 'session', f'snap-{len(mountpoint)}-{path[-1]}-{mountpoint[-1:]}'.replace('/', '_'),
                  cwd=place.path)
        assert place.do(read_file, place / f'{path}/etc/hostname') == b'guest\n'
        place.run('umount', path, cwd=place.path)
        assert mounts_below(place.path) == []


def test_mount_stays_in_the_foreground_when_told(place, base):
    with place.start('mount', '-f', base, place / 'session', stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        try:
            assert process.stdout.readline() == os.fsencode(place / 'session/rootfs\n')
            mounted = Mount(place, place / 'session', place / 'session/rootfs')
            assert mounted.pid == process.pid
            assert mounted.do(read_file, mounted / 'etc/hostname') == b'guest\n'
            mounted.umount()
            assert ends(process) == 0
            assert (process.stdout.read(), process.stderr.read()) == (b'', b'')
        finally:
            process.kill()


def test_the_daemon_holds_nothing_of_who_started_it(place, base):
    ours, theirs = os.pipe()
    try:
        script = 'mnt=$("$0" mount "$1" "$2") && test "$mnt" = "$2/rootfs"'
        subprocess.run(['sh', '-c', script, program(), base, place / 'session'], check=True, pass_fds=[theirs],
                       timeout=PATIENCE, cwd=place.path, stdin=theirs, **identity(place.user))
        os.close(theirs)
        theirs = None
        assert readable(ours, 10) and os.read(ours, 1) == b'', 'the daemon has a descriptor of its parent'
    finally:
        os.close(ours)
        if theirs is not None:
            os.close(theirs)
    pid = Mount(place, place / 'session', '').pid
    assert os.readlink(f'/proc/{pid}/cwd') == '/'
    assert os.getsid(pid) != os.getsid(0)


def test_a_mounted_session_is_refused_with_its_pid(place, base):
    mounted = place.mount(base)
    pid = mounted.pid
    place.do(os.mkdir, place / 'mnt')
    for mountpoint in ([], [place / 'mnt']):
        line = place.refused('mount', base, mounted.session, *mountpoint)
        assert str(pid) in re.findall(r'\d+', line.replace(place.path, '')), line
    assert mounted.pid == pid
    assert mounted.do(read_file, mounted / 'etc/hostname') == b'guest\n'


def test_two_sessions_share_a_base_and_nothing_else(place, base):
    one, other = place.mount(base, 'one'), place.mount(base, 'other')
    other_before = other.dump()
    one.do(overwrite, one / 'etc/hostname', b'one')
    one.do(shutil.rmtree, one / 'home')
    assert differences(other.dump(), other_before) == []
    assert 'home' in place.do(os.listdir, base)
    assert differences(settle(other), other_before) == [], 'only the kernel had kept it'


def test_a_mount_changes_nothing_in_the_base(place, base):
    before = place.do(dump, base)
    mounted = place.mount(base)
    mounted.do(overwrite, mounted / 'etc/hostname', b'other')
    mounted.do(os.unlink, mounted / 'usr/bin/tool')
    mounted.do(os.chmod, mounted / 'usr/bin/same', 0o600)
    mounted.do(os.rename, mounted / 'home', mounted / 'house')
    place.run('snapshot', mounted.session, 'one')
    mounted.umount()
    # A session may keep the index as a hard link.
    assert [line for line in differences(place.do(dump, base), before) if not line.startswith('.umlfs/index: nlink')] == []


def test_a_daemon_whose_files_have_a_limit_says_so_to_who_writes(place, base):
    """As a shell's `ulimit -f` gives it to what it starts; a signal would end it."""
    assert 'File too large' in place.refused('mount', base, place / 'session', preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0)))
    place.run('mount', base, place / 'session', preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (MIB, MIB)))
    path = place / 'session/rootfs/etc/large'
    assert place.do(outcome, overwrite, path, b'x' * 2 * MIB) == 'EFBIG'
    assert place.do(outcome, overwrite, path, b'x' * MIB) is None
    assert place.do(read_file, path) == b'x' * MIB


def test_a_small_stack_suffices_for_a_copy(place):
    """As a shell's `ulimit -s` gives it: of a long file, what is written to is copied in pieces as large."""
    tree = place / 'tree'
    place.do(os.mkdir, tree)
    place.do(overwrite, f'{tree}/long', b'x' * 3 * MIB)
    place.run('import', tree, place / 'base')
    place.run('mount', place / 'base', place / 'session', preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_STACK, (SMALL_STACK, SMALL_STACK)))
    path = place / 'session/rootfs/long'
    place.do(on, path, os.O_WRONLY, os.pwrite, b'y', MIB + 1)
    assert place.do(read_file, path) == b'x' * (MIB + 1) + b'y' + b'x' * (2 * MIB - 2)


def test_a_mount_whose_note_has_no_room_says_how_it_is_unmounted(place):
    base = place.imported_base()
    session = place.mount(base).session
    place.run('umount', session)
    result = run('mount', base, session, user=place.user, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0)))
    assert result == (0, f'{session}/rootfs\n', f'umlfs: warning: {session}: has no room for a note: `umlfs umount` takes its mountpoint only\n')
    place.run('umount', f'{session}/rootfs')
    assert mounts_below(place.path) == []


def test_a_mount_that_lacks_descriptors_leaves_none(place, base):
    """Wherever it notices: from the lock to the last thread."""
    session = place.mount(base).session
    place.run('umount', session)
    for number in range(6, 64):
        result = run('mount', base, session, user=place.user,
                     preexec_fn=lambda number=number: resource.setrlimit(resource.RLIMIT_NOFILE, (number, number)))
        assert bool(mounts_below(place.path)) == (result.status == 0), (number, result)
        if result.status == 0:
            break
    else:
        pytest.fail('never enough')


def test_attributes_of_a_plain_base_do_not_depend_on_what_is_mounted_in_it(place):
    """A session without the option xattr is a file system that has none."""
    base = place / 'base'
    for directory in (base, base + '/mountpoint', place / 'other'):
        place.do(os.mkdir, directory)
    names = [f'file{number}' for number in range(8)]    # some of them behind the mountpoint in the directory
    for name in names:
        place.do(overwrite, f'{base}/{name}', b'x')
        try:
            place.do(os.setxattr, f'{base}/{name}', 'user.name', name.encode())
        except OSError:
            pytest.skip('the file system has no user attributes')
    place.do(overwrite, place / 'other/file', b'x')
    place.mount(place / 'other', session='inner', mountpoint=base + '/mountpoint')
    mounted = place.mount(base, options='xattr')
    assert [place.do(os.getxattr, mounted / name, 'user.name') for name in names] == [name.encode() for name in names]
    mounted.umount()


@pytest.mark.parametrize('inner', ['rootfs', 'rootfs/inner', 'inner'])
def test_no_session_is_made_in_another(place, base, inner):
    """The mountpoint is easily given for the session."""
    session = place.mount(base).session
    place.run('umount', session)
    said = place.refused('mount', base, f'{session}/{inner}')
    assert said == f'{session}/{inner}: lies in the session {session}: give a session elsewhere'
    assert os.listdir(f'{session}/rootfs') == [] and not os.path.exists(f'{session}/inner')
    mounted = place.mount(base)
    mounted.do(os.mkdir, mounted / 'inner')
    place.do(os.mkdir, place / 'mountpoint')
    place.mount(base, mounted / 'inner', place / 'mountpoint').umount()


def test_the_own_mountpoint_of_a_session_is_no_link(place, base):
    """It may be another's, who lets root mount where he wants."""
    for directory in place / 'session', place / 'elsewhere':
        place.do(os.mkdir, directory)
    place.do(os.symlink, place / 'elsewhere', place / 'session/rootfs')
    said = place.refused('mount', base, place / 'session')
    assert said == f'{place / "session/rootfs"}: is a symbolic link: remove it, or give a mountpoint'
    assert mounts_below(place.path) == [] and os.listdir(place / 'session') == ['rootfs']


@needs_root
@pytest.mark.parametrize('user', ['ordinary'], indirect=True)
def test_root_is_sent_to_the_owner_of_a_session(place):
    """What root made there would be closed to its owner; to look is another thing."""
    base = place.imported_base()
    mounted = place.mount(base)
    place.run('snapshot', mounted.session, 'one')
    mounted.umount()
    line = f'{mounted.session}: belongs to user {ids("ordinary")[0]}: run it as that user, who could not use what this one makes there'
    for words in (['snapshot', mounted.session, 'two'], ['reset', mounted.session], ['delete', mounted.session, 'one'],
                  ['mount', base, mounted.session], ['check', '--repair', mounted.session]):
        result = run(*words)
        assert result.status in (1, 8) and result.stderr == f'umlfs: {line}\n', (words, result)
    for words in ['list'], ['status'], ['check'], ['diff']:
        assert run(*words, mounted.session).status == 0, words
    assert {os.lstat(path).st_uid for path in [mounted.session, *walk(mounted.session)]} == {ids('ordinary')[0]}


@needs_root
@pytest.mark.parametrize('user', ['ordinary'], indirect=True)
@pytest.mark.parametrize('boot', ['this', 'other'])
def test_root_looks_at_a_session_whose_daemon_was_killed_and_changes_nothing(place, boot):
    """Of another boot of the host there is more to put right: content that never came to the disk."""
    base = place.imported_base()
    mounted = place.mount(base)
    mounted.do(overwrite, mounted / 'made', b'new')
    mounted.do(overwrite, mounted / 'kept', b'new')
    kill_and_wait(mounted.pid)
    subprocess.run(['umount', '-l', mounted.path], check=True)
    content = f'{mounted.session}/layers/1/content'
    if boot == 'other':
        os.unlink(f'{mounted.session}/running')
        place.do(os.symlink, 'other-boot', f'{mounted.session}/running')
        os.unlink(f'{content}/{min(os.listdir(content), key=int)}')
    else:
        place.do(overwrite, f'{content}/999999', b'nobody knows it')
    before = {path: looks(path) for path in walk(mounted.session)}
    for words in ['list'], ['status']:
        assert run(*words, mounted.session).status == 0, words
    assert {path: looks(path) for path in walk(mounted.session)} == before
    mounted = place.mount(base)
    assert mounted.do(read_file, mounted / 'kept') == b'new'


def looks(path):
    """All but when it was read."""
    st = os.lstat(path)
    return st.st_mode, st.st_ino, st.st_nlink, st.st_uid, st.st_gid, st.st_size, st.st_mtime_ns, st.st_ctime_ns


def walk(top):
    return [f'{directory}/{name}' for directory, directories, files in os.walk(top) for name in directories + files]
