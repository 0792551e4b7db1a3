"""Exports that the tests make."""

import os

from umlfs_cli import run


def export(place, source, file, *flags, environment=None):
    result = run('export', *flags, source, file, user=place.user, env=os.environ | (environment or {}))
    assert result.status == 0 and result.stderr.count('\n') == 1, result
    return file


def session_on(place, archive):
    """Not mounted, nothing changed."""
    mounted = place.mount(place.imported_base(archive=archive))
    mounted.umount()
    return mounted.session
