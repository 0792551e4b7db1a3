"""Processes that have something of a mount in use."""

import contextlib
import subprocess

from umlfs_cli import identity


@contextlib.contextmanager
def holder(place, script, *args, behind=':'):
    """A shell of the place's user that has run `script` ($1... are args) and waits; with a line it runs `behind` and ends."""
    words = ['sh', '-c', f'{script}\necho ready\nread -r line\n{behind}', 'holder', *args]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          **identity(place.user)) as process:
        try:
            assert process.stdout.readline() == 'ready\n'
            yield process
        finally:
            process.kill()


def uses_of(path):
    """Ways to be in the way, with what the program must say is used."""
    return {
        'file': ('exec 3<"$1/etc/hostname"', f'{path}/etc/hostname'),
        'directory': ('exec 3<"$1/etc"', f'{path}/etc'),
        'cwd': ('cd "$1/usr/bin"', f'{path}/usr/bin'),
        'cwd-top': ('cd "$1"', path),
    }


USES = sorted(uses_of(''))
