"""Speculation: a reply that was begun before its turn was over is valid only if its prompt hash still matches. Pure."""

from dataclasses import replace

from services.edge.conversation import deadline
from services.edge.conversation.effects import Count, Tally
from services.edge.conversation.inputs import Stamp
from services.edge.conversation.reply import Reply
from services.edge.conversation.state import State
from services.edge.conversation.turn_machine import UserTurn
from shared.protocol import prompt
from shared.protocol.frames import TranscriptFinal


def is_valid(state: State, reply: Reply) -> bool:
    """Whether the reply answers the conversation as it is now."""
    turn = state.turns.get(reply.turn)
    return turn is not None and not reply.failed and reply.prompt_hash == _prompt_hash(state, turn)


def _prompt_hash(state: State, turn: UserTurn) -> int | None:
    """Checksum of the input that the chat model would get now."""
    if turn.committed is None:
        return None
    text = turn.text if turn.sound is None else prompt.SOUND
    options = turn.committed.options
    messages = prompt.prompt(state.settings, options, state.record.messages(), turn.number, text)
    return prompt.prompt_hash(state.settings, options, messages)


def redo(state: State, reply: Reply, at: Stamp) -> None:
    """The conversation has changed since the reply was begun: have it made again, one revision higher."""
    turn = state.turns[reply.turn]
    again = state.queue.redo(reply)
    state.effects.append(Count(Tally.SPECULATION_REDONE))
    turn.report.mark("asked", at.now_ms)
    deadline.watch(state, turn, at)
    outdate(state, again.turn, again.revision)
    assert turn.committed is not None  # noqa: S101 - an accepted turn is over
    options, at_revision = turn.committed.options, again.revision
    if turn.sound is not None:
        state.publish(replace(turn.sound, revision=at_revision, options=options))
    else:
        trace = turn.report.trace
        state.publish(TranscriptFinal(state.session, again.turn, at_revision, turn.text, options, trace))


def outdate(state: State, turn: int, revision: int) -> bool:
    """Stop the work on earlier revisions of this turn. Returns whether that throws a reply away."""
    state.stop_workers(turn, revision, only=True)
    return state.queue.supersede(turn, revision)


def supersede(state: State, turn: int, revision: int) -> None:
    """Make earlier revisions of this turn stale; the reply to the turn before it may still be wanted."""
    if outdate(state, turn, revision):
        state.effects.append(Count(Tally.SPECULATION_WASTED))
