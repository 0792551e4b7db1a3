"""Whole programs in real guests: systemd to the login prompt and back, apt-get, git, sqlite under load, a compiler.

All on one imported Debian, as an ordinary user. Each test has a session of its own, which `umlfs check` finds clean afterwards.
"""

import os
import pathlib
import re
import shutil
import subprocess
import tempfile

import pytest

import guest
from debian import systems_root
from run_site import Terminal
from umlfs_cli import ROOT, TEST_USER, Place, differences, identity, mounts_below, program

HERE = pathlib.Path(__file__).parent
SCENARIO = (HERE / 'guest_scenario.sh').read_text() + (HERE / 'systems_scenario.sh').read_text()
SECONDS = 240               # for a guest, to its end
BOOT_SECONDS = 120          # for systemd, to the login prompt: it takes about 10
COMMITS_BEFORE_THE_KILL = 60

pytestmark = [
    pytest.mark.skipif(guest.uml_kernel() is None, reason='no linux.uml: apt-get install user-mode-linux'),
    pytest.mark.skipif('UMLFS_GUEST_INIT' not in os.environ, reason='UMLFS_GUEST_INIT is not set; meson test sets it'),
]


class Session:
    """A new session on the base."""

    def __init__(self, place, base, name):
        self.place, self.base, self.name = place, base, name
        self.mount = place.mount(base, name)

    def boot(self, call, mem='256M'):
        """A guest that runs functions of the scenario, as a context manager."""
        return guest.Guest(self.mount.path, f'{SCENARIO}\n{call}\n', mem=mem, timeout=SECONDS,
                           user=TEST_USER if ROOT else None)

    def run(self, call):
        """What they say; they must succeed."""
        with self.boot(call) as running:
            result = running.wait()
            print(f'{call}: ran {result.run_seconds:.1f} s')
            assert result.status == 0, str(result)
            return result.stdout

    def command(self, verb, *words):
        return self.place.run(verb, self.mount.session, *words)

    def remount(self):
        self.mount.umount()
        self.mount = self.place.mount(self.base, self.name)

    def check(self):
        """Without a mount."""
        if mounts_below(self.mount.session):
            self.mount.umount()
        result = self.place.run('check', self.mount.session)
        assert re.search(r'\bclean\b', result), result


@pytest.fixture(scope='module')
def base():
    with tempfile.TemporaryDirectory(prefix='umlfs-debian-') as scratch, Place('ordinary') as place:
        with open(systems_root(os.environ.get('UMLFS_TEST_CACHE') or scratch), 'rb') as stream:
            subprocess.run([program(), 'import', '-', place / 'base'], stdin=stream, check=True, cwd='/',     # no one else
                           stderr=subprocess.DEVNULL, **identity('ordinary'))                                 # may enter there
        yield place, place / 'base'


@pytest.fixture
def session(request, base):
    made = Session(*base, request.node.name)
    yield made
    made.check()


# --- systemd -----------------------------------------------------------------------------------------------------

class Runs:
    """Where Terminal starts `umlfs run`."""

    def start(self, *words, **options):
        env = {**os.environ, **options.pop('env')}
        return subprocess.Popen([program(), 'run', *words], cwd='/', env=env, **identity('ordinary'), **options)


def boot_to_a_shell(terminal):
    """Logs in as root; systemd has started everything, and nothing failed."""
    terminal.wait_for(' login: ', BOOT_SECONDS)
    terminal.type('root\r')
    terminal.wait_for('Password: ', BOOT_SECONDS)
    terminal.type('umlfs\r')
    terminal.wait_for('# ', BOOT_SECONDS)
    answers(terminal, 'systemctl is-system-running --wait', 'running')
    answers(terminal, 'systemctl --failed --plain --no-legend | wc -l', '0')
    answers(terminal, 'cat /proc/1/comm', 'systemd')


def answers(terminal, command, answer):
    terminal.type(f'echo "<$({command})>"\r')
    terminal.wait_for(f'<{answer}>\r\n', BOOT_SECONDS)
    terminal.wait_for('# ', BOOT_SECONDS)


def power_off(terminal):
    terminal.type('poweroff\r')
    terminal.wait_for('System Power Off', BOOT_SECONDS)
    assert terminal.ended() == 0, terminal.rest()


def test_systemd_boots_to_a_login_prompt_and_again_after_a_reset(session):
    session.command('snapshot', 'clean')
    before = session.mount.dump()
    session.mount.umount()
    words = ['--keep', 'always', '--init', '/sbin/init', '--append', 'systemd.wants=console-getty.service', session.mount.session]
    with Terminal(Runs(), *words) as terminal:
        boot_to_a_shell(terminal)
        answers(terminal, 'echo made >/root/made; stat -c %U:%G:%a /var/log/journal /var/log/wtmp | tr "\\n" " "',
                'root:systemd-journal:2755 root:utmp:664 ')
        power_off(terminal)
    session.check()
    session.mount = session.place.mount(session.base, session.name)
    assert session.mount.do(pathlib.Path(session.mount / 'root/made').read_text) == 'made\n'
    session.mount.umount()
    session.command('reset')
    with Terminal(Runs(), *words) as terminal:
        boot_to_a_shell(terminal)
        answers(terminal, 'cat /root/made 2>&1', 'cat: /root/made: No such file or directory')
        power_off(terminal)
    session.check()
    session.command('reset')
    session.mount = session.place.mount(session.base, session.name)
    assert differences(before, session.mount.dump()) == []


# --- packages ----------------------------------------------------------------------------------------------------

def test_packages_are_installed_and_a_reset_takes_them_away(session):
    untouched = session.mount.dump()
    session.run('install_server')
    session.command('snapshot', 'installed')
    installed = session.mount.dump()
    session.mount.do(shutil.rmtree, session.mount / 'var/lib/redis')
    session.mount.do(os.unlink, session.mount / 'usr/bin/redis-check-rdb')
    session.command('reset')
    assert differences(installed, session.mount.dump()) == []
    session.remount()
    session.run('server_is_there')
    session.command('reset', '@base')
    assert differences(untouched, session.mount.dump()) == []
    session.run('server_is_gone')


# --- git -----------------------------------------------------------------------------------------------------------

def test_git_finds_its_repositories_sound_before_and_after_a_reset(session):
    session.run('work_with_git')
    session.command('snapshot', 'work')
    session.mount.do(shutil.rmtree, session.mount / 'work/clone')
    session.mount.do(shutil.rmtree, session.mount / 'work/origin/.git/objects')
    session.mount.do(os.truncate, session.mount / 'work/linked/.git/index', 100)
    session.command('reset')
    session.remount()
    session.run('git_is_sound')


# --- sqlite --------------------------------------------------------------------------------------------------------

def transactions(said, word):
    """{(database, writer): the highest number} of lines "WORD DATABASE WRITER NUMBER"."""
    found = {}
    for database, writer, number in re.findall(rf'^{word} (\S+) (\d+) (\d+)\r?$', said, re.M):
        found[database, writer] = max(int(number), found.get((database, writer), 0))
    return found


WRITERS = {(f'/work/{mode}', str(writer)) for mode in ('wal', 'delete') for writer in (1, 2, 3)}


def test_sqlite_with_many_writers_keeps_every_transaction(session):
    said = session.run('load_databases 40; forget; check_databases')
    assert transactions(said, 'committed') == transactions(said, 'found') == dict.fromkeys(WRITERS, 40)


def test_sqlite_keeps_what_it_said_when_the_guest_is_killed(session):
    with session.boot('load_databases 1000000') as running:
        # All of them write when the end comes.
        running.read_until(lambda said: said.count(b'committed /work/') > COMMITS_BEFORE_THE_KILL and
                           transactions(said.decode(), 'committed').keys() == WRITERS)
        assert guest.kill_session(running.process.pid) == []
        with pytest.raises(guest.GuestError) as ended:
            running.wait()
    said = transactions(ended.value.result.stdout, 'committed')
    found = transactions(session.run('check_databases'), 'found')
    assert found.keys() == said.keys() == WRITERS
    assert {writer: (found[writer], said[writer]) for writer in said if not said[writer] <= found[writer] <= said[writer] + 1} == {}


# --- a compiler ----------------------------------------------------------------------------------------------------

def test_make_compiles_what_it_must_and_no_more(session):
    session.run('compile')
    session.remount()
    session.run('nothing_to_compile')
