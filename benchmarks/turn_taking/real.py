"""Scenes with the whole system in real time: minutes for all scenes."""

import asyncio
from collections.abc import Mapping
from typing import Any

from benchmarks.turn_taking.score import Score, Seen, score
from deploy.client.conversation import Conversation, converse
from deploy.client.performance import Performer, Samples
from deploy.client.scene import Cue, Scene
from services.llm.spoken import SpokenSentences
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


class Observer:
    """Notes what the system does, and reports what the caller has heard."""

    def __init__(self, performer: Performer) -> None:
        self._performer = performer
        self.seen: list[Seen] = []
        self.off_words: list[int] = []
        self._turn, self._reported_s = 0, 0.0  # of the current reply

    def on_message(self, message: dict[str, Any], conversation: Conversation) -> None:
        kind, now_s = message["type"], self._performer.now_s
        if kind == "processing_started":
            self.seen.append(Seen(now_s, "commit"))
        elif kind == "reply_started":
            self._turn, self._reported_s = message["turn"], 0.0
        elif kind in ("pause", "resume", "interrupt"):
            self.seen.append(Seen(now_s, kind))
            if kind == "interrupt" and (played_s := conversation.track.played_s(now_s)):
                self.off_words.append(len(message["heard"].split()) - played_words(played_s))

    def report(self, conversation: Conversation, now_s: float) -> dict[str, Any] | None:
        played_s, playing = conversation.track.played_s(now_s), conversation.track.end_s > now_s
        if played_s - self._reported_s < (PLAYED_S if playing else 1 / RATE_HZ):
            return None
        self._reported_s = played_s
        return {"type": "played", "turn": self._turn, "ms": round(1000 * played_s)}


def played_words(played_s: float) -> int:
    """Words of the scripted reply that were played. Its voice spreads the words of each piece evenly over `PIECE_S`."""
    spoken = SpokenSentences("en", Settings().first_clause_words)
    pieces = [sentence.split() for sentence in (*spoken.feed(TEXT), *spoken.finish())]
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
        async with gate, asyncio.timeout(LONGEST_S):
            performer = Performer(scene, sounds)
            observer = Observer(performer)
            await converse(performer, url, observer.on_message, observer.report)
            found = score(performer.done, observer.seen)
            found.history_off_words = observer.off_words
            return found

    async with running_system(env) as system, asyncio.TaskGroup() as tasks:
        calls = {scene.name: tasks.create_task(call(system.stream_url, scene)) for scene in scenes}
        await asyncio.wait(calls.values())
    return {name: task.result() for name, task in calls.items()}
