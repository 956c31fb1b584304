"""Counts of what a broker stores, for tests that nothing grows."""

from redis.asyncio import Redis

from shared.settings import STAGES

MIB = 1 << 20


async def broker_counts(url: str) -> dict[str, float]:
    """Return memory, keys, keys without a time to live, and jobs, pending jobs and consumers of all stages.

    It reads every key: not for a system in use.
    """
    async with Redis.from_url(url, decode_responses=True) as client:
        lasting = [key async for key in client.scan_iter("parley:*", count=500) if await client.ttl(key) == -1]
        jobs = [f"parley:{{0}}:jobs:{stage}" for stage in STAGES]
        groups = [group for key in jobs for group in await client.xinfo_groups(key)]
        return {
            "broker MiB": (await client.info("memory"))["used_memory"] / MIB,
            "keys": await client.dbsize(),
            "keys without TTL": len(lasting),
            "jobs": sum([await client.xlen(key) for key in jobs]),
            "pending": sum(group["pending"] for group in groups),
            "consumers": sum(group["consumers"] for group in groups),
        }
