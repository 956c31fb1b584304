"""A session that talks in real time: pauses within its turns, sometimes interrupts the reply, and checks every sample."""

import asyncio
import json
import random
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from websockets.exceptions import ConnectionClosed

from benchmarks.chaos.turn import Turn
from benchmarks.pipeline.ramp import FRAME_MS, RampChecker
from deploy.client.line import Line, SessionGone

PAUSE_FRAMES = 15
"""A pause within a turn, shorter than the endpoint."""
INTERRUPTS = 0.25
"""Share of the replies that are interrupted."""
PATIENCE_S = 30.0
"""A turn without the end of a reply after this time counts as unanswered."""
SEND_S = 10.0
LATEST, LOSSES_KEPT = 24, 5
"""Messages that are remembered, and losses that are described with them."""
SHOWN = ("type", "turn", "status", "final", "resumed")


@dataclass(slots=True)
class Tally:
    """What all talkers have counted."""

    turns: list[Turn] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)
    losses: list[str] = field(default_factory=list)
    """What came before a reply that was not whole, of the first few."""


class Talker:
    """One session on `/ws`, which is resumed when its edge dies. What was said into a lost line is said again."""

    def __init__(
        self,
        tally: Tally,
        speech: list[bytes],
        quiet: list[bytes],
        chance: random.Random,
        reply_samples: tuple[int, int],
    ) -> None:
        """`reply_samples`: sentences of a reply, and samples of each."""
        self._tally, self._speech, self._quiet, self._chance = tally, speech, quiet, chance
        self._sentences, samples = reply_samples
        self._ramp = RampChecker(samples)
        self._reply_samples = self._sentences * samples
        self._line: Line
        self._frames: list[bytes] = []
        self._missed = False  # a part of what was said went into a lost line
        self._news = asyncio.Event()
        self._turn = Turn()
        self._turns: dict[int, Turn] = {}
        self._replying: Turn | None = None
        self._stopping = False
        self._latest: deque[str] = deque(maxlen=LATEST)

    def stop(self) -> None:
        """End after the current turn."""
        self._stopping = True

    async def run(self, url: str, wait_s: float) -> None:
        """Talk until `stop` is called or the session is lost."""
        await asyncio.sleep(wait_s)
        self._line = Line(url, {"endpoint_ms": 500})
        try:
            await self._line.open()
            async with asyncio.TaskGroup() as tasks:
                beside = [tasks.create_task(self._listen()), tasks.create_task(self._send())]
                while not self._stopping:
                    await self._take_turn()
                for task in beside:
                    task.cancel()
            await self._line.close()
        except* (ConnectionClosed, SessionGone, OSError, TimeoutError) as group:
            self._tally.counts["sessions lost"] += 1
            self._tally.errors[f"session lost: {group.exceptions[0]}"] += 1
        self._tally.counts["samples lost"] += self._ramp.lost
        self._tally.counts["samples doubled"] += self._ramp.doubled

    async def _take_turn(self) -> None:
        turn = self._turn = Turn(began_s=time.monotonic())
        self._tally.turns.append(turn)
        await self._speak(turn)
        try:
            async with asyncio.timeout(PATIENCE_S):
                if self._chance.random() < INTERRUPTS:
                    await self._until(lambda: turn.arrivals or turn.over_s)
                    await asyncio.sleep(self._chance.uniform(0.3, 1.0))
                    if not turn.over_s:
                        turn.interrupting_s = time.monotonic()
                        turn.answered = True
                        return  # the next turn interrupts this one
                await self._until(lambda: turn.over_s)
        except TimeoutError:
            self._tally.counts["turns unanswered"] += 1
            turn.over_s = time.monotonic()
        await asyncio.sleep(self._chance.uniform(0.1, 0.8))

    async def _speak(self, turn: Turn) -> None:
        half = len(self._speech) // 2
        while True:
            self._missed = False
            await self._say(self._speech[:half])
            turn.paused_s = time.monotonic()
            await self._say(self._quiet[:PAUSE_FRAMES])
            turn.resumed_s = time.monotonic()
            await self._say(self._speech[half:])
            turn.ended_s = time.monotonic()
            if not self._missed:
                return
            self._tally.counts["said again"] += 1
            await self._until(lambda: not self._line.is_lost)

    async def _say(self, frames: list[bytes]) -> None:
        """Queue these frames; return when the last one was sent."""
        self._frames = list(reversed(frames))
        await self._until(lambda: not self._frames)

    async def _send(self) -> None:
        """The microphone: a frame every 20 ms, of silence where nobody speaks."""
        began_s, number = time.monotonic(), 0
        while True:
            self._missed |= bool(self._frames) and self._line.is_lost
            frame = self._frames.pop() if self._frames else self._quiet[number % len(self._quiet)]
            async with asyncio.timeout(SEND_S):
                await self._line.send(frame)
            if not self._frames:
                self._news.set()
            number += 1
            await asyncio.sleep(began_s + number * FRAME_MS / 1000 - time.monotonic())

    async def _until(self, reached: Callable[[], object]) -> None:
        while not reached():
            self._news.clear()
            await self._news.wait()

    async def _listen(self) -> None:
        async for message in self._line.messages():
            now_s = time.monotonic()
            if isinstance(message, bytes):
                if self._replying is not None:
                    self._replying.arrivals.append(now_s)
                self._ramp.feed(message)
            else:
                self._read(json.loads(message), now_s)
            self._news.set()
        raise ConnectionError("the server ended the session")

    def _read(self, message: dict[str, Any], now_s: float) -> None:
        turn = self._turns.get(message.get("turn", 0))
        self._latest.append(f"{now_s:.2f} {self._ramp.index} {_brief(message)}")
        match message["type"]:
            case "processing_started":
                self._turns[message["turn"]] = self._turn
            case "transcript" if message["final"] and message["text"] and turn is not None:
                turn.transcribed_s = turn.transcribed_s or now_s
            case "reply_started":
                self._replying = turn
                self._ramp.restart()
            case "interrupt" if turn is not None and turn.interrupting_s:
                turn.over_s = turn.over_s or now_s
            case "reply_done" if turn is not None:
                self._finish(turn, message["status"], now_s)
            case "error":
                self._tally.errors[f"{message['code']}: {message['message']}"] += 1
            case _:
                pass

    def _finish(self, turn: Turn, status: str, now_s: float) -> None:
        if status == "completed":
            if self._ramp.index != self._reply_samples and len(self._tally.losses) < LOSSES_KEPT:
                self._tally.losses.append("; ".join(self._latest))
            self._tally.counts["samples lost"] += max(0, self._reply_samples - self._ramp.index)
            self._tally.counts["samples doubled"] += max(0, self._ramp.index - self._reply_samples)
            self._ramp.restart()
            turn.completed = turn.answered = True
            turn.over_s = turn.over_s or now_s
        elif turn.interrupting_s:
            turn.over_s = turn.over_s or now_s
        else:  # the turn was split, or the reply failed: another one has to follow
            self._tally.counts[f"replies {status}"] += 1


def _brief(message: dict[str, Any]) -> str:
    return " ".join(str(message[name]) for name in SHOWN if name in message)
