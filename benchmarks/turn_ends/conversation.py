"""When the turns of microphones are committed: the real vad and asr stages in virtual time, all microphones at once."""

import asyncio
from collections.abc import Callable, Sequence

import numpy as np

from benchmarks.virtual import loop as virtual_loop
from benchmarks.virtual.stages import SLOTS, start_stages
from deploy.client.performance import FRAME, Samples
from services.asr.engine import Recognizer
from services.asr.stage import AsrStage
from services.vad.endpointing.engine import ENGINES as ENDPOINTING
from services.vad.engine import ENGINES as DETECTORS
from services.vad.stage import VadStage
from shared.engines.registry import create_engine
from shared.protocol.frames import AudioChunk, Frame, SessionEnded, SessionStarted, TurnCommitted
from shared.protocol.session import RATE_HZ
from shared.protocol.streams import StreamKind
from shared.settings import Settings


def commits_of(
    microphones: Sequence[Samples], detector: str, endpointing: str, recognizer: Recognizer, settings: Settings
) -> list[list[float]]:
    """Return when the turns of each microphone were committed, in seconds since it began.

    Raises:
        UnknownEngine: an engine is not installed.
    """
    ears = VadStage(
        create_engine("vad", detector, DETECTORS, settings),
        create_engine("endpoint", endpointing, ENDPOINTING, settings),
        SLOTS,
        detector,
        endpointing,
    )
    return virtual_loop.run(_listen(microphones, ears, AsrStage(recognizer, "virtual"), settings))


async def _listen(
    microphones: Sequence[Samples], ears: VadStage, words: AsrStage, settings: Settings
) -> list[list[float]]:
    commits: list[list[float]] = [[] for _ in microphones]
    names = [f"microphone {number}" for number in range(len(microphones))]
    loop = asyncio.get_running_loop()
    async with asyncio.TaskGroup() as tasks:
        bus = await start_stages((ears, words), settings, tasks)
        began_s = loop.time()
        for name, committed in zip(names, commits, strict=True):
            bus.follow(StreamKind.OUT, name, "0-0", _noting(committed, lambda: loop.time() - began_s))
            bus.request_listener(SessionStarted(name, settings.session))
        for offset in range(0, max(map(len, microphones)), FRAME):
            await asyncio.sleep(began_s + (offset + FRAME) / RATE_HZ - loop.time())
            for name, samples in zip(names, microphones, strict=True):
                if len(frame := samples[offset : offset + FRAME]):
                    bus.add(StreamKind.IN, name, 1, AudioChunk(offset, _pcm(frame)))
        for name in names:
            bus.add(StreamKind.IN, name, 1, SessionEnded("over"))
    await ears.close()
    return commits


def _noting(committed: list[float], now_s: Callable[[], float]) -> Callable[[str, int, list[Frame]], None]:
    def deliver(entry_id: str, fence: int, frames: list[Frame]) -> None:
        committed.extend(now_s() for frame in frames if isinstance(frame, TurnCommitted))

    return deliver


def _pcm(samples: Samples) -> bytes:
    return bytes((samples * 32_767).clip(-32_768, 32_767).astype(np.int16).tobytes())
