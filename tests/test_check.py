"""What `umlfs check` promises: the whole is clean, what cannot be looked at is no damage, a line tells each finding."""

import fcntl
import os
import re
import subprocess

import pytest

from calls import overwrite, read_file
from checks import CLEAN, DAMAGED, NO_LOOK, Checked, Session, nothing_changes, session
from newer import newer, newer_manifest
from umlfs_cli import as_ordinary, identity, needs_root, run


# --- nothing is wrong --------------------------------------------------------------------------------------------

@pytest.mark.parametrize('repair', [[], ['--repair']], ids=['look', 'repair'])
def test_what_is_whole_is_clean_and_stays_as_it_is(place, base, repair):
    session = Session(place, base)
    with nothing_changes(base):
        for path in (session.path, base):
            if path == base and not os.path.exists(f'{base}/.umlfs'):
                continue
            with nothing_changes(*[] if repair else [session.path]):
                result = run('check', *repair, path, user=place.user)
            assert result == (CLEAN, f'{path}: clean\n', '')
            assert Checked(place, *repair, path) == []
    session.assert_whole(None)
    session.assert_whole('one', 'two')


def test_a_killed_daemon_leaves_no_damage(place):
    place.noisy = True
    mounted = place.mount(place.imported_base())
    script = '''import os, signal, sys
top = sys.argv[1]
kept = open(top + '/tmp/open', 'wb', buffering=0)
kept.write(b'open' * 5000)
os.unlink(top + '/tmp/open')
for i in range(50):
    with open(f'{top}/tmp/{i}', 'wb') as stream:
        stream.write(b'x' * 500 * i)
below = open(top + '/etc/hostname', 'r+b', buffering=0)
below.write(b'changed')
os.unlink(top + '/etc/passwd')
os.kill(int(sys.argv[2]), signal.SIGKILL)
'''
    subprocess.run(['/usr/bin/python3', '-c', script, mounted.path, str(mounted.pid)], check=True,
                   **identity(place.user))
    place.run('umount', mounted.path)
    with nothing_changes(mounted.session):
        assert Checked(place, mounted.session) == []


def test_snapshots_resets_and_deletions_leave_no_damage(place, session):
    for words in (['delete', 'one'], ['snapshot', 'three'], ['reset', '@base'], ['delete', 'two'], ['snapshot', 'four'],
                  ['reset', 'three'], ['delete', 'three']):
        place.run(words[0], session.path, *words[1:])
        with nothing_changes(session.path):
            assert session.check() == [], words
        place.mount(session.base).umount()
        assert session.check() == [], words


# --- what cannot be looked at ------------------------------------------------------------------------------------

@pytest.mark.parametrize('flags', [[], ['--repair'], ['--json']])
def test_a_mounted_session_is_refused_with_its_pid(place, flags):
    mounted = place.mount(place.imported_base())
    mounted.do(overwrite, mounted / 'tmp/new', b'new')
    line = place.refused('check', *flags, mounted.session, status=NO_LOOK)
    assert line.startswith(f'{mounted.session}: ')
    assert str(mounted.pid) in re.findall(r'\d+', line.replace(place.path, ''))
    assert mounted.do(read_file, mounted / 'tmp/new') == b'new'


@pytest.mark.parametrize('flags', [[], ['--repair']], ids=['look', 'repair'])
def test_a_session_that_a_command_works_on_is_refused(session, flags):
    with open(session / 'lock', 'rb') as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert 'in use' in session.place.refused('check', *flags, session.path, status=NO_LOOK)
    assert session.check(*flags) == []


def test_while_a_check_looks_others_may_look_and_nobody_may_change(session):
    with open(session / 'lock', 'rb') as lock:
        fcntl.flock(lock, fcntl.LOCK_SH)
        assert session.check() == []
        line = session.place.refused('snapshot', session.path, 'three')
        assert 'only looks' in line and not re.search(r'\d', line.replace(session.path, ''))


def test_a_lock_that_is_not_there_is_not_made_for_a_look(session):
    os.unlink(session / 'lock')
    with nothing_changes(session.path):
        assert session.check() == []


def test_a_base_may_be_in_use(place):
    base = place.imported_base()
    place.mount(base)
    assert Checked(place, base) == []


@pytest.mark.parametrize('what', ['missing', 'file', 'empty', 'other', 'plain'])
def test_what_is_neither_session_nor_base_is_refused(place, what):
    path = place / what
    if what == 'file':
        place.do(overwrite, path, b'')
    elif what == 'plain':
        place.plain_base('plain')
    elif what != 'missing':
        place.do(os.mkdir, path)
    if what == 'other':
        place.do(overwrite, f'{path}/thesis.txt', b'precious')
    with nothing_changes(place.path):
        for flags in [], ['--repair'], ['--json']:
            line = place.refused('check', *flags, path, status=NO_LOOK)
            assert line.startswith(f'{path}: ')
            assert ('no imported base' in line) == (what not in ('missing', 'file'))


def test_a_newer_version_is_no_damage(session):
    for path, change, flag in ((session / 'manifest', newer_manifest, '--repair'), (session / 'layers/2/journal', newer, '--json')):
        whole = read_file(path)
        overwrite(path, change(whole))
        with nothing_changes(session / 'layers'):
            assert 'newer' in session.place.refused('check', flag, session.path, status=NO_LOOK)
        overwrite(path, whole)
    session.assert_whole(None)


@as_ordinary
@needs_root
def test_what_may_not_be_read_is_no_damage(session):
    os.chown(session / 'layers/2/journal', 0, 0)
    os.chmod(session / 'layers/2/journal', 0)
    assert 'ermission denied' in session.place.refused('check', session.path, status=NO_LOOK)


# --- what it says ------------------------------------------------------------------------------------------------

def test_each_finding_is_one_line_and_the_last_line_sums_up(session):
    session.place.do(overwrite, session / 'layers/3/content/4321', b'')
    os.unlink(session.path + session.content(1)[0])
    session.place.do(overwrite, session / 'layers/new\nline', b'')
    for flags, status, tail, summary in (([], DAMAGED, r' \[--repair mends it\]', '3 found, 0 mended, 3 left'),
                                         (['--repair'], DAMAGED, r' \[mended\]', '3 found, 1 mended, 2 left')):
        result = run('check', *flags, session.path, user=session.place.user)
        assert (result.status, result.stderr) == (status, '')
        lines = result.stdout.split('\n')
        assert lines[3:] == [f'{session.path}: {summary}', '']
        assert re.fullmatch(rf'{session.path}/layers/1/content/\d+: missing: [^\n]+\(/[^\n]+\)', lines[0])
        assert re.fullmatch(rf'{session.path}/layers/3/content/4321: [^\n]+{tail}', lines[1])
        assert lines[2].startswith(f'{session.path}/layers/new%0Aline: ')


def test_names_of_any_bytes_are_told(place):
    name = b'etc/\xff"\n'
    base = place.imported_base()
    place.do(overwrite, os.fsencode(f'{base}/') + name, b'')
    found = Checked(place, base)
    assert found.of('base', os.fsdecode(b'/' + name))
