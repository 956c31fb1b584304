"""Two agents talk with each other: the voice of each is the microphone of the other, in real time, over `/ws`."""

import asyncio
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from numpy.typing import NDArray
from rich.console import Console
from rich.text import Text

from deploy.client.conversation import FRAME_BYTES, Conversation, TalkFailed, converse
from shared.protocol.session import RATE_HZ

TURNS: dict[str, Any] = {"adapt_endpoint": False, "endpoint_ms": 800}
"""A synthetic voice pauses between two sentences as if it had finished, so the end of a turn is not guessed by its sound."""

OnSaid = Callable[[str, str], None]
"""Called with the id of an agent and what it says, when it begins to say it."""


class Side:
    """One of the two. It hears each reply of the other one only when all of it has arrived: a busy machine pauses within a reply.

    A `conversation.Speech`.
    """

    def __init__(self, agent: str, on_said: OnSaid) -> None:
        self.agent = agent
        self.other: Side
        self.conversation = Conversation()
        self._on_said = on_said
        self._line = bytearray()
        """Audio of the other one that is on its way."""
        self.recording = bytearray()
        """All that it heard, and silence."""

    def frame(self) -> bytes:
        heard = bytes(self._line[:FRAME_BYTES]).ljust(FRAME_BYTES, b"\0")
        del self._line[:FRAME_BYTES]
        self.recording += heard
        return heard

    def spoken_until(self, conversation: Conversation, now_s: float) -> float | None:
        return None

    def take(self, message: dict[str, Any], conversation: Conversation) -> None:
        """Take a message of the server. A `conversation.OnMessage`."""
        self.conversation = conversation
        if message["type"] == "reply_done":
            self.other._line += conversation.track.reply  # noqa: SLF001 - the other one of the same kind
            self._on_said(self.agent, conversation.turns[message["turn"]].reply)

    def said(self) -> list[str]:
        """What it said, reply by reply."""
        return [turn.reply for turn in self.conversation.turns.values() if turn.reply]

    def heard(self) -> list[str]:
        """What was understood of the other one, turn by turn."""
        return [turn.said for turn in self.conversation.turns.values() if turn.said]


async def duet(
    url: str, first: str, second: str, utterances: int, on_said: OnSaid = lambda agent, text: None
) -> tuple[Side, Side]:
    """Let two agents talk. The first begins with its greeting, and it ends when this many utterances were answered.

    Raises:
        TalkFailed: the server does not answer, refuses, or closes a connection.
    """
    spoken, over = 0, asyncio.Event()

    def count(agent: str, text: str) -> None:
        nonlocal spoken
        on_said(agent, text)
        spoken += 1
        if spoken > utterances:
            over.set()

    one, other = Side(first, count), Side(second, count)
    one.other, other.other = other, one
    try:
        async with asyncio.TaskGroup() as tasks:
            talking = [
                tasks.create_task(converse(side, url, side.take, agent=side.agent, config=config))
                for side, config in ((one, TURNS), (other, {**TURNS, "greeting": ""}))
            ]
            await over.wait()
            for task in talking:
                task.cancel()
    except* TalkFailed as errors:
        failure = errors.exceptions[0]
    else:
        return one, other
    raise failure


def run_duet(first: str, second: str, *, url: str, utterances: int, out: Path | None, as_json: bool) -> int:
    """Let two agents talk, and write both voices to `out`, if given. Returns the exit code: 0, or 1 if the conversation failed."""
    console = Console(highlight=False)

    def show(agent: str, text: str) -> None:
        if not as_json:
            console.print(Text.assemble((f"{agent}: ", "bold"), text))

    try:
        sides = asyncio.run(duet(url, first, second, utterances, show))
        if out is not None:
            soundfile.write(out, stereo(sides), RATE_HZ, subtype="PCM_16", format="WAV")
    except TalkFailed as error:
        print(error, file=sys.stderr)
        return 1
    except (OSError, soundfile.LibsndfileError) as error:
        print(f"cannot write {out}: {error}", file=sys.stderr)
        return 1
    if as_json:
        said = {side.agent: {"said": side.said(), "heard": side.heard()} for side in sides}
        print(json.dumps({"agents": said, "audio": str(out) if out else None}, indent=2, ensure_ascii=False))
    elif out is not None:
        print(f"{out}: both voices, one on each channel")
    return 0


def stereo(sides: tuple[Side, Side]) -> NDArray[np.int16]:
    """Both voices, each on a channel of its own: shape (samples, 2), at 16 kHz."""
    tracks = [np.frombuffer(bytes(side.other.recording), "<i2") for side in sides]
    sound = np.zeros((max(map(len, tracks)), 2), np.int16)
    for channel, track in enumerate(tracks):
        sound[: len(track), channel] = track
    return sound
