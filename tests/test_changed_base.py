"""A session is of its base alone: one that has changed is refused with the paths in which it differs."""

import errno
import os
import re
import subprocess

import pytest

from calls import append, outcome, overwrite, read_file
from umlfs_cli import differences, dump, mounts_below, run, small_members, write_archive


def replace_target(base):
    os.unlink(f'{base}/bin')
    os.symlink('sbin', f'{base}/bin')


CHANGES = {
    'content': (lambda base: overwrite(f'{base}/etc/hostname', b'other content'), 'etc/hostname'),
    'content of the same size': (lambda base: overwrite(f'{base}/etc/hostname', b'GUEST\n'), 'etc/hostname'),
    'mode': (lambda base: os.chmod(f'{base}/usr/bin/tool', 0o700), 'usr/bin/'),
    'added': (lambda base: overwrite(f'{base}/etc/added', b''), 'etc/added'),
    'removed': (lambda base: os.unlink(f'{base}/home/user/notes'), 'home/user/notes'),
    'link target': (replace_target, 'bin'),
    'type': (lambda base: (os.unlink(f'{base}/run/fifo'), os.mkdir(f'{base}/run/fifo')), 'run/fifo'),
}


def session_state(session):
    """All that is on disk of a session but who had it last."""
    return {path: entry for path, entry in dump(session, ['mtime']).items() if path != 'lock'}


def mismatch(result, base, session):
    """The paths that a refusal of another base names."""
    lines = result.stderr.splitlines()
    assert (result.status, result.stdout) == (1, ''), result
    assert lines[0].startswith(f'umlfs: {base}: ') and session in lines[0], result
    assert 1 <= len(lines) - 1 <= 5, result
    paths = [re.fullmatch(r'(?:umlfs:)? +(\S[^\n]*): [^:\n]+', line) for line in lines[1:]]
    assert all(paths), result
    return [match[1] for match in paths]


@pytest.mark.parametrize('kind', sorted(CHANGES))
def test_a_plain_base_that_changed_is_refused_with_the_paths(place, kind):
    change_it, path = CHANGES[kind]
    base = place.plain_base()
    mounted = place.mount(base)
    mounted.do(overwrite, mounted / 'etc/new', b'new')
    mounted.umount()
    before = session_state(mounted.session)
    place.do(change_it, base)
    named = mismatch(run('mount', base, mounted.session, user=place.user), base, mounted.session)
    assert any(name.startswith(path) for name in named), named
    assert mounts_below(place.path) == []
    assert differences(session_state(mounted.session), before) == []


def test_a_plain_base_that_was_restored_is_taken_again(place):
    base = place.plain_base()
    mounted = place.mount(base)
    mounted.do(overwrite, mounted / 'etc/new', b'new')
    mounted.umount()
    place.do(os.chmod, f'{base}/etc', 0o700)
    mismatch(run('mount', base, mounted.session, user=place.user), base, mounted.session)
    place.do(os.chmod, f'{base}/etc', 0o755)
    assert place.mount(base).do(read_file, mounted / 'etc/new') == b'new'


def test_an_imported_base_that_was_replaced_is_refused_with_the_paths(place):
    base = place.imported_base()
    mounted = place.mount(base)
    mounted.umount()
    members = [(name, changes, b'replaced' if name == 'etc/passwd' else data) for name, changes, data in small_members()
               if name != 'home/user/empty'] + [('etc/extra', {}, b'')]
    place.run('import', '--force', write_archive(place / 'other.tar', members), base)
    named = mismatch(run('mount', base, mounted.session, user=place.user), base, mounted.session)
    assert sorted(named) == ['etc/extra', 'etc/passwd', 'home/user/empty']
    archive = write_archive(place / 'same.tar', small_members())
    place.run('import', '--force', archive, base)
    assert place.mount(base).do(read_file, mounted / 'etc/hostname') == b'guest\n'


def test_another_base_is_refused(place):
    mounted = place.mount(place.imported_base())
    mounted.umount()
    archive = write_archive(place / 'other.tar', [('.', {'type': b'5', 'mode': 0o755}, b''), ('only', {}, b'')])
    other = place.imported_base('other', archive)
    mismatch(run('mount', other, mounted.session, user=place.user), other, mounted.session)
    assert place.mount(place / 'base').do(read_file, mounted / 'etc/hostname') == b'guest\n'


def test_the_same_base_at_another_path_is_taken(place, base):
    mounted = place.mount(base)
    mounted.do(overwrite, mounted / 'etc/new', b'new')
    mounted.umount()
    place.do(os.rename, base, place / 'moved')
    mounted = place.mount(place / 'moved')
    assert mounted.do(read_file, mounted / 'etc/new') == b'new'
    assert mounted.do(read_file, mounted / 'etc/passwd').startswith(b'root')
    assert mounted.status()['base'] == place / 'moved'
    mounted.umount()
    assert f'base         {place / "moved"}\n' in place.run('status', mounted.session)
    assert place.refused('mount', base, mounted.session) == (
        f'{base}: no such base: if it was moved, say where to: `umlfs mount BASE {mounted.session}`')
    assert place.mount(place / 'moved').do(read_file, mounted / 'etc/new') == b'new'


def test_copies_of_base_and_session_are_as_good(place):
    """With their times: without them a file of an imported base counts as changed."""
    base = place.imported_base()
    mounted = place.mount(base)
    mounted.do(overwrite, mounted / 'etc/new', b'new')
    mounted.umount()
    for words in ['-a', base, place / 'copy'], ['-r', base, place / 'without'], ['-a', mounted.session, place / 'session-copy']:
        place.do(subprocess.run, ['cp', *words], check=True)
    copied = place.mount(place / 'copy', 'session-copy')
    assert copied.do(read_file, copied / 'etc/new') == b'new'
    assert copied.do(read_file, copied / 'etc/hostname') == b'guest\n'
    copied.umount()
    place.noisy = True
    without = place.mount(place / 'without', 'session-copy')
    assert without.do(outcome, read_file, without / 'etc/hostname') == 'EIO'
    assert f'{place / "without"}/etc/hostname: changed since the base was imported: restore it, or' in without.log()


def test_a_base_file_that_changes_while_mounted_is_an_error_that_names_it(place, base):
    place.noisy = True
    mounted = place.mount(base)
    place.do(overwrite, f'{base}/etc/hostname', b'other')
    place.do(os.unlink, f'{base}/home/user/notes')
    for path in ('etc/hostname', 'home/user/notes'):
        with pytest.raises(OSError) as caught:
            mounted.do(read_file, mounted / path)
        assert caught.value.errno == errno.EIO
        assert f'{base}/{path}' in mounted.status()['problem']
        assert f'{base}/{path}' in place.run('status', mounted.session)
        assert f'{base}/{path}' in mounted.log()
    assert mounted.do(read_file, mounted / 'etc/passwd').startswith(b'root')


@pytest.mark.parametrize('data', [b'', b'other\n'], ids=['cut', 'other-bytes'])
def test_a_base_file_that_changes_when_it_was_read_already_is_never_copied_up(place, base, data):
    """The daemon has it open."""
    place.noisy = True
    mounted = place.mount(base)
    assert mounted.do(read_file, mounted / 'etc/hostname') == b'guest\n'
    place.do(overwrite, f'{base}/etc/hostname', data)
    with pytest.raises(OSError) as caught:
        mounted.do(append, mounted / 'etc/hostname', b'more')
    assert caught.value.errno == errno.EIO
    assert f'{base}/etc/hostname' in mounted.status()['problem']
    assert place.do(os.listdir, f'{mounted.session}/layers/1/content') == []
