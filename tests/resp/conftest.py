from collections.abc import Iterator

import pytest

from tests.resp.real_redis import RealRedis


@pytest.fixture(scope="session")
def real_redis() -> Iterator[RealRedis]:
    with RealRedis() as server:
        yield server
