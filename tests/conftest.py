"""Fixtures for tests that run the program, and the rule that a test which is skipped in CI has failed.

    user    'root' and 'ordinary', one after the other
    place   a private directory of that user (umlfs_cli.Place); unmounts and removes everything afterwards
    base    a base in it: 'imported' for an ordinary user and 'plain' for root; with UMLFS_TEST_ALL=1, or of a test that is for
            one user only, both
    site    where `umlfs run` is tested; see run_site
    more_descriptors    a test that has thousands of files open
"""

import collections
import os
import resource

import pytest

from run_site import everything, site
from umlfs_cli import USERS, Place

DESCRIPTORS = 3500
PAIRS = {('root', 'plain'), ('ordinary', 'imported')}


@pytest.fixture(params=USERS)
def user(request):
    """Choose one with @pytest.mark.parametrize('user', ['root'], indirect=True)."""
    if request.param not in USERS:
        pytest.skip('needs root')
    return request.param


@pytest.fixture
def place(user):
    with Place(user) as made:
        yield made


@pytest.fixture(params=['imported', 'plain'])
def base(request, place):
    return place.imported_base() if request.param == 'imported' else place.plain_base()


@pytest.fixture
def more_descriptors():
    """Thousands, for the test and not for the daemon."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < DESCRIPTORS:
        pytest.skip(f'the limit of open files is {hard}: the test needs {DESCRIPTORS}')
    resource.setrlimit(resource.RLIMIT_NOFILE, (DESCRIPTORS, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def params_of(item):
    return item.callspec.params if hasattr(item, 'callspec') else {}


def pytest_collection_modifyitems(config, items):
    """What depends on the user and on the kind of base alike is seen in two of the four pairs."""
    users = collections.defaultdict(set)
    for item in items:
        if {'user', 'base'} <= params_of(item).keys():
            users[item.function].add(params_of(item)['user'])

    def is_chosen(item):
        return len(users[item.function]) < 2 or (params_of(item)['user'], params_of(item)['base']) in PAIRS

    if os.environ.get('UMLFS_TEST_ALL') != '1':
        config.hook.pytest_deselected(items=[item for item in items if not is_chosen(item)])
        items[:] = filter(is_chosen, items)


def fail_if_skipped(report):
    if report.skipped and not hasattr(report, 'wasxfail') and os.environ.get('CI'):
        report.outcome = 'failed'
        report.longrepr = f'skipped in CI: {report.longrepr}'


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    outcome = yield
    fail_if_skipped(outcome.get_result())


@pytest.hookimpl(hookwrapper=True)
def pytest_make_collect_report(collector):
    outcome = yield
    fail_if_skipped(outcome.get_result())
