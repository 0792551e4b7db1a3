"""All of a tree is looked at and changed: after a reset no cache knows the state before."""

import contextlib
import os

import pytest

from calls import RENAME_EXCHANGE, opened, outcome, read_file, renameat2, write_file
from costs import LOOKING, absent_names, directories, files
from places import damage, difference, dump, here, none, paths_below


def change_in_place():
    """The same inodes, with other bytes, sizes, modes and owners, and other names in the same directories."""
    for path in files():
        with opened(path, os.O_RDWR) as fd:
            size = os.fstat(fd).st_size
            os.pwrite(fd, b'#' * min(size, 8192), 0)
            os.ftruncate(fd, size + 1 if size % 2 else size // 2)
    for path in directories():
        os.chmod(path, 0o711)
        write_file(os.path.join(path, b'absent'), b'should never have been')
    os.unlink('dir/file')
    os.rename('dir/sub/deep', 'empty-dir/deep')
    renameat2('symlink', 'dangling', RENAME_EXCHANGE)
    os.chown('many', 1, 2)


@pytest.mark.parametrize('to', ['@base', 'made'])
@pytest.mark.parametrize('harm', [change_in_place, damage])
def test_after_a_reset_no_cache_knows_the_state_before(here, to, harm):
    """All is looked at, changed, looked at again, reset, and looked at once more."""
    def make():
        os.mkdir('new')
        write_file('new/file', b'made')
        write_file('plain', b'made anew')
        os.unlink('second')
    if to != '@base':
        here.within(make)
        here.run('snapshot', here.session, to)
    names = here.within(paths_below)

    def look_at_all():
        for call in LOOKING.values():
            with contextlib.suppress(OSError, AssertionError):
                call()
        for name in [*names, *(os.path.join(name, b'absent') for name in names)]:
            outcome(os.lstat, name)
        return dump()

    def by_name():
        """Without a listing, which would bring names along."""
        return {name: outcome(lambda: (os.lstat(name), os.path.isfile(name) and read_file(name))) for name in names}
    before, want = here.within(by_name), here.within(look_at_all)
    here.within(harm)
    assert here.within(by_name) != before
    assert here.within(look_at_all) != want
    here.run('reset', here.session, to)
    after = here.within(by_name)
    none([name for name in names if after[name] != before[name]])
    none(difference(here.within(look_at_all), want))
    assert here.within(absent_names) is None
    here.remount()
    none(difference(here.within(dump), want))
