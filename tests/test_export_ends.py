"""An export or a commit that fails, or is ended: nothing is left but what was there, and what was made is on disk."""

import os
import re
import resource
import shutil
import signal
import stat
import subprocess
import tarfile

import pytest

from calls import overwrite, read_file
from exporting import export, session_on
from umlfs_cli import identity, program, without_leak_check


def test_a_failed_export_leaves_the_old_file(place):
    mounted = place.mount(place.imported_base())
    place.do(overwrite, place / 'out.tar', b'old')
    os.unlink(place / 'base/etc/passwd')
    before = sorted(os.listdir(place.path))
    assert 'etc/passwd' in place.refused('export', mounted.session, place / 'out.tar')
    place.refused('commit', mounted.session, place / 'new')
    assert place.do(read_file, place / 'out.tar') == b'old' and sorted(os.listdir(place.path)) == before
    place.noisy = True


def test_a_reset_under_an_export_of_the_present_state_is_told(place):
    mounted = place.mount(place.imported_base())
    for number in range(20):
        mounted.do(overwrite, mounted / f'tmp/{number}', os.urandom(1 << 20))
    before = mounted.dump()
    with place.start('export', mounted.session, '-', stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.read(1)          # it waits with the rest until somebody takes it
        mounted.reset_for_good()
        process.stdout.read()
        errors = process.stderr.read().decode()
    assert re.fullmatch(r'umlfs: \S+: was reset, or a snapshot deleted, while it was read: try again\n', errors), errors
    assert process.returncode == 1 and 'tmp/1' in before
    export(place, mounted.session, place / 'out.tar')


def test_a_place_that_will_not_do_is_refused(place):
    mounted = place.mount(place.imported_base())
    place.do(os.mkdir, place / 'dir')
    place.refused('export', mounted.session, place / 'dir')
    place.refused('export', mounted.session, place / 'none/out.tar')
    place.refused('export', mounted.session, '/dev/full')
    place.refused('commit', mounted.session, mounted.session + '/layers/base')
    place.refused('commit', mounted.session, place / 'base')
    place.refused('commit', '--force', mounted.session, mounted.session)
    assert stat.S_ISCHR(os.stat('/dev/full').st_mode)
    place.run('export', mounted.session, '/dev/null')
    assert stat.S_ISCHR(os.stat('/dev/null').st_mode)
    place.do(os.symlink, 'real.tar', place / 'link.tar')
    place.do(overwrite, place / 'real.tar', b'')
    export(place, mounted.session, place / 'link.tar')
    assert os.path.islink(place / 'link.tar') and os.path.getsize(place / 'real.tar') > 0
    place.run('commit', mounted.session, place / 'made')
    place.run('commit', '--force', mounted.session, place / 'made')
    assert sorted(name for name in os.listdir(place.path) if name.startswith('.')) == []


@pytest.mark.skipif(shutil.which('strace') is None, reason='no strace on this machine')
@pytest.mark.parametrize('inject', [[], ['-e', 'inject=fsync:error=EIO:when=2']], ids=['synced', 'not synced'])
def test_what_was_exported_outlives_a_crash_or_that_is_told(place, inject):
    """The bytes, then the name, then the directory that has it; when only that last step fails the archive is there all the same."""
    session = session_on(place, None)
    trace, file = place / 'trace', place / 'out.tar'
    strace = ['strace', '-f', '-qq', '-y', '-o', trace, '-e', 'trace=fsync,rename', *inject]
    done = subprocess.run([*strace, program(), 'export', session, file], stderr=subprocess.PIPE, text=True, check=True,
                          env=without_leak_check(), **identity(place.user))
    with open(trace, encoding='utf-8') as lines:
        calls = re.findall(r'(fsync|rename)\((?:\d+<|"[^"]*", ")([^>"]+)', lines.read())
    assert calls[0][0] == 'fsync' and '.exporting-' in calls[0][1]
    assert calls[1:] == [('rename', file), ('fsync', place.path)]
    warning = f'umlfs: warning: {file}: is there, but its directory could not be synced: it may not outlive a crash\n'
    assert (warning in done.stderr) == bool(inject), done.stderr
    assert tarfile.is_tarfile(file)


def test_a_signal_leaves_nothing(place):
    mounted = place.mount(place.imported_base())
    mounted.do(overwrite, mounted / 'tmp/large', os.urandom(64 << 20))
    before = sorted(os.listdir(place.path))
    for words in (['export', mounted.session, place / 'out.tar.xz'], ):
        process = place.start(*words, stderr=subprocess.PIPE)
        while not any('.exporting-' in name for name in os.listdir(place.path)):
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        assert process.communicate()[1].endswith(b'interrupted; nothing was made\n') and process.returncode == 1
    assert sorted(os.listdir(place.path)) == before


@pytest.mark.parametrize('how', ['export', 'export compressed', 'commit', 'import', 'import of a directory'])
def test_a_limit_of_file_sizes_leaves_nothing(place, how):
    mounted = place.mount(place.imported_base())
    mounted.do(overwrite, mounted / 'tmp/large', os.urandom(1 << 20))
    place.do(os.mkdir, place / 'dir')
    place.do(overwrite, place / 'dir/large', os.urandom(1 << 20))
    whole = export(place, mounted.session, place / 'whole.tar')
    target = place / 'made.tar.gz' if how.endswith('compressed') else place / 'made'
    words = ['import', place / 'dir' if how.endswith('directory') else whole] if how.startswith('import') else [how.split()[0], mounted.session]
    before = sorted(os.listdir(place.path))
    limit = 10_000
    line = place.refused(*words, target, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)))
    assert 'File too large' in line and sorted(os.listdir(place.path)) == before
    place.run(*words, target)


@pytest.mark.parametrize('end', ['tar.bz2', 'tbz2', 'tar.lz4', 'tar.lzma', 'tar.lz', 'tar.Z', 'tar.lzo', 'tar.br', 'tar.zstd', 'zip', '7z', 'cpio',
                                 'iso', 'squashfs', 'TAR.BZ2'])
def test_a_name_that_promises_what_cannot_be_written_is_refused(place, end):
    mounted = place.mount(place.imported_base())
    before = sorted(os.listdir(place.path))
    layers = sorted(os.listdir(f'{mounted.session}/layers'))
    for flags in [], ['--diff']:
        line = place.refused('export', *flags, mounted.session, place / f'out.{end}')
        assert line == f'{place / "out."}{end}: cannot be written as its name says: name it .tar, .tar.gz, .tar.xz or .tar.zst'
    assert sorted(os.listdir(place.path)) == before and sorted(os.listdir(f'{mounted.session}/layers')) == layers


@pytest.mark.parametrize('name, start', [('out.TAR.GZ', b'\x1f\x8b'), ('out.Txz', b'\xfd7'), ('out', b'./'), ('bz2', b'./'), ('d.zip/out', b'./')])
def test_a_name_in_capitals_or_without_an_ending_is_as_good_as_another(place, name, start):
    place.do(os.mkdir, place / 'd.zip')
    export(place, place.mount(place.imported_base()).session, place / name)
    assert place.do(read_file, place / name)[:2] == start
