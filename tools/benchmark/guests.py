"""User-Mode Linux guests: the same work in a guest on each place in turn, whose root is that place.

One guest does all of it, one thing after the other, and says a word after each; the times are the host's. Each guest finds its
root mounted anew, and the host's page cache warm.
"""

import dataclasses
import os
import shutil
import signal
import subprocess
import time

from . import places
from .processes import Failed, progress, run
from .work import KILO, grown

EXECS = 100
MEGABYTES = 200
STARTS_FASTER = "initcall_blacklist=raid6_select_algo,calibrate_xor_blocks"
DONE = "bench-done"
SCRIPT, ARCHIVE, MADE, WRITTEN = "bench-init", "bench.tar", "bench-made", "bench-written"


@dataclasses.dataclass(frozen=True)
class Step:
    name: str
    title: str
    command: str    # what the guest's shell does


CASES = [   # in the order in which a guest does them
    Step("guest-boot", "guest: boot to init", "mount -t proc proc /proc"),
    Step("guest-exec", f"guest: {EXECS} execs", f"i=0; while [ $i -lt {EXECS} ]; do /bin/true; i=$((i + 1)); done"),
    Step("guest-find", "guest: find /usr", "find /usr -size +1 >/dev/null"),
    Step("guest-find-again", "guest: find /usr, again", "find /usr -size +1 >/dev/null"),
    Step("guest-write", f"guest: write {MEGABYTES} MB", f"dd if=/dev/zero of=/{WRITTEN} bs=1M count={MEGABYTES} 2>/dev/null; sync"),
    Step("guest-untar", "guest: unpack 10,000 entries", f"mkdir /{MADE}; tar -xf /{ARCHIVE} -C /{MADE}; sync"),
    Step("guest-remove", "guest: rm -rf of them", f"rm -rf /{MADE}; sync"),
]


def command_line(space, root):
    kernel = shutil.which(os.environ.get("UMLFS_KERNEL", "linux.uml"))
    if kernel is None:
        raise Failed("no linux.uml: apt-get install user-mode-linux, or set UMLFS_KERNEL")
    return [kernel, "mem=512M", "root=/dev/root", "rootfstype=hostfs", f"rootflags={root}", "rw", "con=null", "con0=null,fd:1",
            "console=tty1", "panic=-1", STARTS_FASTER, f"init=/{SCRIPT}"]


def start(space, root, any_cpu):
    """The guest, in a process group of its own, as a process that says its words on its standard output."""
    memory = space.path if os.statvfs("/dev/shm").f_flag & os.ST_NOEXEC else "/dev/shm"     # it must be executable
    preload = space.umlfs.parent / "libumlfs-xstate.so"
    more = {"LD_PRELOAD": str(preload)} if preload.exists() else {}
    bind = [] if any_cpu else ["taskset", "-c", str(max(os.sched_getaffinity(0)))]
    return subprocess.Popen(bind + command_line(space, root), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                            start_new_session=True, env={**os.environ, **more, "TMPDIR": str(memory)}, cwd=space.path)


def end(process):
    """Also what the guest has made of processes."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    process.stdout.close()
    process.wait()


def prepare(place, space):
    steps = [f"{step.command}\necho {DONE} {step.name}" for step in CASES]
    script = place.root / SCRIPT
    script.write_text("\n".join(["#!/bin/sh", "exec </dev/null >/dev/tty0", *steps, "echo o >/proc/sysrq-trigger", ""]))
    script.chmod(0o755)
    shutil.copy(space.archive, place.root / ARCHIVE)
    space.sync()


def boot(place, space, any_cpu):
    """{step: milliseconds}, and {step: FUSE requests by kind}"""
    took, requests = {}, {}
    before, began = place.requests(), time.perf_counter()
    process = start(space, place.root, any_cpu)
    try:
        for line in process.stdout:
            words = line.decode(errors="replace").split()
            if words[:1] != [DONE]:
                continue
            took[words[1]] = (time.perf_counter() - began) * KILO
            after = place.requests()
            requests[words[1]] = grown(before, after)
            before, began = after, time.perf_counter()
    finally:
        end(process)
    if len(took) < len(CASES):
        raise Failed(f"the guest ended after {', '.join(took) or 'nothing'}")
    return took, requests


def measure_place(place, space, any_cpu, values, requests):
    prepare(place, space)
    took, requests[place.name] = boot(place, space, any_cpu)
    for step, value in took.items():
        values[step][place.name].append(value)
    run("rm", "-rf", *(place.root / name for name in (SCRIPT, ARCHIVE, WRITTEN)))
    place.renew()


def measure(space, only, rounds, any_cpu, results):
    """One guest does everything, so one chosen case is all of them. Its processes stay on one CPU, as `umlfs run` has them, or not."""
    if not any(step.name in only for step in CASES):
        return
    everywhere = places.make_all(space, space.guest_base)
    values = {step.name: {place.name: [] for place in everywhere} for step in CASES}
    problems, requests = {}, {}
    for number in range(rounds):
        for place in everywhere:
            progress(f"guest {number + 1}: {place.name} ...")
            if place.name not in problems:
                try:
                    measure_place(place, space, any_cpu, values, requests)
                except (Failed, OSError) as problem:
                    problems[place.name] = str(problem)
    for step in CASES:
        results.add_work(step, values[step.name], problems, requests.get("umlfs", {}).get(step.name))
