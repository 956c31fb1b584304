"""A session whose edge dies several times before it comes to rest: each event, character and sample comes once."""

from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.edge.client import events as ev
from services.edge.conversation.inputs import GoOn, Restore, Stamp
from services.edge.conversation.rebuild import Rebuild
from services.edge.gateway.journal import Journal
from shared.protocol import frames as fr
from shared.protocol.frames import Frame
from tests.unit.edge.test_rebuild import (
    CLOCK_MS,
    PIECE,
    PIECES,
    POINT,
    SETTINGS,
    Edge,
    begun,
    entries_of,
    facts,
    run,
    unknown,
)

WHOLE = 2 * PIECES * PIECE
TEXT = "One is said. Two is said."
END_S = 60.0


@dataclass(frozen=True)
class Death:
    """An edge dies at `at_s`; the client is back after `away_s`."""

    at_s: float
    away_s: float
    unread: int = 0
    """Messages that were sent and did not reach the client."""
    unwritten: int = 0
    """Events that reached the client and not the broker."""


@dataclass
class Client:
    """Knows what it says when it resumes, and everything that it got."""

    number: int = 0
    turn: int = 0
    samples: int = 0
    got: list[tuple[int, ev.Event]] = field(default_factory=list)

    def take(self, number: int, event: ev.Event) -> None:
        self.got.append((number, event))
        if isinstance(event, ev.ReplyAudio):
            self.samples += len(event.pcm) // 2
            return
        self.number = number
        if isinstance(event, ev.ReplyBegan):
            self.turn, self.samples = event.turn, 0

    def without(self, unread: int) -> "Client":
        """The client as it was before the newest messages."""
        earlier = Client()
        for number, event in self.got[: max(0, len(self.got) - unread)]:
            earlier.take(number, event)
        return earlier

    def samples_of(self, turn: int) -> int:
        return sum(
            len(event.pcm) // 2 for _, event in self.got if isinstance(event, ev.ReplyAudio) and event.turn == turn
        )

    def text_of(self, turn: int) -> str:
        return "".join(event.text for _, event in self.got if isinstance(event, ev.ReplyText) and event.turn == turn)


class Written:
    """The stream of events in the broker."""

    def __init__(self) -> None:
        self.frames: list[Frame] = []

    def publish(self, frame: Frame, *, urgent: bool = True) -> None:
        self.frames.append(frame)


class Served:
    """An edge with its journal, that sends to a client."""

    def __init__(self, edge: Edge, journal: Journal, client: Client) -> None:
        self.edge, self.journal, self.client = edge, journal, client
        core_on = edge.core.on

        def on(what: Any, at: Stamp) -> list[Any]:
            effects = list(core_on(what, at))
            for effect in effects:
                if isinstance(effect, ev.Event):
                    self.send(effect)
            return effects

        edge.core.on = on  # type: ignore[method-assign]

    def send(self, event: ev.Event) -> None:
        if isinstance(event, ev.ReplyAudio):
            self.client.take(0, event)
            return
        chars = len(event.text) if isinstance(event, ev.ReplyText) else 0
        number = self.journal.sent(type(event).__name__, getattr(event, "turn", 0), chars)
        self.client.take(number, event)


def log_of(deaths: list[Death]) -> list[tuple[float, Frame]]:
    """The facts of a conversation in which nobody begins to speak while there is no edge."""
    begins_s = {1: 0.1, 2: 5.0, 3: 7.0}
    later_s, delays = 0.0, {}
    for turn, begin_s in begins_s.items():
        for death in deaths:
            if death.at_s < begin_s + later_s < death.at_s + death.away_s:
                later_s = death.at_s + death.away_s + 0.05 - begin_s
        delays[turn] = later_s
    moved = [(at_s + delays[getattr(fact, "turn", 0)], fact) for at_s, fact in facts()]
    return sorted(moved, key=lambda fact: fact[0])


def converse(deaths: list[Death], kept: int = 10_000) -> Client:
    """Let the conversation go on through these deaths. `kept`: entries to which the broker trims the events at each of them."""
    log, written, published = log_of(deaths), Written(), list[tuple[float, Frame]]()
    served = Served(begun(), Journal(written), Client())  # type: ignore[arg-type]
    since_s = -1.0
    for death in deaths:
        run(served.edge, [fact for fact in log if since_s < fact[0] <= death.at_s], death.at_s)
        published += served.edge.published
        del written.frames[max(0, len(written.frames) - death.unwritten) :]
        del written.frames[: max(0, len(written.frames) - kept)]
        client = served.client.without(0 if death.unwritten else death.unread)
        since_s = back_s = death.at_s + death.away_s
        edge = Edge()
        rebuilt = Rebuild(edge.core, Stamp(back_s, CLOCK_MS + round(1000 * back_s)))
        entries = entries_of([fact for fact in log if fact[0] <= back_s] + published)
        rebuilt.run(Restore(SETTINGS, POINT, fr.History(()), client.turn, client.samples), entries)
        journal = Journal(written)  # type: ignore[arg-type]
        journal.restore([("1-0", 1, list(written.frames))], 0, client.number)
        edge.timers = rebuilt.timers
        edge.audio = {turn: bytes(2 * client.samples_of(turn)) for turn in (1, 2, 3)}
        published += [(back_s, frame) for frame in rebuilt.unwritten()]
        served = Served(edge, journal, client)
        for _, event in rebuilt.events:
            if (news := unknown(journal, event)) is not None:
                served.send(news)
        journal.rebuilt()
        edge.on(GoOn(whole=True), back_s)
    run(served.edge, [fact for fact in log if fact[0] > since_s], END_S)
    return served.client


def check(client: Client) -> None:
    for kind in (ev.TurnBegan, ev.ReplyBegan, ev.ReplyEnded):
        turns = [event.turn for _, event in client.got if type(event) is kind]
        assert turns == ([1, 2] if kind is not ev.TurnBegan else [1, 2, 3]), kind
    for _, event in client.got:
        if isinstance(event, ev.ReplyEnded) and event.status == "completed":
            assert client.samples_of(event.turn) == WHOLE
            assert client.text_of(event.turn) == TEXT
    for turn in (1, 2):
        assert TEXT.startswith(client.text_of(turn))


@st.composite
def several_deaths(draw: st.DrawFn) -> list[Death]:
    deaths, at_s = [], 0.0
    for _ in range(draw(st.integers(1, 3))):
        at_s = round(at_s + draw(st.floats(0.15, 3.0)), 2)
        away_s = draw(st.sampled_from((0.2, 0.6, 1.3, 3.0)))
        deaths.append(Death(at_s, away_s, draw(st.integers(0, 4)), draw(st.integers(0, 2))))
        at_s += away_s
    return deaths


@given(several_deaths())
def test_each_event_character_and_sample_comes_once(deaths: list[Death]) -> None:
    check(converse(deaths))


@pytest.mark.parametrize("kept", [1, 5, 12])
def test_the_broker_has_trimmed_the_events(kept: int) -> None:
    check(converse([Death(3.3, 0.3), Death(5.6, 0.6), Death(7.9, 0.3)], kept))


def test_an_event_that_a_killed_edge_had_not_written_is_not_sent_by_the_second_successor() -> None:
    check(converse([Death(4.0, 0.6, unwritten=2), Death(5.5, 0.6)]))


def test_text_that_was_sent_and_not_received_is_not_missing_after_a_second_death() -> None:
    written = Written()
    written.publish(fr.EventSent(1, "ReplyText", 1, 10))  # it never reached the client
    second = Journal(written)  # type: ignore[arg-type]
    second.restore([("1-0", 1, list(written.frames))], 0, 0)
    assert second.chars("ReplyText", 1, 10) == 0
    assert second.sent("ReplyText", 1, 10) == 2
    third = Journal(written)  # type: ignore[arg-type]
    third.restore([("1-0", 1, list(written.frames))], 0, 2)
    assert [third.chars("ReplyText", 1, 10), third.chars("ReplyText", 1, 10)] == [10, 0]
