"""Callers who come one after another until they are refused, talk, and leave."""

import asyncio
import json
import time
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field

import numpy as np
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from tests.support.system import SCRIPTED

ALONE = 2
"""Turns of the first caller before the second comes."""
EVERY_S = 3.0
"""One more caller comes."""
REST_S = 2.5
"""Between a reply and the caller's next turn."""
HOLD_S = 20.0
"""The callers who were admitted go on for so long after the last has come."""
ENGINES = {
    **SCRIPTED,
    "PARLEY_LLM_ENGINE": "tests.support.engines:NarrowModel",
    "PARLEY_TTS_ENGINE": "tests.support.engines:NarrowVoice",
    "PARLEY_SCRIPTED_TTS_MS": "150",
    "PARLEY_SCRIPTED_TTS_SECONDS": "1.6",
}
"""Three replies and three sentences at a time: a reply takes 2.2 s to write, and 4.8 s to hear."""


@dataclass
class Ramp:
    """What the callers saw."""

    admitted: int = 0
    refused: dict[str, int] = field(default_factory=dict)
    """How often, by the reason."""
    alone_ms: list[float] = field(default_factory=list)
    """Typed turn to first audio, of the first caller alone."""
    full_ms: list[float] = field(default_factory=list)
    """The same of all callers, from the first refusal on."""
    failed: int = 0
    """Turns without a complete reply."""
    again_s: float = 0.0
    """From the leaving of all to the next caller's reply."""

    def figures(self) -> dict[str, float]:
        return {
            "admitted": self.admitted,
            "refused": sum(self.refused.values()),
            "alone p50 ms": round(float(np.median(self.alone_ms))),
            "full p50 ms": round(float(np.median(self.full_ms))),
            "full p95 ms": round(float(np.percentile(self.full_ms, 95))),
            "turns failed": self.failed,
            "back after s": round(self.again_s, 1),
        }


async def climb(url: str, callers: int) -> Ramp:
    """Let this many callers try to come in, then let all leave."""
    ramp, target = Ramp(), f"ws{url.removeprefix('http')}/ws?rate=16000"
    full = asyncio.Event()
    async with AsyncExitStack() as stack, asyncio.TaskGroup() as tasks:
        talking = []
        for _ in range(callers):
            socket = await stack.enter_async_context(connect(target, compression=None))
            if not await _started(socket):
                reason = socket.close_reason or ""
                ramp.refused[reason] = ramp.refused.get(reason, 0) + 1
                full.set()
            else:
                ramp.admitted += 1
                if ramp.admitted == 1:
                    ramp.alone_ms += [(await _turn(socket))[0] for _ in range(ALONE)]
                talking.append(tasks.create_task(_talk(socket, ramp, full)))
            await asyncio.sleep(EVERY_S)
        full.set()
        await asyncio.sleep(HOLD_S)
        for task in talking:
            task.cancel()
    left_s = time.monotonic()
    while True:
        async with connect(target, compression=None) as socket:
            if await _started(socket):
                await _turn(socket)
                break
        await asyncio.sleep(0.2)
    ramp.again_s = time.monotonic() - left_s
    return ramp


async def _started(socket: ClientConnection) -> bool:
    with suppress(ConnectionClosed):
        await socket.send('{"type":"start_streaming"}')
        async for message in socket:
            if isinstance(message, str) and json.loads(message)["type"] == "ready":
                return True
    await socket.wait_closed()
    return False


async def _talk(socket: ClientConnection, ramp: Ramp, full: asyncio.Event) -> None:
    while True:
        first_ms, status = await _turn(socket)
        ramp.failed += status != "completed"
        if full.is_set():
            ramp.full_ms.append(first_ms)
        await asyncio.sleep(REST_S)


async def _turn(socket: ClientConnection) -> tuple[float, str]:
    """A typed turn. Returns the time to its first audio, in ms, and the status of the reply, once it was played."""
    began_s, first_s, samples = time.monotonic(), 0.0, 0
    await socket.send('{"type":"text_input","text":"hello"}')
    async for message in socket:
        if isinstance(message, bytes):
            first_s = first_s or time.monotonic()
            samples += len(message) // 2
        elif (event := json.loads(message))["type"] == "reply_done":
            await asyncio.sleep(max(0.0, first_s + samples / 16_000 - time.monotonic()))
            return 1000 * (first_s - began_s), event["status"]
    return float("nan"), "closed"
