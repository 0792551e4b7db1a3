"""The examples do what they say, with real guests."""

import json
import os
import pathlib
import subprocess

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
    path, tests = tree(site, 'matrix'), tree(site, 'tests', one='echo one', two='echo two; exit 4')
    kernel = guest.uml_kernel()
    other = site.place / 'other-kernel'
    site.place.do(os.symlink, kernel, other)
    result = example(site, 'matrix', path, site.base, tests, kernel, other)
    assert result.returncode != 0
    assert sorted(result.stdout.splitlines()) == sorted(
        f'{word} {name} {test}' for name in (kernel, other) for word, test in (('ok', 'one'), ('FAILED(4)', 'two')))
    assert pathlib.Path(path, 'matrix-out/other-kernel/two.log').read_text() == 'two\n'
