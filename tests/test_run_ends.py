"""The ends of `umlfs run` that come at a bad moment, or are nobody's wish."""

import re
import signal

import pytest

from run_site import Terminal, told
from umlfs_cli import PATIENCE, children, wait_pid

MORE_THAN_A_PIPE = 100_000     # two pipes hold it


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
