"""The examples do what they say, with real guests."""

import json
import os
import pathlib
import subprocess

import pytest

import guest
from umlfs_cli import PATIENCE, identity, program

EXAMPLES = pathlib.Path(__file__).resolve().parent.parent / 'tools' / 'examples'
ENV = {'UMLFS': program(), 'UMLFS_KERNEL': guest.uml_kernel() or ''}


def example(site, name, directory, *words):
    options = identity('ordinary') | site.options({'env': ENV, 'cwd': directory})
    return subprocess.run(['bash', EXAMPLES / name, *words], capture_output=True, text=True, timeout=PATIENCE, **options)


def tree(site, name, **programs):
    path = site.place / name
    site.place.do(os.mkdir, path)
    for program_name, text in programs.items():
        site.place.do(pathlib.Path(path, program_name).write_text, f'#!/bin/sh\n{text}\n')
        site.place.do(os.chmod, f'{path}/{program_name}', 0o755)
    return path


def test_ci_ends_as_the_tests_do(site):
    path = tree(site, 'project', good='pwd; exit 0', bad='exit 3', crash='echo c >/proc/sysrq-trigger; sleep 1000')
    assert example(site, 'ci', path, site.base, './good').stdout == '/src\n'
    assert example(site, 'ci', path, site.base, './bad').returncode == 3
    crashed = example(site, 'ci', path, site.base, './crash')
    assert crashed.returncode == 125 and 'ci: the kernel failed: see ci-out/kernel.log' in crashed.stderr
    assert 'Kernel panic' in pathlib.Path(path, 'ci-out/kernel.log').read_text()
    assert json.loads(pathlib.Path(path, 'ci-out/status.json').read_text().splitlines()[-1])['reason'] == 'panic'


def test_matrix_runs_every_test_with_every_kernel(site):
    """Kernels of one name in two directories, as builds of two trees are, have results of their own."""
    path, tests = tree(site, 'matrix'), tree(site, 'tests', one='echo "one $(uname -r)"', two='echo two; exit 4')
    kernel = guest.uml_kernel()
    kernels = [kernel]
    for directory in 'k1', 'k2', 'k1/k2':
        site.place.do(os.mkdir, f'{path}/{directory}')
        site.place.do(os.symlink, kernel, f'{path}/{directory}/linux')
        kernels.append(f'{directory}/linux')
    result = example(site, 'matrix', path, site.base, tests, *kernels)
    assert result.returncode != 0
    assert sorted(result.stdout.splitlines()) == sorted(
        f'{word} {name} {test}' for name in kernels for word, test in (('ok', 'one'), ('FAILED(4)', 'two')))
    logs = sorted(pathlib.Path(path, 'matrix-out').glob('*/*.log'))
    assert len(logs) == 2 * len(kernels)
    assert all(log.read_text().startswith(log.stem) for log in logs)
    assert pathlib.Path(path, 'matrix-out/2-linux/two.log').read_text() == 'two\n'


@pytest.mark.parametrize('name, words', [('ci', []), ('ci', ['base']), ('matrix', []), ('matrix', ['base']), ('matrix', ['base', '/tmp'])])
def test_an_example_tells_how_it_is_used(site, name, words):
    result = example(site, name, site.tmp, *words)
    assert (result.returncode, result.stdout) == (2, '') and result.stderr.startswith(f'usage: tools/examples/{name} BASE '), result
    assert result.stderr.count('\n') == 1 and os.listdir(site.tmp) == []
