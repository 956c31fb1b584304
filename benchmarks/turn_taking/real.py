"""Scenes with the whole system in real time: minutes for all scenes."""

import asyncio
import json
from collections.abc import Mapping
from typing import Any

from websockets.asyncio.client import ClientConnection, connect

from benchmarks.turn_taking.score import Score, Seen, score
from deploy.client.performance import Performer, Samples
from deploy.client.scene import Cue, Scene
from services.llm.sentences import SentenceCutter
from services.llm.spoken import speakable
from shared.protocol.session import RATE_HZ
from shared.settings import Settings
from tests.support.system import SCRIPTED, running_system

TEXT = (
    "This is the first sentence of a reply that goes on for a while. Here is the second one, which is no shorter. "
    "The third one follows at once. Then comes the last one of them all."
)
PIECE_S = 1.6
"""Length of a sentence of the scripted voice."""
PLAYED_S = 0.5
"""How often the caller reports what it has played."""
LONGEST_S = 120.0
AT_ONCE = 2
"""Callers at the same time; more would make the recogniser late."""


class Caller:
    """Speaks a scene to the real system, and plays the replies as a loudspeaker would."""

    def __init__(self, socket: ClientConnection, performer: Performer) -> None:
        self._socket, self._performer = socket, performer
        self.seen: list[Seen] = []
        self.off_words: list[int] = []
        self._turn = 0
        self._done = True
        self._received_s = self._played_s = 0.0  # of the current reply
        self._began_s: float | None = None
        self._paused = False
        self._reported_s = 0.0

    @property
    def now_s(self) -> float:
        return self._performer.now_s

    async def perform(self) -> None:
        loop = asyncio.get_running_loop()
        start_s = loop.time()
        async with asyncio.TaskGroup() as tasks, asyncio.timeout(LONGEST_S):
            listening = tasks.create_task(self._listen())
            while not self._performer.over:
                frame = self._performer.frame()
                await asyncio.sleep(start_s + self.now_s - loop.time())
                await self._socket.send(frame)
                await self._play(len(frame) / 2 / RATE_HZ)
            listening.cancel()

    async def _listen(self) -> None:
        async for message in self._socket:
            if isinstance(message, bytes):
                self._received_s += len(message) / 2 / RATE_HZ
            else:
                await self._read(json.loads(message))

    async def _play(self, seconds: float) -> None:
        """Let the loudspeaker play for this time."""
        if self._paused:
            return
        playing = min(seconds, self._received_s - self._played_s)
        if playing > 0:
            if self._began_s is None:
                self._began_s = self.now_s
                self._performer.reply_began()
            self._played_s += playing
        elif self._done and self._began_s is not None:
            self._began_s = None
            self._performer.reply_over()
            await self._report()
        if self._played_s - self._reported_s >= PLAYED_S:
            await self._report()

    async def _report(self) -> None:
        self._reported_s = self._played_s
        await self._socket.send(json.dumps({"type": "played", "turn": self._turn, "ms": round(1000 * self._played_s)}))

    async def _read(self, message: dict[str, Any]) -> None:
        match message["type"]:
            case "processing_started":
                self.seen.append(Seen(self.now_s, "commit"))
            case "reply_started":
                self._turn, self._done, self._began_s = message["turn"], False, None
                self._received_s = self._played_s = self._reported_s = 0.0
            case "reply_done":
                self._done = True
            case "pause":
                self.seen.append(Seen(self.now_s, "pause"))
                self._paused = True
                await self._report()
            case "resume":
                self.seen.append(Seen(self.now_s, "resume"))
                self._paused = False
            case "interrupt":
                self.seen.append(Seen(self.now_s, "interrupt"))
                if self._began_s is not None:
                    self.off_words.append(len(message["heard"].split()) - played_words(self._played_s))
                self._received_s, self._paused = self._played_s, False
                await self._report()
            case _:
                pass


def played_words(played_s: float) -> int:
    """Words of the scripted reply that were played. Its voice spreads the words of each piece evenly over `PIECE_S`."""
    cutter = SentenceCutter("en", Settings().first_clause_words)
    pieces = [speakable(piece).split() for piece in (*cutter.feed(TEXT), *cutter.finish())]
    count = 0
    for index, words in enumerate(pieces):
        share = (played_s - index * PIECE_S) / PIECE_S * len(words)
        count += min(len(words), max(0, int(share + 0.5)))
    return count


async def real_scores(
    scenes: list[Scene], sounds: Mapping[Cue, Samples], detector: str, endpointing: str, asr: str
) -> dict[str, Score]:
    """Score all scenes, two callers at a time."""
    env = {
        **SCRIPTED,
        "PARLEY_ASR_ENGINE": asr,
        "PARLEY_VAD_ENGINE": detector,
        "PARLEY_ENDPOINT_ENGINE": endpointing,
        "PARLEY_SCRIPTED_TEXT": TEXT,
        "PARLEY_SCRIPTED_TTS_SECONDS": str(PIECE_S),
    }
    gate = asyncio.Semaphore(AT_ONCE)

    async def call(url: str, scene: Scene) -> Score:
        async with gate, connect(url, compression=None, max_size=None) as socket:
            await socket.send(json.dumps({"type": "start_streaming"}))
            async with asyncio.timeout(10):
                await socket.recv()
            performer = Performer(scene, sounds)
            caller = Caller(socket, performer)
            await caller.perform()
            found = score(performer.done, caller.seen)
            found.history_off_words = caller.off_words
            return found

    async with running_system(env) as system, asyncio.TaskGroup() as tasks:
        calls = {scene.name: tasks.create_task(call(system.stream_url, scene)) for scene in scenes}
        await asyncio.wait(calls.values())
    return {name: task.result() for name, task in calls.items()}
