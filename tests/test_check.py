"""What `umlfs check` promises: it finds each kind of damage, mends what can be mended, and touches nothing else."""

import contextlib
import fcntl
import json
import os
import re
import shutil
import subprocess

import pytest

from calls import overwrite, read_file
from newer import newer, newer_manifest, xxh3
from umlfs_cli import ROOT, differences, dump, identity, ids, run, small_members, write_archive

CLEAN, MENDED, USAGE, DAMAGED, NO_LOOK = 0, 1, 2, 4, 8

as_root = pytest.mark.parametrize('user', ['root'], indirect=True)
as_ordinary = pytest.mark.parametrize('user', ['ordinary'], indirect=True)


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


# --- nothing is wrong --------------------------------------------------------------------------------------------

@pytest.mark.parametrize('repair', [[], ['--repair']], ids=['look', 'repair'])
def test_what_is_whole_is_clean_and_stays_as_it_is(place, base, repair):
    session = Session(place, base)
    with nothing_changes(base):
        for path in (session.path, base):
            if path == base and not os.path.exists(f'{base}/.umlfs'):
                continue
            with nothing_changes(*[] if repair else [session.path]):
                result = run('check', *repair, path, user=place.user)
            assert result == (CLEAN, f'{path}: clean\n', '')
            assert Checked(place, *repair, path) == []
    session.assert_whole(None)
    session.assert_whole('one', 'two')


def test_a_killed_daemon_leaves_no_damage(place):
    place.noisy = True
    mounted = place.mount(place.imported_base())
    script = '''import os, signal, sys
top = sys.argv[1]
kept = open(top + '/tmp/open', 'wb', buffering=0)
kept.write(b'open' * 5000)
os.unlink(top + '/tmp/open')
for i in range(50):
    with open(f'{top}/tmp/{i}', 'wb') as stream:
        stream.write(b'x' * 500 * i)
below = open(top + '/etc/hostname', 'r+b', buffering=0)
below.write(b'changed')
os.unlink(top + '/etc/passwd')
os.kill(int(sys.argv[2]), signal.SIGKILL)
'''
    subprocess.run(['/usr/bin/python3', '-c', script, mounted.path, str(mounted.pid)], check=True,
                   **identity(place.user))
    place.run('umount', mounted.path)
    with nothing_changes(mounted.session):
        assert Checked(place, mounted.session) == []


def test_snapshots_resets_and_deletions_leave_no_damage(place, session):
    for words in (['delete', 'one'], ['snapshot', 'three'], ['reset', '@base'], ['delete', 'two'], ['snapshot', 'four'],
                  ['reset', 'three'], ['delete', 'three']):
        place.run(words[0], session.path, *words[1:])
        with nothing_changes(session.path):
            assert session.check() == [], words
        place.mount(session.base).umount()
        assert session.check() == [], words


# --- bases -------------------------------------------------------------------------------------------------------

def rewrite(path, data):
    """Other bytes, the same times."""
    st = os.stat(path)
    overwrite(path, data)
    os.utime(path, ns=(st.st_atime_ns, st.st_mtime_ns))


BASE_DAMAGE = {
    'missing file': ('base', '/etc/passwd', 'missing', lambda path: os.unlink(path)),
    'missing directory': ('base', '/home', 'missing', shutil.rmtree),
    'another size': ('base', '/etc/passwd', 'bytes', lambda path: rewrite(path, b'short')),
    'another time': ('base', '/etc/passwd', 'modified', lambda path: os.utime(path, ns=(0, 10**18 + 1))),
    'a directory': ('base', '/etc/passwd', 'is a directory', lambda path: (os.unlink(path), os.mkdir(path))),
    'a link': ('base', '/etc/passwd', 'is a symbolic link', lambda path: (os.unlink(path), os.symlink('shadow', path))),
    'a file': ('base', '/tmp', 'is a regular file', lambda path: (os.rmdir(path), overwrite(path, b''))),
    'extra file': ('base', '/etc/extra', 'not in the index', lambda path: overwrite(path, b'extra')),
    'extra directory': ('base', '/extra', 'not in the index', os.mkdir),
    'a name of the index alone': ('base', '/run/fifo', 'in the index alone', lambda path: overwrite(path, b'')),
    'a strange file': ('stray', '/.umlfs/notes', 'index alone', lambda path: overwrite(path, b'')),
    'no index': ('index', '/.umlfs/index', 'missing', lambda path: os.unlink(path)),
    'a flipped bit': ('index', '/.umlfs/index', 'damaged', lambda path: overwrite(path, read_file(path)[:-9] + b'x' + read_file(path)[-8:])),
    'a cut index': ('index', '/.umlfs/index', 'cut short', lambda path: overwrite(path, read_file(path)[:-9])),
}


@pytest.mark.parametrize('repair', [[], ['--repair']], ids=['look', 'repair'])
@pytest.mark.parametrize('kind', BASE_DAMAGE)
def test_damage_of_a_base_is_named_and_left(place, kind, repair):
    word, where, what, make = BASE_DAMAGE[kind]
    base = place.imported_base()
    place.do(make, base + where)
    with nothing_changes(base):
        found = Checked(place, *repair, base)
    assert found.status == DAMAGED and len(found) == 1, list(found)
    assert what in found.of(word, where)['what'] and not found[0]['mendable']


def test_damage_deep_in_a_base_is_named_with_its_whole_path(place):
    base = place.imported_base()
    place.do(os.unlink, f'{base}/home/user/notes')
    place.do(overwrite, f'{base}/home/user/extra', b'')
    found = Checked(place, base)
    assert len(found) == 2
    found.of('base', '/home/user/notes')
    found.of('base', '/home/user/extra')


# --- leftovers ---------------------------------------------------------------------------------------------------

LEFTOVERS = {
    'manifest.new': ('stray', '/manifest.new', lambda session, path: overwrite(path, b'umlfs manifest 1\n')),
    'base.index.new': ('stray', '/base.index.new', lambda session, path: overwrite(path, b'')),
    'dropped layer': ('stray', '/layers/77', lambda session, path: shutil.copytree(session / 'layers/1', path)),
    'content': ('content', '/layers/3/content/4321', lambda session, path: overwrite(path, b'copied up')),
    'content of a snapshot': ('content', '/layers/1/content/4321', lambda session, path: overwrite(path, b'')),
    # inode 2 is a directory of the base: nothing that a layer has bytes of
    'content of what has none': ('content', '/layers/3/content/2', lambda session, path: overwrite(path, b'copied up')),
    'behind a sealed end': ('journal', '/layers/2/journal', lambda session, path: append(path, b'\0' * 100)),
    'torn tail': ('journal', '/layers/3/journal', lambda session, path: append(path, b'torn')),
    'torn tail of zeros': ('journal', '/layers/3/journal', lambda session, path: append(path, b'\0' * 5000)),
}


def append(path, data):
    with open(path, 'ab') as stream:
        stream.write(data)


@pytest.mark.parametrize('kind', LEFTOVERS)
def test_leftovers_are_found_and_go(session, kind):
    word, where, make = LEFTOVERS[kind]
    session.place.do(make, session, session.path + where)
    found = session.repair()
    assert len(found) == 1 and found.of(word, where)['mended']
    session.assert_whole(None)
    session.assert_whole('one', 'two')


def test_all_leftovers_are_found_at_once(session):
    for kind, (word, where, make) in LEFTOVERS.items():
        if kind != 'torn tail of zeros':
            session.place.do(make, session, session.path + where)
    found = session.repair()
    assert {(finding['kind'], finding['where'].removeprefix(session.path)) for finding in found} \
        == {(word, where) for word, where, _ in LEFTOVERS.values()}
    session.assert_whole(None)
    session.assert_whole('one', 'two')


STRANGE = {'in layers': '/layers/notes', 'in a layer': '/layers/1/notes', 'in content': '/layers/1/content/notes',
           'a number with a zero': '/layers/1/content/07'}


@pytest.mark.parametrize('kind', STRANGE)
def test_a_file_that_umlfs_never_made_is_told_and_left(session, kind):
    session.place.do(overwrite, session.path + STRANGE[kind], b'precious')
    assert len(session.damage()) == 1
    found = session.check('--repair')
    assert found.status == DAMAGED and not found.of('stray', STRANGE[kind])['mended']
    assert read_file(session.path + STRANGE[kind]) == b'precious'


# --- content -----------------------------------------------------------------------------------------------------

def test_a_longer_content_file_is_cut_in_the_session_and_left_in_a_snapshot(session):
    one, last = session.content(1)[0], session.content(3)[0]
    for path in one, last:
        append(session.path + path, b'more')
    found = session.check('--repair')
    assert found.status == DAMAGED and len(found) == 2
    assert found.of('content', last)['mended'] and not found.of('content', one)['mended']
    assert len(session.check()) == 1
    session.assert_whole(None)
    session.assert_whole('one', 'two')


@pytest.mark.parametrize('layer', [1, 2, 3])
def test_a_lost_or_short_content_file_is_told_with_its_path_and_left(session, layer):
    paths = session.content(layer)
    assert len(paths) == 2
    whole = read_file(session.path + paths[0])
    for data in None, whole[:-1], b'':
        os.unlink(session.path + paths[0])
        if data is not None:
            overwrite(session.path + paths[0], data)
            session.own(session.path + paths[0])
        found = session.damage()
        assert len(found) == 1
        assert ('missing' if data is None else 'shorter') in found.of('content', paths[0])['what']
        assert '(/usr/bin/' in found[0]['what'] or '(/etc/' in found[0]['what']
        with nothing_changes(session / 'layers'):
            assert session.check('--repair').status == DAMAGED
        overwrite(session.path + paths[0], whole)
        session.own(session.path + paths[0])
    session.assert_whole(None)


def test_a_lost_content_folder_is_told(session):
    os.rename(session / 'layers/2/content', session.place / 'aside')
    found = session.damage()
    assert len(found) == 1 and 'missing' in found.of('content', '/layers/2/content')['what']
    assert session.check('--repair').status == DAMAGED
    os.rename(session.place / 'aside', session / 'layers/2/content')
    session.assert_whole(None)


def test_a_directory_in_place_of_a_content_file_is_told(session):
    path = session.content(2)[0]
    os.unlink(session.path + path)
    session.place.do(os.mkdir, session.path + path)
    assert 'no regular file' in session.damage().of('content', path)['what']
    assert session.check('--repair').status == DAMAGED


# --- journals ----------------------------------------------------------------------------------------------------

@pytest.mark.parametrize('layer', [1, 2, 3])
@pytest.mark.parametrize('how', ['flipped', 'cut', 'missing', 'other'])
def test_a_damaged_journal_is_told_with_the_states_that_it_takes_down(session, layer, how):
    path = session / f'layers/{layer}/journal'
    whole = read_file(path)
    data = {'flipped': whole[:60] + bytes([whole[60] ^ 1]) + whole[61:], 'cut': whole[:20], 'missing': None,
            'other': read_file(session / f'layers/{layer % 3 + 1}/journal')}[how]
    os.unlink(path)
    if data is not None:
        overwrite(path, data)
        session.own(path)
    found = session.damage()
    what = found.of('journal', f'/layers/{layer}/journal')['what']
    assert ('damaged' in what) == (how != 'missing')
    for number, state in (1, ' (snapshot one)'), (2, ' (snapshot two)'), (3, ''):
        if number >= layer:
            assert f'layer {layer} cannot be loaded' in found.of('state', state)['what']
    assert len(found) == 5 - layer
    with nothing_changes(session / 'layers'):
        assert session.check('--repair').status == DAMAGED
    if layer == 3:
        session.place.run('reset', session.path)
        assert session.check() == []
    else:
        overwrite(path, whole)
        session.own(path)
        session.assert_whole(None)


def test_a_sealed_journal_that_is_cut_at_the_end_of_an_operation_is_damage(session):
    path = session / 'layers/2/journal'
    whole = read_file(path)
    overwrite(path, whole[:-1])
    assert 'sealed' in session.damage().of('journal', '/layers/2/journal')['what']


def test_damage_beside_the_session_does_not_hide_what_can_be_mended(session):
    session.place.run('snapshot', session.path, 'three')
    session.place.run('reset', session.path, 'one')
    path = session / 'layers/2/journal'
    overwrite(path, read_file(path)[:60])
    extra = f'/layers/{max(session.layers())}/content/4321'
    session.place.do(overwrite, session.path + extra, b'copied up')
    found = session.check('--repair')
    assert found.status == DAMAGED and found.of('content', extra)['mended']
    assert {finding['where'] for finding in found if finding['kind'] == 'state'} \
        == {f'{session.path} (snapshot {name})' for name in ('two', 'three')}
    mounted = session.place.mount(session.base)
    assert differences(mounted.dump(), session.seen['one']) == []


# --- manifest and index ------------------------------------------------------------------------------------------

def with_end(lines):
    text = b''.join(line + b'\n' for line in lines)
    return text + b'end %016x\n' % xxh3(text)


def without(lines, start):
    return [line for line in lines if not line.startswith(start)]


MANIFESTS = {
    'checksum': ('checksum', lambda lines: b'\n'.join(lines) + b'\nend 0123456789abcdef\n'),
    'missing parent': ('line 6: a layer without its parent',
                       lambda lines: with_end([re.sub(b'^layer 2 parent 1', b'layer 2 parent 9', l) for l in lines])),
    'circle': ('line 5: a layer without its parent',
               lambda lines: with_end([re.sub(b'^layer 1 parent 0', b'layer 1 parent 2', l) for l in lines])),
    'twice': ('line 6: a layer', lambda lines: with_end(lines[:5] + lines[4:])),
    'missing layer of a snapshot': ('a snapshot of a layer',
                                    lambda lines: with_end([re.sub(b'^snapshot 1', b'snapshot 9', l) for l in lines])),
    'no top': ('do not fit', lambda lines: with_end([re.sub(b'^top 3', b'top 9', l) for l in lines])),
    'open layer below': ('do not fit',
                         lambda lines: with_end([re.sub(b'^(layer 2 .* sealed) \\d+', b'\\1 0', l) for l in lines])),
    'no base': ('do not fit', lambda lines: with_end(without(lines, b'base '))),
    'nonsense': ('line 4: cannot be read', lambda lines: with_end(lines[:3] + [b'nonsense'] + lines[3:])),
    'empty': ('damaged', lambda lines: b''),
}


@pytest.mark.parametrize('kind', MANIFESTS)
def test_a_damaged_manifest_is_told_with_the_reason(session, kind):
    what, make = MANIFESTS[kind]
    path = session / 'manifest'
    whole = read_file(path)
    lines = whole.split(b'\n')[:-2]
    assert with_end(lines) == whole
    overwrite(path, make(lines))
    found = session.damage()
    assert len(found) == 1 and what in found.of('manifest', '/manifest')['what']
    with nothing_changes(session / 'layers'):
        assert session.check('--repair').status == DAMAGED
    overwrite(path, whole)
    session.assert_whole(None)


@pytest.mark.parametrize('lost', ['manifest', 'layer'])
def test_what_a_mount_goes_back_to_is_told_and_a_repair_goes_there(session, lost):
    """The host went down when a third snapshot had replaced the manifest, and before it was on disk."""
    before = read_file(session / 'manifest')
    session.place.run('snapshot', session.path, 'three')
    overwrite(session / 'manifest.old', before)
    session.own(session / 'manifest.old')
    if lost == 'manifest':
        overwrite(session / 'manifest', read_file(session / 'manifest')[:50])
    else:
        shutil.rmtree(session / f'layers/{max(session.layers())}')
    assert 'goes back to manifest.old' in session.repair().of('manifest', '/manifest')['what']
    assert not os.path.exists(session / 'manifest.old')
    assert 'three' not in session.place.run('list', session.path)
    session.assert_whole(None)


def test_a_manifest_that_was_replaced_and_is_whole_is_clean(session):
    before = read_file(session / 'manifest')
    session.place.run('snapshot', session.path, 'three')
    overwrite(session / 'manifest.old', before)
    session.own(session / 'manifest.old')
    assert session.check().status == CLEAN
    assert 'three' in session.place.run('list', session.path)

def test_a_missing_manifest_is_damage_when_there_are_layers(session):
    os.rename(session / 'manifest', session.place / 'aside')
    assert 'missing' in session.damage().of('manifest', '/manifest')['what']


@pytest.mark.parametrize('what', ['layers', 'layers/1'])
def test_missing_layers_are_told(session, what):
    os.rename(session / what, session.place / 'aside')
    found = session.damage()
    assert any(what in finding['where'] for finding in found), list(found)
    assert session.check('--repair').status == DAMAGED


def test_a_length_that_the_journal_does_not_have_is_told(session):
    path = session / 'manifest'
    lines = read_file(path).split(b'\n')[:-2]
    overwrite(path, with_end([re.sub(b'^(layer 2 .* sealed) \\d+', b'\\1 999999', line) for line in lines]))
    assert '999999 were sealed' in session.damage().of('journal', '/layers/2/journal')['what']


@pytest.mark.parametrize('how', ['missing', 'flipped', 'another'])
def test_the_copy_of_the_index_is_made_again(place, base, how):
    session = Session(place, base)
    path = session / 'base.index'
    whole = read_file(path)
    os.unlink(path)
    if how == 'flipped':
        overwrite(path, whole[:300] + bytes([whole[300] ^ 1]) + whole[301:])
    elif how == 'another':
        archive = write_archive(place / 'other.tar', small_members() + [('etc/more', {}, b'')])
        shutil.copy(place.imported_base('other', archive) + '/.umlfs/index', path)
    if how != 'missing':
        session.own(path)
    found = session.repair()
    assert len(found) == 1 and found.of('index', '/base.index')['mended']
    assert read_file(path) == whole
    session.assert_whole(None)


def test_without_the_base_the_copy_of_the_index_stays_damaged(session):
    os.rename(session.base, session.place / 'elsewhere')
    os.unlink(session / 'base.index')
    result = run('check', '--repair', session.path, user=session.place.user)
    assert result.status == DAMAGED and f'{session.base}: ' in result.stderr
    assert f'{session.path}/base.index: ' in result.stdout
    assert not os.path.exists(session / 'base.index')
    os.rename(session.place / 'elsewhere', session.base)
    assert session.check('--repair').status == MENDED
    session.assert_whole(None)


# --- what cannot be looked at ------------------------------------------------------------------------------------

@pytest.mark.parametrize('flags', [[], ['--repair'], ['--json']])
def test_a_mounted_session_is_refused_with_its_pid(place, flags):
    mounted = place.mount(place.imported_base())
    mounted.do(overwrite, mounted / 'tmp/new', b'new')
    line = place.refused('check', *flags, mounted.session, status=NO_LOOK)
    assert line.startswith(f'{mounted.session}: ')
    assert str(mounted.pid) in re.findall(r'\d+', line.replace(place.path, ''))
    assert mounted.do(read_file, mounted / 'tmp/new') == b'new'


@pytest.mark.parametrize('flags', [[], ['--repair']], ids=['look', 'repair'])
def test_a_session_that_a_command_works_on_is_refused(session, flags):
    with open(session / 'lock', 'rb') as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert 'in use' in session.place.refused('check', *flags, session.path, status=NO_LOOK)
    assert session.check(*flags) == []


def test_while_a_check_looks_others_may_look_and_nobody_may_change(session):
    with open(session / 'lock', 'rb') as lock:
        fcntl.flock(lock, fcntl.LOCK_SH)
        assert session.check() == []
        line = session.place.refused('snapshot', session.path, 'three')
        assert 'only looks' in line and not re.search(r'\d', line.replace(session.path, ''))


def test_a_lock_that_is_not_there_is_not_made_for_a_look(session):
    os.unlink(session / 'lock')
    with nothing_changes(session.path):
        assert session.check() == []


def test_a_base_may_be_in_use(place):
    base = place.imported_base()
    place.mount(base)
    assert Checked(place, base) == []


@pytest.mark.parametrize('what', ['missing', 'file', 'empty', 'other', 'plain'])
def test_what_is_neither_session_nor_base_is_refused(place, what):
    path = place / what
    if what == 'file':
        place.do(overwrite, path, b'')
    elif what == 'plain':
        place.plain_base('plain')
    elif what != 'missing':
        place.do(os.mkdir, path)
    if what == 'other':
        place.do(overwrite, f'{path}/thesis.txt', b'precious')
    with nothing_changes(place.path):
        for flags in [], ['--repair'], ['--json']:
            line = place.refused('check', *flags, path, status=NO_LOOK)
            assert line.startswith(f'{path}: ')
            assert ('no imported base' in line) == (what not in ('missing', 'file'))


def test_a_newer_version_is_no_damage(session):
    for path, change, flag in ((session / 'manifest', newer_manifest, '--repair'), (session / 'layers/2/journal', newer, '--json')):
        whole = read_file(path)
        overwrite(path, change(whole))
        with nothing_changes(session / 'layers'):
            assert 'newer' in session.place.refused('check', flag, session.path, status=NO_LOOK)
        overwrite(path, whole)
    session.assert_whole(None)


@as_ordinary
@pytest.mark.skipif(not ROOT, reason='needs root')
def test_what_may_not_be_read_is_no_damage(session):
    os.chown(session / 'layers/2/journal', 0, 0)
    os.chmod(session / 'layers/2/journal', 0)
    assert 'ermission denied' in session.place.refused('check', session.path, status=NO_LOOK)


# --- what it says ------------------------------------------------------------------------------------------------

def test_each_finding_is_one_line_and_the_last_line_sums_up(session):
    session.place.do(overwrite, session / 'layers/3/content/4321', b'')
    os.unlink(session.path + session.content(1)[0])
    session.place.do(overwrite, session / 'layers/new\nline', b'')
    for flags, status, tail, summary in (([], DAMAGED, r' \[--repair mends it\]', '3 found, 0 mended, 3 left'),
                                         (['--repair'], DAMAGED, r' \[mended\]', '3 found, 1 mended, 2 left')):
        result = run('check', *flags, session.path, user=session.place.user)
        assert (result.status, result.stderr) == (status, '')
        lines = result.stdout.split('\n')
        assert lines[3:] == [f'{session.path}: {summary}', '']
        assert re.fullmatch(rf'{session.path}/layers/1/content/\d+: missing: [^\n]+\(/[^\n]+\)', lines[0])
        assert re.fullmatch(rf'{session.path}/layers/3/content/4321: [^\n]+{tail}', lines[1])
        assert lines[2].startswith(f'{session.path}/layers/new%0Aline: ')


def test_names_of_any_bytes_are_told(place):
    name = b'etc/\xff"\n'
    base = place.imported_base()
    place.do(overwrite, os.fsencode(f'{base}/') + name, b'')
    found = Checked(place, base)
    assert found.of('base', os.fsdecode(b'/' + name))
