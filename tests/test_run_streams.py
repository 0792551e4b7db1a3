"""What goes into a command of `umlfs run` and comes out of it, when there is no terminal."""

import hashlib
import os
import pathlib
import random
import signal
import subprocess
import tarfile
import tempfile

import pytest

from run_site import read_until
from umlfs_cli import PATIENCE

EVERY_BYTE = bytes(range(256))
LARGE = 10_000_000
PARTS = 2           # of it are there for the guest at one time
TIMES = 50          # a million bytes each


def send(site, data, *words, **options):
    """Runs a command with data on its standard input: (status, output, errors), as bytes."""
    process = site.start(site.base, '--', *words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                         **options)
    with process:
        output, errors = process.communicate(data, timeout=PATIENCE)
    return process.returncode, output, errors


def test_every_byte_goes_in_and_out_unchanged(site):
    text = EVERY_BYTE + EVERY_BYTE[::-1] + b'\x03\x04\x1a\x1c\r\n\x00'
    assert send(site, text, 'sh', '-c', 'cat; exit 5') == (5, text, b'')


def test_errors_are_bytes_too(site):
    assert send(site, EVERY_BYTE, 'sh', '-c', 'cat >&2') == (0, b'', EVERY_BYTE)


@pytest.mark.parametrize('kind', ['pipe', 'file'])
def test_large_input_arrives_whole(site, kind):
    data = random.Random(1).randbytes(LARGE)
    with tempfile.TemporaryFile() as file:
        file.write(data)
        file.seek(0)
        options = {'stdin': file} if kind == 'file' else {'stdin': subprocess.PIPE}
        with site.start(site.base, '--', 'sha256sum', stdout=subprocess.PIPE, **options) as process:
            output = process.communicate(None if kind == 'file' else data, timeout=PATIENCE)[0]
    assert output.split()[0].decode() == hashlib.sha256(data).hexdigest()


def test_large_output_arrives_whole(site):
    block = random.Random(2).randbytes(1_000_003)
    status, output, _ = send(site, block, 'sh', '-c', f'cat >/b; for i in $(seq {TIMES}); do cat /b; done')
    assert status == 0 and hashlib.sha256(output).digest() == hashlib.sha256(block * TIMES).digest()


def test_an_archive_goes_through_both_ways(site):
    with tempfile.TemporaryDirectory() as scratch:
        path = pathlib.Path(scratch, 'in.tar')
        with tarfile.open(path, 'w') as archive:
            archive.add(os.path.dirname(__file__), 'tests')
        with open(path, 'rb') as stream:
            names = sorted(tarfile.open(fileobj=stream).getnames())
        status, output, errors = send(site, path.read_bytes(), 'sh', '-ec', 'cd /mnt; tar -x; tar -c tests | gzip')
        assert (status, errors) == (0, b'')
        path.write_bytes(output)
        with tarfile.open(path) as archive:
            assert sorted(archive.getnames()) == names


def test_input_arrives_before_its_end(site):
    with site.start(site.base, '--', 'cat', stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        for word in (b'one\n', b'two\n'):
            process.stdin.write(word)
            process.stdin.flush()
            read_until(process.stdout, word)
        process.stdin.close()
        assert process.wait(PATIENCE) == 0


@pytest.mark.parametrize('script', ['exec <&-; exec sleep 1000', 'head -c 1; exec <&-; exec sleep 1000'],
                         ids=['at once', 'later'])
def test_who_writes_what_nobody_reads_gets_to_know(site, script):
    with site.start(site.base, '--', 'sh', '-c', script, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL) as process:
        with pytest.raises(BrokenPipeError):
            while True:
                os.write(process.stdin.fileno(), bytes(4096))
        process.terminate()
        process.stdin = None


def test_a_command_need_not_read_its_input(site):
    assert send(site, bytes(LARGE), 'sh', '-c', 'exit 3') == (3, b'', b'')
    with site.start(site.base, '--', 'true', stdin=subprocess.PIPE) as process:      # nobody ever closes it
        assert process.wait(PATIENCE) == 0


def test_without_an_input_there_is_none(site):
    assert site.run(site.base, '--', 'cat') == (0, '', '')


def test_the_command_sees_pipes_and_may_open_them_again(site):
    process = site.start('--user', 'nobody', site.base, '--', 'sh', '-c',
                         'for fd in 0 1 2; do test -t $fd && echo terminal; test -p /dev/fd/$fd || echo no pipe; done; '
                         'cat /dev/stdin >/dev/stdout; echo err >/dev/stderr',
                         stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    with process:
        assert process.communicate(b'in\n', timeout=PATIENCE) == (b'in\n', b'err\n')


def test_what_a_background_process_wrote_comes_before_the_end(site):
    script = '(echo late; exec sleep 1000) & while ! grep -q sleep /proc/$!/comm; do :; done; exit 4'
    assert send(site, b'', 'sh', '-c', script)[:2] == (4, b'late\n')


def test_input_that_was_read_is_kept_no_longer(site):
    data = bytes(LARGE)
    with site.start(site.base, '--', 'sh', '-c', f'head -c {LARGE // 2} | wc -c; cat | wc -c', stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE) as process:
        process.stdin.write(data)
        process.stdin.flush()
        read_until(process.stdout, b'%d\n' % (LARGE // 2))
        directory, = os.listdir(site.tmp)
        assert len(os.listdir(f'{site.tmp}/{directory}/roots/input')) <= PARTS
        assert process.communicate(timeout=PATIENCE)[0] == b'%d\n' % (LARGE - LARGE // 2)


def test_who_writes_to_nobody_is_ended_quietly(site):
    assert send(site, b'', 'sh', '-c', 'yes | head -n 1') == (0, b'y\n', b'')


def test_input_that_cannot_be_read_is_told(site):
    directory = os.open('/etc', os.O_RDONLY | os.O_DIRECTORY)
    try:
        assert site.run(site.base, '--', 'cat', stdin=directory) == (0, '', 'umlfs: standard input: Is a directory\n')
    finally:
        os.close(directory)


def test_ctrl_c_ends_it_while_input_flows(site):
    with site.start(site.base, '--', 'sh', '-c', 'echo ready; cat >/dev/null', stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE) as process:
        read_until(process.stdout, b'ready\n')
        with pytest.raises(BrokenPipeError):
            while True:
                os.write(process.stdin.fileno(), bytes(1 << 20))
                if process.poll() is None:
                    process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE) == -signal.SIGINT
        process.stdin = None
