"""A daemon or a command that was killed: nothing that was acknowledged is lost, and the next command clears up."""

import contextlib
import errno
import json
import os
import random
import re
import select
import signal
import subprocess
import time

import pytest

from bench import live_and_offline
from calls import overwrite, read_file
from held import holding_mounter
from holders import holder
from monkey import random_change
from umlfs_cli import PATIENCE, Mount, as_root, differences, ends, kill_and_wait, mounts_below, processes_of, run, start


def differences_after_a_kill(after, before):
    """The time of the last of many writes to a file comes from the host's clock, which is coarser, when it must."""
    for path, entry in before.items():
        found = after.get(path)
        if found and entry.type == found.type == 'f' and abs(found.mtime - entry.mtime) < 10**9:
            after = after | {path: found._replace(mtime=entry.mtime)}
    return differences(after, before)


def killed(place, base, **options):
    """A mount whose daemon was killed."""
    mounted = place.mount(base, **options)
    mounted.do(overwrite, mounted / 'etc/new', b'new')
    kill_and_wait(mounted.pid)
    with pytest.raises(OSError) as caught:
        mounted.do(os.listdir, mounted.path)
    assert caught.value.errno in (errno.ENOTCONN, errno.ECONNABORTED)   # the latter of what was asked while it died
    return mounted


def test_a_signal_that_dumps_core_ends_the_daemon_as_usual(place, base):
    with place.start('mount', '-f', base, place / 'session', stdout=subprocess.PIPE) as process:
        try:
            mountpoint = process.stdout.readline().decode().strip()
            assert place.do(read_file, f'{mountpoint}/etc/hostname') == b'guest\n'
            process.send_signal(signal.SIGABRT)
            assert process.wait(PATIENCE) == -signal.SIGABRT
        finally:
            process.kill()
    assert 'its daemon was dead' in run('umount', place / 'session', user=place.user).stderr


@pytest.mark.parametrize('in_use', [False, True], ids=['idle', 'in-use'])
def test_mount_detaches_what_a_dead_daemon_left_and_says_so(place, base, in_use):
    mounted = place.mount(base)
    with holder(place, 'cd "$1"', mounted.path if in_use else '/'):
        kill_and_wait(mounted.pid)
        result = run('mount', base, mounted.session, user=place.user)
        assert (result.status, result.stdout) == (0, f'{mounted.path}\n'), result
        assert re.fullmatch(rf'umlfs: {mounted.path}: [^\n]*dead[^\n]*detached\n', result.stderr)
        assert len(mounts_below(place.path)) == 1
        assert mounted.do(read_file, mounted / 'etc/hostname') == b'guest\n'


def test_mount_elsewhere_detaches_what_a_dead_daemon_left(place, base):
    for name in ('mnt', 'other'):
        place.do(os.mkdir, place / name)
    mounted = killed(place, base, mountpoint=place / 'mnt')
    result = run('mount', base, mounted.session, place / 'other', user=place.user)
    assert result.status == 0 and f'{mounted.path}: ' in result.stderr and 'detached' in result.stderr, result
    assert [m[0] for m in mounts_below(place.path)] == [place / 'other']
    assert place.do(read_file, place / 'other/etc/new') == b'new'


@pytest.fixture
def held_mounter(place):
    with holding_mounter(place) as held:
        yield held


@pytest.mark.parametrize('user', ['ordinary'], indirect=True)
def test_a_mount_waits_for_what_mounts_for_a_killed_daemon(place, base, held_mounter):
    """fusermount3 would mount over the new mount."""
    (held, go), env = held_mounter
    session = place / 'session'
    first = place.start('mount', '-f', base, session, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        assert select.select([held], [], [], PATIENCE)[0]
        assert f'{session}/lock' in opened_by([int(os.read(held, 20))])
        kill_and_wait(first.pid)
    finally:
        first.kill()
        first.wait()
    with place.start('mount', base, session, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as second:
        # By its daemon: the command itself looks at the lock, too.
        while f'{session}/lock' not in opened_by({*processes_of(session)} - {second.pid}) and second.poll() is None:
            pass
        os.write(go, b'\n')
        stdout, stderr = second.communicate(timeout=PATIENCE)
    assert (second.returncode, stdout) == (0, os.fsencode(f'{session}/rootfs\n')), stderr
    assert len(mounts_below(place.path)) == 1
    assert place.do(read_file, f'{session}/rootfs/etc/hostname') == b'guest\n'


@pytest.mark.parametrize('user', ['ordinary'], indirect=True)
def test_of_two_mounts_at_once_the_second_hears_of_the_first(place, base, held_mounter):
    """The session is locked, and nothing is mounted yet."""
    (held, go), env = held_mounter
    session = place / 'session'
    with place.start('mount', base, session, env=env, stdout=subprocess.DEVNULL) as first:
        assert select.select([held], [], [], PATIENCE)[0]
        with place.start('mount', base, session, stderr=subprocess.PIPE) as second:
            while f'{session}/lock' not in opened_by([second.pid]) and second.poll() is None:
                pass
            os.write(go, b'\n')
            assert first.wait(PATIENCE) == 0
            said = second.communicate(timeout=5)[1].decode()
    assert second.returncode == 1 and re.fullmatch(rf'umlfs: {session}: mounted already by process \d+: [^\n]+\n', said), said


def test_a_session_can_be_mounted_while_its_killed_daemon_ends(place, base):
    mounted = place.mount(base)
    for _ in range(20):
        os.kill(mounted.pid, signal.SIGKILL)
        result = run('mount', base, mounted.session, user=place.user)
        assert (result.status, result.stdout) == (0, f'{mounted.path}\n'), result
        mounted = Mount(place, mounted.session, mounted.path)


def opened_by(pids):
    """The paths of what these processes have open."""
    found = set()
    for pid in pids:
        with contextlib.suppress(FileNotFoundError):
            for fd in os.listdir(f'/proc/{pid}/fd'):
                with contextlib.suppress(FileNotFoundError):
                    found.add(os.readlink(f'/proc/{pid}/fd/{fd}'))
    return found


@pytest.mark.parametrize('what', ['session', 'mountpoint', 'relative'])
def test_umount_detaches_what_a_dead_daemon_left_and_says_so(place, base, what):
    mounted = killed(place, base)
    word = {'session': mounted.session, 'mountpoint': mounted.path, 'relative': 'session/rootfs'}[what]
    result = run('umount', word, user=place.user, cwd=place.path)
    assert (result.status, result.stdout) == (0, ''), result
    assert re.fullmatch(rf'umlfs: {mounted.path}: [^\n]*dead[^\n]*detached\n', result.stderr)
    assert mounts_below(place.path) == []
    assert place.mount(base).do(read_file, mounted / 'etc/new') == b'new'


def test_commands_work_on_a_session_whose_daemon_was_killed(place, base):
    mounted = killed(place, base)
    assert 'pid' not in mounted.status()
    place.run('snapshot', mounted.session, 'one')
    place.run('reset', mounted.session, '@base')
    assert json.loads(place.run('list', '--json', mounted.session))['standing'] == '@base'
    place.run('umount', mounted.session)
    mounted = place.mount(base)
    assert not mounted.do(os.path.exists, mounted / 'etc/new')
    place.run('reset', mounted.session, 'one')
    assert mounted.do(read_file, mounted / 'etc/new') == b'new'


@pytest.mark.parametrize('seed', range(3))
def test_a_killed_daemon_loses_nothing_that_was_acknowledged(place, seed):
    chance = random.Random(seed)
    base = place.imported_base()
    for round_ in range(6):
        mounted = place.mount(base)
        for _ in range(30):
            mounted.do(random_change, chance, mounted.path)
        if round_ == 2:
            place.run('snapshot', mounted.session, 'one')
        state, pid = mounted.dump(), mounted.pid
        kill_and_wait(pid)
        place.run('umount', mounted.session)
        mounted = place.mount(base)
        assert differences_after_a_kill(mounted.dump(), state) == [], round_
        mounted.umount()


def test_a_killed_daemon_loses_nothing_of_a_file_that_is_being_written(place):
    base = place.imported_base()
    mounted = place.mount(base)
    fd = mounted.do(os.open, mounted / 'etc/log', os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    try:
        for i in range(300):
            mounted.do(os.write, fd, b'line %d\n' % i)
        before = mounted.do(os.stat, mounted / 'etc/log')
        kill_and_wait(mounted.pid)
    finally:
        os.close(fd)
    place.run('umount', mounted.session)
    mounted = place.mount(base)
    assert mounted.do(read_file, mounted / 'etc/log') == b''.join(b'line %d\n' % i for i in range(300))
    after = mounted.do(os.stat, mounted / 'etc/log')
    assert (after.st_size, after.st_ino) == (before.st_size, before.st_ino)
    assert abs(after.st_mtime_ns - before.st_mtime_ns) < 10**9


def spin(seconds):
    """Lets a moment pass that nothing marks: the point is to kill anywhere."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pass


def layers_on_disk(session):
    return sorted(os.listdir(f'{session}/layers'), key=int)


def layers_of_manifest(session):
    return sorted(re.findall(r'^layer (\d+)', read_file(f'{session}/manifest').decode(errors='replace'), re.MULTILINE), key=int)


def seconds_of_each(place, mounted, base, live):
    """{command: how long it takes} here and now: a build for tests, or another load, takes many times longer."""
    found = {}
    for command in 'snapshot', 'reset', 'delete':
        if not live:
            mounted.umount()
        with start(command, mounted.session, 'whole') as process:
            begin = time.monotonic()
            assert ends(process) == 0
            found[command] = time.monotonic() - begin
        if not live:
            place.mount(base)
    return found


@as_root
@live_and_offline
def test_a_kill_during_snapshot_reset_and_delete_leaves_before_or_after(place, live):
    chance = random.Random(60 + live)
    base = place.imported_base()
    mounted = place.mount(base)
    states = {'@base': mounted.dump()}
    seconds = seconds_of_each(place, mounted, base, live)
    survived = 0
    for round_ in range(60):
        for _ in range(chance.randrange(3)):
            random_change(chance, mounted.path)
        if chance.random() < 0.3:
            overwrite(mounted / 'tmp/large', os.urandom(300000))
        before = mounted.dump()
        command = chance.choice(['snapshot', 'reset', 'reset', 'delete'] if len(states) > 2 else ['snapshot', 'reset'])
        name = f's{round_}' if command == 'snapshot' else chance.choice(sorted(set(states) - {'@base'} or {'@base'}))
        if not live:
            mounted.umount()
        with start(command, mounted.session, name, stderr=subprocess.DEVNULL) as process:
            spin(chance.random() * 1.2 * seconds[command])
            if live:
                kill_and_wait(daemon_of(mounted))
            else:
                process.kill()
            status = process.wait(PATIENCE)
        mounted = Mount(place, mounted.session, mounted.path)
        run('umount', mounted.session)
        mounted = place.mount(base)
        names = {s['name'] for s in json.loads(place.run('list', '--json', mounted.session))['snapshots']}
        after = mounted.dump()
        assert layers_on_disk(mounted.session) == layers_of_manifest(mounted.session)
        if command == 'snapshot':
            done = name in names
            states |= {name: before} if done else {}
        elif command == 'delete':
            done = name not in names
            if done:
                del states[name]
        else:
            done = differences_after_a_kill(after, before) != []
        assert names == set(states) - {'@base'}, (round_, command)
        if status == 0 and command != 'reset':
            assert done, (round_, command, 'was acknowledged')
        expected = states[name] if command == 'reset' and done else before
        assert differences_after_a_kill(after, expected) == [], (round_, command)
        survived += done
    assert 0 < survived < 60, 'the kills all came too late or too soon'


def daemon_of(mounted):
    with open(f'{mounted.session}/lock', encoding='ascii') as stream:
        return int(stream.readline())
