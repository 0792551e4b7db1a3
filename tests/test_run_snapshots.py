"""Snapshots of a running guest: as of one moment, also of what only its memory had; and the guest goes on."""

import contextlib
import json
import os
import pathlib
import signal
import socket
import struct
import subprocess

from run_site import read_until
from umlfs_cli import PATIENCE, identity, program, run

PLACES, STEP = 1 << 16, 7919       # of guest_records.c
ROUNDS = 5
RECORDS = ['--file', f'{os.environ.get("UMLFS_GUEST_RECORDS")}:/records']


@contextlib.contextmanager
def running(site, *words, **options):
    """A guest that has said "ready": its process, and what it told of itself at its start."""
    read_end, write_end = os.pipe()
    with site.start('--json-status-fd', str(write_end), *words, pass_fds=[write_end], stdout=subprocess.PIPE,
                    **options) as process, open(read_end, encoding='utf-8') as stream:
        os.close(write_end)
        try:
            read_until(process.stdout, b'ready\n')
            yield process, json.loads(stream.readline())
        finally:
            process.terminate()
            process.stdout.read()
            process.wait(PATIENCE)


def is_of_one_moment(data):
    """The number of the last record; AssertionError when it is no state that the guest's memory ever had."""
    places = struct.unpack(f'{PLACES}Q', data)
    last = max(places)
    for place, number in enumerate(places):
        expected = last - (last - place * pow(STEP, -1, PLACES)) % PLACES
        assert number == max(expected, 0), (place, number, expected, last)
    return last


def test_each_snapshot_is_of_one_moment_and_the_guest_goes_on(site):
    session = site.session('live')
    numbers = [0] * ROUNDS
    with running(site, *RECORDS, session, '--', '/records', '/data') as (process, started):
        for n in range(ROUNDS):
            site.place.run('snapshot', '--umid', started['umid'], session, f's{n}')
        assert process.poll() is None
    for n in range(ROUNDS):
        site.place.run('reset', session, f's{n}')
        mounted = site.place.mount(site.base, session)
        numbers[n] = is_of_one_moment(mounted.do(pathlib.Path(mounted / 'data').read_bytes))
        mounted.umount()
    assert numbers == sorted(set(numbers)) and numbers[0] > 0, numbers


def test_a_snapshot_at_rest_has_what_a_diff_has_sealed_before(site):
    session = site.session('sealed')
    script = 'echo 1 >/g; echo ready; read word; echo 2 >>/g; echo done; read word'
    with running(site, session, '--', 'sh', '-c', script, stdin=subprocess.PIPE) as (process, started):
        assert run('diff', session, user='ordinary') == (1, 'A /g\n', '')
        process.stdin.write(b'go on\n')
        process.stdin.flush()
        read_until(process.stdout, b'done\n')
        site.place.run('snapshot', '--umid', started['umid'], session, 'mid')
        assert run('diff', session, user='ordinary') == (0, '', '')
        assert run('diff', session, 'one', 'mid', user='ordinary') == (1, 'A /g\n', '')
        process.stdin.close()
    mounted = site.place.mount(site.base, session)
    assert mounted.do(pathlib.Path(mounted / 'g').read_text) == '1\n2\n'
    mounted.umount()


def test_a_guest_has_several_names(site):
    with running(site, '-v', site.base, '--', 'sh', '-c', 'echo ready; exec sleep 1000', stderr=subprocess.PIPE) as (
            process, started):
        directory = started['directory']
        socket_path = f'{directory}/{started["umid"]}/mconsole'
        for name, umid in (('one', socket_path), ('two', os.path.dirname(socket_path)), ('three', started['umid'])):
            site.place.run('snapshot', '--umid', umid, f'{directory}/session', name)
        process.terminate()
        assert f'umlfs: its umid is {started["umid"]}\n' in process.stderr.read().decode()


def test_a_guest_that_cannot_be_asked_is_one_line(site):
    session = site.session('unasked')
    assert 'guest nobody: there is none' in site.place.refused('snapshot', '--umid', 'nobody', session, 'x')
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as silent:
        path = f'{site.tmp}/mconsole'
        silent.bind(path)
        os.chmod(path, 0o777)
        assert 'does not answer' in site.place.refused('snapshot', '--umid', path, session, 'x')
    assert 'has ended' in site.place.refused('snapshot', '--umid', path, session, 'x')
    os.unlink(path)
    assert ' x ' not in site.place.run('list', session)


def test_the_guest_goes_on_when_the_snapshot_cannot_be(site):
    session = site.session('refused')
    script = 'echo ready; while read word; do echo "got $word"; done'
    with running(site, session, '--', 'sh', '-c', script, stdin=subprocess.PIPE) as (process, started):
        site.place.refused('snapshot', '--umid', started['umid'], session, 'one')        # there is one of this name
        process.stdin.write(b'a word\n')
        process.stdin.flush()
        read_until(process.stdout, b'got a word\n')
        process.stdin.close()


def test_a_guest_with_an_init_of_its_own_is_stopped_too_but_not_twice(site):
    session = site.session('own')
    script = 'echo ready; while :; do read x <>/dev/tty0; done'
    with running(site, '--init', '/bin/sh', session, '--', '-c', script) as (process, started):
        site.place.run('snapshot', '--umid', started['umid'], session, 'x')
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as console:
            console.bind('')
            console.connect(f'{started["directory"]}/{started["umid"]}/mconsole')
            console.settimeout(PATIENCE)
            for word, answer in ((b'stop', b'stopped'), (b'go', b'')):
                console.send(struct.pack('III512s', 0xcafebabe, 2, len(word), word))
                assert answer in console.recv(1024)
                if word == b'stop':
                    said = site.place.refused('snapshot', '--umid', started['umid'], session, 'y')
                    assert said.endswith('refuses to stop: Already stopped'), said
        assert process.poll() is None


def test_ctrl_c_during_snapshots_leaves_the_guest_running(site):
    session = site.session('interrupted')
    script = 'echo ready; while read word; do echo "got $word"; done'
    with running(site, session, '--', 'sh', '-c', script, stdin=subprocess.PIPE) as (process, started):
        for n in range(ROUNDS):
            command = subprocess.Popen([program(), 'snapshot', '--umid', started['umid'], session, f'n{n}'],
                                       stdin=subprocess.DEVNULL, cwd='/', **identity('ordinary'))
            command.send_signal(signal.SIGINT)
            assert command.wait(PATIENCE) in (0, -signal.SIGINT)
            process.stdin.write(b'%d\n' % n)
            process.stdin.flush()
            read_until(process.stdout, b'got %d\n' % n)
        process.stdin.close()
