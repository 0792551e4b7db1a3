"""The ends of `umlfs run` that come at a bad moment, or are nobody's wish."""

import contextlib
import json
import os
import pathlib
import re
import signal
import subprocess

import pytest

import umlfs_cli
from run_site import Terminal, read_until
from umlfs_cli import PATIENCE, children, identity, wait_pid

MORE_THAN_A_PIPE = 100_000     # two pipes hold it


@contextlib.contextmanager
def told(site, *words):
    """A run with its streams, and what it tells of itself."""
    read_end, write_end = os.pipe()
    with site.start('--json-status-fd', str(write_end), *words, pass_fds=[write_end], stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE) as process, open(read_end, encoding='ascii') as events:
        os.close(write_end)
        yield process, json.loads(events.readline())


def tracer(pid):
    with open(f'/proc/{pid}/status', encoding='ascii', errors='replace') as stream:
        return int(re.search(r'^TracerPid:\s+(\d+)$', stream.read(), re.M)[1])


def test_a_signal_after_the_guests_end_still_counts(site):
    """Nobody reads the output: the guest and the keeper have ended, and only the output keeps the program."""
    with told(site, site.base, '--', 'head', '-c', str(MORE_THAN_A_PIPE), '/dev/zero') as (process, started):
        keeper, = children(process.pid)
        assert wait_pid(started['pid']) and wait_pid(keeper) and process.poll() is None
        process.terminate()
        assert process.wait(PATIENCE) == -signal.SIGTERM


def test_the_last_lines_of_a_panic_are_waited_for(site):
    result = site.script('echo 5 >/proc/sys/kernel/printk_delay; echo c >/proc/sysrq-trigger; sleep 1000')
    assert result.status == 125, result
    assert re.search(r' write_sysrq_trigger\+.*\n(.+\n)*.* vfs_write\+', result.stderr), result


def test_a_guest_that_wants_to_boot_again_has_ended(site):
    result = site.script('echo once; echo b >/proc/sysrq-trigger; sleep 1000', '--timeout', '30s')
    assert (result.status, result.stdout) == (125, 'once\n'), result
    assert 'the guest ended without a status' in result.stderr, result


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGHUP, signal.SIGQUIT], ids=lambda number: number.name)
def test_every_signal_gives_the_terminal_back(site, number):
    with Terminal(site, '--tty', site.base, '--', 'sh', '-c', 'echo ready; sleep 1000') as terminal:
        terminal.wait_for('ready\r\n')
        terminal.process.send_signal(number)
        assert terminal.ended() == -number


def test_only_three_ctrl_brackets_in_a_row_end_a_guest(site):
    script = 'stty raw -echo; echo ready; head -c 5 | od -An -to1; exit 6'
    with Terminal(site, '--tty', site.base, '--', 'sh', '-c', script) as terminal:
        terminal.wait_for('ready')
        terminal.type('\x1d\x1dx\x1d\x1d')
        terminal.wait_for('035 035 170 035 035')
        assert terminal.ended() == 6


def test_of_a_run_that_was_killed_whole_nothing_runs_on_but_what_clean_ends(site):
    """The guest's program ends with its kernel: it would go on as a program of the host."""
    with told(site, site.base, '--', 'perl', '-e', '$| = 1; print "ready\\n"; 1 while 1') as (process, guest):
        read_until(process.stdout, b'ready\n')
        keeper, = children(process.pid)
        traced = [pid for pid in children(guest['pid']) if tracer(pid) == guest['pid']]
        for pid in (process.pid, keeper):
            os.kill(pid, signal.SIGKILL)
        assert traced and all(map(wait_pid, [keeper, guest['pid'], *traced]))
        process.stderr.read()       # to its end: the server has ended too
    assert umlfs_cli.mounts_below(site.place.path) == []
    left = {pid for pid, _ in site.processes()}
    env = {**os.environ, 'TMPDIR': site.tmp}
    said = umlfs_cli.succeed('clean', '--dry-run', user='ordinary', env=env)
    assert {pid for pid, _ in site.processes()} == left
    done = umlfs_cli.succeed('clean', user='ordinary', env=env)
    assert said == re.sub('(?<=: )(?=(ended|removed|detached)$)', 'would be ', done, flags=re.M)
    assert set(map(int, re.findall(r"^(\d+): process of a killed run's guest: ended$", done, re.M))) == left
    assert done.endswith(f'{guest["directory"]}: directory of a killed run: removed\n')
    assert site.left() == []


def test_clean_ends_what_is_left_of_a_guest_and_nobody_else(site):
    """Not who only looks into the directory, nor who is only in the group."""
    directory = f'{site.tmp}/umlfs-run-abcdef'
    site.place.do(os.makedirs, f'{directory}/umlfs-run-abcdef')

    with contextlib.ExitStack() as stack:
        def sleeper(cwd, group):
            process = subprocess.Popen(['sleep', '1000'], cwd=cwd, preexec_fn=lambda: os.setpgid(0, group),
                                       **identity('ordinary'))
            stack.callback(process.wait)
            stack.callback(process.kill)
            return process

        leader = sleeper(directory, 0)
        helper, looking, elsewhere = sleeper(directory, leader.pid), sleeper(directory, 0), sleeper('/', leader.pid)
        site.place.do(pathlib.Path(directory, 'umlfs-run-abcdef', 'pid').write_text, f'{leader.pid}\n')
        said = umlfs_cli.succeed('clean', user='ordinary', env={**os.environ, 'TMPDIR': site.tmp})
        assert set(said.splitlines()) == {f"{leader.pid}: process of a killed run's guest: ended",
                                          f"{helper.pid}: process of a killed run's guest: ended",
                                          f'{directory}: directory of a killed run: removed'}
        assert [leader.wait(PATIENCE), helper.wait(PATIENCE), looking.poll(), elsewhere.poll()] == [-9, -9, None, None]
