"""Scenes in virtual time: the real edge session and the real stages. Chat model and voice are scripted."""

import asyncio
import json
from collections.abc import Mapping, Sequence

from benchmarks.turn_taking.observer import PIECE_S, TEXT, Observer
from benchmarks.turn_taking.score import Score, score
from benchmarks.virtual import loop as virtual_loop
from benchmarks.virtual.stages import SLOTS, start_stages
from deploy.client.conversation import Conversation, is_over
from deploy.client.performance import Performer, Samples
from deploy.client.scene import Cue, Scene
from services.asr.engine import Recognizer
from services.asr.stage import AsrStage
from services.edge.gateway.abilities import Abilities
from services.edge.gateway.session import Session
from services.edge.protocols.stream import StreamCodec
from services.llm.engine import ENGINES as MODELS
from services.llm.stage import LlmStage
from services.tts.engine import ENGINES as VOICES
from services.tts.stage import TtsStage
from services.vad.endpointing.engine import ENGINES as ENDPOINTING
from services.vad.engine import ENGINES as DETECTORS
from services.vad.stage import VadStage
from shared.engines.registry import create_engine
from shared.protocol.session import RATE_HZ
from shared.settings import Settings
from tests.support.simulated_bus import SimulatedBus


def virtual_scores(
    scenes: Sequence[Scene],
    sounds: Mapping[str, Mapping[Cue, Samples]],
    detector: str,
    endpointing: str,
    recognizer: Recognizer,
    settings: Settings,
) -> dict[str, Score]:
    """Score all scenes. `sounds`: by the name of the scene.

    Raises:
        UnknownEngine: an engine is not installed.
    """
    settings = settings.model_copy(update={"scripted_text": TEXT, "scripted_tts_seconds": PIECE_S})
    ears = VadStage(
        create_engine("vad", detector, DETECTORS, settings),
        create_engine("endpoint", endpointing, ENDPOINTING, settings),
        SLOTS,
        detector,
        endpointing,
    )
    stages = (
        ears,
        AsrStage(recognizer, "virtual"),
        LlmStage(
            create_engine("llm", "scripted", MODELS, settings),
            "scripted",
            settings.first_clause_words,
            settings.reply_tokens,
        ),
        TtsStage(create_engine("tts", "scripted", VOICES, settings), "scripted", settings.reply_ahead_s),
    )

    async def perform_all() -> dict[str, Score]:
        async with asyncio.TaskGroup() as workers:
            bus = await start_stages(stages, settings, workers)
            gate = asyncio.Semaphore(AT_ONCE)

            async def perform(scene: Scene) -> Score:
                async with gate:
                    return await _Call(bus, Performer(scene, sounds[scene.name]), settings).perform()

            async with asyncio.TaskGroup() as tasks:
                scores = [tasks.create_task(perform(scene)) for scene in scenes]
        await ears.close()
        return {scene.name: found.result() for scene, found in zip(scenes, scores, strict=True)}

    return virtual_loop.run(perform_all())


AT_ONCE = 4
"""Callers at a time, with at most two utterances each: see `recognizer.UTTERANCES`."""


class _Call:
    """A caller who performs a scene, and the session that hears it."""

    def __init__(self, bus: SimulatedBus, performer: Performer, settings: Settings) -> None:
        codec = StreamCodec(RATE_HZ, settings.session)
        self._session = Session(bus, codec, settings, Abilities(), self._take, lambda code, reason: None)
        self._performer, self._observer = performer, Observer(performer)
        self._conversation = Conversation()

    def _take(self, message: str | bytes) -> bool:
        if isinstance(message, bytes):
            self._conversation.take_audio(message, self._performer.now_s)
        else:
            body = json.loads(message)
            self._conversation.read(body, self._performer.now_s)
            self._observer.on_message(body, self._conversation)
        return True

    async def perform(self) -> Score:
        performer, loop = self._performer, asyncio.get_running_loop()
        self._session.receive(json.dumps({"type": "start_streaming"}))
        began_s = loop.time()
        while not is_over(self._conversation, performer.now_s, performer):
            frame = performer.frame()
            await asyncio.sleep(began_s + performer.now_s - loop.time())
            self._session.receive(frame)
            if (message := self._observer.report(self._conversation, performer.now_s)) is not None:
                self._session.receive(json.dumps(message))
        self._session.end("left")
        found = score(performer.done, self._observer.seen)
        found.history_off_words = self._observer.off_words
        return found
