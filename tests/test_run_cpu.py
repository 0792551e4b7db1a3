"""On which CPU `umlfs run` keeps a guest."""

import contextlib
import os
import subprocess
import sys

from run_site import read_until, told
from umlfs_cli import PATIENCE, identity

ALLOWED = os.sched_getaffinity(0)
BUSY = 'while :; do :; done'


def processes_of_group(leader):
    found = []
    for entry in filter(str.isdigit, os.listdir('/proc')):
        with contextlib.suppress(ProcessLookupError):
            if os.getpgid(int(entry)) == leader:
                found.append(int(entry))
    return found


def cpus_of(leader):
    """Of all processes of the guest."""
    found = set()
    for pid in processes_of_group(leader):
        with contextlib.suppress(ProcessLookupError):
            found.add(frozenset(os.sched_getaffinity(pid)))
    return found


@contextlib.contextmanager
def guest(site, *words, script=BUSY):
    """One that is at work: the pid of its kernel."""
    with told(site, *words, site.base, '--', 'sh', '-c', f'echo at work; {script}') as (process, started):
        try:
            read_until(process.stdout, b'at work')
            yield started['pid']
        finally:
            process.terminate()


# Wants the CPU that the process is on, until that is on another one. The other stays idle.
RIVAL = """
import os, sys
pid, cpu = int(sys.argv[1]), {int(sys.argv[2])}
os.sched_setaffinity(0, cpu)
while os.sched_getaffinity(pid) == cpu:
    pass
"""


def test_a_guest_is_on_one_cpu(site):
    with guest(site) as pid:
        assert len(processes_of_group(pid)) > 1
        [cpus] = cpus_of(pid)
        assert len(cpus) == 1 and cpus <= ALLOWED


def test_a_guest_with_several_cpus_is_on_any(site):
    with guest(site, '--append', 'ncpus=2') as pid:
        assert cpus_of(pid) == {frozenset(ALLOWED)}


def test_a_guest_leaves_a_cpu_that_somebody_else_wants(site):
    """Where there is another one, which is idle: nothing else runs beside this test."""
    assert len(ALLOWED) > 1
    with guest(site) as pid:
        [[first]] = cpus_of(pid)
        subprocess.run([sys.executable, '-c', RIVAL, str(pid), str(first)], check=True, timeout=PATIENCE, **identity('ordinary'))
        while len(moved := cpus_of(pid)) != 1:      # one after the other
            pass
        [[now]] = moved
        assert now != first and now in ALLOWED
