"""What holds in every conversation, whatever the stages and the client do, and in whatever order it arrives."""

import random
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.edge.client import actions as act
from services.edge.conversation import replies, speculation, turns
from services.edge.conversation.playout import Playout
from services.edge.conversation.record import Record
from services.edge.conversation.reply import Reply
from services.edge.conversation.reply_queue import ReplyQueue
from services.edge.conversation.turn_machine import UserTurn
from shared.protocol.session import CASCADE, OMNI, ReplyOptions, SessionSettings
from tests.unit.edge.careful_client import RATE
from tests.unit.edge.world import World

CASES = 1500

SPEECH = ("speak", "speak", "pause", "pause", "resume", "end", "end", "discard")
CLIENT = (
    "say",
    "say",
    "commit",
    "stop",
    "clear",
    "cancel",
    "request",
    "announce",
    "played",
    "truncate",
    "note",
    "answer",
    "reset",
    "configure",
)
STEPS = st.one_of(
    st.tuples(st.sampled_from(SPEECH), st.sampled_from((0.0, 0.05, 0.3, 1.0, 4.0))),
    st.tuples(st.sampled_from(SPEECH), st.sampled_from((0.0, 0.3, 1.0))),
    st.tuples(st.sampled_from(CLIENT), st.sampled_from((0.0, 0.2, 2.0))),
    st.tuples(st.sampled_from(("wait", "again")), st.sampled_from((0.01, 0.5, 3.0, 10.0))),
)
SETTINGS = st.builds(
    SessionSettings,
    route=st.sampled_from((CASCADE, CASCADE, OMNI)),
    interrupt_reply=st.sampled_from((True, True, True, False)),
    create_reply=st.sampled_from((True, True, True, False)),
    detect_turns=st.sampled_from((True, True, True, True, False)),
    min_words=st.sampled_from((1, 1, 2)),
    interrupt_ms=st.sampled_from((0, 0, 400)),
    echo_guard_ms=st.sampled_from((0, 0, 700)),
    greeting=st.sampled_from(("", "", "Welcome.")),
)


def step(world: World, name: str) -> None:
    """The person or the client does this, if it can be done now."""
    match name:
        case "speak" | "pause" | "resume":
            getattr(world, name)()
        case "end":
            if world.speaking or world.paused:
                wanted = world.state.settings.create_reply
                instructions = world.chance.choice((None, None, None, "Be brief."))
                world.commit(ReplyOptions(wants_reply=wanted, instructions=instructions))
        case "discard":
            world.discard("noise")
        case "again":
            world.again()
        case "wait":
            pass
        case _:
            if name == "truncate" and not world.client.paused:
                return  # a client says where it fell silent
            if name == "answer" and not world.client.unanswered:
                return
            if name == "reset":
                world.reset_turn = world.turn
            world.on(action(world, name))


def action(world: World, name: str) -> act.Action:
    client, state = world.client, world.state
    actions: dict[str, Any] = {
        "say": lambda: act.Say("typed"),
        "commit": lambda: act.Commit(ReplyOptions(wants_reply=world.chance.random() < 0.7)),
        "stop": act.Stop,
        "clear": act.Clear,
        "cancel": act.CancelReply,
        "request": act.RequestReply,
        "announce": lambda: act.RequestReply(
            ReplyOptions(say="By the way.", interruptible=world.chance.choice((None, False)))
        ),
        "played": lambda: act.Played(0, int(client.position() * 1000 / RATE)),
        "truncate": lambda: act.Truncate(client.turn, int(client.position() * 1000 / RATE)),
        "note": lambda: act.SetHistory(f"note{world.chance.randint(0, 3)}", "system", "It rains."),
        "answer": lambda: act.SetHistory("result", "tool", "rain", answers=client.unanswered.pop()),
        "reset": act.Reset,
        "configure": lambda: act.Configure(replace(state.settings, instructions=world.chance.choice(("", "Be kind.")))),
    }
    done: act.Action = actions[name]()
    return done


def converse(seed: int, started: SessionSettings, can_pause: bool, steps: list[tuple[str, float]]) -> World:
    world = World(seed, started, can_pause=can_pause)
    for name, wait_s in steps:
        step(world, name)
        world.wait(wait_s)
    return world


Steps = list[tuple[str, float]]
CONVERSATIONS = st.tuples(st.integers(0, 2**32), SETTINGS, st.booleans(), st.lists(STEPS, min_size=1, max_size=40))
# Other cases in each run, in CI too.
MANY = settings(max_examples=CASES, deadline=None, derandomize=False, suppress_health_check=[HealthCheck.too_slow])


def check(world: World) -> None:
    """What must hold once everything that was begun is over, and that the session goes on."""
    world.settle()
    world.check_at_rest()
    fresh_turn(world)
    world.check_at_rest()
    world.check_history()


def fresh_turn(world: World) -> None:
    """A turn after all that: it is understood, answered completely, and over."""
    world.reliable = True
    world.on(act.Configure(replace(world.state.settings, create_reply=True, detect_turns=True)))
    world.speak()
    turn = world.turn
    world.wait(1)
    world.pause()
    world.wait(5)
    world.commit(ReplyOptions())
    world.wait(60)
    assert world.outcomes[turn] == ["completed"]
    assert world.client.statuses[turn] == ["completed"]
    assert world.client.text[turn] == world.full_text(turn)
    assert world.client.sent == len(world.voice(turn))


@pytest.mark.timeout(600)
@MANY
@given(CONVERSATIONS)
def test_every_turn_has_one_outcome_history_is_what_was_heard_and_the_session_goes_on(
    talk: tuple[int, SessionSettings, bool, Steps],
) -> None:
    seed, started, can_pause, steps = talk
    check(converse(seed, started, can_pause, steps))


@pytest.mark.timeout(600)
@settings(parent=MANY, max_examples=CASES // 5)
@given(CONVERSATIONS)
def test_the_same_holds_where_the_agent_asks_whether_anyone_is_there_and_the_client_leaves_at_any_time(
    talk: tuple[int, SessionSettings, bool, Steps],
) -> None:
    seed, started, can_pause, steps = talk
    world = converse(seed, replace(started, idle_ms=3000, idle_limit=2), can_pause, steps)
    world.leave()
    world.check_outcomes()


FAULTS: dict[str, tuple[Any, str, Any]] = {
    "a prepared reply plays before its turn is accepted": (
        ReplyQueue,
        "first",
        lambda self: next(iter(self._replies.values()), None),
    ),
    "the prompt hash is not checked": (speculation, "is_valid", lambda state, reply: not reply.failed),
    "words of an earlier revision count": (
        UserTurn,
        "begin_revision",
        lambda self, revision: setattr(self, "revision", revision),
    ),
    "superseded replies are kept": (ReplyQueue, "supersede", lambda self, turn, revision: False),
    "the next reply does not wait for the end of the one before": (Reply, "played_out", lambda self, now_s: self.ended),
    "a false interruption is never over": (replies, "resume", lambda state, turn, at: None),
    "a turn without words has no outcome": (turns, "had_no_words", lambda state, turn, at: None),
    "all of a reply counts as heard": (Playout, "heard", lambda self, now_s: self.sent),
    "what was heard is not put on record": (Record, "heard", lambda self, reply, samples: self.save()),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_these_properties_see_a_planted_fault(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(*FAULTS[fault])
    with pytest.raises(AssertionError):  # noqa: PT012 - in which conversation it shows is left to chance
        for seed in range(400):
            chance = random.Random(seed)
            steps = [
                (chance.choice(chance.choice((SPEECH, SPEECH, CLIENT))), chance.choice((0.0, 0.05, 0.3, 1.0, 4.0)))
                for _ in range(chance.randint(5, 40))
            ]
            check(converse(seed, SessionSettings(), chance.random() < 0.5, steps))
