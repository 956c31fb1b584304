"""An edge session under a test's control: the test plays the client, writes the log, and sets the time."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import numpy as np

from services.edge.client import actions as act
from services.edge.client import events as ev
from services.edge.conversation.apologies import Recording
from services.edge.gateway.abilities import Abilities
from services.edge.gateway.apology_voice import ApologyVoice
from services.edge.gateway.session import Session
from shared.protocol import frames as fr
from shared.protocol.frames import Frame
from shared.protocol.prompt import SOUND, prompt, prompt_hash
from shared.protocol.session import OMNI, RATE_HZ, ReplyOptions, SessionSettings, Word
from shared.protocol.streams import StreamKind
from shared.settings import Settings
from tests.support import virtual_time
from tests.support.simulated_bus import SimulatedBus

SECOND = RATE_HZ


APOLOGY = 99
"""Each sample of a recorded apology."""


class SpokenBefore(ApologyVoice):
    """Has a recording of every sentence."""

    def __init__(self, seconds: float) -> None:
        """`seconds`: its length; 0: there is none."""
        super().__init__()
        self._samples = round(SECOND * seconds)

    def find(self, settings: SessionSettings, text: str) -> Recording | None:
        return Recording(SECOND, np.full(self._samples, APOLOGY, "<i2").tobytes()) if self._samples else None


class Line:
    """One session, and everything that it did."""

    largest_message = 1000
    rate_hz = RATE_HZ
    starts_with = None
    resumable = None

    def __init__(
        self,
        *,
        can_pause: bool = True,
        shows_failures: bool = True,
        hears: bool = True,
        content: bool = False,
        apology_s: float = 0.0,
        **settings: Any,
    ) -> None:
        self.can_pause, self.shows_failures = can_pause, shows_failures
        self.events: list[ev.Event] = []
        self.closed: tuple[int, str] | None = None
        self.jobs: list[Frame] = []
        """Jobs that the edge gave to the llm workers."""
        self.stops: list[tuple[int, int, bool]] = []
        self._actions: list[act.Action] = []
        self.bus = SimulatedBus(random.Random(0), (0.0, 0.0))
        self.bus.on_job = lambda stage, stream, entry_id, frame: self.jobs.append(frame)
        self.bus.on_stop.append(lambda session, *message: self.stops.append(message))
        edge = Settings(log_content=content)
        self.session = Session(
            self.bus,
            self,
            edge,
            Abilities(hears=hears),
            lambda message: True,
            self._close,
            apology_voice=SpokenBefore(apology_s),
        )
        self.session.start(SessionSettings(**settings))
        self.id = self.session.id
        self._number = 0

    def _close(self, code: int, reason: str) -> None:
        self.closed = (code, reason)

    def decode(self, message: str | bytes) -> Sequence[act.Action]:
        done, self._actions = self._actions, []
        return done

    def encode(self, event: ev.Event) -> Sequence[str | bytes]:
        self.events.append(event)
        return ()

    # -- the client -------------------------------------------------------------------------------

    def do(self, *actions: act.Action) -> None:
        """Do these actions as the client."""
        self._actions += actions
        self.session.receive(b"")

    # -- the log ----------------------------------------------------------------------------------

    def log(self, *frames: Frame, fence: int = 1) -> None:
        """Write frames to the log as one entry, as the workers do."""
        self._number += 1
        at_ms = 1_000_000 + int(asyncio.get_running_loop().time() * 1000)
        self.session.deliver(f"{at_ms}-{self._number}", fence, list(frames))
        assert self.closed is None or self.closed[0] != 1011

    def speech(self, turn: int, *, interrupts: bool = True) -> None:
        place = (turn, 0, SECOND * turn, SECOND * turn, "0-0", "en", interrupts)
        self.log(fr.SpeechStarted(self.id, *place, route=self.session.settings.route))

    def sound(self, turn: int, revision: int = 0, options: ReplyOptions | None = None) -> None:
        """The turn's audio is ready, to be answered by a model that hears."""
        start = SECOND * turn
        self.log(
            fr.TurnAudioReady(self.id, turn, revision, "0-0", start, start + SECOND // 2, options or ReplyOptions())
        )

    def pause(self, turn: int, text: str | None, revision: int = 0, *, speculate: bool = False) -> None:
        """The person pauses. `text`: the transcript so far, with which a reply is prepared."""
        speculate |= text is not None
        self.log(fr.SpeechPaused(turn, revision, SECOND * turn + SECOND // 2, speculate))
        if speculate and self.session.settings.route == OMNI:
            self.sound(turn, revision)
        if text is not None:
            self.final(turn, text, revision)

    def final(self, turn: int, text: str, revision: int = 0) -> None:
        self.log(fr.TranscriptFinal(self.id, turn, revision, text, ReplyOptions(wants_reply=bool(text))))

    def resume(self, turn: int, revision: int) -> None:
        self.log(fr.SpeechResumed(turn, revision, SECOND * turn + SECOND // 2))

    def commit(self, turn: int, revision: int = 0, options: ReplyOptions | None = None) -> None:
        start = SECOND * turn
        end = start + SECOND // 2
        self.log(fr.TurnCommitted(turn, revision, start, end, end + SECOND // 2, 1_000_000, options or ReplyOptions()))

    def asked(self, turn: int, text: str = "", options: ReplyOptions | None = None) -> None:
        """A turn that was typed or requested."""
        options = options or ReplyOptions()
        self.log(
            fr.TurnCommitted(turn, 0, 0, 0, 0, 1_000_000, options),
            fr.TranscriptFinal(self.id, turn, 0, text, options),
        )

    def prompt_hash(self, turn: int, options: ReplyOptions | None = None) -> int:
        """The prompt's hash for a chat model that is asked now."""
        history = self.bus._history.get(self.id, ())
        text = next((m.text for m in history if m.turn == turn and m.role == "user"), self.heard_text(turn))
        if self.session.settings.route == OMNI:
            text = SOUND
        options = options or ReplyOptions()
        settings = self.session.settings
        return prompt_hash(settings, options, prompt(settings, options, history, turn, text))

    def heard_text(self, turn: int) -> str:
        found = [event.text for event in self.events if isinstance(event, ev.Transcribed) and event.turn == turn]
        return found[-1] if found else ""

    def reply(
        self, turn: int, text: str, revision: int = 0, *, seconds: float = 1.0, prompt_hash: int | None = None,
        options: ReplyOptions | None = None, fence: int = 1, done: bool = True, voice: int | None = None,
        voiced: bool = False,
    ) -> None:  # fmt: skip
        """The workers make a whole reply of one sentence; each sample of it is the turn's (or `voice`). `voiced`: the chat
        model speaks it itself."""
        at = (turn, revision)
        received = self.prompt_hash(turn, options) if prompt_hash is None else prompt_hash
        self.log(fr.ReplyStarted(*at, received, voiced), fence=fence)
        self.log(fr.ReplyDelta(*at, 0, text), fence=fence)
        if not voiced:
            self.log(fr.ReplySentence(self.id, *at, 0, text, "", 1.0, "en"), fence=fence)
        samples = int(SECOND * seconds)
        pcm = np.full(samples, turn if voice is None else voice, "<i2").tobytes()
        words = text.split()
        spread = tuple(
            Word(word, samples * at // len(words), samples * (at + 1) // len(words)) for at, word in enumerate(words)
        )
        self.log(fr.VoiceChunk(*at, 0, 0, SECOND, pcm, () if voiced else spread), fence=fence)
        if done:
            self.log(fr.VoiceDone(*at, 0, samples), fence=fence)
            self.log(fr.ReplyDone(*at, text, 1), fence=fence)

    def turn(self, turn: int, said: str, text: str, **reply: Any) -> None:
        """A whole turn and its reply, prepared in the pause."""
        self.speech(turn)
        self.pause(turn, said)
        self.reply(turn, text, **reply)
        self.commit(turn)

    # -- what the session did ---------------------------------------------------------------------

    def of(self, *kinds: type) -> list[Any]:
        return [event for event in self.events if isinstance(event, kinds)]

    def received(self) -> list[str]:
        """The client's events about replies, in short form."""
        shown = []
        for event in self.events:
            match event:
                case ev.ReplyBegan(turn):
                    shown.append(f"{turn} began")
                case ev.ReplyText(turn, text):
                    shown.append(f"{turn}: {text}")
                case ev.ReplyAudio(turn, offset, pcm):
                    shown.append(f"{turn} audio {offset}+{len(pcm) // 2}")
                case ev.ReplyEnded(turn, status):
                    shown.append(f"{turn} {status}")
                case ev.Pause(turn, heard_ms):
                    shown.append(f"{turn} pause {heard_ms}")
                case ev.Resume(turn, from_ms):
                    shown.append(f"{turn} resume {from_ms}")
                case ev.Interrupt(turn, heard_ms):
                    shown.append(f"{turn} interrupt {heard_ms}")
                case _:
                    pass
        return shown

    def history(self) -> list[tuple[str, str, bool]]:
        """The saved history: role, text, interrupted."""
        return [(m.role, m.text, m.interrupted) for m in self.bus._history.get(self.id, ())]

    async def published(self, kind: type) -> list[Frame]:
        """Frames of this type that the session published."""
        places = (StreamKind.IN, StreamKind.OUT)
        entries = [entry for place in places for entry in await self.bus.log(place, self.id)]
        return [frame for _, frames in entries for frame in frames if isinstance(frame, kind)]


def on_a_line(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    """Run an async test in virtual time."""

    def run(*args: Any, **kwargs: Any) -> None:
        async def main() -> None:
            await test(*args, **kwargs)

        virtual_time.run(main())

    run.__name__, run.__doc__ = test.__name__, test.__doc__
    return run
