"""What the person said in a turn, as it sounds: read from the session's stream of speech."""

import asyncio
from contextlib import aclosing

import structlog

from shared.protocol.frames import AudioChunk, TurnAudioReady
from shared.protocol.session import RATE_HZ
from shared.protocol.streams import StreamKind
from shared.worker.work import Work

log = structlog.get_logger()

WAIT_S = 2.0
"""The audio lies there when the turn is given to be answered; what has not come by then was lost with its worker."""


async def sound_of(work: Work, job: TurnAudioReady, longest_ms: int) -> bytes:
    """The turn's audio, s16le mono at 16 kHz, the latest `longest_ms` of it; the same whoever reads it, and when.

    Raises:
        ValueError: nothing of it is there any more.
    """
    pieces: list[bytes] = []
    try:
        async with asyncio.timeout(WAIT_S):
            await _read(work, job, pieces)
    except TimeoutError:
        log.warning("sound is cut off", session=job.session, turn=job.turn, samples=sum(map(len, pieces)) // 2)
    if not pieces:
        raise ValueError(f"turn {job.turn} was given to be heard, and nothing of its sound is there")
    return b"".join(pieces)[-2 * (longest_ms * RATE_HZ // 1000) :]


async def _read(work: Work, job: TurnAudioReady, pieces: list[bytes]) -> None:
    position = job.start
    async with work.feed(StreamKind.SPEECH, job.cursor) as feed, aclosing(feed):
        async for frame in feed:
            if type(frame) is not AudioChunk or frame.offset + len(frame.pcm) // 2 <= position:
                continue
            if frame.offset >= job.end:
                return  # what was before it was skipped
            pieces.append(frame.pcm[2 * max(0, position - frame.offset) : 2 * (job.end - frame.offset)])
            position = frame.offset + len(frame.pcm) // 2
            if position >= job.end:
                return
