"""Usage of a reply in metrics and traces: tokens, time to first token, and attributes of its span."""

import asyncio
import random
from collections.abc import AsyncGenerator, Sequence
from typing import Any

import pytest
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from prometheus_client import REGISTRY

from services.llm.engine import Usage
from services.llm.stage import LlmStage
from shared.bus.leases import Lease
from shared.protocol.frames import TranscriptFinal
from shared.protocol.session import Message, ReplyOptions, SessionSettings, Tool
from shared.worker.work import Work
from tests.support.simulated_bus import SimulatedBus
from tests.support.simulated_workers import SimulatedLeases
from tests.support.waiting import HANG_S

PARENT = f"00-{0xABC:032x}-{0xDEF:016x}-01"
TOKENS = ("prompt", "cached", "reply")


class Model:
    """Yields the given items; a number is a pause in seconds."""

    slots = 1

    def __init__(self, *items: str | Usage | float) -> None:
        self.items = items
        self.waits = asyncio.Event()

    async def load(self) -> None: ...

    async def reply(
        self, messages: Sequence[Message], *, language: str, prefix: str = "", tools: Sequence[Tool] = ()
    ) -> AsyncGenerator[str | Usage, None]:
        for item in self.items:
            if isinstance(item, float):
                self.waits.set()
                await asyncio.sleep(item)
            else:
                yield item

    async def close(self) -> None: ...


async def reply(model: Model, engine: str, options: ReplyOptions | None = None) -> None:
    """Run a stage with that engine name once."""
    bus = SimulatedBus(random.Random(0), (0.0, 0.0))
    leases = SimulatedLeases(bus)
    settings = SessionSettings()
    bus.save_settings("s", settings)
    job = TranscriptFinal("s", 1, 0, "Hello.", options or ReplyOptions(), PARENT)
    lease = Lease(b"jobs", "1-0", 1, job)
    leases.fences[lease.id] = 1
    work = Work(bus, leases, "llm", lease)
    work.begin_span({})
    try:
        await work.finish(await LlmStage(model, engine, 0, 400).work(work))
    finally:
        work.span.end()


def tokens(engine: str) -> tuple[float | None, ...]:
    name = "parley_llm_tokens_total"
    return tuple(REGISTRY.get_sample_value(name, {"engine": engine, "direction": one}) for one in TOKENS)


def first_tokens(engine: str) -> tuple[float, float]:
    """Return the number of observations and their sum in seconds."""
    found = [REGISTRY.get_sample_value(f"parley_llm_first_token_seconds_{part}", {"engine": engine}) for part in ("count", "sum")]  # fmt: skip
    return found[0] or 0.0, found[1] or 0.0


def attributes(spans: InMemorySpanExporter) -> dict[str, Any]:
    (span,) = spans.get_finished_spans()
    return {
        key: value for key, value in (span.attributes or {}).items() if key.startswith(("gen_ai.usage", "gen_ai.resp"))
    }


async def test_tokens_are_counted_and_traced(spans: InMemorySpanExporter) -> None:
    await reply(Model("Well, ", "yes.", Usage(30, 16, 5, "stop")), "usage-all")
    assert tokens("usage-all") == (14, 16, 5)
    noted = attributes(spans)
    assert noted.pop("gen_ai.response.time_to_first_chunk") >= 0
    assert noted == {
        "gen_ai.usage.input_tokens": 30,
        "gen_ai.usage.cache_read.input_tokens": 16,
        "gen_ai.usage.output_tokens": 5,
        "gen_ai.response.finish_reasons": ("stop",),
    }


async def test_a_model_without_usage_counts_nothing(spans: InMemorySpanExporter) -> None:
    await reply(Model("Well."), "usage-none")
    assert tokens("usage-none") == (0, 0, 0)
    assert list(attributes(spans)) == ["gen_ai.response.time_to_first_chunk"]


async def test_tokens_of_a_cancelled_reply_count(spans: InMemorySpanExporter) -> None:
    usage = Usage(20)
    model = Model(usage, "Well, ", 60.0)
    work = asyncio.create_task(reply(model, "usage-cut"))
    async with asyncio.timeout(HANG_S):
        await model.waits.wait()
    usage.reply = 7
    work.cancel()
    with pytest.raises(asyncio.CancelledError):
        await work
    assert tokens("usage-cut") == (20, 0, 7)
    assert attributes(spans)["gen_ai.usage.output_tokens"] == 7


async def test_malformed_usage_is_ignored() -> None:
    await reply(Model("Well.", Usage(3, 9, 1)), "usage-odd")
    assert tokens("usage-odd") == (0, 9, 1)


async def test_the_time_to_first_token_starts_at_the_request() -> None:
    await reply(Model(Usage(1), "", 0.05, "Well, ", 0.2, "yes."), "usage-first")
    count, seconds = first_tokens("usage-first")
    assert count == 1
    assert 0.05 <= seconds < 0.2


async def test_a_given_text_does_not_use_the_model() -> None:
    await reply(Model("Well."), "usage-say", ReplyOptions(say="Welcome."))
    assert first_tokens("usage-say") == (0, 0)
    assert tokens("usage-say") == (None, None, None)


async def test_the_counters_start_at_zero() -> None:
    await LlmStage(Model(), "usage-zero", 0, 400).load()
    assert tokens("usage-zero") == (0, 0, 0)
