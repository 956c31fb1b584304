"""Read the audio of one turn from the session's speech stream."""

import asyncio
from contextlib import aclosing

import structlog

from shared.protocol.frames import AudioChunk, TurnAudioReady
from shared.protocol.session import RATE_HZ
from shared.protocol.streams import StreamKind
from shared.worker.work import Work

log = structlog.get_logger()

WAIT_S = 2.0
"""The vad stage publishes a turn's audio before the turn. Audio that is still missing after this time was lost."""


async def read_turn_audio(work: Work, job: TurnAudioReady, longest_ms: int) -> bytes:
    """Return the last `longest_ms` of the turn's audio, s16le mono at 16 kHz. A second attempt reads the same samples.

    Raises:
        ValueError: the stream has no audio of this turn.
    """
    pieces: list[bytes] = []
    try:
        async with asyncio.timeout(WAIT_S):
            await _read(work, job, pieces)
    except TimeoutError:
        log.warning("turn audio incomplete", session=job.session, turn=job.turn, samples=sum(map(len, pieces)) // 2)
    if not pieces:
        raise ValueError(f"the speech stream has no audio of turn {job.turn}")
    return b"".join(pieces)[-2 * (longest_ms * RATE_HZ // 1000) :]


async def _read(work: Work, job: TurnAudioReady, pieces: list[bytes]) -> None:
    position = job.start
    async with work.feed(StreamKind.SPEECH, job.cursor) as feed, aclosing(feed):
        async for frame in feed:
            if type(frame) is not AudioChunk or frame.offset + len(frame.pcm) // 2 <= position:
                continue
            if frame.offset >= job.end:
                return  # the stream has a gap at the end of the turn
            pieces.append(frame.pcm[2 * max(0, position - frame.offset) : 2 * (job.end - frame.offset)])
            position = frame.offset + len(frame.pcm) // 2
            if position >= job.end:
                return
