"""Recordings of what agents say when a turn fails, made before one does: the voice may be what fails.

One sentence is spoken at a time, so that it delays the conversations by no more than one job.
"""

import asyncio
from collections import OrderedDict
from typing import NamedTuple

import structlog

from services.edge.conversation.apologies import Recording, apology, farewell
from services.edge.gateway.spoken import NotSpoken, speak
from shared.bus.bus import Bus
from shared.protocol.session import SessionSettings

log = structlog.get_logger()

KEPT = 64
"""Recordings; the one that was used least recently is dropped. A sentence of 4 s at 24 kHz has 190 kB."""
WAITING = 64
"""Sentences that wait to be spoken; more are left out, and a later session asks again."""


class Sentence(NamedTuple):
    text: str
    voice: str
    speed: float
    language: str


class ApologyVoice:
    """The recordings of one edge."""

    def __init__(self) -> None:
        self._recordings: OrderedDict[Sentence, Recording] = OrderedDict()
        self._waiting: asyncio.Queue[Sentence] = asyncio.Queue(WAITING)
        self._asked: set[Sentence] = set()

    def prepare(self, settings: SessionSettings) -> None:
        """Have the sentences of sessions with these settings spoken, unless they are there."""
        for text in (apology(settings), farewell(settings)):
            sentence = _sentence(settings, text)
            if sentence not in self._recordings and sentence not in self._asked and not self._waiting.full():
                self._asked.add(sentence)
                self._waiting.put_nowait(sentence)

    def find(self, settings: SessionSettings, text: str) -> Recording | None:
        """See `apologies.FindRecording`."""
        sentence = _sentence(settings, text)
        if (recording := self._recordings.get(sentence)) is not None:
            self._recordings.move_to_end(sentence)
        return recording

    def forget(self, voice: str) -> None:
        """Drop what was spoken in a voice that was replaced or deleted."""
        for sentence in [one for one in self._recordings if one.voice == voice]:
            del self._recordings[sentence]

    async def run(self, bus: Bus) -> None:
        """Keep speaking what waits, until cancelled."""
        while True:
            sentence = await self._waiting.get()
            try:
                self._keep(sentence, await speak(bus, *sentence))
            except NotSpoken as error:  # the next session asks again
                log.warning("an apology has no voice yet", voice=sentence.voice, reason=str(error))
            finally:
                self._asked.discard(sentence)

    def _keep(self, sentence: Sentence, recording: Recording) -> None:
        self._recordings[sentence] = recording
        while len(self._recordings) > KEPT:
            self._recordings.popitem(last=False)


def _sentence(settings: SessionSettings, text: str) -> Sentence:
    return Sentence(text, settings.voice, settings.speed, settings.language)
