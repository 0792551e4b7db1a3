"""Modes, owners and extended attributes: what a guest is shown, and what copies nothing."""

import os
import stat

import pytest

from calls import call_all, fallocate, opened, outcome, read_file, write_file
from places import Here, as_on_the_host, dump, here, none, paths_below, through_a_mount, unlike


# --- attributes ------------------------------------------------------------------------------------------------

@as_on_the_host
def test_modes():
    results = []
    for path in ('plain', 'dir', 'fifo', 'new'):
        if path == 'new':
            write_file(path)
        for mode in (0, 0o777, 0o4755, 0o2710, 0o1777, 0o7777, 0o640, 0o700):
            os.chmod(path, mode)
            results.append(os.stat(path).st_mode)
    return results, outcome(os.chmod, 'nothing', 0), outcome(os.chmod, 'dangling', 0)


@through_a_mount
def test_what_changes_only_attributes_copies_nothing(here):
    for path, entry in dump().items():
        os.chown(path, 1234, 5678, follow_symlinks=False)
        os.utime(path, ns=(1, 2), follow_symlinks=False)
        if entry['type'] != stat.S_IFLNK:
            os.chmod(path, 0o4711)
    for path, entry in dump().items():
        assert (entry['uid'], entry['gid'], entry['mtime']) == (1234, 5678, 2), path
        assert entry['mode'] == 0o4711 or entry['type'] == stat.S_IFLNK, path
    os.rename('large', 'larger')
    with opened('larger', os.O_RDWR):
        pass
    assert here.contents() == []
    with opened('larger', os.O_RDWR) as fd:
        os.pwrite(fd, b'!', 7)
    assert len(here.contents()) == 1
    st = os.stat('larger')
    assert (st.st_mode, st.st_uid, st.st_gid) == (stat.S_IFREG | 0o4711, 1234, 5678)
    assert os.stat(f'{here.session}/layers/{here.contents()[0].replace("/", "/content/")}').st_mode & 0o777 == 0o600


@through_a_mount
def test_ownership_is_whatever_was_asked_for(here):
    for path in ('plain', 'dir', 'symlink'):
        for uid, gid in ((0, 0), (4294967294, 4294967294), (1000, -1), (-1, 100)):
            before = os.lstat(path)
            os.chown(path, uid, gid, follow_symlinks=False)
            after = os.lstat(path)
            assert after.st_uid == (before.st_uid if uid == -1 else uid)
            assert after.st_gid == (before.st_gid if gid == -1 else gid)


@through_a_mount
def test_modes_bar_nobody_from_files_because_the_guest_decides(here):
    write_file('new', b'new', 0)
    write_file('closed', b'was closed from the start')
    os.chmod('closed', 0)
    os.chmod('plain', 0)
    os.chmod('dir', 0)
    for path in ('new', 'closed', 'plain', 'dir/file', 'read-only'):
        with opened(path, os.O_RDWR) as fd:
            data = os.read(fd, 100)
            assert data, path
            os.pwrite(fd, data.upper(), 0)
            os.ftruncate(fd, len(data))
        assert read_file(path) == data.upper()
    write_file('dir/new', b'in a closed directory')
    os.unlink('dir/file')
    assert sorted(os.listdir('dir')) == ['new', 'sub']


@through_a_mount
def test_setuid_stays_until_the_guest_takes_it_away(here):
    with opened('setuid', os.O_RDWR) as fd:
        os.write(fd, b'written')
        os.ftruncate(fd, 3)
        fallocate(fd, 0, 0, 100)
    with opened('new', os.O_RDWR | os.O_CREAT, 0o600) as fd:
        os.write(fd, b'program')
        os.fchmod(fd, 0o4755)
        os.write(fd, b' and more')
    os.chown('setuid', 5, 6)
    assert os.stat('setuid').st_mode == stat.S_IFREG | 0o4755
    assert os.stat('new').st_mode == stat.S_IFREG | 0o4755
    os.chmod('setuid', 0o755)
    assert os.stat('setuid').st_mode == stat.S_IFREG | 0o755


def make_one_of_each(top):
    write_file(f'{top}/made-file')
    os.mkdir(f'{top}/made-dir')
    os.symlink('x', f'{top}/made-link')
    os.mkfifo(f'{top}/made-fifo')
    return [os.lstat(f'{top}/made-{name}') for name in ('file', 'dir', 'link', 'fifo')]


@through_a_mount
def test_new_files_take_the_owner_of_their_directory(here):
    os.chown('dir', 1000, 100)
    os.chown('dir/sub', 70000, 5)
    for top, owner in (('.', (os.stat('.').st_uid, os.stat('.').st_gid)), ('dir', (1000, 100)), ('dir/sub', (70000, 5))):
        assert [(st.st_uid, st.st_gid) for st in make_one_of_each(top)] == [owner] * 4
    os.mkdir('dir/made-dir/below')
    assert os.stat('dir/made-dir/below').st_uid == 1000


@through_a_mount
def test_set_group_id_directories_hand_down_their_group(here):
    os.chown('dir', 1000, 4242)
    os.chmod('dir', 0o2775)
    made = make_one_of_each('dir')
    assert [st.st_gid for st in made] == [4242] * 4
    assert [bool(st.st_mode & stat.S_ISGID) for st in made] == [False, True, False, False]


def test_with_owner_caller_new_files_belong_to_who_makes_them(place):
    here = Here(place, 'plain', 'owner=caller')

    def body():
        os.chown('dir', 1000, 100)
        os.chmod('other', 0o2775)
        os.chown('other', 1000, 100)
        assert {(st.st_uid, st.st_gid) for st in make_one_of_each('dir')} == {(os.getuid(), os.getgid())}
        assert {(st.st_uid, st.st_gid) for st in make_one_of_each('other')} == {(os.getuid(), 100)}
    here.within(body)


def test_extended_attributes_are_not_there_unless_asked_for(here):
    def body():
        return call_all([
            lambda: os.setxattr('plain', 'user.name', b'value'),
            lambda: os.getxattr('plain', 'user.name'),
            lambda: os.removexattr('plain', 'user.name'),
        ]), outcome(os.listxattr, 'plain')
    calls, names = here.within(body)
    assert calls == [(0, 'EOPNOTSUPP'), (1, 'EOPNOTSUPP'), (2, 'EOPNOTSUPP')]
    assert names in ([], 'EOPNOTSUPP')


@pytest.mark.parametrize('kind', ['imported', 'plain'])
def test_extended_attributes_when_asked_for(place, kind):
    here = Here(place, kind, 'xattr')

    def body():
        os.mkdir('new')
        results = []
        for path in ('plain', 'dir', 'new'):
            results += call_all([
                lambda: os.listxattr(path),
                lambda: os.getxattr(path, 'user.name'),
                lambda: os.setxattr(path, 'user.name', b'value'),
                lambda: os.setxattr(path, 'user.name', b'value', os.XATTR_CREATE),
                lambda: os.setxattr(path, 'user.other', b'value', os.XATTR_REPLACE),
                lambda: os.setxattr(path, 'user.other', b'\0' * 2000),
                lambda: os.setxattr(path, 'user.empty', b''),
                lambda: os.setxattr(path, 'user.name', b'new value', os.XATTR_REPLACE),
                lambda: sorted(os.listxattr(path)),
                lambda: [os.getxattr(path, name) for name in ('user.name', 'user.other', 'user.empty')],
                lambda: os.removexattr(path, 'user.empty'),
                lambda: os.removexattr(path, 'user.empty'),
                lambda: sorted(os.listxattr(path)),
                lambda: os.setxattr(path, 'user.' + 'n' * 251, b''),
                lambda: os.setxattr(path, 'user.', b''),
                lambda: os.setxattr(path, 'nonsense', b''),
                lambda: os.setxattr(path, 'user.large', b'x' * 65537),
            ])
        return results + call_all([lambda: os.setxattr('nothing', 'user.name', b''),
                                   lambda: os.setxattr('symlink', 'user.through', b''),
                                   lambda: os.setxattr('symlink', 'user.name', b'', follow_symlinks=False),
                                   lambda: sorted(os.listxattr('plain'))[:2]])

    def attributes():
        return {path: {name: os.getxattr(path, name, follow_symlinks=False)
                       for name in os.listxattr(path, follow_symlinks=False)} for path in paths_below()}
    none(unlike(here.within(body), here.beside(body)))
    want = here.beside(attributes)
    assert here.within(attributes) == want
    here.remount()
    assert here.within(attributes) == want
    here.run('snapshot', here.session, 'good')
    here.within(lambda: (os.removexattr('plain', 'user.name'), os.setxattr('dir', 'user.name', b'worse')))
    here.run('reset', here.session)
    assert here.within(attributes) == want
    assert here.contents() == []
