"""A conversation that is cut off at any moment and rebuilt from its log goes on as if nothing had happened."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from services.edge.client import events as ev
from services.edge.conversation import effects as fx
from services.edge.conversation.core import Core
from services.edge.conversation.inputs import Begin, GoOn, Restore, Stamp, Timer, TimerFired
from services.edge.conversation.playout import Playout
from services.edge.conversation.rebuild import Entry, Rebuild
from services.edge.conversation.state import State
from services.edge.gateway.journal import Journal
from shared.protocol import frames as fr
from shared.protocol.frames import Frame
from shared.protocol.prompt import prompt, prompt_hash
from shared.protocol.session import RATE_HZ, ReplyOptions, SessionSettings
from shared.protocol.streams import ROUTES, StreamKind

CLOCK_MS = 1_000_000
SETTINGS = SessionSettings()
OPTIONS = ReplyOptions()
AHEAD_S = 0.4
POINT = fr.ResumePoint("0-0", 0, 0, 0, 0, 0, 0, 0, 0, CLOCK_MS, "stream", RATE_HZ)
PIECE = RATE_HZ // 10
PIECES = 15
CUTS = range(50, 12_000, 250)
AWAY_S = 4.0


class Silent:
    """A channel to nowhere."""

    def publish(self, frame: Frame, *, urgent: bool = True) -> None: ...


class Edge:
    """A core with its timers, and all that its client gets."""

    def __init__(self) -> None:
        self.core = Core(
            State("session", lambda: Playout(RATE_HZ, AHEAD_S), 0.0, deadline_s=1000.0, shows_failures=True)
        )
        self.timers: dict[tuple[Timer, int], float] = {}
        self.events: list[ev.Event] = []
        self.audio: dict[int, bytes] = {}
        self.published: list[tuple[float, Frame]] = []

    def on(self, what: Any, now_s: float) -> None:
        now_ms = CLOCK_MS + round(1000 * now_s)
        for effect in self.core.on(what, Stamp(now_s, now_ms, now_ms)):
            match effect:
                case fx.StartTimer(timer, delay_s, turn):
                    self.timers[timer, turn] = now_s + delay_s
                case fx.CancelTimer(timer, turn):
                    self.timers.pop((timer, turn), None)
                case fx.Publish(frame):
                    if StreamKind.OUT in ROUTES["edge"][type(frame)]:
                        self.published.append((now_s, frame))
                case ev.ReplyAudio(turn, offset, pcm):
                    assert offset == len(self.audio.get(turn, b"")) // 2
                    self.audio[turn] = self.audio.get(turn, b"") + pcm
                case _ if isinstance(effect, ev.Event):
                    self.events.append(effect)
                case _:
                    pass

    def wait(self, until_s: float) -> None:
        while due := sorted((at_s, *key) for key, at_s in self.timers.items() if at_s <= until_s):
            at_s, timer, turn = min(due, key=lambda one: one[0])
            del self.timers[timer, turn]
            self.on(TimerFired(timer, turn), at_s)


def reply(turn: int, begin_s: float, prompt_of: str = "") -> list[tuple[float, Frame]]:
    """A reply of two sentences; its audio is a ramp, and comes faster than it is played."""
    spoken = prompt(SETTINGS, OPTIONS, (), turn, prompt_of)
    frames: list[Frame] = [fr.ReplyStarted(turn, 0, prompt_hash(SETTINGS, OPTIONS, spoken))]
    for index, text in enumerate(("One is said. ", "Two is said.")):
        frames.append(fr.ReplyDelta(turn, 0, 13 * index, text))
        frames.append(fr.ReplySentence("session", turn, 0, index, text.strip(), "", 1.0, "en"))
        for piece in range(PIECES):
            ramp = np.arange(piece * PIECE, (piece + 1) * PIECE).astype("<i2").tobytes()
            frames.append(fr.VoiceChunk(turn, 0, index, piece * PIECE, RATE_HZ, ramp, ()))
        frames.append(fr.VoiceDone(turn, 0, index, PIECES * PIECE))
    frames.append(fr.ReplyDone(turn, 0, "One is said. Two is said.", 2))
    return [(begin_s + 0.05 * number, frame) for number, frame in enumerate(frames)]


def facts(cut_s: float = 0.0, away_s: float = 0.0) -> list[tuple[float, Frame]]:
    """A spoken turn whose reply is prepared before it is over; a typed turn; and a spoken one that interrupts the reply to it.

    A person who is away for some time begins their next turn that much later.
    """
    spoken = RATE_HZ
    turns: list[list[tuple[float, Frame]]] = [
        [
            (0.1, fr.SpeechStarted("session", 1, 0, 0, 0, "0-0", "en", True)),
            (0.5, fr.SpeechPaused(1, 0, spoken, True)),
            (0.6, fr.TranscriptFinal("session", 1, 0, "hello there", OPTIONS)),
            *reply(1, 0.65, "hello there"),
            (0.9, fr.TurnCommitted(1, 0, 0, spoken, spoken, CLOCK_MS, OPTIONS)),
        ],
        [
            (5.0, fr.TurnCommitted(2, 0, 0, 0, 0, CLOCK_MS, OPTIONS)),
            (5.0, fr.TranscriptFinal("session", 2, 0, "and now", OPTIONS)),
            *reply(2, 5.1),
        ],
        [
            (7.0, fr.SpeechStarted("session", 3, 0, 0, 0, "0-0", "en", True)),
            (7.3, fr.TranscriptPartial(3, 0, "stop it")),
            (7.5, fr.SpeechPaused(3, 0, spoken, True)),
            (7.6, fr.TranscriptFinal("session", 3, 0, "stop it now", OPTIONS)),
            (8.0, fr.TurnCommitted(3, 0, 0, spoken, spoken, CLOCK_MS, OPTIONS)),
        ],
    ]
    log = []
    for turn in turns:
        later_s = away_s if turn[0][0] > cut_s else 0.0
        log += [(at_s + later_s, frame) for at_s, frame in turn]
    return sorted(log, key=lambda fact: fact[0])


def run(edge: Edge, log: Sequence[tuple[float, Frame]], until_s: float) -> None:
    for at_s, frame in log:
        edge.wait(at_s)
        edge.on(frame, at_s)
    edge.wait(until_s)


def kinds_of(events: Sequence[ev.Event], turn: int) -> list[str]:
    return [
        type(event).__name__
        for event in events
        if getattr(event, "turn", 0) == turn and type(event) is not ev.ReplyText
    ]


def text_of(events: Sequence[ev.Event], turn: int) -> str:
    return "".join(event.text for event in events if isinstance(event, ev.ReplyText) and event.turn == turn)


def entries_of(log: Sequence[tuple[float, Frame]]) -> list[Entry]:
    return [
        (f"{CLOCK_MS + round(1000 * at_s)}-{number}", 1, [frame])
        for number, (at_s, frame) in enumerate(sorted(log, key=lambda fact: fact[0]), 1)
    ]


def unknown(journal: Journal, event: ev.Event) -> ev.Event | None:
    """What the client has not received of a rebuilt event."""
    name, turn = type(event).__name__, getattr(event, "turn", 0)
    if isinstance(event, ev.ReplyAudio):
        return None
    if isinstance(event, ev.ReplyText):
        text = event.text[journal.chars(name, turn, len(event.text)) :]
        return replace(event, text=text) if text else None
    return None if journal.has(name, turn) else event


def begun() -> Edge:
    edge = Edge()
    edge.on(Begin(SETTINGS), 0.0)
    return edge


@pytest.mark.parametrize("cut_ms", CUTS)
def test_every_event_and_sample_comes_once_in_order(cut_ms: int) -> None:
    whole = begun()
    run(whole, facts(), 30.0)

    before, cut_s = begun(), cut_ms / 1000
    run(before, [fact for fact in facts(cut_s, AWAY_S) if fact[0] <= cut_s], cut_s)
    written = [
        fr.EventSent(
            number, type(event).__name__, getattr(event, "turn", 0), len(text_of([event], getattr(event, "turn", 0)))
        )
        for number, event in enumerate(before.events, 1)
    ]
    newest = max((event.turn for event in before.events if isinstance(event, ev.ReplyBegan)), default=0)

    back_s = cut_s + AWAY_S
    entries = entries_of([fact for fact in facts(cut_s, AWAY_S) if fact[0] <= back_s] + before.published)
    after = Edge()
    rebuilt = Rebuild(after.core, Stamp(back_s, CLOCK_MS + round(1000 * back_s)))
    received = len(before.audio.get(newest, b"")) // 2
    rebuilt.run(Restore(SETTINGS, POINT, fr.History(()), newest, received), entries)
    journal = Journal(Silent())  # type: ignore[arg-type]
    journal.restore([("1-0", 1, written)], 0, len(written))
    after.events = [event for _, made in rebuilt.events if (event := unknown(journal, made)) is not None]
    after.audio[newest] = before.audio.get(newest, b"")
    after.timers = rebuilt.timers
    after.on(GoOn(whole=True), back_s)
    run(after, [fact for fact in facts(cut_s, AWAY_S) if fact[0] > back_s], 60.0)

    events = [*before.events, *after.events]
    for turn in (1, 2, 3):
        assert kinds_of(events, turn) == kinds_of(whole.events, turn)
        assert text_of(events, turn) == text_of(whole.events, turn)
    assert {**before.audio, **after.audio}[1] == whole.audio[1]
    # The second reply is interrupted: how much of it was sent by then depends on when.
    heard = {**before.audio, **after.audio}.get(2, b"")
    assert heard == whole.audio[2][: len(heard)] or whole.audio[2] == heard[: len(whole.audio[2])]


def test_a_reply_whose_beginning_the_log_has_lost_is_given_up_and_the_conversation_goes_on() -> None:
    edge = Edge()
    rebuilt = Rebuild(edge.core, Stamp(7.0, CLOCK_MS + 7000))
    rebuilt.run(Restore(SETTINGS, POINT, fr.History(()), 2, 4000), entries_of([f for f in facts() if 5.4 < f[0] < 6.5]))
    edge.on(GoOn(whole=False), 7.0)
    for at_s, frame in ((7.0, fr.TurnCommitted(3, 0, 0, 0, 0, CLOCK_MS, OPTIONS)), *reply(3, 7.1)):
        edge.wait(at_s)
        edge.on(frame, at_s)
    edge.wait(20.0)
    assert kinds_of(edge.events, 3)[-1] == "ReplyEnded"
    assert text_of(edge.events, 3) == "One is said. Two is said."
