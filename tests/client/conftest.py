"""The real servers of the end-to-end tests, for the tests that want one."""

from tests.e2e.conftest import (
    cluster,
    make_cluster,
    make_server,
    own_server,
    pytest_runtest_makereport,
    server,
    shared_cluster,
)

__all__ = [
    "cluster",
    "make_cluster",
    "make_server",
    "own_server",
    "pytest_runtest_makereport",
    "server",
    "shared_cluster",
]
