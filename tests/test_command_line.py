"""The command line: help, usage errors, and who may command a daemon."""

import json
import os
import re
import subprocess

import pytest

from calls import overwrite
from umlfs_cli import PATIENCE, as_ordinary, as_root, mounts_below, needs_root, run

COMMANDS = ['import', 'mount', 'umount', 'snapshot', 'reset', 'list', 'delete', 'status', 'check', 'verify',
            'export', 'commit']

# These have exit statuses of their own: test_diff.py, test_run.py, test_doctor.py.
PROGRAMS = [*COMMANDS, 'diff', 'run', 'doctor', 'clean']


def test_help_tells_of_every_command():
    for words in ['--help'], ['-h'], ['help']:
        result = run(*words)
        assert (result.status, result.stderr) == (0, '')
        assert all(re.search(rf'^  {command} ', result.stdout, re.MULTILINE) for command in PROGRAMS)
        assert all(len(line) <= 80 for line in result.stdout.split('\n'))
    result = run()
    assert (result.status, result.stdout) == (2, '') and result.stderr.startswith('usage: ')


@pytest.mark.parametrize('command', PROGRAMS)
def test_every_command_has_help(command):
    for words in [command, '--help'], [command, '-h'], [command, 'x', '--help']:
        result = run(*words)
        assert (result.status, result.stderr) == (0, '')
        assert result.stdout.startswith(f'usage: umlfs {command} ')
        assert all(len(line) <= 80 for line in result.stdout.split('\n')), result.stdout


def test_version_is_the_projects():
    for word in '--version', '-V':
        result = run(word)
        assert result.status == 0 and re.fullmatch(r'umlfs \d+\.\d+\.\d+ \(libfuse 3\.[^\n]+\)\n', result.stdout), result


def without_room(place, *words):
    """(status, what it said) with a standard output that takes nothing."""
    with open('/dev/full', 'w', encoding='ascii') as full, place.start(*words, stdout=full, stderr=subprocess.PIPE) as process:
        return process.wait(PATIENCE), process.stderr.read().decode()


FAILURE = (1, 'umlfs: standard output: No space left on device\n')


def test_a_mount_that_cannot_say_where_is_taken_away(place, base):
    assert without_room(place, 'mount', base, place / 'session') == (1, 'umlfs: standard output: cannot be written\n')
    assert mounts_below(place.path) == []


@pytest.mark.parametrize('words', [['--help'], ['--version'], ['status', '--json'], ['doctor', '--json'], *([command, '--help'] for command in PROGRAMS)],
                         ids=' '.join)
def test_help_that_cannot_be_written_is_an_error(place, words):
    status, said = without_room(place, *words)
    assert said == FAILURE[1] and status == {'check': 8, 'verify': 8, 'diff': 2, 'run': 125}.get(words[0], 1)


def test_an_answer_that_cannot_be_written_is_an_error(place):
    mounted = place.mount(place.imported_base())
    mounted.do(overwrite, mounted / 'tmp/new', b'')
    place.run('snapshot', mounted.session, 'one')
    for words in ['list'], ['list', '--json'], ['status'], ['status', '--json']:
        assert without_room(place, *words, mounted.session) == FAILURE
    for number in range(1500):      # more than a buffer
        mounted.do(overwrite, mounted / f'tmp/{number}', b'')
    status, said = without_room(place, 'diff', mounted.session)
    assert status == 2 and re.fullmatch(r'umlfs: standard output: [^\n]+\n', said)


@pytest.mark.parametrize('words', [['nonsense'], [''], ['Mount'], ['--nonsense'], ['-x']])
def test_unknown_commands_are_usage_errors(words):
    result = run(*words)
    assert (result.status, result.stdout) == (2, ''), result
    assert re.fullmatch(r'umlfs: [^\n]*: [^\n]+\n', result.stderr), result


@pytest.mark.parametrize('word, meant', [('mont', 'mount'), ('umont', 'umount'), ('stauts', 'status'), ('snapshots', 'snapshot'), ('Mount', 'mount'),
                                         ('un', 'run'), ('nonsense', None), ('x', None), ('', None)])
def test_a_command_that_was_mistyped_is_found(word, meant):
    said = f'did you mean `{meant}`? ' if meant else ''
    assert run(word) == (2, '', f'umlfs: {word}: unknown command: {said}`umlfs --help` lists them\n')


@pytest.mark.parametrize('command', PROGRAMS)
def test_help_of_a_command_is_what_the_command_says(command):
    assert run('help', command) == run(command, '--help')


def test_help_of_no_command_is_an_error():
    assert run('help', 'mont') == run('mont')
    assert run('help', 'unmount').stdout.startswith('usage: umlfs umount ')


@pytest.mark.parametrize('command', COMMANDS)
def test_unknown_options_and_wrong_arguments_are_usage_errors(place, command):
    most = {'import': 2, 'mount': 3, 'snapshot': 2, 'reset': 2, 'delete': 2, 'export': 2, 'commit': 2}.get(command, 1)
    cases = [['--nonsense', 'a', 'b'], ['-x', 'a', 'b'], ['a', 'b', '--nonsense']]
    if command != 'import':     # which takes any number
        cases.append(['a'] * (most + 1))
    if command != 'status':
        cases.append([])
    if command in ('mount', 'import', 'snapshot', 'delete', 'export', 'commit'):
        cases.append(['a'])
    if command == 'mount':
        cases += [['-o'], ['a', 'b', '-o']]
    for words in cases:
        place.refused(command, *words, status=2, cwd=place.path)
    assert os.listdir(place.path) == []


@pytest.mark.parametrize('command', COMMANDS)
def test_an_empty_argument_is_an_error(place, command):
    names = command in ('snapshot', 'reset', 'delete')       # of which an empty one is told as any that may not be
    most = {'import': 3, 'mount': 3, 'export': 2, 'commit': 2}.get(command, 1 + names)
    for at in range(most):
        words = ['a'] * most
        words[at] = ''
        line = place.refused(command, *words, status=1 if names and at else 2, cwd=place.path)
        assert line == ("the name: a snapshot's name may not be empty" if names and at else f'{command}: an argument is empty')
        assert os.listdir(place.path) == []


def test_options_end_with_two_dashes(place):
    base = place.imported_base()
    place.run('mount', base, '--', '-session', cwd=place.path)
    place.run('snapshot', '--', '-session', 'one', cwd=place.path)
    assert json.loads(place.run('list', '--json', '--', '-session', cwd=place.path))['standing'] == 'one'
    place.run('umount', '--', '-session', cwd=place.path)


@as_root
def test_only_the_owner_and_root_may_command_a_daemon(place):
    mounted = place.mount(place.imported_base(), options='allow_other')
    os.chmod(mounted.session, 0o777)
    os.chmod(f'{mounted.session}/control', 0o666)
    for words in ['snapshot', 'one'], ['reset', '@base'], ['list', None], ['status', None]:
        result = run(words[0], mounted.session, *([words[1]] if words[1] else []), user='ordinary')
        assert result.status == 1 and re.fullmatch(r'umlfs: [^\n]+\n', result.stderr), result
    assert json.loads(place.run('list', '--json', mounted.session))['snapshots'] == []


@as_ordinary
@needs_root
def test_root_may_command_an_ordinary_users_daemon(place):
    mounted = place.mount(place.imported_base())
    mounted.do(overwrite, mounted / 'etc/new', b'new')
    assert run('snapshot', mounted.session, 'one', user='root').status == 0
    assert run('reset', mounted.session, '@base', user='root').status == 0
    assert not mounted.do(os.path.exists, mounted / 'etc/new')
    assert json.loads(run('status', '--json', mounted.session, user='root').stdout)['standing'] == '@base'
    assert run('umount', mounted.session, user='root').status == 0
    assert mounts_below(place.path) == []
