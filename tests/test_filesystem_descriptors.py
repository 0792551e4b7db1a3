"""Thousands of open files take few descriptors of the daemon."""

import contextlib
import json
import os
import random
import resource
import tarfile

import pytest

from calls import read_file
from umlfs_cli import small_members, write_archive

MANY = 2500


def use_many(top, watch):
    """Has MANY files open at once; reads all, writes to some, makes and unlinks some; calls watch() now and then."""
    with contextlib.ExitStack() as stack:
        kept = []
        for i in range(MANY):
            kept.append(stack.enter_context(open(f'{top}/many/{i}', 'r+b', buffering=0)))
            assert kept[i].read() == b'%d' % i
            if i % 5 == 0:
                kept[i].write(b' more')
                os.unlink(f'{top}/many/{i}')
                with open(f'{top}/many/new-{i}', 'xb') as stream:
                    stream.write(b'new')
            if i % 50 == 0:
                watch()
        for i in random.Random(3).sample(range(MANY), MANY):
            kept[i].seek(0)
            assert kept[i].read() == (b'%d more' if i % 5 == 0 else b'%d') % i
        watch()


@pytest.mark.parametrize('user, limit', [('root', 1024), ('ordinary', 1024), ('ordinary', 200)], indirect=['user'])
def test_a_daemon_needs_few_descriptors_for_thousands_of_open_files(place, more_descriptors, limit):
    members = small_members() + [('many', {'type': tarfile.DIRTYPE, 'mode': 0o755}, b'')] \
        + [(f'many/{i}', {}, b'%d' % i) for i in range(MANY)]
    base = place.imported_base('base', write_archive(place / 'many.tar', members))
    place.run('mount', base, place / 'session',
              preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit)))
    pid = json.loads(place.run('status', '--json', place / 'session'))['pid']
    counts = []
    place.do(use_many, place / 'session/rootfs', lambda: counts.append(os.listdir(f'/proc/{pid}/fd')))
    most = max(len(count) for count in counts)
    assert 20 < most < min(512, limit), most
    assert place.do(read_file, place / 'session/rootfs/many/new-5') == b'new'
