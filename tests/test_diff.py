"""What `umlfs diff` promises: exactly what differs between two states, told by path, while the session goes on."""

import json
import os
import re
import subprocess
import threading

import pytest

from calls import RENAME_EXCHANGE, overwrite, renameat2
from diffs import DIFFERENT, SAME, TROUBLE, Bench, diff, short
from umlfs_cli import as_ordinary, differences, identity, program, run, without_leak_check

STEP = 16
MANY = 10_000


@pytest.fixture(params=[True, False], ids=['live', 'offline'])
def bench(place, request):
    return Bench(place, request.param)


def test_nothing_changed(bench):
    assert bench.diff() == []
    assert bench.diff('@base') == [] and bench.text() == ''


def test_each_change_is_told_by_its_path(bench):
    bench.write('/etc/new', b'new')
    bench.do(os.mkdir, '/etc/dir')
    bench.write('/etc/dir/in', b'in')
    bench.write('/etc/hostname', b'other\n')
    bench.do(os.chmod, '/etc/passwd', 0o640)
    bench.do(os.chown, '/etc/shadow', 7, 8)
    bench.do(os.unlink, '/home/user/notes')
    bench.do(os.unlink, '/etc/link')
    bench.do(os.symlink, 'passwd', '/etc/link')
    bench.do(os.rename, '/home/deep', '/home/renamed')
    assert short(bench.diff()) == [
        ('A', '/etc/dir'), ('A', '/etc/dir/in'), ('M', '/etc/hostname', 'content'), ('M', '/etc/link', 'target'),
        ('A', '/etc/new'), ('M', '/etc/passwd', 'mode'), ('M', '/etc/shadow', 'owner', 'group'),
        ('R', ('/home/deep', '/home/renamed')), ('D', '/home/user/notes')]
    assert bench.text().splitlines() == [
        'A /etc/dir', 'A /etc/dir/in', 'M /etc/hostname: content', 'M /etc/link: target hostname -> passwd', 'A /etc/new',
        'M /etc/passwd: mode 0644 -> 0640', 'M /etc/shadow: owner 0 -> 7, group 42 -> 8', 'R /home/deep -> /home/renamed',
        'D /home/user/notes']


def test_what_was_written_again_is_no_change(bench):
    bench.write('/etc/hostname', b'guest\n')
    bench.write('/etc/passwd.new', b'root:x:0:0::/root:/bin/sh\n')
    bench.do(os.chmod, '/etc/passwd.new', 0o644)
    bench.do(os.rename, '/etc/passwd.new', '/etc/passwd')
    bench.do(os.chmod, '/etc/shadow', 0o777)
    bench.do(os.chmod, '/etc/shadow', 0o600)
    bench.do(os.rename, '/home/user', '/home/other')
    bench.do(os.rename, '/home/other', '/home/user')
    bench.do(os.mkdir, '/tmp/came')
    bench.do(os.rmdir, '/tmp/came')
    bench.do(os.rename, '/home/deep', '/tmp/old')           # a whole directory is made again as it was
    for directory in '/home/deep', '/home/deep/er':
        bench.do(os.mkdir, directory)
        bench.do(os.chmod, directory, 0o755)
    bench.write('/home/deep/er/file', b'deep\n')
    bench.do(os.chmod, '/home/deep/er/file', 0o644)
    bench.do(lambda: subprocess.run(['rm', '-r', f'{bench.at}/tmp/old'], check=True))
    assert short(bench.diff()) == []
    assert ('M', '/etc/hostname', 'mtime') in short(bench.diff('--times'))


def test_a_file_in_the_place_of_another_is_modified(bench):
    bench.write('/etc/hostname.new', b'another\n')
    bench.do(os.rename, '/etc/hostname.new', '/etc/hostname')
    bench.do(os.unlink, '/etc/passwd')
    bench.do(os.mkdir, '/etc/passwd')
    bench.do(os.chmod, '/etc/passwd', 0o644)
    changes = bench.diff()
    assert [(c['change'], c['path']) for c in changes] == [('M', '/etc/hostname'), ('M', '/etc/passwd')]
    assert changes[0]['what'][-2:] == ['content', 'size'] and 'type' in changes[1]['what']
    assert changes[0]['from']['ino'] != changes[0]['to']['ino']


def test_renames_are_known_by_the_inode(bench):
    bench.do(os.rename, '/etc/hostname', '/etc/hostname.1')     # as a log is rotated
    bench.write('/etc/hostname', b'guest\n')
    bench.do(renameat2, '/home/deep/er/file', '/etc/shadow', RENAME_EXCHANGE)
    bench.do(os.rename, '/home/deep', '/home/moved')
    bench.write('/home/moved/er/file', b'changed after the exchange')
    bench.do(os.rename, '/usr/bin/same', '/etc/passwd')         # over another
    found = short(bench.diff())
    assert [entry[:2] for entry in found] == [
        ('A', '/etc/hostname'), ('R', ('/etc/hostname', '/etc/hostname.1')), ('D', '/etc/passwd'),
        ('R', ('/usr/bin/same', '/etc/passwd')), ('R', ('/home/deep/er/file', '/etc/shadow')),
        ('R', ('/home/deep', '/home/moved')), ('R', ('/etc/shadow', '/home/moved/er/file'))]
    assert found[-1][2:] == ('content', 'size')


def test_every_name_of_a_file_is_told(bench):
    bench.do(os.link, '/home/pair1', '/tmp/third')
    bench.write('/home/pair1', b'changed')
    bench.write('/tmp/one', b'1')
    bench.do(os.link, '/tmp/one', '/etc/two')
    changes = bench.diff()
    assert short(changes) == [('A', '/etc/two'), ('M', '/home/pair1', 'content', 'size'),
                              ('M', '/home/pair2', 'content', 'size'), ('A', '/tmp/one'), ('A', '/tmp/third')]
    assert [c['link_to'] for c in changes] == [None, None, None, '/etc/two', '/home/pair1']


@as_ordinary
def test_many_names_of_a_file_are_each_told_once(place):
    """So many that time which grows with their square, not to say their cube, is minutes."""
    bench = Bench(place, False)
    names = [f'/tmp/many/{number:05}' for number in range(MANY)]

    def link():
        os.mkdir(f'{bench.at}/tmp/many')
        for name in names:
            os.link(f'{bench.at}/home/pair1', bench.at + name)
    bench.do(link)
    place.run('snapshot', bench.session, 'one')
    bench.do(os.unlink, names[7])
    bench.do(os.link, '/home/pair2', names[7])      # two layers tell of it
    place.run('snapshot', bench.session, 'two')
    bench.do(os.chmod, names[-1], 0o600)
    came = [(change['change'], change['path'], change['link_to']) for change in bench.diff('@base', 'two')]
    assert came == [('A', '/tmp/many', None), *(('A', name, '/home/pair1') for name in names)]
    assert short(bench.diff()) == [('M', name, 'mode') for name in ('/home/pair1', '/home/pair2', *names)]
    assert short(bench.diff('two', '@base')) == [('D', '/tmp/many'), *(('D', name) for name in names)]
    assert bench.diff('one', 'two') == []


def test_a_broken_hard_link_is_told(bench):
    bench.write('/tmp/copy', b'pair\n')
    bench.do(os.chmod, '/tmp/copy', 0o644)
    bench.do(os.rename, '/tmp/copy', '/home/pair2')
    assert short(bench.diff()) == [('M', '/home/pair2', 'links')]


def test_a_path_below_a_renamed_directory_has_both_names(bench):
    bench.write('/home/deep/er/file', b'DEEP\n')
    bench.do(os.rename, '/home/deep', '/home/moved')
    changed = bench.diff()[1]
    assert (changed['change'], changed['old_path'], changed['path']) == ('M', '/home/deep/er/file', '/home/moved/er/file')


def test_odd_names_stay_on_one_line(bench):
    name = '/tmp/a\nb"\\\t\x01 \udcff\u00e9\u009b'
    bench.write(name, b'')
    assert short(bench.diff()) == [('A', name)]
    assert bench.text() == 'A "/tmp/a\\nb\\"\\\\\\t\\001 \\377\u00e9\\302\\233"\n'


@pytest.mark.parametrize('live', [True, False], ids=['live', 'offline'])
def test_attributes_count(place, live):
    bench = Bench(place, live, options='xattr')
    bench.do(os.setxattr, '/etc/hostname', 'user.kept', b'same')
    place.run('snapshot', bench.session, 'one')
    bench.do(os.setxattr, '/etc/hostname', 'user.new', b'\0\xff')
    bench.do(os.removexattr, '/etc/hostname', 'user.kept')
    changes = bench.diff()
    assert short(changes) == [('M', '/etc/hostname', 'xattrs')] and changes[0]['to']['xattrs'] == {'user.new': '00ff'}
    assert bench.text() == 'M /etc/hostname: xattrs -user.kept +user.new\n'


def test_states_are_named(bench):
    for name in 'one', 'two':
        bench.write(f'/tmp/{name}', b'')
        bench.place.run('snapshot', bench.session, name)
    bench.write('/tmp/three', b'')
    assert short(bench.diff()) == [('A', '/tmp/three')]          # what a reset would undo
    assert short(bench.diff('one')) == [('A', '/tmp/three'), ('A', '/tmp/two')]
    assert short(bench.diff('two', 'one')) == [('D', '/tmp/two')]
    assert short(bench.diff('@base', 'two')) == [('A', '/tmp/one'), ('A', '/tmp/two')]
    assert short(bench.diff('two', '@base')) == [('D', '/tmp/one'), ('D', '/tmp/two')]
    assert bench.diff('two', 'two') == []
    bench.place.run('reset', bench.session, '@base')
    assert bench.diff() == [] and short(bench.diff('one')) == [('D', '/tmp/one')]   # on another branch


def test_a_plain_directory_as_base_is_compared_too(place):
    mounted = place.mount(place.plain_base())
    mounted.do(overwrite, mounted / 'etc/hostname', b'GUEST\n')
    mounted.do(overwrite, mounted / 'etc/passwd', b'root:x:0:0::/root:/bin/sh\n')
    assert short(diff(place, mounted.session)) == [('M', '/etc/hostname', 'content')]
    mounted.umount()
    assert short(diff(place, mounted.session)) == [('M', '/etc/hostname', 'content')]


def test_assert_proves_what_did_not_change(bench):
    bench.do(os.mkdir, '/tmp/out')
    bench.write('/tmp/out/.result', b'')
    bench.write('/etc/cache.pyc', b'')
    bench.do(os.rename, '/etc/hostname', '/tmp/out/hostname')
    bench.diff()
    for globs, left in [(['/tmp/out/**', '/etc/*'], []), (['/tmp/out/** /etc/*'], []), (['/**'], []),
                        (['/tmp/out/**'], ['/etc/cache.pyc', '/tmp/out/hostname']),     # a rename needs both names
                        (['*.pyc', 'hostname', '/tmp/*'], ['/tmp/out/.result']),
                        (['/tmp/*/*', '/etc/cache.py[a-c]', '/etc/hostname'], ['/tmp/out']),
                        (['/*'], ['/etc/cache.pyc', '/tmp/out', '/tmp/out/.result', '/tmp/out/hostname']),
                        (['/**/out/**', '/etc/**/hostname'], ['/etc/cache.pyc'])]:
        words = [word for glob in globs for word in ('--assert', glob)]
        result = run('diff', '--json', *words, bench.session, user=bench.place.user)
        assert [c['path'] for c in json.loads(result.stdout)['changes']] == left, globs
        assert result.status == (DIFFERENT if left else SAME)
        assert run('diff', '-q', *words, bench.session, user=bench.place.user)[:2] == (result.status, '')


def test_what_cannot_be_compared_is_refused(place):
    bench = Bench(place, False)
    bench.mounted.umount()
    assert 'no such snapshot' in place.refused('diff', bench.session, 'nonsense', status=TROUBLE)
    place.refused('diff', '--json', bench.session, '@base', 'nonsense', status=TROUBLE)
    place.refused('diff', place / 'nowhere', status=TROUBLE)
    place.refused('diff', place.path, status=TROUBLE)
    place.refused('diff', status=TROUBLE)


def test_bytes_that_are_gone_are_trouble(place):
    bench = Bench(place, False)
    bench.write('/etc/hostname', b'GUEST\n')
    bench.do(os.chmod, '/etc/passwd', 0o600)
    bench.mounted.umount()
    os.rename(place / 'base', place / 'elsewhere')
    assert 'the base is not there' in place.refused('diff', bench.session, status=TROUBLE)
    os.rename(place / 'elsewhere', place / 'base')
    assert len(bench.diff()) == 2
    place.do(os.mkdir, place / 'other')
    os.rename(place / 'base/etc/hostname', place / 'other/hostname')
    place.refused('diff', bench.session, status=TROUBLE)


# --- a session that is mounted -----------------------------------------------------------------------------------

def test_the_session_goes_on_and_loses_nothing(place):
    bench = Bench(place, True)
    place.run('snapshot', bench.session, 'one')
    with open(f'{bench.at}/etc/passwd', 'ab', opener=lambda path, flags: bench.mounted.do(os.open, path, flags)) as stream:
        for number in range(20):
            bench.mounted.do(os.write, stream.fileno(), b'more\n')
            bench.write(f'/tmp/{number}', b'x')
            changes = bench.diff()
            assert len(changes) == number + 2 and changes[0]['to']['size'] == 26 + 5 * (number + 1)
    layers = len(os.listdir(f'{bench.session}/layers'))
    for _ in range(5):
        assert len(bench.diff()) == 21
    assert len(os.listdir(f'{bench.session}/layers')) <= layers + 1      # nothing changed, nothing is sealed
    before = bench.mounted.dump()
    listed = json.loads(place.run('list', '--json', bench.session))
    assert [snapshot['name'] for snapshot in listed['snapshots']] == ['one'] and listed['standing'] == 'one'
    bench.mounted.umount()
    again = place.mount(place / 'base')
    assert differences(again.dump(), before) == []
    assert len(os.listdir(f'{bench.session}/layers')) == 2               # what was sealed is joined
    place.run('reset', bench.session)
    assert bench.diff() == []


def test_a_state_holds_still_while_it_is_read(place):
    """Two files grow in turn: whenever the state is looked at, one is as long as the other, or one step ahead.

    No write crosses a page's end: the kernel may make two requests of such a one."""
    bench = Bench(place, True)
    stop = threading.Event()

    def grow():
        with open(f'{bench.at}/tmp/a', 'wb', 0) as one, open(f'{bench.at}/tmp/b', 'wb', 0) as other:
            while not stop.is_set():
                one.write(b'x' * STEP)
                other.write(b'y' * STEP)
    thread = threading.Thread(target=lambda: bench.mounted.do(grow))
    thread.start()
    try:
        lengths = []
        for _ in range(20):
            sizes = {c['path']: c['to']['size'] for c in diff(place, bench.session)}
            lengths.append(sizes.get('/tmp/a', 0))
            assert lengths[-1] - sizes.get('/tmp/b', 0) in (0, STEP)
        assert lengths == sorted(lengths) and lengths[-1] > lengths[0]
    finally:
        stop.set()
        thread.join()


def test_a_reset_while_the_present_state_is_compared_is_told(place):
    bench = Bench(place, True)
    names = [f'/tmp/{number}' for number in range(200)]
    for name in names:
        bench.write(name, b'a')
    held = bench.mounted.layers()
    place.run('snapshot', bench.session, 'one')
    for name in names:
        bench.write(name, b'b')         # as long: only the contents tell
    layers = len(bench.mounted.layers())
    slowly = ['strace', '-f', '-qq', '-o', '/dev/null', '-e', 'trace=openat,openat2', '-e', 'inject=openat,openat2:delay_enter=10000']
    with subprocess.Popen([*slowly, program(), 'diff', bench.session], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, text=True, cwd='/', env=without_leak_check(), **identity(place.user)) as process:
        while len(bench.mounted.layers()) == layers:
            assert process.poll() is None
        bench.mounted.reset_for_good(but=held)
        errors = process.communicate()[1]
    assert re.fullmatch(r'umlfs: \S+: was reset[^\n]+: try again\n', errors), errors
    assert process.returncode == TROUBLE
    assert bench.diff() == []
