"""What a session may hold: `mount --size` and `--inodes`, as writers, df and status see them."""

import errno
import mmap
import os

import pytest

from calls import FALLOC_KEEP_SIZE, FALLOC_PUNCH_HOLE, fallocate, on, outcome
from umlfs_cli import differences

KIB, MIB = 1 << 10, 1 << 20
SIZE = 4 * MIB
INODES = 20
LARGE = MIB     # bytes of base/large
LIMITS = ('--size', '4M', '--inodes', f'{INODES}')


@pytest.fixture
def base(place):
    """A plain one: large, small, dir/other."""
    def make():
        os.makedirs(place / 'base/dir')
        for name, size in (('large', LARGE), ('small', 100), ('dir/other', 100)):
            with open(place / f'base/{name}', 'wb') as stream:
                stream.write(os.urandom(size))
    place.do(make)
    return place / 'base'


@pytest.fixture
def mounted(place, base):
    return place.mount(base, words=LIMITS)


def room(mounted):
    """(bytes, inodes) that df says are left."""
    st = mounted.do(os.statvfs, mounted.path)
    return st.f_bavail * st.f_frsize, st.f_favail


def write(path, size, offset=0):
    """The errno, or the number of bytes written."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT, 0o644)
    try:
        return os.pwrite(fd, b'x' * size, offset)
    except OSError as error:
        return errno.errorcode[error.errno]
    finally:
        os.close(fd)


def fill(path):
    """Writes until there is no room."""
    with open(path, 'ab', buffering=0) as stream:
        while outcome(stream.write, b'f' * 64 * KIB) != 'ENOSPC':
            pass


def test_df_and_status_show_the_limits(mounted):
    st = mounted.do(os.statvfs, mounted.path)
    assert (st.f_blocks * st.f_frsize, st.f_bfree, st.f_bavail) == (SIZE, st.f_blocks, st.f_blocks)
    assert (st.f_files, st.f_ffree, st.f_favail) == (INODES, INODES, INODES)
    mounted.do(write, mounted / 'new', MIB)
    assert room(mounted) == (SIZE - MIB, INODES - 1)
    status = mounted.status()
    assert (status['size_limit'], status['inodes_limit']) == (SIZE, INODES)


def test_a_limit_more_than_the_host_has_promises_nothing(place, base):
    mounted = place.mount(base, words=('--size', '16000T'))
    st, host = mounted.do(os.statvfs, mounted.path), os.statvfs(place.path)
    assert st.f_blocks * st.f_frsize == 16000 << 40
    assert st.f_bavail * st.f_frsize <= host.f_blocks * host.f_frsize


def test_without_limits_df_shows_the_host(place, base):
    mounted = place.mount(base)
    st, host = mounted.do(os.statvfs, mounted.path), os.statvfs(place.path)
    assert (st.f_blocks, st.f_files) == (host.f_blocks, host.f_files)
    assert {'size_limit', 'inodes_limit'} & set(mounted.status()) == set()


def test_a_write_that_has_no_room_changes_nothing(mounted):
    mounted.do(fill, mounted / 'new')
    mounted.do(write, mounted / 'small', 10)
    before = mounted.dump()
    assert room(mounted)[0] < 64 * KIB
    for name in ('new', 'small', 'dir/other'):
        assert mounted.do(write, mounted / name, 64 * KIB, 4 * MIB) == 'ENOSPC'
    assert mounted.do(write, mounted / 'large', 1) == 'ENOSPC'     # needs a copy of it
    assert mounted.do(on, mounted / 'new', os.O_RDWR, lambda fd: outcome(fallocate, fd, 0, 5 * MIB, MIB)) == 'ENOSPC'
    assert mounted.do(on, mounted / 'new', os.O_RDWR,
                      lambda fd: outcome(os.copy_file_range, fd, fd, MIB, 0, 5 * MIB)) == 'ENOSPC'
    assert differences(mounted.dump(), before) == []


def test_what_has_its_blocks_can_be_written_when_there_is_no_room(mounted):
    mounted.do(fill, mounted / 'new')
    assert mounted.do(write, mounted / 'new', 256 * KIB, MIB) == 256 * KIB
    assert mounted.do(os.truncate, mounted / 'new', 100 * MIB) is None
    assert mounted.do(write, mounted / 'new', 64 * KIB, 50 * MIB) == 'ENOSPC'


@pytest.mark.parametrize('how', ['unlink', 'truncate', 'punch', 'replace'])
def test_room_comes_back(mounted, how):
    def punch(fd):
        fallocate(fd, FALLOC_PUNCH_HOLE | FALLOC_KEEP_SIZE, 0, 8 * MIB)

    def free():
        if how == 'unlink':
            os.unlink(mounted / 'new')
        elif how == 'truncate':
            os.truncate(mounted / 'new', 0)
        elif how == 'punch':
            on(mounted / 'new', os.O_RDWR, punch)
        else:
            os.rename(mounted / 'other', mounted / 'new')
    mounted.do(write, mounted / 'other', 10)
    mounted.do(fill, mounted / 'new')
    mounted.do(free)
    assert room(mounted)[0] >= SIZE - 8 * KIB
    assert mounted.do(write, mounted / 'again', 3 * MIB) == 3 * MIB


def test_what_was_removed_before_a_snapshot_takes_no_room_afterwards(place, base):
    mounted = place.mount(base, words=LIMITS)
    mounted.do(write, mounted / 'new', 3 * MIB)
    mounted.umount()
    mounted = place.mount(base, words=LIMITS)
    mounted.do(os.unlink, mounted / 'new')
    place.run('snapshot', mounted.session, 'one')
    mounted.umount()
    mounted = place.mount(base, words=LIMITS)
    assert room(mounted)[0] == SIZE
    assert mounted.do(write, mounted / 'again', 3 * MIB) == 3 * MIB


def test_what_was_removed_and_open_at_a_snapshot_takes_no_room_afterwards(place, base):
    """Whether the layer was sealed by this daemon, or replayed."""
    mounted = place.mount(base, words=LIMITS)
    mounted.do(write, mounted / 'new', 3 * MIB)
    fd = mounted.do(os.open, mounted / 'new', os.O_RDONLY)
    mounted.do(os.unlink, mounted / 'new')
    place.run('snapshot', mounted.session, 'one')
    os.close(fd)
    assert room(mounted)[0] == SIZE
    mounted.umount()
    assert room(place.mount(base, words=LIMITS))[0] == SIZE


def test_an_open_file_keeps_its_room_until_it_is_closed(mounted):
    def unlink_and_look():
        fd = os.open(mounted / 'new', os.O_RDWR)
        os.unlink(mounted / 'new')
        held = os.statvfs(mounted.path)
        os.close(fd)
        return held.f_bavail * held.f_frsize
    mounted.do(write, mounted / 'new', 2 * MIB)
    assert mounted.do(unlink_and_look) == SIZE - 2 * MIB
    assert room(mounted)[0] == SIZE


def test_a_copy_up_counts_and_metadata_does_not(mounted):
    mounted.do(os.chmod, mounted / 'large', 0o600)
    mounted.do(os.rename, mounted / 'dir', mounted / 'moved')
    assert room(mounted) == (SIZE, INODES)
    mounted.do(write, mounted / 'large', 1)
    assert room(mounted) == (SIZE - LARGE, INODES)


def test_a_copy_up_that_has_no_room_changes_nothing(mounted):
    mounted.do(write, mounted / 'new', SIZE - LARGE // 2)
    before = mounted.dump()
    assert mounted.do(write, mounted / 'large', 1) == 'ENOSPC'
    assert differences(mounted.dump(), before) == []
    assert mounted.do(os.truncate, mounted / 'large', 10) is None   # copies only those


def test_a_mapping_gets_an_error_where_there_is_no_room(mounted):
    def write_mapped():
        with open(mounted / 'new', 'w+b') as stream:
            stream.truncate(16 * MIB)
            with mmap.mmap(stream.fileno(), 0) as mapped:
                for at in range(0, 16 * MIB, 4096):
                    mapped[at] = 1
                return outcome(mapped.flush)
    assert mounted.do(write_mapped) in ('ENOSPC', 'EIO')
    assert room(mounted)[0] < MIB
    mounted.do(os.unlink, mounted / 'new')
    assert room(mounted)[0] == SIZE


def test_no_more_inodes_are_made_than_allowed(mounted):
    def make_all():
        for number in range(INODES // 2):
            os.mkdir(mounted / f'{number}')
            os.symlink('target', mounted / f'{number}/link')

    def refused():
        return [outcome(call, mounted / 'more') for call in (os.mkdir, os.mkfifo, lambda p: os.symlink('x', p))] + [
            outcome(os.open, mounted / 'more', os.O_CREAT | os.O_WRONLY)]
    mounted.do(make_all)
    before = mounted.dump()
    assert mounted.do(refused) == ['ENOSPC'] * 4
    assert differences(mounted.dump(), before) == []
    assert mounted.do(os.link, mounted / 'small', mounted / 'hard') is None     # no inode is made
    mounted.do(os.unlink, mounted / '0/link')
    assert room(mounted)[1] == 1
    assert mounted.do(os.mkfifo, mounted / 'more') is None
    mounted.do(os.unlink, mounted / 'dir/other')                                # the base's are not counted
    assert room(mounted)[1] == 0


def test_a_reset_frees_and_a_snapshot_holds(mounted):
    mounted.do(write, mounted / 'one', MIB)
    mounted.place.run('snapshot', mounted.session, 'one')
    mounted.do(write, mounted / 'two', 2 * MIB)
    mounted.do(os.unlink, mounted / 'one')
    assert room(mounted) == (SIZE - 3 * MIB, INODES - 1)
    mounted.place.run('reset', mounted.session)
    assert room(mounted) == (SIZE - MIB, INODES - 1)
    mounted.place.run('reset', mounted.session, '@base')
    assert room(mounted) == (SIZE, INODES)


def test_a_new_mount_counts_the_same(mounted, base):
    place = mounted.place
    mounted.do(write, mounted / 'one', MIB)
    mounted.do(write, mounted / 'large', 1)
    place.run('snapshot', mounted.session, 'one')
    mounted.do(write, mounted / 'one', 5000, MIB)
    mounted.do(os.unlink, mounted / 'large')
    mounted.do(os.mkdir, mounted / 'made')
    seen = room(mounted)
    mounted.umount()
    again = place.mount(base, words=LIMITS)
    assert room(again) == seen
    again.umount()
    assert {'size_limit', 'inodes_limit'} & set(place.mount(base).status()) == set()


@pytest.mark.parametrize('words', [('--size', '0'), ('--size', '5X'), ('--size', '-1'), ('--size', '99999999T'), ('--inodes', 'x'),
                                   ('--inodes', ''), ('--inodes', '1e3')], ids=' '.join)
def test_what_is_no_limit_is_refused(place, base, words):
    assert f'{words[0]} {words[1]}: not a number above 0' in place.refused('mount', *words, base, place / 'session', status=2)
    assert not os.path.exists(place / 'session')
