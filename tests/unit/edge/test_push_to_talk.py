"""Push to talk: only the client ends a turn, and a turn has a limit that is named."""

import asyncio
from dataclasses import replace

from services.edge.client import actions as act
from services.edge.client import events as ev
from services.edge.gateway.audio_input import HELD_LIMIT_S
from shared.protocol import frames as fr
from shared.protocol.session import RATE_HZ, ReplyOptions
from tests.support.line import Line, on_a_line

PIECE_S = 20


async def speak(line: Line, seconds: float) -> None:
    """Send this much audio, in real time."""
    for _ in range(int(seconds / PIECE_S)):
        line.do(act.Audio(bytes(2 * PIECE_S * RATE_HZ)))
        await asyncio.sleep(PIECE_S)


async def sent_s(line: Line) -> float:
    chunks = [frame for frame in await line.published(fr.AudioChunk) if isinstance(frame, fr.AudioChunk)]
    return sum(len(chunk.pcm) for chunk in chunks) / (2 * RATE_HZ)


@on_a_line
async def test_audio_beyond_the_limit_is_refused_by_name_until_the_client_commits() -> None:
    line = Line(detect_turns=False)
    await speak(line, HELD_LIMIT_S)
    assert line.of(ev.Failed) == []
    await speak(line, 3 * PIECE_S)
    assert {failed.code for failed in line.of(ev.Failed)} == {"turn_too_long"}
    assert await sent_s(line) == HELD_LIMIT_S
    for ends in (act.Commit(ReplyOptions()), act.Clear()):
        before_s = await sent_s(line)
        line.do(ends)
        await speak(line, HELD_LIMIT_S)
        assert await sent_s(line) == before_s + HELD_LIMIT_S


@on_a_line
async def test_there_is_no_such_limit_where_turns_are_detected() -> None:
    line = Line()
    await speak(line, HELD_LIMIT_S + 2 * PIECE_S)
    assert line.of(ev.Failed) == []
    line.do(act.Configure(replace(line.session.settings, detect_turns=False)))
    await speak(line, HELD_LIMIT_S)
    assert line.of(ev.Failed) == []
