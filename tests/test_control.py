"""The control socket: whatever comes through it, and from however many, its daemon goes on serving."""

import concurrent.futures
import contextlib
import json
import os
import random
import socket
import struct

import pytest

from calls import read_file
from umlfs_cli import PATIENCE, ROOT, become, run

REQUEST_MAX = 512   # bytes
CLIENTS_MAX = 32    # as the daemon has them at most
MANY = 2000

WHOLE = b'status\x000\0\0'


@pytest.fixture
def mounted(place):
    """Serves and answers before the test, and is the same daemon afterwards, with as many descriptors as before."""
    mount = place.mount(place.imported_base())
    pid = mount.pid
    before = len(descriptors(mount))
    yield mount
    assert mount.pid == pid
    assert mount.do(read_file, mount / 'etc/hostname') == b'guest\n'
    mount.do(os.mkdir, mount / 'tmp/after')
    place.run('snapshot', mount.session, 'after')
    place.run('reset', mount.session, '@base')
    assert not mount.do(os.path.exists, mount / 'tmp/after')
    assert len(descriptors(mount)) <= before + CLIENTS_MAX + 8


def descriptors(mount, pid=None):
    return os.listdir(f'/proc/{pid or mount.pid}/fd')


def connect(mount):
    client = socket.socket(socket.AF_UNIX)
    for limit in socket.SO_RCVTIMEO, socket.SO_SNDTIMEO:    # a time-out of Python's would make it non-blocking
        client.setsockopt(socket.SOL_SOCKET, limit, struct.pack('ll', PATIENCE, 0))
    client.connect(f'{mount.session}/control')
    return client


def answer(client):
    """Everything up to the end; a daemon that hung up with bytes unread is the end too."""
    found = b''
    with contextlib.suppress(ConnectionResetError):
        while data := client.recv(1 << 16):
            found += data
    return found


def ask(mount, data, end=True):
    """What the daemon answers to these bytes."""
    with connect(mount) as client:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            client.sendall(data)
            if end:
                client.shutdown(socket.SHUT_WR)
        return answer(client)


def status_of(text):
    """The number in the last line, None when there is no answer at all."""
    lines = text.decode('utf-8', 'replace').splitlines()
    return int(lines[-1].removeprefix('R ')) if lines else None


def test_a_whole_request_is_answered(mounted):
    assert status_of(mounted.do(ask, mounted, WHOLE)) == 0


def garbage():
    """Requests that are none, or none that may be carried out."""
    yield from (b'', b'\0', b'\0\0\0', b'status', b'status\0', b'status\x000\0', b'status\x000\0\0\0', b'status\x000\0\0more',
                b'nonsense\x000\0\0', b'STATUS\x000\0\0', b'\x000\0\0', b'\n\n\n', b'GET / HTTP/1.0\r\n\r\n', b'\xff' * 100)
    for name in b'', b'../../x', b'a/b', b'@base', b'a\nR 0', b'x' * 300:
        yield b'snapshot\x000\0' + name + b'\0'
        yield b'delete\x001\0' + name + b'\0'
    yield b'reset\x001\0none\0'
    chance = random.Random(1)
    for _ in range(100):
        yield chance.randbytes(chance.randrange(1, REQUEST_MAX))
    for at in range(len(WHOLE)):
        yield WHOLE[:at] + bytes([WHOLE[at] ^ 0x80]) + WHOLE[at + 1:] if at not in (7,) else WHOLE[:at]


def test_garbage_is_no_request_and_changes_nothing(mounted):
    before = json.loads(mounted.place.run('list', '--json', mounted.session))
    for data in garbage():
        assert status_of(mounted.do(ask, mounted, data)) != 0, data
    assert json.loads(mounted.place.run('list', '--json', mounted.session)) == before


@pytest.mark.parametrize('size', [REQUEST_MAX, REQUEST_MAX + 1, 1 << 20, 32 << 20])
def test_a_request_that_is_too_long_is_hung_up_on(mounted, size):
    for data in b'x' * size, WHOLE + b'\0' * size, b'snapshot\x000\0' + b'n' * size:
        assert mounted.do(ask, mounted, data, end=False) == b''


def test_a_slow_client_is_answered_and_others_meanwhile(mounted):
    def slowly():
        with connect(mounted) as client:
            for at in range(len(WHOLE)):
                client.sendall(WHOLE[at:at + 1])
                assert status_of(ask(mounted, WHOLE)) == 0
            client.shutdown(socket.SHUT_WR)
            return answer(client)
    assert status_of(mounted.do(slowly)) == 0


def half(mount):
    client = connect(mount)
    client.sendall(b'stat')
    return client


def test_clients_that_fall_silent_make_room_for_others(mounted):
    """The newest are kept, the oldest go."""
    pid = mounted.pid

    def many():
        with contextlib.ExitStack() as stack:
            clients = [stack.enter_context(half(mounted)) for _ in range(5 * CLIENTS_MAX)]
            assert status_of(ask(mounted, WHOLE)) == 0
            assert answer(clients[0]) == b''
            clients[-1].sendall(WHOLE[4:])
            clients[-1].shutdown(socket.SHUT_WR)
            assert status_of(answer(clients[-1])) == 0
            return len(descriptors(mounted, pid))
    assert mounted.do(many) < 100


def test_thousands_of_clients_at_once_are_survived(more_descriptors, mounted):
    """All of them connected at the same time, from several threads, most of them silent, while files are read."""
    pid = mounted.pid
    user = mounted.place.user

    def some(number):
        clients = []
        for i in range(number):
            clients.append(connect(mounted))
            if i % 3 == 0:
                with contextlib.suppress(BrokenPipeError):
                    clients[-1].sendall(b'reset\x001\0')
        return clients

    as_user = {'initializer': become, 'initargs': (user,)} if ROOT and user != 'root' else {}
    with concurrent.futures.ThreadPoolExecutor(8, **as_user) as pool:
        waiting = [pool.submit(some, MANY // 8) for _ in range(8)]
        try:
            assert mounted.do(read_file, mounted / 'etc/passwd').startswith(b'root')
            for future in waiting:
                future.result(PATIENCE)
            assert len(descriptors(mounted, pid)) < 512
            assert status_of(mounted.do(ask, mounted, WHOLE)) == 0
        finally:
            for future in waiting:
                for client in future.result(PATIENCE):
                    client.close()


@pytest.mark.parametrize('user', ['ordinary'], indirect=True)
def test_clients_that_never_read_their_answer_are_survived(mounted):
    """It is longer than what the kernel keeps for them."""
    def snapshots():
        for i in range(950):
            assert status_of(ask(mounted, b'snapshot\x000\0%04d%s\0' % (i, b'n' * 200))) == 0

    def many():
        with contextlib.ExitStack() as stack:
            clients = [stack.enter_context(connect(mounted)) for _ in range(3 * CLIENTS_MAX)]
            for client in clients:
                with contextlib.suppress(BrokenPipeError):
                    client.sendall(b'list\x000\0\0')
                    client.shutdown(socket.SHUT_WR)
                assert status_of(ask(mounted, WHOLE)) == 0
            assert len(answer(clients[-1])) > 215000
    mounted.do(snapshots)
    mounted.do(many)


@pytest.mark.skipif(not ROOT, reason='needs root')
@pytest.mark.parametrize('user', ['root'], indirect=True)
def test_others_are_not_heard_even_when_they_can_connect(mounted):
    os.chmod(mounted.session, 0o777)
    os.chmod(f'{mounted.session}/control', 0o666)

    def others():
        for _ in range(3 * CLIENTS_MAX):
            assert ask(mounted, WHOLE) == b''
            assert ask(mounted, b'snapshot\x000\0theirs\0') == b''
    with concurrent.futures.ThreadPoolExecutor(1, initializer=become, initargs=('ordinary',)) as pool:
        pool.submit(others).result(PATIENCE)
    assert 'theirs' not in run('list', mounted.session).stdout
