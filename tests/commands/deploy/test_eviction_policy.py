"""A broker that would delete keys when it is full is named: by `parley doctor`, at start, and by the edge's log."""

import asyncio
from pathlib import Path

import pytest
import redis.asyncio as redis
from structlog.testing import capture_logs

from deploy.local.doctor import check_broker
from services.edge.gateway.admission import Admission
from shared.bus.bus import Bus
from shared.bus.versions import eviction_problem
from tests.support.broker import embedded_broker
from tests.support.waiting import until


@pytest.mark.parametrize("policy", ["allkeys-lru", "allkeys-random", "volatile-ttl", "volatile-lfu"])
def test_every_policy_that_evicts_is_a_problem(policy: str) -> None:
    assert policy in eviction_problem(policy)
    assert "noeviction" in eviction_problem(policy)


async def test_a_dangerous_policy_is_named(tmp_path: Path) -> None:
    async with embedded_broker(tmp_path) as settings:
        assert settings.redis_url is not None
        assert (await check_broker(settings, {})).outcome == "ok"
        async with redis.Redis.from_url(settings.redis_url.get_secret_value()) as client:
            await client.config_set("maxmemory-policy", "allkeys-lru")
        found = await check_broker(settings, {})
        assert found.outcome == "wrong"
        assert "allkeys-lru" in found.detail
        assert "noeviction" in found.fix
        admission = Admission(settings)
        with capture_logs() as logs:
            async with Bus.connect(settings, "edge") as bus, asyncio.TaskGroup() as tasks:
                watching = tasks.create_task(admission.watch(bus))
                await until(lambda: admission.broker)
                watching.cancel()
        assert [line["reason"] for line in logs if "reason" in line] == [eviction_problem("allkeys-lru")]
