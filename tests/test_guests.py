"""Real guests on umlfs: a Debian root is what its archive says, takes everyday work, and comes back after a reset."""

import contextlib
import hashlib
import os
import pathlib
import re
import tarfile
import tempfile
import time
import urllib.parse
from typing import NamedTuple

import pytest

import guest
from debian import debian_root
from umlfs_cli import ROOT, TEST_USER, USERS, Entry, Place, differences, dump, mounts_below, processes_of, wait_pid

INDEX = '.umlfs/index'
HERE = pathlib.Path(__file__).parent
SMALL_FILES = int(os.environ.get('UMLFS_GUEST_FILES', '5000'))
SCENARIO = f'SMALL_FILES={SMALL_FILES}\n' + (HERE / 'guest_scenario.sh').read_text()

# An ordinary user cannot have a plain directory with a tarball's owners and devices: that is what import is for. The one in the middle
# shares with each of the others what makes it different: it is for the long form.
VARIANTS = [(kind, user) for kind, user in [('imported', 'ordinary'), ('imported', 'root'), ('plain', 'root')]
            if user in USERS and (kind == 'plain' or user == 'ordinary' or 'UMLFS_GUEST_FILES' in os.environ)]

pytestmark = [
    pytest.mark.skipif(guest.uml_kernel() is None, reason='no linux.uml: apt-get install user-mode-linux'),
    pytest.mark.skipif('UMLFS_GUEST_INIT' not in os.environ, reason='UMLFS_GUEST_INIT is not set; meson test sets it'),
]


# --- what must be there ----------------------------------------------------------------------------------------

def parents(path):
    while path := os.path.dirname(path):
        yield path


def tarball_entries(archive):
    """{path: Entry} of what an extraction by root makes; None where an archive does not say it."""
    found, names = {}, {}
    kinds = {tarfile.REGTYPE: 'f', tarfile.DIRTYPE: 'd', tarfile.SYMTYPE: 'l', tarfile.CHRTYPE: 'c',
             tarfile.BLKTYPE: 'b', tarfile.FIFOTYPE: 'p'}
    with tarfile.open(archive) as stream:
        for member in stream:
            path = os.path.normpath(member.name)
            if member.islnk():
                names.setdefault(os.path.normpath(member.linkname), []).append(path)
                continue
            kind = kinds[member.type]
            found[path] = Entry(
                kind, member.mode, member.uid, member.gid, None if kind == 'd' else 1,
                {'f': member.size, 'd': 0, 'l': len(os.fsencode(member.linkname))}.get(kind, 0),
                int(member.mtime) * 10**9, (member.devmajor, member.devminor) if kind in 'cb' else (0, 0),
                member.linkname if kind == 'l' else '',
                hashlib.sha256(stream.extractfile(member).read()).hexdigest() if kind == 'f' else '')
    for path, links in names.items():
        for name in [path, *links]:
            found[name] = found[path]._replace(nlink=1 + len(links))
    found.setdefault('.', Entry('d', None, 0, 0, None, 0, None, (0, 0), '', ''))
    assert all(path in found for name in found for path in parents(name))
    return found


def list_for_guest(entries, part):
    """The entries as guest_check.pl reads them; of a directory, links and size are the file system's own business.

    part, if given: 0 to 9, for a tenth of the contents, those of large files always
    """
    lines = []
    for number, (path, e) in enumerate(entries.items()):
        content = e.type == 'f' and (part in (None, number % 10) or e.size > 1 << 22)
        fields = [e.type, None if e.mode is None else f'{e.mode:o}', e.uid, e.gid, None if e.type == 'd' else e.nlink,
                  None if e.type == 'd' else e.size, None if e.mtime is None else e.mtime // 10**9,
                  f'{e.rdev[0]}:{e.rdev[1]}', quote(e.target), e.sha256 if content else None]
        lines.append(' '.join([quote(path), *('-' if field is None else str(field) for field in fields)]) + '\n')
    return ''.join(lines)


def quote(text):
    return urllib.parse.quote_from_bytes(os.fsencode(text), safe='/~')


def inode_numbers(tree):
    """{path: inode number}"""
    found = {'.': os.lstat(tree).st_ino}
    for top, dirs, files in os.walk(tree):
        for name in dirs + files:
            found[os.path.relpath(os.path.join(top, name), tree)] = os.lstat(os.path.join(top, name)).st_ino
    return found


def touched(tree):
    """{path: what changes when anybody touches it}, without the index, to which a session makes a link."""
    found = {}
    for top, dirs, files in os.walk(tree):
        for path in [top, *(os.path.join(top, name) for name in dirs + files)]:
            st = os.lstat(path)
            found[os.path.relpath(path, tree)] = (st.st_ino, st.st_ctime_ns)
    found.pop(INDEX, None)
    return found


# --- a mounted session that guests boot on ---------------------------------------------------------------------

class Site:
    """One base of the Debian root, mounted; and what it was like before any guest."""

    def __init__(self, place, kind, debian):
        self.place, self.deb = place, debian.deb
        self.user = TEST_USER if place.user == 'ordinary' and ROOT else None
        began = time.monotonic()
        self.base = place.imported_base(archive=debian.archive) if kind == 'imported' else \
            place.plain_base(archive=debian.archive)
        print(f'{kind} base: {time.monotonic() - began:.1f} s')
        self.base_entries, self.base_touched = self.dump_base(), touched(self.base)
        self.mount = place.mount(self.base)
        self.untouched = self.mount.dump()

    def dump_base(self):
        entries = dump(self.base)
        if INDEX in entries:
            entries[INDEX] = entries[INDEX]._replace(nlink=None)    # a session makes a link to it
        return entries

    @contextlib.contextmanager
    def boot(self, call, files=()):
        """A guest that runs a function of the scenario; its caller waits for the end of it."""
        common = {'probe.deb': self.deb, 'check.pl': HERE / 'guest_check.pl'}
        with guest.Guest(self.mount.path, f'{SCENARIO}\n{call}\n', user=self.user, files=common | dict(files),
                         timeout=300) as running:
            yield running
            result = running.wait()
            print(f'{call}: booted in {result.boot_seconds:.2f} s, ran {result.run_seconds:.1f} s')
            assert result.status == 0, str(result)

    def run(self, call, **options):
        """What a function says that must succeed."""
        with self.boot(call, **options) as running:
            return running.wait().stdout

    def guest_finds(self, entries, part=None):
        """A guest compares its root with the entries, every one, and finds nothing else."""
        with tempfile.NamedTemporaryFile('w', prefix='umlfs-list-') as stream:
            stream.write(list_for_guest(entries, part))
            stream.flush()
            assert self.run('compare list', files={'list': stream.name}).startswith(f'{len(entries)} entries, ')

    def reset(self, *name):
        began = time.monotonic()
        self.place.run('reset', self.mount.session, *name)
        print(f'reset: {time.monotonic() - began:.3f} s')


class Snapshot(NamedTuple):
    entries: dict
    inodes: dict


@pytest.fixture(scope='module')
def debian():
    with tempfile.TemporaryDirectory(prefix='umlfs-debian-') as scratch:
        yield debian_root(os.environ.get('UMLFS_TEST_CACHE') or scratch)


@pytest.fixture(scope='module')
def tarball(debian):
    return tarball_entries(debian.archive)


@pytest.fixture(scope='module', params=VARIANTS, ids='-'.join)
def site(request, debian):
    kind, user = request.param
    with Place(user) as place:
        yield Site(place, kind, debian)


@pytest.fixture(scope='module')
def worked(site):
    """What guest_scenario.sh said about its everyday work; the tree is what it has left."""
    return site.run('everyday_work')


@pytest.fixture(scope='module')
def configured(site, worked):
    """The snapshot of that."""
    before = site.mount.dump()
    site.place.run('snapshot', site.mount.session, 'configured')
    snapshot = Snapshot(site.mount.dump(), site.mount.do(inode_numbers, site.mount.path))
    assert differences(before, snapshot.entries) == []
    return snapshot


def names_that_are_there(top, paths):
    return {path for path in paths if os.path.lexists(os.path.join(top, path))}


def comes_back(site, snapshot, damaged):
    """What is there after a reset is the snapshot; it was something else before."""
    assert differences(snapshot.entries, damaged) != []
    # One by one first: a listing mends what the kernel believes of names.
    there = site.mount.do(names_that_are_there, site.mount.path, snapshot.entries.keys() | damaged.keys())
    assert sorted(there ^ snapshot.entries.keys()) == []
    assert differences(snapshot.entries, site.mount.dump()) == []
    assert snapshot.inodes == site.mount.do(inode_numbers, site.mount.path)


# --- the promises; a site's tests follow each other ------------------------------------------------------------

def test_a_guest_finds_owners_modes_devices_links_times_and_contents_as_in_the_tarball(site, tarball):
    site.guest_finds(tarball)
    assert differences(site.untouched, site.mount.dump()) == []


def test_a_guest_can_do_everyday_work(worked):
    wanted = ['owners', 'modes', 'names', 'fifo', 'unix_socket', 'move_directory', 'remake_directory', 'small_files',
              'large_file', 'change_content', 'package', 'unprivileged_user']
    assert re.findall('^ok (.*)$', worked, re.M) == wanted


def test_the_host_reads_what_a_guest_has_written(configured):
    for i in range(SMALL_FILES):
        text = b'the file number %d\n' % i * (i % 5)
        name = f'job/small/{"one" if i % 2 else i // 2 % 100}/file-{i}'
        assert configured.entries[name].sha256 == hashlib.sha256(text).hexdigest(), name


def test_a_reset_without_a_mount_brings_the_snapshot_back(site, configured):
    site.run('damage_content')
    damaged = site.mount.dump()
    site.mount.umount()
    site.reset('configured')
    site.mount = site.place.mount(site.base)
    comes_back(site, configured, damaged)
    site.guest_finds(configured.entries, 0)


@pytest.mark.parametrize('part, damage', enumerate(['damage_names', 'damage_all'], 1))
def test_a_reset_under_the_mount_brings_the_snapshot_back(site, configured, damage, part):
    pid = site.mount.pid
    site.run(damage)
    damaged = site.mount.dump()
    site.reset()
    comes_back(site, configured, damaged)
    site.guest_finds(configured.entries, part)
    assert site.mount.pid == pid


def test_a_reset_under_a_running_guest_is_refused_and_does_nothing(site, configured):
    call = 'rm -r /job; echo ready; read -r _ </dev/tty0; gone /job; echo there >/etc/issue; cat /etc/issue'
    with site.boot(call) as running:
        running.wait_for('ready\n')
        assert 'linux.uml' in site.place.refused('reset', site.mount.session)
        running.send('go on')
        assert running.wait().stdout == 'ready\nthere\n'
    site.reset()
    assert differences(configured.entries, site.mount.dump()) == []


def test_a_reset_to_the_base_brings_the_tarball_back(site, configured):
    site.reset('@base')
    assert differences(site.untouched, site.mount.dump()) == []


def test_in_the_end_nothing_is_left_and_the_base_is_what_it_was(site):
    pid = site.mount.pid
    site.mount.umount()
    assert wait_pid(pid)
    assert processes_of(site.place.path) == []
    assert mounts_below(site.place.path) == []
    assert site.mount.log() == ''
    assert differences(site.base_entries, site.dump_base()) == []
    assert set(site.base_touched.items()) ^ set(touched(site.base).items()) == set()
