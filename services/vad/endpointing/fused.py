"""Endpointing by sound and words: Smart Turn, the recognised words and the speaker's own pace, weighed against each other.

Each source gives log-odds that the turn is over; their sum and the pace give the wait with the least expected cost. The
decision is made when a pause begins, from the sound alone, and again when the recogniser has its words. It is a pure function
of what the sources say.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

from services.vad.endpointing.engine import Decision, Pause, Words
from services.vad.endpointing.expected_cost import Pace, log_odds, wait_ms
from services.vad.endpointing.phrases import evidence
from services.vad.endpointing.smart_turn import SmartTurnDetector, sounds_complete
from shared.engines.registry import create_engine
from shared.protocol.session import SessionSettings
from shared.settings import Settings

SOUND_WEIGHT, SUREST_SOUND = 0.25, 0.95
"""Weight of Smart Turn's log-odds, and the probability that it is believed at most."""
SUREST_READER = 0.95
"""The probability that a model which reads the words is believed at most."""
UNSURE, UNSURE_WEIGHT, LEAST_SURE = -0.25, 4.0, -1.0
"""Confidence of the recogniser at which an ending without open words tells nothing, the weight of what is above or below, and
the confidence below which it counts no more. The end of a word that was cut off, or misheard, lowers it."""
BLIND_MS = 350
"""A pause without words lasts this much longer than `endpoint_ms`, at most."""


class Reader(Protocol):
    """A local model that reads the words of a pause (PARLEY_TURN_ENGINE). It computes off the event loop."""

    async def load(self) -> None: ...

    async def probability(self, text: str, language: str) -> float | None:
        """Return the probability, 0..1, that a turn with these words is over; None: no opinion."""
        ...

    async def close(self) -> None: ...


class FusedDetector:
    """See `endpointing.TurnDetector`."""

    uses_words = True

    def __init__(self, settings: Settings) -> None:
        """Raises `UnknownEngine` if PARLEY_TURN_ENGINE names no class."""
        self._sound = SmartTurnDetector(settings)
        self._reader: Reader | None = None
        if settings.turn_engine:
            self._reader = create_engine("turn", settings.turn_engine, {}, settings)
        self.audio_s = self._sound.audio_s

    async def load(self) -> None:
        await self._sound.load()
        if self._reader is not None:
            await self._reader.load()

    def open(self) -> "FusedSpeaker":
        return FusedSpeaker(self._sound.predict, self._reader)

    async def close(self) -> None:
        if self._reader is not None:
            await self._reader.close()
        await self._sound.close()


class FusedSpeaker:
    """See `endpointing.Speaker`. Learns how often and how long the person pauses."""

    def __init__(self, predict: Callable[[bytes], Awaitable[float]], reader: Reader | None = None) -> None:
        """`predict` returns the probability that a turn sounds complete."""
        self._predict, self._reader = predict, reader
        self._pace = Pace()
        self._heard = 0, 0  # turn and revision of the latest pause
        self._sound = 0.0  # the probability of that pause

    def resumed(self, pause_ms: int) -> None:
        self._pace.paused(pause_ms)

    def committed(self, pause_ms: int) -> None:
        self._pace.ended()

    async def decide(self, pause: Pause, settings: SessionSettings) -> Decision:
        if self._heard != (pause.turn, pause.revision):
            self._sound = await self._predict(pause.pcm)
            self._heard = pause.turn, pause.revision
        judged = None
        if self._reader is not None and pause.words is not None and pause.words.text:
            judged = await self._reader.probability(pause.words.text, pause.words.language or settings.language)
        return fuse(self._sound, pause.words, self._pace, settings, judged)

    def state(self) -> list[float]:
        return self._pace.state()

    def restore(self, state: Sequence[float]) -> None:
        if len(state) == 3:  # otherwise another engine wrote it
            self._pace.restore(list(state))


def fuse(
    sound: float, words: Words | None, pace: Pace, settings: SessionSettings, judged: float | None = None
) -> Decision:
    """Decide from the probability that the turn sounds complete, its words and the speaker's pace.

    `judged` is the probability of a model that has read the words; None: no such model is loaded, or it has no opinion.

    Without words the pause lasts `endpoint_ms`, or a little longer if it does not sound complete. With words it lasts from
    `complete_ms` to `incomplete_ms`.
    """
    odds = pace.log_odds_over + SOUND_WEIGHT * log_odds(sound, SUREST_SOUND)
    reasons = [sounds_complete(sound)]
    shortest, longest = settings.endpoint_ms, settings.endpoint_ms + BLIND_MS
    if words is None:
        reasons.append("no words yet")
    elif (found := evidence(words.text, words.language or settings.language)) is not None:
        odds += found.log_odds
        reasons.append(f"words: {found.reason}")
        if found.weak and words.confidence is not None:
            odds += UNSURE_WEIGHT * (max(words.confidence, LEAST_SURE) - UNSURE)
            reasons.append(f"confidence {words.confidence:.2f}")
        shortest, longest = settings.complete_ms, settings.incomplete_ms
    if judged is not None:
        odds += log_odds(judged, SUREST_READER)
        reasons.append(f"reads complete: {judged:.0%}")
        shortest, longest = settings.complete_ms, settings.incomplete_ms
    reasons.append(f"pauses of {pace.pause_ms:.0f} ms")
    wait = wait_ms(odds, pace.pause_ms)
    return Decision(round(min(max(wait, shortest), max(shortest, longest))), tuple(reasons))
