"""A Realtime session that is cut off at any moment and resumed: each event and each sample once, with the same ids."""

import base64
import json
from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest

from services.edge.client import actions as act
from services.edge.client import events as ev
from services.edge.conversation import effects as fx
from services.edge.conversation.core import Core
from services.edge.conversation.inputs import Begin, GoOn, Restore, Stamp, Timer, TimerFired
from services.edge.conversation.playout import Playout
from services.edge.conversation.rebuild import Rebuild
from services.edge.conversation.state import State
from services.edge.gateway.line import Line
from services.edge.gateway.resume import SavedSession
from services.edge.protocols.realtime.resumable import ResumableCodec, Resume
from shared.protocol import frames as fr
from shared.protocol.frames import Frame
from shared.protocol.session import SessionSettings
from shared.protocol.streams import ROUTES, StreamKind
from tests.unit.edge.test_rebuild import AHEAD_S, CLOCK_MS, entries_of, facts

SETTINGS = SessionSettings()
SESSION = "0123"
AWAY_S = 4.0
CUTS_MS = range(50, 12_000, 470)
ITEM = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "I am Ada."}]}
SAID = [
    (0.2, {"type": "conversation.item.create", "item": ITEM}),
    (4.8, {"type": "session.update", "session": {"type": "realtime", "instructions": "Be kind."}}),
    (4.9, {"type": "conversation.item.create", "item": {**ITEM, "id": "mine"}}),
]


class Broker:
    """What is written about the session, each frame with its time in s."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.log: list[tuple[float, Frame]] = []
        self.events: list[tuple[float, Frame]] = []
        self.points: Sequence[fr.ResumePoint] = ()

    def publish(self, frame: Frame, *, urgent: bool = True) -> None:
        kinds = ROUTES["edge"][type(frame)]
        if StreamKind.EVENTS in kinds:
            self.events.append((self.now_s, frame))
        elif StreamKind.OUT in kinds:
            self.log.append((self.now_s, frame))

    def open_line(self, session: str, line: str, token_hash: str) -> None:
        pass

    def save_resume_points(self, session: str, points: Sequence[fr.ResumePoint]) -> None:
        self.points = points


class Edge:
    """A core with its timers, its codec, and all that its client gets."""

    def __init__(self, broker: Broker, resume: Resume) -> None:
        self.broker = broker
        self.codec = ResumableCodec(SETTINGS, "parley", lambda prefix: f"{prefix}_1", resume=resume)
        self.core = Core(
            State("session", lambda: Playout(24_000, AHEAD_S, keeps=True), 0.0, deadline_s=1000.0, shows_failures=True)
        )
        self.line = Line(broker, self.codec)  # type: ignore[arg-type]
        self.timers: dict[tuple[Timer, int], float] = {}
        self.messages: list[dict[str, Any]] = []

    def begin(self) -> None:
        self.line.open(SESSION, self.broker)  # type: ignore[arg-type]
        self.line.save(fr.ResumePoint("0-0", 0, 0, 0, 0, 0, 0, 0, 0, CLOCK_MS, "realtime", 24_000))
        self.send(self.codec.encode(ev.Ready(SESSION, SETTINGS, self.line.token, 30)))
        self.on(Begin(SETTINGS), 0.0)

    def send(self, messages: Sequence[str | bytes]) -> None:
        self.messages += map(json.loads, messages)

    def on(self, what: Any, now_s: float) -> None:
        now_ms = CLOCK_MS + round(1000 * now_s)
        self.broker.now_s = now_s
        for effect in self.core.on(what, Stamp(now_s, now_ms, now_ms)):
            match effect:
                case fx.StartTimer(timer, delay_s, turn):
                    self.timers[timer, turn] = now_s + delay_s
                case fx.CancelTimer(timer, turn):
                    self.timers.pop((timer, turn), None)
                case fx.Publish(frame):
                    self.broker.publish(frame)
                case _ if isinstance(effect, ev.Event):
                    self.send(self.codec.encode(effect))
                case _:
                    pass

    def wait(self, until_s: float) -> None:
        while due := sorted((at_s, *key) for key, at_s in self.timers.items() if at_s <= until_s):
            at_s, timer, turn = min(due, key=lambda one: one[0])
            del self.timers[timer, turn]
            self.on(TimerFired(timer, turn), at_s)

    def hear(self, message: Any, now_s: float) -> None:
        """The client sends this. The core does not learn of it: the replies of these tests are made for an empty history."""
        self.broker.now_s = now_s
        for action in self.codec.decode(json.dumps(message)):
            if isinstance(action, act.Send):
                self.send(action.messages)

    def run(self, happened: Sequence[tuple[float, Any]], until_s: float) -> None:
        for at_s, what in sorted(happened, key=lambda one: one[0]):
            self.wait(at_s)
            if isinstance(what, dict):
                self.hear(what, at_s)
            else:
                self.on(what, at_s)
        self.wait(until_s)


def happened(cut_s: float = 0.0, away_s: float = 0.0) -> list[tuple[float, Any]]:
    said = [(at_s + (away_s if at_s > cut_s else 0.0), message) for at_s, message in SAID]
    return sorted([*facts(cut_s, away_s), *said], key=lambda one: one[0])


def resumed(broker: Broker, seen: list[dict[str, Any]], log: list[tuple[float, Frame]], back_s: float) -> Edge:
    """Another edge, to which the client says what it has seen."""
    edge = Edge(broker, "now")
    broker.now_s = back_s
    (wish,) = edge.codec.decode(
        json.dumps({"type": "parley.session.resume", "token": "t", "last_event_id": seen[-1]["event_id"]})
    )
    assert isinstance(wish, act.Resume)
    entries = entries_of(log + broker.log)
    journal = [(f"{CLOCK_MS + round(1000 * at_s)}-0", 1, [frame]) for at_s, frame in broker.events]
    points = list(broker.points)[:1]
    saved = SavedSession(SESSION, "t", points, SETTINGS, fr.History(()), entries, True, "", journal, 0)
    edge.line.take(saved, broker, wish.number)  # type: ignore[arg-type]
    rebuilt = Rebuild(edge.core, Stamp(back_s, CLOCK_MS + round(1000 * back_s)))
    rebuilt.run(Restore(SETTINGS, points[0], fr.History(()), wish.turn, wish.samples), entries)
    edge.send(edge.codec.encode(ev.Ready(SESSION, SETTINGS, "t", 30, resumed=True)))
    edge.send(list(edge.line.rebuilt(rebuilt.events)))
    edge.timers = rebuilt.timers
    edge.on(GoOn(whole=True), back_s)
    return edge


def marks(messages: list[dict[str, Any]]) -> Counter[tuple[str, str]]:
    """All events but deltas and greetings, with what they are about."""
    found: Counter[tuple[str, str]] = Counter()
    for message in messages:
        kind = message["type"]
        if not kind.endswith(".delta") and kind != "parley.session.resumed":
            about = message.get("item") or message.get("response") or {}
            found[kind, message.get("item_id") or about.get("id") or ""] += 1
    return found


def text_of(messages: list[dict[str, Any]], item: str) -> str:
    return "".join(
        one["delta"]
        for one in messages
        if one.get("item_id") == item and one["type"].endswith("delta") and "output_audio.delta" not in one["type"]
    )


def sound_of(messages: list[dict[str, Any]], item: str) -> bytes:
    return b"".join(
        base64.b64decode(one["delta"])
        for one in messages
        if one["type"] == "response.output_audio.delta" and one["item_id"] == item
    )


def items_of(messages: list[dict[str, Any]]) -> list[str]:
    return [message["item"]["id"] for message in messages if message["type"] == "conversation.item.added"]


@pytest.fixture(scope="module")
def expected() -> list[dict[str, Any]]:
    """What a client gets that does not lose its connection."""
    whole = Edge(Broker(), "allow")
    whole.begin()
    whole.run(happened(), 60.0)
    return whole.messages


@pytest.mark.parametrize("cut_ms", CUTS_MS)
def test_every_event_and_sample_comes_once_with_the_same_ids(cut_ms: int, expected: list[dict[str, Any]]) -> None:
    broker, cut_s, back_s = Broker(), cut_ms / 1000, cut_ms / 1000 + AWAY_S
    unread = cut_ms % 4  # messages that the client had not received when it lost its connection
    before = Edge(broker, "allow")
    before.begin()
    before.run([one for one in happened(cut_s, AWAY_S) if one[0] <= cut_s], cut_s)
    seen = before.messages[: max(2, len(before.messages) - unread)]
    log = [one for one in facts(cut_s, AWAY_S) if one[0] <= back_s]
    after = resumed(broker, seen, log, back_s)
    after.run([one for one in happened(cut_s, AWAY_S) if one[0] > back_s], 60.0)
    messages = seen + after.messages
    assert marks(messages) == marks(expected)
    assert items_of(messages) == items_of(expected)
    for item in items_of(expected):
        assert text_of(messages, item) == text_of(expected, item)
        sound, whole_sound = sound_of(messages, item), sound_of(expected, item)
        # The second reply is interrupted: how much of it was sent by then depends on when.
        assert sound == whole_sound or items_of(expected).index(item) >= 4
        length = min(len(sound), len(whole_sound))
        assert sound[:length] == whole_sound[:length]
    ids = [message["event_id"] for message in messages if message["type"] != "parley.session.resumed"]
    assert len(set(ids)) == len(ids)


def test_what_one_client_can_make_the_journal_keep_is_bounded() -> None:
    broker = Broker()
    edge = Edge(broker, "allow")
    edge.begin()
    for _ in range(9):
        edge.hear({"type": "response.cancel", "event_id": "x" * 2 * 1024 * 1024}, 1.0)
    assert sum(isinstance(frame, fr.MessageReceived) for _, frame in broker.events) == 7
    assert edge.messages[-1]["error"]["code"] == "conversation_full"
