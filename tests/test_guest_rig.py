"""The guest rig keeps its promises on a plain extracted directory, before any umlfs is involved."""

import contextlib
import os
import pathlib
import pwd
import select
import signal
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor

import pytest

import guest
from debian import debian_root
from guest import Guest, GuestError, GuestTimeout, run_guest

TEST_USER = 'umlfs-test'

pytestmark = [
    pytest.mark.skipif(guest.uml_kernel() is None, reason='no linux.uml: apt-get install user-mode-linux'),
    pytest.mark.skipif('UMLFS_GUEST_INIT' not in os.environ, reason='UMLFS_GUEST_INIT is not set; meson test sets it'),
]


def extract(archive, tree, user=None):
    """As `user`, owners and device nodes are lost: that is what an ordinary user has today."""
    os.chmod(tree, 0o755)
    if user is not None and os.getuid() == 0:
        os.chown(tree, pwd.getpwnam(user).pw_uid, pwd.getpwnam(user).pw_gid)
    with open(archive, 'rb') as stream:
        subprocess.run([*guest.as_user(user), 'tar', '-xJ', '--exclude=./dev/*', '-C', tree], stdin=stream, check=True)


@pytest.fixture(scope='module')
def archive():
    with tempfile.TemporaryDirectory(prefix='umlfs-rig-') as scratch:
        yield debian_root(os.environ.get('UMLFS_TEST_CACHE') or scratch).archive


@pytest.fixture(scope='module', params=['root', 'ordinary'])
def place(request, archive):
    """(tree, user) to boot a guest on: root's tree as root, an ordinary user's own tree as that user."""
    if request.param == 'root' and os.getuid() != 0:
        pytest.skip('only root can have a tree with its owners')
    user = None if request.param == 'root' or os.getuid() != 0 else TEST_USER
    with tempfile.TemporaryDirectory(prefix='umlfs-rig-') as tree:
        extract(archive, tree, user)
        yield tree, user


@pytest.fixture
def boot(place):
    tree, user = place

    def run(script, **options):
        return run_guest(tree, script, user=user, **options)
    return run


def state_of(tree):
    """What a guest could have changed: names, types, modes, owners, sizes, times."""
    state = {}
    for path in [tree, *(os.path.join(top, name) for top, dirs, files in os.walk(tree) for name in dirs + files)]:
        st = os.lstat(path)
        state[path] = (st.st_mode, st.st_uid, st.st_gid, st.st_nlink, st.st_size, st.st_mtime_ns, st.st_ctime_ns)
    return state


@pytest.mark.parametrize('status', [0, 7])
def test_the_scripts_exit_status_arrives(boot, status):
    assert boot(f'exit {status}').status == status


def test_a_signal_counts_as_in_a_shell(boot):
    assert boot('kill -SEGV $$').status == 128 + signal.SIGSEGV


def test_output_arrives_whole_and_apart_from_the_kernels(boot):
    result = boot('echo out; echo err >&2; seq 1 40000')
    whole = result.stdout == 'out\nerr\n' + ''.join(f'{i}\n' for i in range(1, 40001))
    assert whole, f'{result.stdout[:100]!r} ... {result.stdout[-100:]!r}'
    assert 'Linux version' in result.kernel_log


def test_the_guest_runs_as_its_root_and_hostfs_as_the_host_user(place):
    tree, user = place
    script = 'id -u; stat -c %u /bin/ls /root; echo made >/made; sed -n 1p /proc/self/mounts'
    result = run_guest(tree, script, user=user)
    owner = str(pwd.getpwnam(user).pw_uid if user else os.getuid())
    assert result.stdout.splitlines() == ['0', owner, owner, 'none / hostfs rw,relatime,/ 0 0'], result
    assert os.stat(f'{tree}/made').st_uid == int(owner)
    os.unlink(f'{tree}/made')


def test_the_rig_changes_nothing_in_the_root(place):
    tree, user = place
    before = state_of(tree)
    assert run_guest(tree, 'ls -R / >/dev/null 2>&1; exit 0', user=user).status == 0
    assert state_of(tree) == before


def test_files_come_into_the_guest_and_results_leave_through_the_share(place):
    tree, user = place
    with tempfile.TemporaryDirectory(prefix='umlfs-share-') as share:
        pathlib.Path(share, 'in').write_text('from the host\n')
        if user:
            os.chown(share, pwd.getpwnam(user).pw_uid, -1)
        result = run_guest(tree, 'cat "$UMLFS_DIR/share/in" "$UMLFS_DIR/one"; echo result >"$UMLFS_DIR/share/out"',
                           user=user, share=share, files={'one': __file__})
        assert result.stdout == 'from the host\n' + pathlib.Path(__file__).read_text(), result
        assert pathlib.Path(share, 'out').read_text() == 'result\n'


def test_host_and_guest_can_take_turns(place):
    tree, user = place
    with Guest(tree, 'echo ready; read -r line </dev/tty0; echo "got $line"', user=user) as running:
        running.wait_for('ready\n')
        running.send('some words')
        assert running.wait().stdout == 'ready\ngot some words\n'


def test_waiting_for_words_ends_with_the_guest(place):
    tree, user = place
    with Guest(tree, 'echo last words', user=user) as running:
        with pytest.raises(GuestError, match='ended before it wrote'):
            running.wait_for('other words')
        running.wait_for('last words')
        assert running.wait().status == 0


def test_several_guests_run_at_once(place):
    tree, user = place
    with ThreadPoolExecutor(4) as pool:
        results = pool.map(lambda n: run_guest(tree, f'echo {n}; exit {n}', user=user), range(4))
        assert [(r.status, r.stdout) for r in results] == [(n, f'{n}\n') for n in range(4)]


def test_a_root_that_does_not_exist_is_reported():
    with pytest.raises(GuestError, match='mount root .*: No such file or directory.*/does/not/exist'):
        run_guest('/does/not/exist', 'exit 0')


def test_a_panic_is_reported(boot):
    with pytest.raises(GuestError, match='Kernel panic - not syncing: sysrq triggered crash') as caught:
        boot('echo last words; echo c >/proc/sysrq-trigger')
    assert caught.value.result.stdout == 'last words\n'
    assert caught.value.result.status is None


def test_a_guest_that_takes_too_long_ends_with_all_its_processes(place):
    tree, user = place
    with Guest(tree, 'sleep 1000 & echo busy; while :; do :; done', user=user) as running:
        running.wait_for('busy')
        sid = running.process.pid
        assert len(guest.session_members(sid)) > 2
        running.timeout = 0
        with pytest.raises(GuestTimeout):
            running.wait()
        assert guest.session_members(sid) == []
    assert not os.path.exists(running.dir)


def test_a_test_that_is_killed_leaves_no_guest(place):
    tree, user = place
    program = ('import sys, guest\n'
               'with guest.Guest(sys.argv[1], "echo busy; while :; do :; done", user=sys.argv[2] or None) as g:\n'
               '    g.wait_for("busy")\n'
               '    print(g.process.pid, g.dir, flush=True)\n'
               '    g.wait()\n')
    tester = subprocess.Popen([sys.executable, '-c', program, tree, user or ''], stdout=subprocess.PIPE, text=True,
                              cwd=os.path.dirname(__file__))
    sid, directory = tester.stdout.readline().split()
    members = []
    for pid in guest.session_members(int(sid)):
        with contextlib.suppress(ProcessLookupError):   # UML ends some and starts others
            members.append(os.pidfd_open(pid))
    tester.kill()
    tester.wait()
    try:
        assert tester.stdout.read() == ''       # ends when the heir, who has it as well, has done its work
        for pidfd in members:
            assert select.select([pidfd], [], [], 10)[0], 'a process of the guest is still there'
        assert not os.path.exists(directory)
    finally:
        tester.stdout.close()
        for pidfd in members:
            os.close(pidfd)
        guest.kill_session(int(sid))
