"""`umlfs import --force` and `umlfs commit --force` replace the base that was there when they began, and nothing that came meanwhile."""

import contextlib
import os
import random
import re
import select
import shutil
import subprocess

import pytest

from calls import overwrite, read_file
from held import Gate, holding_mounter
from importing import MIB, index_of
from umlfs_cli import PATIENCE, as_ordinary, dump, needs_root, run, small_archive, write_archive


@pytest.fixture
def base(place):
    return place.imported_base()


def make_words(place, command):
    """What replaces the base by another one."""
    if command == 'commit':
        mounted = place.mount(place.imported_base('other'), session='committed')
        mounted.do(overwrite, mounted / 'tmp/new', b'new')
        return ['commit', '--force', mounted.session]
    return ['import', '--force', write_archive(place / 'in.tar', [('new', {}, b'new')])]


class Replacing:
    """A command that is about to replace the base, and what it said of its failure."""

    def __init__(self, process, go_on):
        self.process, self.go_on = process, go_on

    def fails(self):
        self.go_on()
        try:
            stderr = self.process.communicate(timeout=PATIENCE)[1].decode()
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise
        assert self.process.returncode == 1, stderr
        assert re.fullmatch(r'(umlfs: [^\n]+: [^\n]+\n)+', stderr), stderr
        return [line.removeprefix('umlfs: ') for line in stderr.splitlines()]


@contextlib.contextmanager
def reading(place, base):
    """In the middle of the archive: what is written is more than a pipe holds, and the base was looked at. An exchange would hang."""
    archive = write_archive(place / 'in.tar', [(f'file-{nr}', {}, random.Random(nr).randbytes(MIB)) for nr in range(8)])
    with open(archive, 'rb') as stream, Gate(place) as gate:
        gate.hold('exchanges')
        with place.start('import', '--force', '-', base, stdin=subprocess.PIPE, stderr=subprocess.PIPE, env=gate.env) as process:
            process.stdin.write(stream.read(4 * MIB))
            process.stdin.flush()
            yield Replacing(process, lambda: process.stdin.write(stream.read()))


@contextlib.contextmanager
def exchanging(place, base, words):
    """Right before the exchange."""
    with Gate(place) as gate:
        gate.hold('exchanges')
        with place.start(*words, base, stderr=subprocess.PIPE, env=gate.env) as process:
            gate.expect(b'x', PATIENCE)     # before it everything is brought to disk, whatever else is written there
            replacing = Replacing(process, gate.let_go)
            replacing.gate = gate
            yield replacing


@contextlib.contextmanager
def begun(place, base, how):
    with reading(place, base) if how == 'reading' else exchanging(place, base, make_words(place, how)) as replacing:
        yield replacing


moments = pytest.mark.parametrize('how', ['reading', 'import', 'commit'])


def leftovers(place):
    return [name for name in os.listdir(place.path) if name.startswith('.base.')]


def thesis(base):
    os.rename(base, f'{base}-mine')
    os.mkdir(base)
    overwrite(f'{base}/thesis', b'precious')


def thesis_in_it(base):
    for name in os.listdir(base):
        shutil.rmtree(f'{base}/{name}') if os.path.isdir(f'{base}/{name}') and not os.path.islink(f'{base}/{name}') else os.unlink(f'{base}/{name}')
    overwrite(f'{base}/thesis', b'precious')


def file_there(base):
    os.rename(base, f'{base}-mine')
    overwrite(base, b'precious')


def another_base(base):
    os.rename(base, f'{base}-mine')
    shutil.copytree(f'{base}-mine', base, symlinks=True)


def nothing_there(base):
    os.rename(base, f'{base}-mine')


@moments
@pytest.mark.parametrize('change', [thesis, thesis_in_it, file_there, another_base, nothing_there], ids=lambda change: change.__name__)
def test_what_came_meanwhile_stays(place, base, how, change):
    with begun(place, base, how) as replacing:
        place.do(change, base)
        before = [dump(path) for path in (base, f'{base}-mine') if os.path.lexists(path)]
        lines = replacing.fails()
    assert [dump(path) for path in (base, f'{base}-mine') if os.path.lexists(path)] == before
    assert len(lines) == 1 and lines[0].startswith(f'{base}: ') and leftovers(place) == []


@moments
def test_a_session_that_was_mounted_meanwhile_keeps_its_base(place, base, how):
    with begun(place, base, how) as replacing:
        mounted = place.mount(base)
        lines = replacing.fails()
    assert len(lines) == 1 and lines[0].startswith(f'{base}: is the base of {mounted.session}, which is mounted')
    assert mounted.do(read_file, mounted / 'etc/hostname') == b'guest\n' and leftovers(place) == []
    mounted.umount()
    place.mount(base)


def test_a_session_keeps_its_base_also_when_the_new_one_is_the_same(place, base):
    """Then nothing but the name tells on which of the two it stands, and both stay."""
    with exchanging(place, base, ['import', '--force', small_archive(place / 'in.tar')]) as replacing:
        mounted = place.mount(base)
        lines = replacing.fails()
    [kept] = leftovers(place)
    assert lines[0].startswith(f'{base}: is the base of {mounted.session}') and f'{place / kept} now' in lines[1]
    assert mounted.do(read_file, mounted / 'etc/hostname') == b'guest\n'


# --- by whom nothing but a lock on the base tells -----------------------------------------------------------------

IN_USE = 'is the base of a session that is mounted, or being replaced: unmount that, or give the new base another name'


@contextlib.contextmanager
def mounting(place, base):
    """The base is open, and the mount table has nothing yet. Goes on, and answers how the mount ends, when it is called."""
    with holding_mounter(place) as ((held, go), env):
        with place.start('mount', base, place / 'session', stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=env) as process:
            assert select.select([held], [], [], PATIENCE)[0]

            def go_on():
                os.write(go, b'\n')
                stdout, stderr = process.communicate(timeout=PATIENCE)
                return process.returncode, stdout.decode(), stderr.decode()
            try:
                yield go_on
            finally:
                os.write(go, b'\n')


@as_ordinary
def test_a_session_that_is_being_mounted_keeps_its_base(place, base):
    with mounting(place, base) as go_on:
        assert place.refused('import', '--force', small_archive(place / 'in.tar'), base) == f'{base}: {IN_USE}'
        assert go_on() == (0, f'{place / "session/rootfs"}\n', '')
    assert place.do(read_file, place / 'session/rootfs/etc/hostname') == b'guest\n' and leftovers(place) == []


@as_ordinary
def test_a_session_is_not_mounted_on_a_base_that_was_replaced_meanwhile(place, base):
    """By hand, or where no lock can be had."""
    with mounting(place, base) as go_on:
        place.do(another_base, base)
        status, stdout, stderr = go_on()
    assert (status, stdout) == (1, '')
    assert stderr == f'umlfs: {base}: was replaced while {place / "session"} was being mounted: mount it again\n'
    assert not os.path.exists(place / 'session')
    place.mount(base)


@needs_root
@as_ordinary
def test_a_base_that_another_user_has_mounted_is_not_replaced(place, base):
    mounted = run('mount', base, place / 'session', user='root')
    assert mounted.status == 0, mounted
    said = place.refused('import', '--force', small_archive(place / 'in.tar'), base)
    assert run('umount', place / 'session', user='root').status == 0
    assert said == f'{base}: {IN_USE}'
    place.run('import', '--force', place / 'in.tar', base)


# --- what was exchanged is to be put back ------------------------------------------------------------------------

@contextlib.contextmanager
def putting_back(place, base):
    """A session came to stand on the base before it was exchanged, and what was there is about to get its name back."""
    with exchanging(place, base, make_words(place, 'import')) as replacing:
        replacing.mounted = place.mount(base)
        replacing.gate.let_one_go()
        replacing.gate.expect(b'x', PATIENCE)
        assert b'new' in index_of(base)
        yield replacing


def test_a_base_is_put_back_when_the_new_one_went_away(place, base):
    with putting_back(place, base) as replacing:
        place.do(os.rename, base, place / 'new')
        lines = replacing.fails()
    assert len(lines) == 1 and lines[0].startswith(f'{base}: is the base of {replacing.mounted.session}')
    assert replacing.mounted.do(read_file, replacing.mounted / 'etc/hostname') == b'guest\n'
    assert b'etc/hostname' in index_of(base) and b'new' in index_of(place / 'new') and leftovers(place) == []


def test_what_came_in_the_place_of_the_new_base_is_kept(place, base):
    with putting_back(place, base) as replacing:
        place.do(thesis, base)
        lines = replacing.fails()
    assert b'etc/hostname' in index_of(base) and b'new' in index_of(f'{base}-mine')
    [kept] = leftovers(place)
    assert len(lines) == 2 and f'{place / kept} now' in lines[1] and read_file(f'{place / kept}/thesis') == b'precious'
    replacing.mounted.umount()
    place.run('import', '--force', place / 'in.tar', base)
    assert leftovers(place) == [kept]


@as_ordinary
def test_what_cannot_be_put_back_is_not_removed(place, base):
    with putting_back(place, base) as replacing:
        place.do(os.chmod, place.path, 0o555)
        lines = replacing.fails()
        place.do(os.chmod, place.path, 0o755)
    [kept] = leftovers(place)
    assert len(lines) == 2 and f'{place / kept} now' in lines[1]
    place.run('import', '--force', place / 'in.tar', base)     # which removes what others left
    assert b'etc/hostname' in index_of(place / kept)
    assert replacing.mounted.do(read_file, replacing.mounted / 'etc/hostname') == b'guest\n'
