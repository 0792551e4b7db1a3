"""Random operations through a mount and on a plain host directory give the same results and the same trees.

unit_model does them; `unit_model --help` and README.md tell what the environment chooses. A failure shows
the shortest script that fails.
"""

import os
import re
import subprocess

import pytest

from umlfs_cli import ROOT, Place, identity, program

OPERATIONS = '4000'

CASES = [('root', 'posix', 'imported'), ('root', 'posix', 'plain'), ('ordinary', '-', 'imported'), ('ordinary', '-', 'plain'),
         ('ordinary', 'xattr', 'imported')]


def run_model(place, *words, **variables):
    """(exit status, what it said) of the model's program, working in a place."""
    if not os.environ.get('UMLFS_MODEL'):
        pytest.skip('UMLFS_MODEL is not set: meson test sets it where cmocka is')
    environment = {'UMLFS_MODEL_OPS': OPERATIONS} | os.environ | {'UMLFS': program(), 'UMLFS_UNIT_DIR': place.path} | variables
    result = subprocess.run([os.environ['UMLFS_MODEL'], *words], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                            stderr=subprocess.STDOUT, cwd='/', env=environment, check=False, **identity(place.user))
    return result.returncode, os.fsdecode(result.stdout)


@pytest.mark.parametrize('case', CASES, ids='-'.join)
def test_random_operations_through_a_mount(case):
    user, options, base = case
    if user == 'root' and not ROOT:
        pytest.skip('needs root')
    with Place(user) as place:
        status, said = run_model(place, 'mount', options, base)
        assert status == 0, said
        assert os.listdir(place.path) == []


def test_a_failure_shows_the_shortest_script(tmp_path):
    """A guest's new file belongs to its directory's owner, which no plain directory would do."""
    if not ROOT:
        pytest.skip('needs root')
    noise = [f'mkfile 0 0 0 c/{name} -\nwrite 1 0 500 c/{name} -\n' for name in 'vwxyz']
    script = tmp_path / 'script'
    script.write_text(''.join([*noise[:3], 'chown 65537 0 0 e -\n', *noise[3:], 'mkdir 0 0 0 e/new%20name -\n']))
    with Place('root') as place:
        status, said = run_model(place, 'mount', 'xattr', 'plain', UMLFS_MODEL_SCRIPT=str(script))
        assert status == 1, said
        assert '\nchown 65537 0 0 e -\nmkdir 0 0 0 e/new%20name -\n\n' in said, said
        assert re.search(r'got: .*e/new name .* 1:1 ', said), said
        script.write_text(said)
        again, _ = run_model(place, 'mount', 'xattr', 'plain', UMLFS_MODEL_SCRIPT=str(script), UMLFS_MODEL_SHRINK='0')
        assert again == 1
        assert os.listdir(place.path) == []
