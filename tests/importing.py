"""Trees with everything that a root file system can hold, imports of them, and what must come out."""

import contextlib
import io
import os
import re
import shutil
import socket
import stat
import struct
import subprocess
import tarfile
import tempfile
from typing import NamedTuple

import pytest

UMLFS = os.environ.get('UMLFS')
DUMP_INDEX = os.environ.get('UMLFS_DUMP_INDEX')
ROOT = os.geteuid() == 0
NOBODY = 65534

NANOSECONDS = 10**9
MIB = 1 << 20
ALL_XATTRS = ['--xattrs', '--xattrs-include=*']  # of GNU tar

needs_programs = pytest.mark.skipif(not (UMLFS and DUMP_INDEX),
                                    reason='UMLFS or UMLFS_DUMP_INDEX is not set; meson test sets them')
needs_root = pytest.mark.skipif(not ROOT, reason='needs root')

# Who imports: an ordinary user must get what root gets.
both_users = pytest.mark.parametrize('user', ['root', 'ordinary'] if ROOT else ['ordinary'])
both_locales = pytest.mark.parametrize('locale', ['C', 'C.UTF-8'])


class Entry(NamedTuple):
    """One name of an index. first is the same for all names of a file; times are in nanoseconds."""
    type: str
    mode: int
    uid: int
    gid: int
    nlink: int
    rdev: tuple
    size: int
    mtime: int
    target: bytes
    xattrs: dict
    first: bytes
    blocks: int = 0
    ctime: int = 0
    checksum: int = 0


# --- places ------------------------------------------------------------------------------------------

@pytest.fixture(scope='module')
def shared():
    """A directory that an ordinary user may look into."""
    with tempfile.TemporaryDirectory(prefix='umlfs-import-') as directory:
        os.chmod(directory, 0o755)
        yield directory


@pytest.fixture
def area():
    """A directory that everybody may write to."""
    with tempfile.TemporaryDirectory(prefix='umlfs-base-') as directory:
        os.chmod(directory, 0o777)
        yield directory


# --- imports --------------------------------------------------------------------------------------

def as_user(user):
    """The words that run a command as 'ordinary' when the tests run as root; else as who runs the tests."""
    if user == 'root' or not ROOT:
        return []
    return ['setpriv', f'--reuid={NOBODY}', f'--regid={NOBODY}', '--clear-groups']


def start_import(*args, user='root', locale='C.UTF-8', **options):
    return subprocess.Popen([*as_user(user), UMLFS, 'import', *args], stderr=subprocess.PIPE,
                            env=os.environ | {'LC_ALL': locale}, **options)


def umlfs_import(*args, **options):
    """(exit status, what it wrote to stderr)"""
    process = start_import(*args, **options)
    stderr = process.communicate()[1]
    return process.returncode, stderr.decode(errors='surrogateescape')


def imported(source, base, *flags, **options):
    """Imports, which must work without a warning, and gives back the index as {path: Entry}."""
    status, stderr = umlfs_import(*flags, source, base, **options)
    assert status == 0, stderr
    assert 'warning' not in stderr
    return index_of(base)


def refused(source, base, *flags, **options):
    """Imports, which must fail with one line and leave nothing beside the base. The line."""
    parent = os.path.dirname(os.path.abspath(os.path.join(options.get('cwd', '.'), base)))
    before = sorted(os.listdir(parent))
    status, stderr = umlfs_import(*flags, source, base, **options)
    assert status == 1, (status, stderr)
    assert re.fullmatch(r'umlfs: [^\n]+\n', stderr), stderr
    assert sorted(os.listdir(parent)) == before
    return stderr


# --- what an index says ---------------------------------------------------------------------------

def unescape(field):
    if field == b'-':
        return b''
    return re.sub(rb'\\x(..)', lambda match: bytes([int(match[1], 16)]), field)


def nanoseconds(field):
    seconds, fraction = field.split(b'.')
    return int(seconds) * NANOSECONDS + int(fraction)


def entry_of(fields):
    _, kind, mode, uid, gid, nlink, device, size, blocks, mtime, ctime, _, checksum, first, target = fields[:15]
    major, minor = device.split(b':')
    xattrs = {}
    for item in fields[15:]:
        name, value = item.rsplit(b'=', 1)
        xattrs[unescape(name)] = bytes.fromhex(value.decode())
    return Entry(type=kind.decode(), mode=int(mode, 8), uid=int(uid), gid=int(gid), nlink=int(nlink),
                 rdev=(int(major), int(minor)), size=int(size), mtime=nanoseconds(mtime),
                 target=unescape(target), xattrs=xattrs, first=unescape(first), blocks=int(blocks),
                 ctime=nanoseconds(ctime), checksum=int(checksum, 16))


def index_of(base):
    output = subprocess.run([DUMP_INDEX, base], check=True, stdout=subprocess.PIPE).stdout
    entries = {}
    for line in output.splitlines():
        fields = line.split(b' ')
        entries[unescape(fields[0])] = entry_of(fields)
    return entries


def index_bytes(base):
    with open(f'{base}/.umlfs/index', 'rb') as index:
        return index.read()


# --- what a tree says -----------------------------------------------------------------------------

def names_below(tree):
    """Every path below tree as bytes, '.' among them."""
    paths = [b'.']
    for top, dirs, files in os.walk(os.fsencode(tree)):
        paths += [os.path.relpath(os.path.join(top, name), os.fsencode(tree)) for name in dirs + files]
    return paths


def type_of(mode):
    return {stat.S_IFREG: 'f', stat.S_IFDIR: 'd', stat.S_IFLNK: 'l', stat.S_IFCHR: 'c', stat.S_IFBLK: 'b',
            stat.S_IFIFO: 'p', stat.S_IFSOCK: 's'}[stat.S_IFMT(mode)]


def expected_of(tree, path):
    full = os.path.join(os.fsencode(tree), path)
    st = os.lstat(full)
    is_dir, is_device = stat.S_ISDIR(st.st_mode), stat.S_IFMT(st.st_mode) in (stat.S_IFCHR, stat.S_IFBLK)
    subdirs = sum(e.is_dir(follow_symlinks=False) for e in os.scandir(full)) if is_dir else 0
    return Entry(type=type_of(st.st_mode), mode=stat.S_IMODE(st.st_mode), uid=st.st_uid, gid=st.st_gid,
                 nlink=2 + subdirs if is_dir else st.st_nlink,
                 rdev=(os.major(st.st_rdev), os.minor(st.st_rdev)) if is_device else (0, 0),
                 size=4096 if is_dir else st.st_size, mtime=st.st_mtime_ns,
                 target=os.readlink(full) if stat.S_ISLNK(st.st_mode) else b'',
                 xattrs={os.fsencode(name): os.getxattr(full, name, follow_symlinks=False)
                         for name in os.listxattr(full, follow_symlinks=False)},
                 first=str(st.st_ino).encode())


def link_groups(entries):
    groups = {}
    for path, entry in entries.items():
        groups.setdefault(entry.first, set()).add(path)
    return {frozenset(group) for group in groups.values()}


def assert_same(entries, tree, forget=()):
    """The index's entries are what the tree holds. forget: what the format of the archive cannot keep."""
    want = {path: expected_of(tree, path) for path in names_below(tree)}
    assert sorted(entries) == sorted(want)
    for path, entry in want.items():
        got = entries[path]._replace(first=b'', blocks=0, ctime=0, checksum=0)
        entry = entry._replace(first=b'')
        if 'nanoseconds' in forget:
            entry = entry._replace(mtime=entry.mtime // NANOSECONDS * NANOSECONDS)
        if 'xattrs' in forget:
            got, entry = got._replace(xattrs={}), entry._replace(xattrs={})
        assert (path, got) == (path, entry)
    assert link_groups(entries) == link_groups(want)


# --- what a base holds ----------------------------------------------------------------------------

@contextlib.contextmanager
def opened(base, path):
    """A file of a base by a path of any length."""
    *parents, name = path.split(b'/')
    at = os.open(base, os.O_PATH)
    try:
        for parent in parents:
            below = os.open(parent, os.O_PATH | os.O_NOFOLLOW | os.O_DIRECTORY, dir_fd=at)
            os.close(at)
            at = below
        fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW, dir_fd=at)
    finally:
        os.close(at)
    with open(fd, 'rb') as stream:
        yield stream


def content(base, path):
    with opened(base, path) as stream:
        return stream.read()


def assert_private(base, entries):
    """The host has the directories and regular files and nothing else, closed to others, and links are links."""
    paths = [path for path in names_below(base) if not path.startswith(b'.umlfs')]
    assert sorted(paths) == sorted(path for path, entry in entries.items() if entry.type in 'fd')
    groups = {}
    for path in paths:
        st = os.lstat(os.path.join(os.fsencode(base), path))
        assert (path, stat.S_IMODE(st.st_mode)) == (path, 0o700 if stat.S_ISDIR(st.st_mode) else 0o600)
        groups.setdefault(st.st_ino, set()).add(path)
    of_index = link_groups({path: entry for path, entry in entries.items() if entry.type in 'fd'})
    assert {frozenset(group) for group in groups.values()} == of_index


def assert_same_content(base, tree, entries):
    for path, entry in entries.items():
        if entry.type == 'f':
            assert (path, content(base, path)) == (path, content(tree, path))


# --- archives ----------------------------------------------------------------------------------------

def tar(archive, tree, *options):
    subprocess.run(['tar', '-C', tree, *options, '-cf', archive, '.'], check=True)
    return archive


def cpio(archive, tree, kind):
    names = subprocess.run(['find', '.', '-print0'], cwd=tree, check=True, stdout=subprocess.PIPE).stdout
    with open(archive, 'wb') as stream:
        subprocess.run(['cpio', '--quiet', '-0', '-o', '-H', kind], cwd=tree, check=True, input=names, stdout=stream,
                       stderr=subprocess.DEVNULL)
    return archive


def python_tar(archive, members, format=tarfile.PAX_FORMAT):
    """members: (name, changes of the TarInfo, content)"""
    with tarfile.open(archive, 'w', format=format) as stream:
        for name, changes, data in members:
            info = tarfile.TarInfo(name)
            for key, value in changes.items():
                setattr(info, key, value)
            info.size = len(data)
            stream.addfile(info, io.BytesIO(data))
    return archive


COMPRESSORS = {'none': ['cat'], 'gzip': ['gzip', '-c'], 'gzip-twice': None, 'bzip2': ['bzip2', '-c'],
               'xz': ['xz', '-c'], 'lzma': ['xz', '-c', '--format=lzma'], 'zstd': ['zstd', '-q', '-c'],
               'lz4': ['lz4', '-q', '-c'], 'zstd-without-checksum': ['zstd', '-q', '-c', '--no-check'],
               'lzip': ['lzip', '-c']}


def compressed(archive, kind):
    """The archive under a compressor's name; of two members, cut in the middle of a block, for gzip-twice."""
    packed = f'{archive}.{kind}'
    if kind == 'gzip-twice':
        with open(archive, 'rb') as plain, open(packed, 'wb') as out:
            for part in (plain.read(1000), plain.read()):
                out.write(subprocess.run(['gzip', '-c'], input=part, stdout=subprocess.PIPE, check=True).stdout)
        return packed
    if shutil.which(COMPRESSORS[kind][0]) is None:
        pytest.skip(f'no {COMPRESSORS[kind][0]} on this machine')
    with open(archive, 'rb') as plain, open(packed, 'wb') as out:
        subprocess.run(COMPRESSORS[kind], stdin=plain, stdout=out, check=True)
    return packed


# --- a tree with everything -----------------------------------------------------------------------

def acl(*lines):
    """The value of a system.posix_acl_* attribute: (tag, permissions, id) as in linux/posix_acl_xattr.h."""
    undefined = 0xffffffff
    packed = [struct.pack('<HHI', tag, perm, undefined if who is None else who) for tag, perm, who in lines]
    return struct.pack('<I', 2) + b''.join(packed)


def write(path, data=b'', mode=0o644):
    with open(path, 'wb') as stream:
        stream.write(data)
    os.chmod(path, mode)


def make_sparse(path, start=3 * MIB, end=8 * MIB):
    """A hole, a little data, a hole."""
    with open(path, 'wb') as stream:
        stream.seek(start)
        stream.write(b'data' * 1024)
        stream.truncate(end)


def make_files(tree):
    write(f'{tree}/empty')
    write(f'{tree}/plain', b'plain\n')
    write(f'{tree}/large', os.urandom(3 * MIB + 1))
    write(f'{tree}/zeros', bytes(70000))
    for mode in (0o000, 0o4755, 0o2711, 0o1777, 0o7777, 0o421):
        write(f'{tree}/mode-{mode:o}', b'%o' % mode, mode)
    make_sparse(f'{tree}/sparse')
    os.makedirs(f'{tree}/deep/er/est')
    os.chmod(f'{tree}/deep/er', 0o3751)
    os.mkdir(f'{tree}/empty-dir')


def make_links(tree):
    write(f'{tree}/zz-linked', b'linked')
    os.link(f'{tree}/zz-linked', f'{tree}/deep/linked-too')
    os.link(f'{tree}/zz-linked', f'{tree}/linked-three')
    os.symlink('plain', f'{tree}/symlink')
    os.symlink('../../outside/\xff'.encode('latin-1'), os.fsencode(f'{tree}/deep/dangling'))
    os.symlink('/' + 'x' * 1000, f'{tree}/long-symlink')
    os.link(f'{tree}/symlink', f'{tree}/symlink-again', follow_symlinks=False)


def make_names(tree):
    tree = os.fsencode(tree)
    write(tree + b'/' + b'n' * 255, b'longest name')
    write(tree + b'/latin-1-\xe4\xff', b'not UTF-8')
    os.mkdir(tree + b'/dir-\xc3\x28')
    write(tree + b'/dir-\xc3\x28/' + 'composed-\u00e4'.encode(), b'one code point')
    write(tree + b'/dir-\xc3\x28/' + 'decomposed-a\u0308'.encode(), b'two code points')
    write(tree + b'/ space\\ \n\t*?"\'', b'what shells fear')
    os.symlink(b'latin-1-\xe4\xff', tree + b'/to-\xe4')
    os.link(tree + b'/latin-1-\xe4\xff', tree + b'/link-\xe4\xff')
    os.makedirs(os.path.join(tree, b'p' * 200, b'q' * 200))
    write(os.path.join(tree, b'p' * 200, b'q' * 200, b'file'), b'over 256 bytes of path')


def make_specials(tree):
    os.mkfifo(f'{tree}/fifo', 0o640)
    if ROOT:
        os.mknod(f'{tree}/null', stat.S_IFCHR | 0o666, os.makedev(1, 3))
        os.mknod(f'{tree}/disk', stat.S_IFBLK | 0o660, os.makedev(259, 70000))
        os.chmod(f'{tree}/null', 0o666)


def make_xattrs(tree):
    os.setxattr(f'{tree}/plain', 'user.comment', b'with\0zero, newline\n and =')
    os.setxattr(f'{tree}/plain', 'user.empty', b'')
    os.setxattr(f'{tree}/deep', 'user.d\u00e4r=', b'\xff' * 3000)
    os.setxattr(f'{tree}/mode-4755', 'system.posix_acl_access',
                acl((1, 7, None), (2, 5, 1000), (2, 4, 70000), (4, 1, None), (8, 6, 2000), (16, 5, None),
                    (32, 5, None)))
    os.setxattr(f'{tree}/empty-dir', 'system.posix_acl_default',
                acl((1, 7, None), (2, 7, 1000), (4, 5, None), (16, 7, None), (32, 0, None)))
    os.setxattr(f'{tree}/deep/er', 'system.posix_acl_default', acl((1, 7, None), (4, 0, None), (32, 0, None)))
    if ROOT:
        os.setxattr(f'{tree}/plain', 'security.capability', struct.pack('<5I', 0x02000001, 1 << 13, 0, 0, 0))
        os.setxattr(f'{tree}/symlink', 'trusted.overlay', b'of a symlink', follow_symlinks=False)


def make_owners(tree):
    paths = sorted(path for path in names_below(tree) if path != b'.')
    for number, path in enumerate(paths):
        full = os.path.join(os.fsencode(tree), path)
        mode = os.lstat(full).st_mode
        # chown(2) takes capabilities and set-id bits away.
        has_capability = 'security.capability' in os.listxattr(full, follow_symlinks=False)
        saved = os.getxattr(full, 'security.capability') if has_capability else None
        os.chown(full, number, 4294967294 if number == 3 else 2 * number, follow_symlinks=False)
        if not stat.S_ISLNK(mode):
            os.chmod(full, stat.S_IMODE(mode))
        if saved:
            os.setxattr(full, 'security.capability', saved)


def make_times(tree):
    for number, path in enumerate(sorted(names_below(tree), reverse=True)):
        time = 1_000_000_000 * NANOSECONDS + number * 1_000_000_007
        if path == b'plain':
            time = -86400 * NANOSECONDS
        if path == b'empty':
            time = 4_000_000_000 * NANOSECONDS + 1
        os.utime(os.path.join(os.fsencode(tree), path), ns=(time, time), follow_symlinks=False)


def make_tree(tree, sockets=False):
    """As root with devices, owners and capabilities; as anyone else with what is left."""
    os.mkdir(tree)
    make_files(tree)
    make_links(tree)
    make_names(tree)
    make_specials(tree)
    make_xattrs(tree)
    if sockets:
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(f'{tree}/socket')
    if ROOT:
        make_owners(tree)
    os.chmod(tree, 0o751)
    make_times(tree)
    return tree
