"""A session on which commands run, while it is mounted and while it is not, and what tests of commands do to it."""

import json
import os

import pytest

from calls import overwrite
from umlfs_cli import differences

live_and_offline = pytest.mark.parametrize('live', [True, False], ids=['live', 'offline'])


class Bench:
    """A mounted session on which commands run either live or between an umount and the next mount."""

    def __init__(self, place, base, live):
        self.place, self.base, self.live = place, base, live
        self.mounted = place.mount(base)

    def run(self, command, *args):
        if self.live:
            return self.place.run(command, *self._words(args))
        self.mounted.umount()
        try:
            return self.place.run(command, *self._words(args))
        finally:
            self.mounted = self.place.mount(self.base)

    def refused(self, command, *args, **options):
        if self.live:
            return self.place.refused(command, *self._words(args), **options)
        self.mounted.umount()
        try:
            return self.place.refused(command, *self._words(args), **options)
        finally:
            self.mounted = self.place.mount(self.base)

    def _words(self, args):
        flags = [word for word in args if word.startswith('--')]
        return [*flags, self.mounted.session, *(word for word in args if not word.startswith('--'))]

    def list(self):
        return json.loads(self.run('list', '--json'))

    def names(self):
        return [snapshot['name'] for snapshot in self.list()['snapshots']]

    def write(self, name, data):
        self.mounted.do(overwrite, self.mounted / name, data)

    def dump(self):
        return self.mounted.dump()

    def assert_state(self, state):
        assert differences(self.dump(), state) == []


@pytest.fixture
def bench(place, live):
    return Bench(place, place.imported_base(), live)


def change(bench, word):
    """Leaves a trace of every kind under this word."""
    mounted = bench.mounted
    bench.write(f'etc/{word}', word.encode())
    bench.write('etc/hostname', f'{word}\n'.encode() * 3)

    def more():
        os.mkdir(mounted / f'home/{word}')
        os.symlink(word, mounted / f'home/{word}/link')
        os.link(mounted / 'etc/shadow', mounted / f'home/{word}/shadow')
        os.chmod(mounted / 'etc/passwd', 0o600 + len(word))
    mounted.do(more)


def settle(mounted):
    """The state of the session as a fresh mount shows it."""
    place, base = mounted.place, mounted.status()['base']
    mounted.umount()
    return place.mount(base, mounted.session).dump()
