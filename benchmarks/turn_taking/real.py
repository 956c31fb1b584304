"""Scenes with the whole system in real time: minutes for all scenes."""

import asyncio
from collections.abc import Mapping

from benchmarks.turn_taking.observer import PIECE_S, TEXT, Observer
from benchmarks.turn_taking.score import Score, score
from deploy.client.conversation import converse
from deploy.client.performance import Performer, Samples
from deploy.client.scene import Cue, Scene
from tests.support.system import SCRIPTED, running_system

LONGEST_S = 120.0
AT_ONCE = 2
"""Callers at the same time; more would make the recogniser late."""


async def real_scores(
    scenes: list[Scene], sounds: Mapping[str, Mapping[Cue, Samples]], detector: str, endpointing: str, asr: str
) -> dict[str, Score]:
    """Score all scenes, two callers at a time. `sounds`: by the name of the scene."""
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
            performer = Performer(scene, sounds[scene.name])
            observer = Observer(performer)
            await converse(performer, url, observer.on_message, observer.report)
            found = score(performer.done, observer.seen)
            found.history_off_words = observer.off_words
            return found

    async with running_system(env) as system, asyncio.TaskGroup() as tasks:
        calls = {scene.name: tasks.create_task(call(system.stream_url, scene)) for scene in scenes}
        await asyncio.wait(calls.values())
    return {name: task.result() for name, task in calls.items()}
