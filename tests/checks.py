"""`umlfs check` asked, and a session to ask it of."""

import contextlib
import json
import os

import pytest

from calls import overwrite
from umlfs_cli import ROOT, differences, dump, ids, run

CLEAN, MENDED, USAGE, DAMAGED, NO_LOOK = 0, 1, 2, 4, 8


def on_disk(directory):
    """Everything below but for the times of access; a lock's and a directory's times count too."""
    return dump(directory)


@contextlib.contextmanager
def nothing_changes(*directories):
    before = [on_disk(directory) for directory in directories]
    yield
    for directory, was in zip(directories, before):
        assert differences(on_disk(directory), was) == []


class Checked(list):
    """The findings of one check: dictionaries as --json has them."""

    def __init__(self, place, *words, **options):
        flags, path = words[:-1], words[-1]
        result = run('check', '--json', *flags, path, user=place.user, **options)
        assert result.stderr == '', result
        told = json.loads(result.stdout)
        super().__init__(told['findings'])
        self.status, self.path = result.status, path
        assert set(told) == {'schema', 'findings', 'path', 'is', 'found', 'mended', 'left'}
        assert (told['schema'], told['path']) == (1, path)
        assert told['found'] == len(self) and told['mended'] == sum(finding['mended'] for finding in self)
        assert told['left'] == told['found'] - told['mended']
        for finding in self:
            assert set(finding) == {'kind', 'where', 'what', 'mendable', 'mended'}
            assert finding['where'].startswith(path) and finding['mendable'] >= finding['mended']
        assert result.status == (CLEAN if not self else MENDED if told['left'] == 0 else DAMAGED)

    def of(self, kind, where):
        """The one finding of this kind about this place (below what was checked)."""
        found = [finding for finding in self if finding['kind'] == kind and finding['where'] == self.path + where]
        assert len(found) == 1, (kind, where, list(self))
        return found[0]


class Session:
    """Unmounted, with two snapshots and changes since; seen: what each state shows."""

    def __init__(self, place, base=None):
        self.place, self.base = place, base or place.imported_base()
        mounted = place.mount(self.base)
        self.path, self.seen = mounted.session, {}
        for name in ('one', 'two', None):
            mounted.do(overwrite, mounted / f'etc/{name}', str(name).encode() * 100)
            mounted.do(os.mkdir, mounted / f'tmp/{name}')
            mounted.do(overwrite, mounted / 'usr/bin/tool', str(name).encode() * 1000)
            mounted.do(os.chmod, mounted / 'etc/passwd', 0o600 + len(str(name)))
            self.seen[name] = mounted.dump()
            if name:
                place.run('snapshot', self.path, name)
        mounted.umount()

    def __truediv__(self, name):
        return f'{self.path}/{name}'

    def layers(self):
        """Numbers, the lowest first."""
        return sorted(int(name) for name in os.listdir(self / 'layers'))

    def content(self, layer):
        """Paths of a layer's content files below the session, by number."""
        names = sorted(os.listdir(self / f'layers/{layer}/content'), key=int)
        return [f'/layers/{layer}/content/{name}' for name in names]

    def own(self, path):
        """Gives what a test has put there to the place's user."""
        if ROOT:
            os.chown(path, *ids(self.place.user))

    def check(self, *flags):
        return Checked(self.place, *flags, self.path)

    def damage(self):
        """What a check finds; it must have changed nothing."""
        with nothing_changes(self.path, self.base):
            found = self.check()
        assert found.status == DAMAGED and not any(finding['mended'] for finding in found)
        return found

    def repair(self):
        """Everything must be mendable, be mended, and be so."""
        self.damage()
        found = self.check('--repair')
        assert found.status == MENDED, list(found)
        with nothing_changes(self.path, self.base):
            assert self.check().status == CLEAN
        return found

    def assert_whole(self, *names):
        """The session, or the states named, show what they did."""
        for name in names or ('one', 'two', None):
            if name:
                self.place.run('reset', self.path, name)
            mounted = self.place.mount(self.base)
            assert differences(mounted.dump(), self.seen[name]) == []
            mounted.umount()
            if name is None:
                break


@pytest.fixture
def session(place):
    return Session(place)
