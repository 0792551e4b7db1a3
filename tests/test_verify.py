"""What `umlfs verify` promises: it finds every file whose bytes are not those that were imported, and no other."""

import json
import os

import pytest

from umlfs_cli import ROOT, differences, dump, ids, run, small_members, write_archive

CLEAN, USAGE, DAMAGED, NO_LOOK = 0, 2, 4, 8
ODD = 'home/\n"odd\\ \x01name\udcff'


@pytest.fixture
def base(place):
    members = [*small_members(), (ODD, {}, b'odd'), ('home/sparse', {}, bytes(1 << 20) + b'end')]
    return place.imported_base(archive=write_archive(place / 'root.tar', members))


def verify(place, *words):
    """(status, findings as {path: kind}); nothing on disk may change."""
    before = dump(words[-1])
    result = run('verify', '--json', *words, user=place.user)
    assert result.stderr == '' and differences(dump(words[-1]), before) == []
    told = json.loads(result.stdout)
    assert set(told) == {'schema', 'findings', 'path', 'files', 'bytes', 'found'} and told['found'] == len(told['findings'])
    found = {}
    for finding in told['findings']:
        assert set(finding) == {'kind', 'where', 'what'} and finding['where'].startswith(f'{words[-1]}/')
        found[finding['where'].removeprefix(f'{words[-1]}/')] = finding['kind']
    assert result.status == (DAMAGED if found else CLEAN)
    return found


def change(base, name, function):
    """Does something to a file and gives it its time back: what a failing disk does, nobody tells."""
    path = f'{base}/{name}'
    st = os.stat(path)
    function(path)
    if os.path.isfile(path):
        os.utime(path, ns=(st.st_atime_ns, st.st_mtime_ns))


def flip(path, at):
    with open(path, 'r+b') as stream:
        stream.seek(at)
        byte = stream.read(1)[0]
        stream.seek(at)
        stream.write(bytes([byte ^ 1]))


def test_a_fresh_base_is_as_imported(place, base):
    assert verify(place, base) == {}
    text = run('verify', base, user=place.user)
    assert text.status == CLEAN and text.stdout.startswith(f'{base}: 8 files, ') and text.stdout.endswith('as imported\n')


@pytest.mark.parametrize('name, at', [('etc/hostname', 0), ('usr/bin/tool', 20000), ('home/sparse', 1 << 20),
                                      ('home/sparse', 12345), (ODD, 2)], ids=['first', 'last', 'end', 'hole', 'odd'])
def test_each_flipped_bit_is_found(place, base, name, at):
    change(base, name, lambda path: flip(path, at))
    found = verify(place, base)
    assert [kind for kind in found.values()] == ['content'] and next(iter(found)) in (name, 'usr/bin/same')


def test_each_kind_of_damage_has_its_name(place, base):
    def becomes_directory(path):
        os.unlink(path)
        os.mkdir(path)

    def becomes_link(path):
        os.unlink(path)
        os.symlink('/etc/passwd', path)
    change(base, 'etc/hostname', lambda path: os.truncate(path, 2))
    change(base, 'etc/passwd', os.unlink)
    change(base, 'etc/shadow', becomes_directory)
    change(base, 'home/user/notes', becomes_link)
    assert verify(place, base) == {'etc/hostname': 'size', 'etc/passwd': 'missing', 'etc/shadow': 'type',
                                   'home/user/notes': 'type'}
    change(base, 'home/user/notes', os.unlink)
    os.mkfifo(f'{base}/home/user/notes')        # must not be waited for
    assert verify(place, base)['home/user/notes'] == 'type'


@pytest.mark.parametrize('user', ['ordinary'], indirect=True)
@pytest.mark.skipif(not ROOT, reason='needs root')
def test_what_may_not_be_read_is_no_success(place, base):
    os.chmod(f'{base}/etc/shadow', 0)
    assert verify(place, base) == {'etc/shadow': 'unreadable'}


def test_odd_names_stand_on_one_line(place, base):
    change(base, ODD, lambda path: flip(path, 0))
    lines = run('verify', base, user=place.user).stdout.splitlines()
    assert len(lines) == 2 and lines[0].startswith(f'"{base}/home/\\n\\"odd\\\\ \\001name\\377": ')


def test_what_is_no_base_is_refused(place, base):
    place.do(os.mkdir, place / 'plain')
    line = place.refused('verify', place / 'plain', status=NO_LOOK)
    assert 'is no imported base' in line and 'umlfs import' in line
    place.refused('verify', place / 'nothing', status=NO_LOOK)
    place.refused('verify', f'{base}/etc/hostname', status=NO_LOOK)
    os.unlink(f'{base}/.umlfs/index')
    assert 'missing' in place.refused('verify', base, status=NO_LOOK)
    with open(f'{base}/.umlfs/index', 'wb') as stream:
        stream.write(b'no index')
    os.chown(f'{base}/.umlfs/index', *ids(place.user)) if ROOT else None
    place.refused('verify', base, status=NO_LOOK)
    place.refused('verify', status=USAGE)
