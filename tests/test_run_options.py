"""Each option of `umlfs run`: alone on a terminal, and what the others' tests do not say of it."""

import json
import os
import pathlib
import re
import tempfile

import pytest

import guest
import umlfs_cli
from run_site import Terminal, one_line
from umlfs_cli import mounts_below

# An option, in which {host} is a directory with a file in it; a script; what the terminal shows of it.
ALONE = [
    ('--kernel {kernel}', 'echo booted', 'booted\r\n'),
    ('--mem 100M', "awk '/^MemTotal/ && $2 < 102400 { print \"li\" \"ttle\" }' /proc/meminfo", 'little\r\n'),
    ('--append loglevel=3', 'cut -f1 /proc/sys/kernel/printk', '3\r\n'),
    ('--timeout 2s', 'exec sleep 1000', 'run: ended after 2.0 s, as --timeout says\r\n'),
    ('--env WORD=some-thing', 'echo "<$WORD>"', '<some-thing>\r\n'),
    ('--chdir /usr/lib', 'pwd', '/usr/lib\r\n'),
    ('--user nobody', 'id -un; id -u', 'nobody\r\n65534\r\n'),
    ('--share {host}:/mnt/new', 'cat /mnt/new/in; echo by the guest >/mnt/new/out; cat /mnt/new/out',
     'of the host\r\nby the guest\r\n'),
    ('--share {host}:/mnt/new:ro', 'cat /mnt/new/in; echo by the guest >/mnt/new/out', 'of the host\r\n'),
    ('--file {host}/in:/etc/new/in', 'cat /etc/new/in; echo more >>/etc/new/in; cat /etc/new/in',
     'of the host\r\nof the host\r\nmore\r\n'),
    ('--log {host}/log', 'echo ran', 'ran\r\n'),
    ('--tty', 'tty; test -t 0 && test -t 1 && test -t 2 && stty size </dev/tty', '/dev/tty0\r\n33 101\r\n'),
    ('--raid', 'grep -c initcall_blacklist /proc/cmdline || :', '0\r\n'),
    ('-v', 'echo ran', 'ran\r\numlfs: booted in '),
]
WRITTEN = {'--share {host}:/mnt/new': ('out', '^by the guest\n$'), '--log {host}/log': ('log', 'Linux version')}


@pytest.fixture
def host(site):
    """A directory that everybody may write to, with a file in it."""
    with tempfile.TemporaryDirectory(dir=site.place.path) as directory:
        os.chmod(directory, 0o777)
        pathlib.Path(directory, 'in').write_text('of the host\n')
        yield directory


@pytest.mark.parametrize('option, script, shown', ALONE, ids=[option for option, _, _ in ALONE])
def test_each_option_alone_on_a_terminal(site, host, option, script, shown):
    words = [word.format(host=host, kernel=guest.uml_kernel()) for word in option.split(' ')]
    absent = {'UMLFS_KERNEL': '/absent'} if words[0] == '--kernel' else {}
    with Terminal(site, *words, site.base, '--', 'sh', '-c', script, env=absent) as terminal:
        terminal.wait_for(shown)
        assert terminal.ended() == {'--timeout': 124, '--share': words[-1].endswith(':ro') * 2}.get(words[0], 0)
    name, pattern = WRITTEN.get(option, ('in', '^of the host\n$'))
    assert re.search(pattern, pathlib.Path(host, name).read_text())
    assert sorted(os.listdir(host)) == sorted({'in', name})


def test_a_snapshot_is_started_from_on_a_terminal(site):
    session = site.session('on-terminal')
    site.place.run('reset', session, '@base')
    with Terminal(site, '--snapshot', 'one', session) as terminal:
        terminal.wait_for('# ')
        terminal.type('cat /made\r')
        terminal.wait_for('made before\r\n')
        terminal.type('exit 3\r')
        assert terminal.ended() == 3


def test_a_session_is_kept_on_a_terminal(site):
    with Terminal(site, '--keep', 'on-failure', site.base, '--', 'sh', '-c', 'echo word >/new; exit 4') as terminal:
        terminal.wait_for('umlfs: the session stays: ')
        terminal.wait_for('/session\r\n')
        assert terminal.ended() == 4
    directory, = os.listdir(site.tmp)
    assert site.status(f'{site.tmp}/{directory}/session')['entries'] > 0 and mounts_below(site.place.path) == []
    umlfs_cli.remove_tree(f'{site.tmp}/{directory}')


def test_a_script_of_the_root_is_its_init_on_a_terminal(site):
    """Process 1 has the terminal, and powers off when it has read a line from it."""
    mounted = site.place.mount(site.base, 'own-init')
    script = ('#!/bin/sh\nmount -t proc none /proc\necho "$1 is $$ on $(stty size)"\nread word\necho "got $word"\n'
              'echo o >/proc/sysrq-trigger\nread word\n')
    mounted.do(pathlib.Path(mounted / 'my-init').write_text, script)
    mounted.do(os.chmod, mounted / 'my-init', 0o755)
    site.place.run('snapshot', mounted.session, 'made')
    mounted.umount()
    with Terminal(site, '--init', '/my-init', mounted.session, '--', 'it') as terminal:
        terminal.wait_for('it is 1 on 33 101\r\n')
        terminal.type('a word\r')
        terminal.wait_for('got a word\r\n')
        assert terminal.ended() == 0


def test_json_and_a_dry_run_on_a_terminal(site):
    read_end, write_end = os.pipe()
    with open(read_end, encoding='utf-8') as stream:
        with Terminal(site, '--json-status-fd', str(write_end), site.base, '--', 'sh', '-c', 'exit 3',
                      pass_fds=[write_end]) as terminal:
            assert terminal.ended() == 3
        os.close(write_end)
        assert [json.loads(line)['event'] for line in stream] == ['started', 'ended']
    with Terminal(site, '--dry-run', site.base) as terminal:
        terminal.wait_for(' mem=256M ')
        terminal.wait_for('\r\n')
        assert terminal.ended() == 0


# --- more of what they promise -----------------------------------------------------------------------------------

def test_the_environment_is_what_is_promised_and_no_more(site):
    path = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'
    result = site.run('--append', 'a_word=1', '--user', 'www-data', site.base, '--', 'env')
    assert sorted(result.stdout.splitlines()) == sorted([
        f'PATH={path}', 'HOME=/var/www', 'USER=www-data', 'LOGNAME=www-data', 'SHELL=/usr/sbin/nologin',
        'TERM=dumb']), result


def test_a_user_has_all_groups_and_may_be_a_number(site, host):
    pathlib.Path(host, 'in').write_text('root:x:0:\none:x:11:nobody\ntwo:x:12:root,nobody,other\nthree:x:13:other\n')
    words = ['--file', f'{host}/in:/etc/group', site.base, '--', 'sh', '-c', 'id -u; id -g; id -G; echo "$HOME"']
    assert site.run('--user', 'nobody', *words)[:2] == (0, '65534\n65534\n65534 11 12\n/nonexistent\n')
    assert site.run('--user', '4321', *words)[:2] == (0, '4321\n4321\n4321\n/\n')


def test_a_guest_has_what_programs_expect(site):
    script = ('perl -MIO::Socket::INET -e \'$s = IO::Socket::INET->new(Listen => 1, LocalAddr => "127.0.0.1") or die; '
              'IO::Socket::INET->new(PeerAddr => "127.0.0.1", PeerPort => $s->sockport) or die; '
              'print "connected\\n"\'; '
              'stat -f -c %T /proc /sys /dev/pts /dev/shm /run; stat -c %a /dev/ptmx /dev/pts/ptmx /dev/shm')
    result = site.script(script)
    assert result.stdout.split() == ['connected', 'proc', 'sysfs', 'devpts', 'tmpfs', 'tmpfs',
                                     '666', '666', '1777'], result


def test_a_shell_starts_at_home(site):
    with Terminal(site, '--env', 'TERM=dumb', site.base) as terminal:
        terminal.wait_for('# ')
        terminal.type('echo "at $(pwd) $TERM"\r')
        terminal.wait_for('at /root dumb\r\n')
        terminal.type('exit\r')
        assert terminal.ended() == 0


@pytest.mark.parametrize('time, seconds', [('0.05m', 3.0), ('0.001h', 3.6)])
def test_a_time_has_a_unit(site, time, seconds):
    result = site.script('exec sleep 1000', '--timeout', time)
    assert (result.status, result.stderr) == (124, f'umlfs: run: ended after {seconds} s, as --timeout says\n')


def test_a_log_holds_this_run_only(site, host):
    log = pathlib.Path(host, 'log')
    log.write_text('before\n' * 10_000)
    log.chmod(0o666)
    assert site.script('true', '--log', log)[0] == 0
    text = log.read_text()
    assert (text.count('Linux version'), text.count('before')) == (1, 0)


@pytest.mark.parametrize('words, reason, status', [
    (['--timeout', '2s', '{base}', '--', 'sleep', '1000'], 'timeout', 124),
    (['{base}', '--', 'sh', '-c', 'kill -9 $$'], 'signal', 137),
    (['{base}', '--', 'sh', '-c', 'echo c >/proc/sysrq-trigger; sleep 1000'], 'panic', 125),
    (['--chdir', '/absent', '{base}', '--', 'true'], 'failed', 125)], ids=['timeout', 'signal', 'panic', 'failed'])
def test_json_gives_the_reason_and_the_session(site, words, reason, status):
    read_end, write_end = os.pipe()
    result = site.run('--json-status-fd', str(write_end), '--keep', 'on-failure',
                      *(word.format(base=site.base) for word in words), pass_fds=[write_end])
    os.close(write_end)
    with open(read_end, encoding='utf-8') as stream:
        *_, ended = map(json.loads, stream)
    assert (ended['reason'], ended['status'], result.status) == (reason, status, status), result
    assert f'umlfs: the session stays: {ended["session"]}\n' in result.stderr
    umlfs_cli.remove_tree(os.path.dirname(ended['session']))


def test_changes_are_not_thrown_away_for_a_snapshot_either(site):
    session = site.session('changed-before')
    assert site.run('--keep', 'always', session, '--', 'touch', '/more')[0] == 0
    result = site.run('--keep', 'always', '--snapshot', 'one', session, '--', 'true')
    assert result.status == 125 and 'has changes that no snapshot holds' in result.stderr
    assert site.status(session)['entries'] > 0


def test_a_share_may_be_said_to_be_written_to(site, host):
    assert site.script('cat /mnt/new/in; echo more >/mnt/new/out', '--share', f'{host}:/mnt/new:rw')[:2] == (0, 'of the host\n')
    assert pathlib.Path(host, 'out').read_text() == 'more\n'


@pytest.mark.parametrize('flag, pair, why', [
    ('--share', '.:/mnt:or', 'behind GUEST stands :ro, :rw or nothing'),
    ('--share', '.:/mnt:', 'behind GUEST stands :ro, :rw or nothing'),
    ('--share', '.:/mnt:ro:rw', 'behind GUEST stands :ro, :rw or nothing'),
    ('--share', '.:/mnt:/srv', 'behind GUEST stands :ro, :rw or nothing'),
    ('--share', '.:/', 'GUEST is the root itself, which nothing may cover: give a path in it, such as /src'),
    ('--share', '.:/:ro', 'GUEST is the root itself, which nothing may cover: give a path in it, such as /src'),
    ('--share', '.:/./..//', 'GUEST is the root itself, which nothing may cover: give a path in it, such as /src'),
    ('--file', '/etc/hostname:/', 'GUEST is the root itself, which nothing may cover: give a path in it, such as /src'),
    ('--share', '.:mnt', 'is not HOST:GUEST with an absolute path GUEST'),
])
def test_what_is_no_pair_is_told_why(site, flag, pair, why):
    assert one_line(site.run(flag, pair, site.base, '--', 'true')).startswith(f'umlfs: {flag} {pair}: {why}\n')


@pytest.mark.parametrize('flag, pair, why', [
    ('--share', 'nosuch:/x', 'nosuch: No such file or directory: give a directory that is there and that you may read'),
    ('--file', 'nosuch:/x', 'nosuch: No such file or directory: give a file that is there and that you may read'),
    ('--share', '/etc/passwd:/x:rw', '/etc/passwd: is no directory: --file gives a file to a guest'),
    ('--file', '/etc:/x', '/etc: is no regular file: --share gives a directory to a guest'),
])
def test_what_cannot_be_shown_is_told_of_with_its_option(site, flag, pair, why):
    assert one_line(site.run(flag, pair, site.base, '--', 'true')) == f'umlfs: {flag} {why}\n'


def test_colons_of_the_host_and_of_a_file_are_parts_of_paths(site, host):
    os.rename(f'{host}/in', f'{host}/a:b')
    site.place.do(os.mkdir, f'{host}/c:d')
    assert site.script('cat /x:ro; ls -d /y', '--file', f'{host}/a:b:/x:ro', '--share', f'{host}/c:d:/y:ro')[:2] == (0, 'of the host\n/y\n')


@pytest.mark.parametrize('size', ['5M', '8M', '12M', '16M'])
def test_too_little_memory_is_told_of(site, size):
    """Kernels say so in words of their own."""
    result = site.run('--mem', size, site.base, '--', 'true')
    assert result.status == 125 and result.stderr.endswith(f': its memory is too small: give --mem more than {size}\n'), result


@pytest.mark.parametrize('size, why', [
    ('5', 'no kernel boots in so little: give a size such as 256M'), ('4095K', 'no kernel boots in so little: give a size such as 256M'),
    ('99999999999999G', 'not a size such as 256M'), ('0M', 'not a size such as 256M'), ('256MB', 'not a size such as 256M')])
def test_a_size_of_memory_that_cannot_be_is_refused(site, size, why):
    assert one_line(site.run('--mem', size, site.base, '--', 'true')).startswith(f'umlfs: --mem {size}: {why}\n')


@pytest.mark.parametrize('words', [['ls', '-l'], ['ls', '--color'], ['ls', '/', '-l', '/etc']], ids=' '.join)
def test_an_option_of_the_command_wants_two_dashes_before_it(site, words):
    option = next(word for word in words if word.startswith('-'))
    assert one_line(site.run(site.base, *words)).startswith(f'umlfs: {option}: unknown option: put -- before COMMAND\n')
    assert one_line(site.run('-x', site.base, '--', 'ls')).startswith('umlfs: -x: unknown option\n')


def test_words_of_the_command_may_be_empty(site):
    assert site.run(site.base, '--', 'printf', '<%s>', '', 'a') == (0, '<><a>', '')
