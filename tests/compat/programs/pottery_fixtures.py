"""The fixtures that pottery's tests want, which its source distribution leaves out."""

import pytest
import redis
import redis.asyncio

URL = "redis://localhost:6379/0"


@pytest.fixture
def redis_url():
    return URL


@pytest.fixture(name="redis")
def synchronous(redis_url):
    with redis.Redis.from_url(redis_url) as client:
        client.flushdb()
        yield client
        client.flushdb()


@pytest.fixture
async def aioredis(redis_url):
    async with redis.asyncio.Redis.from_url(redis_url) as client:
        await client.flushdb()
        yield client
        await client.flushdb()
