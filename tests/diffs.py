"""`umlfs diff` asked, and a session to ask it of."""

import json
import os

from calls import overwrite
from umlfs_cli import run, small_members, write_archive

SAME, DIFFERENT, TROUBLE = 0, 1, 2


def diff(place, *words, status=None):
    """The changes as --json tells them."""
    result = run('diff', '--json', *words, user=place.user)
    assert result.stderr == '', result
    told = json.loads(result.stdout)
    assert set(told) == {'schema', 'changes', 'count'} and told['count'] == len(told['changes'])
    assert result.status == (DIFFERENT if told['changes'] else SAME)
    for change in told['changes']:
        assert set(change) == {'change', 'path', 'old_path', 'link_to', 'what', 'from', 'to'}
    assert status in (None, result.status)
    return told['changes']


def short(changes):
    """[(letter, path or (old, new), *what)]"""
    return [(c['change'], (c['old_path'], c['path']) if c['change'] == 'R' else c['path'], *c['what']) for c in changes]


class Bench:
    """A mounted session; what a test does to it is asked for while it is mounted, or after."""

    def __init__(self, place, live, options=None):
        members = [*small_members(), ('etc/link', {'type': b'2', 'linkname': 'hostname'}, b''),
                   ('home/deep', {'type': b'5', 'mode': 0o755}, b''), ('home/deep/er', {'type': b'5', 'mode': 0o755}, b''),
                   ('home/deep/er/file', {}, b'deep\n'), ('home/pair1', {}, b'pair\n'),
                   ('home/pair2', {'type': b'1', 'linkname': 'home/pair1'}, b'')]
        self.place, self.live = place, live
        self.mounted = place.mount(place.imported_base(archive=write_archive(place / 'root.tar', members)), options=options)
        self.session, self.at = self.mounted.session, self.mounted.path

    def do(self, function, *names):
        """Calls the function with paths below the mountpoint for words that begin with '/'."""
        return self.mounted.do(function, *(f'{self.at}{name}' if isinstance(name, str) and name[:1] == '/' else name
                                           for name in names))

    def write(self, name, data):
        self.do(overwrite, name, data)

    def diff(self, *words):
        if not self.live and os.path.ismount(self.at):
            self.mounted.umount()
        return diff(self.place, *(word for word in words if word.startswith('--')), self.session,
                    *(word for word in words if not word.startswith('--')))

    def text(self, *words):
        return run('diff', *words, self.session, user=self.place.user).stdout
