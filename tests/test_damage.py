"""Damage of a session or a base: one line names the file, nothing else is touched, and no wrong bytes are shown."""

import contextlib
import errno
import json
import os
import random
import re

import pytest

from calls import overwrite, read_file
from newer import newer, newer_manifest
from traces import state
from umlfs_cli import differences, run


class Kept:
    """A session with two snapshots, unmounted, and what it held; files can be damaged and put back."""

    def __init__(self, place):
        self.place, self.base = place, place.imported_base()
        mounted = place.mount(self.base)
        self.session, self.mountpoint = mounted.session, mounted.path
        for name in ('one', 'two', None):
            mounted.do(overwrite, mounted / f'etc/{name}', str(name).encode() * 100)
            mounted.do(os.mkdir, mounted / f'tmp/{name}')
            mounted.do(os.chmod, mounted / 'etc/passwd', 0o600 + len(str(name)))
            if name:
                place.run('snapshot', self.session, name)
        self.seen = mounted.dump()
        mounted.umount()

    def mount(self):
        return run('mount', self.base, self.session, user=self.place.user)

    def assert_whole(self):
        mounted = self.place.mount(self.base)
        assert differences(mounted.dump(), self.seen) == []
        mounted.umount()


@pytest.fixture
def kept(place):
    return Kept(place)


@contextlib.contextmanager
def damaged(path, data):
    """The file holds other bytes meanwhile (None: it is missing)."""
    st = os.stat(path)
    aside = f'{os.path.dirname(os.path.dirname(path))}/.aside-{os.path.basename(path)}'
    os.rename(path, aside)
    try:
        if data is not None:
            overwrite(path, data)
            os.chmod(path, st.st_mode)
            os.chown(path, st.st_uid, st.st_gid)
        yield
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)     # rename() does nothing when both are names of one file
        os.rename(aside, path)


def flips(data, count, seed=1):
    """`count` copies of the data with one bit flipped in each, spread over the whole."""
    chance = random.Random(seed)
    for at in sorted(chance.sample(range(len(data)), min(count, len(data)))):
        copy = bytearray(data)
        copy[at] ^= 1 << chance.randrange(8)
        yield at, bytes(copy)


def cuts(data, count, seed=2):
    chance = random.Random(seed)
    for at in sorted({0, len(data) - 1} | set(chance.sample(range(len(data)), min(count, len(data))))):
        yield at, data[:at]


def the_line(result, path):
    """The one line of a refusal, which must begin with the file's path."""
    assert result.status == 1 and result.stdout == '', result
    assert re.fullmatch(rf'umlfs: {re.escape(path)}: [^\n]+\n', result.stderr), (path, result)
    return result.stderr


def test_a_damaged_manifest_is_named_and_nothing_is_lost(place, kept):
    path = f'{kept.session}/manifest'
    whole = read_file(path)
    for _, data in [*flips(whole, 25), *cuts(whole, 8), (0, b'\0' * len(whole)), (0, whole + b'x'), (0, whole * 2)]:
        with damaged(path, data):
            for result in kept.mount(), run('list', kept.session, user=place.user), \
                    run('snapshot', kept.session, 'new', user=place.user), run('reset', kept.session, '@base', user=place.user):
                line = the_line(result, path)
                assert 'damaged' in line, line
            assert read_file(path) == data
    kept.assert_whole()


def test_a_manifest_of_a_newer_version_asks_for_an_update(place, kept):
    path = f'{kept.session}/manifest'
    with damaged(path, newer_manifest(read_file(path))):
        for result in kept.mount(), run('list', kept.session, user=place.user):
            line = the_line(result, path)
            assert 'newer' in line and 'update' in line
    kept.assert_whole()


@pytest.mark.parametrize('how', ['deep', 'content', 'names', 'attributes'])
def test_a_missing_manifest_never_makes_a_new_session_of_an_old_one(place, how):
    if how == 'deep':
        kept = Kept(place)
        base, session, seen = kept.base, kept.session, kept.seen
    else:
        base = place.imported_base()
        mounted = place.mount(base)
        mounted.do({'content': lambda: overwrite(mounted / 'etc/new', b'new'), 'names': lambda: os.mkdir(mounted / 'new'),
                    'attributes': lambda: os.chmod(mounted / 'etc', 0o711)}[how])
        session, seen = mounted.session, mounted.dump()
        mounted.umount()
    path = f'{session}/manifest'
    with damaged(path, None):
        before = state(session)
        result = run('mount', base, session, user=place.user)
        assert 'missing' in the_line(result, path), result
        result = run('list', session, user=place.user)
        assert result.status == 1 and re.fullmatch(r'umlfs: [^\n]+manifest[^\n]*\n', result.stderr), result
        assert differences(state(session), before) == []
    mounted = place.mount(base, session)
    assert differences(mounted.dump(), seen) == []


def test_a_damaged_index_of_a_base_is_named(place, kept):
    path = f'{kept.base}/.umlfs/index'
    whole = read_file(path)
    for _, data in [*flips(whole, 60), *cuts(whole, 20), (0, whole + b'x'), (0, b'\0' * len(whole))]:
        with damaged(path, data):
            before = state(kept.session)
            line = the_line(kept.mount(), path)
            assert 'damaged' in line and 'import' in line, line
            assert differences(state(kept.session), before) == []
    kept.assert_whole()


def test_a_missing_or_newer_index_of_a_base_is_named(place, kept):
    path = f'{kept.base}/.umlfs/index'
    with damaged(path, None):
        line = the_line(kept.mount(), path)
        assert 'missing' in line and 'import' in line
    with damaged(path, newer(read_file(path))):
        line = the_line(kept.mount(), path)
        assert 'newer' in line and 'update' in line
    kept.assert_whole()


def test_a_damaged_copy_of_the_index_is_named_and_mended_by_a_mount(place, kept):
    path = f'{kept.session}/base.index'
    whole = read_file(path)
    for _, data in [*flips(whole, 12), *cuts(whole, 3), (0, None)]:
        with damaged(path, data):
            line = the_line(run('snapshot', kept.session, 'new', user=place.user), path)
            assert 'mount' in line, line
            kept.assert_whole()
            place.run('snapshot', kept.session, 'new')
            place.run('delete', kept.session, 'new')
            assert read_file(path) == whole
    kept.assert_whole()


def journals(session):
    return sorted((f'{session}/layers/{layer}/journal' for layer in os.listdir(f'{session}/layers')),
                  key=lambda path: int(path.split('/')[-2]))


@pytest.mark.parametrize('layer', [0, 1, 2], ids=['lowest', 'middle', 'top'])
def test_a_damaged_journal_is_named_with_the_place_and_nothing_is_touched(place, kept, layer):
    """The tail of the top layer alone may be an operation that was cut short: that is dropped with a warning."""
    path = journals(kept.session)[layer]
    whole = read_file(path)
    dropped = 0
    for at, data in [*flips(whole, 40), *cuts(whole, 15)]:
        with damaged(path, data):
            before = state(kept.session)
            result = kept.mount()
            if result.status == 0:
                assert layer == 2 and re.fullmatch(rf'umlfs: warning: {path}: [^\n]+\n', result.stderr), (at, result)
                place.run('umount', kept.session)
                assert len(data) - 200 < at or len(data) < len(whole), at
                dropped += 1
                continue
            line = the_line(result, path)
            assert 'damaged' in line and 'byte' in line, line
            assert differences(state(kept.session), before) == []
    assert layer < 2 or dropped
    kept.assert_whole()


def test_a_cut_at_the_end_of_an_operation_is_an_earlier_state(place, kept):
    """What a crash of the machine may leave of a journal: every prefix is some state of the past, in order."""
    path = journals(kept.session)[2]
    whole = read_file(path)
    last = None
    for length in range(len(whole), 40, -97):
        with damaged(path, whole[:length]):
            assert kept.mount().status == 0
            names = place.do(os.listdir, f'{kept.mountpoint}/tmp'), place.do(os.listdir, f'{kept.mountpoint}/etc')
            count = len(names[0]) + len(names[1])
            assert last is None or count <= last
            last = count
            place.run('umount', kept.session)
            mounted = place.mount(kept.base)        # what the first mount has cut off is all that it has
            assert (mounted.do(os.listdir, mounted / 'tmp'), mounted.do(os.listdir, mounted / 'etc')) == names
            mounted.umount()
    kept.assert_whole()


def test_a_missing_or_newer_journal_is_named(place, kept):
    for path in journals(kept.session):
        whole = read_file(path)
        for data, word in (None, 'No such file'), (newer(whole), 'newer'), (b'', 'damaged'), (b'other', 'damaged'):
            with damaged(path, data):
                assert word in the_line(kept.mount(), path)
    kept.assert_whole()


def test_a_damaged_layer_can_be_reset_away(place, kept):
    path = journals(kept.session)[2]
    whole = read_file(path)
    overwrite(path, whole[:60] + b'\xff' + whole[61:])
    assert 'umlfs reset' in the_line(kept.mount(), path)
    result = run('reset', kept.session, user=place.user)
    assert result.status == 0, result
    mounted = place.mount(kept.base)
    seen = mounted.dump()
    assert 'tmp/two' in seen and 'tmp/None' not in seen
    mounted.do(os.mkdir, mounted / 'tmp/after')
    mounted.umount()


@pytest.mark.parametrize('what', ['layers', 'layers/1', 'layers/2/journal'])
def test_a_missing_layer_is_named(place, kept, what):
    path = f'{kept.session}/{what}'
    os.rename(path, place / 'aside')
    before = state(kept.session)
    for result in kept.mount(), run('snapshot', kept.session, 'new', user=place.user):
        assert result.status == 1 and re.fullmatch(r'umlfs: [^\n]+: [^\n]+\n', result.stderr), result
        assert path in result.stderr, result
        assert differences(state(kept.session), before) == []
    os.rename(place / 'aside', path)
    kept.assert_whole()


@pytest.mark.parametrize('data', [None, b'', b'short'], ids=['missing', 'empty', 'short'])
def test_a_damaged_content_file_is_an_error_and_never_other_data(place, kept, data):
    place.noisy = True
    path = next(path for layer in sorted(os.listdir(f'{kept.session}/layers'))
                for path in [f'{kept.session}/layers/{layer}/content/{name}'
                             for name in os.listdir(f'{kept.session}/layers/{layer}/content')])
    with damaged(path, data):
        result = kept.mount()
        if result.status != 0:
            the_line(result, path)
        else:
            with pytest.raises(OSError) as caught:
                place.do(read_file, f'{kept.mountpoint}/etc/one')
            assert caught.value.errno == errno.EIO
            assert path in json.loads(place.run('status', '--json', kept.session))['problem']
            assert place.do(read_file, f'{kept.mountpoint}/etc/two') == b'two' * 100
            place.run('umount', kept.session)
    kept.assert_whole()
