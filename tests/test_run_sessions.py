"""`umlfs run` on a session that is mounted: in use, without its daemon, another user's."""

import os
import subprocess

import pytest

from calls import read_file
from run_site import one_line
from umlfs_cli import identity, ids, kill_and_wait, mounts_below, needs_root, run


@pytest.mark.parametrize('words', [[], ['--snapshot', 'one']], ids=['at the end', 'at the start'])
def test_a_session_in_use_is_told_of_with_what_a_run_offers(site, words):
    mounted = site.place.mount(site.base, site.session(f'in-use-{len(words)}'))
    with subprocess.Popen(['tail', '-f', mounted / 'made'], stdout=subprocess.PIPE, **identity('ordinary')) as user:
        try:
            user.stdout.readline()      # it has the file open
            line = one_line(site.run(*words, mounted.session, '--', 'true'))
        finally:
            user.kill()
    assert line == f'umlfs: {mounted.session}: in use by process {user.pid} (tail): {mounted / "made"}; end it first\n'
    mounted.umount()


@pytest.mark.parametrize('flags', [[], ['--snapshot', 'one'], ['--keep', 'always']], ids=' '.join)
def test_a_mount_without_its_daemon_is_detached_and_the_run_goes_on(site, flags):
    mounted = site.place.mount(site.base, site.session(f'dead-{"-".join(flags)}'))
    kill_and_wait(mounted.pid)
    result = site.run(*flags, mounted.session, '--', 'cat', '/made')
    assert (result.status, result.stdout) == (0, 'made before\n'), result
    assert result.stderr.startswith(f'umlfs: {mounted}: the daemon of this mount was dead: detached\n')
    assert mounts_below(site.place.path) == []


def test_a_session_that_was_moved_while_it_was_mounted_is_run(site):
    """And another one in its place has nothing to do with its mount."""
    mounted = site.place.mount(site.base, site.session('first'))
    site.place.do(os.rename, mounted.session, site.place / 'moved')
    other = site.session('first')
    for session, name in (other, 'other'), (site.place / 'moved', 'moved'):
        result = site.run('--keep', 'always', session, '--', 'sh', '-c', f'cat /made; echo {name} >/by')
        assert (result.status, result.stdout) == (0, 'made before\n'), result
    assert mounts_below(site.place.path) == [(site.place / 'moved/rootfs', 'fuse.umlfs', mounted.session)]
    site.place.run('umount', site.place / 'moved')
    for session, name in (other, 'other'), (site.place / 'moved', 'moved'):
        mounted = site.place.mount(site.base, session)
        assert mounted.do(read_file, mounted / 'by').decode() == f'{name}\n'
        mounted.umount()


@needs_root
def test_root_is_sent_to_the_owner_of_a_session_also_when_it_is_mounted(site):
    session = site.session('owned')
    line = f'umlfs: {session}: belongs to user {ids("ordinary")[0]}: run it as that user, who could not use what this one makes there\n'
    assert one_line(site.run(session, '--', 'true', user='root')) == line
    mounted = site.place.mount(site.base, session)
    assert one_line(site.run(session, '--', 'true', user='root')) == line
    kill_and_wait(mounted.pid)
    assert one_line(site.run(session, '--', 'true', user='root')) == line
    assert site.run(session, '--', 'cat', '/made')[:2] == (0, 'made before\n')


def test_a_place_for_a_share_is_a_change_that_a_diff_shows(site):
    session = site.session('share')
    assert site.run('--keep', 'always', '--share', '.:/new/place', session, '--', 'true')[0] == 0
    assert run('diff', session, user='ordinary') == (1, 'A /new\nA /new/place\n', '')
