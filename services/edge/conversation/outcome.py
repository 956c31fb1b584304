"""The outcome of a turn: each turn that is to be answered has exactly one. Pure."""

from services.edge.conversation.effects import TurnEnded
from services.edge.conversation.inputs import Leave, Stamp
from services.edge.conversation.reply import Reply
from services.edge.conversation.state import State
from services.edge.conversation.turn_machine import TurnSignal, TurnState, UserTurn

LINGERING = 8
"""Answered turns whose transcripts may still come; the oldest is forgotten first."""


def answer_without_reply(state: State, number: int, outcome: str, at: Stamp, reason: str = "") -> None:
    """End a turn that wanted a reply and of whose reply nothing was heard."""
    _answer(state, number, outcome, 0, 0, 0, reason, at)


def answer(state: State, reply: Reply, heard: int, at: Stamp) -> None:
    """The reply is over; the person heard `heard` samples of it. The outcome of a reply that a stage gave up is `failed`,
    even if someone interrupted the part that was played."""
    outcome = "failed" if reply.failed else reply.status
    lengths = (reply.ms(heard), reply.ms(reply.playout.sent))
    _answer(state, reply.turn, outcome, reply.revision, *lengths, reply.reason, at)


def _answer(
    state: State, number: int, outcome: str, revision: int, heard_ms: int, reply_ms: int, reason: str, at: Stamp
) -> None:
    turn = state.turns.get(number)
    if turn is None or not turn.change(TurnSignal.ANSWER):
        return
    report = turn.report
    said, heard_text = state.record.texts(number)
    state.effects.append(
        TurnEnded(
            turn=number,
            outcome=outcome,
            revision=revision,
            heard_ms=heard_ms,
            reply_ms=reply_ms,
            route=state.settings.route,
            at_ms=at.now_ms,
            speech_end_ms=report.speech_end_ms,
            spoken=report.spoken,
            trace=report.trace,
            marks=report.marks(),
            said=said,
            reply=heard_text,
            reason=reason,
        )
    )
    forget(state, turn)
    if outcome in ("completed", "interrupted"):
        state.failed_turns = 0
    elif outcome == "failed":
        state.failed_turns += 1
    unheard = outcome == "failed" and not heard_ms
    if unheard and not (state.shows_failures or state.speaks_failures or state.has_reply):
        state.do(state.idle.leave(state.settings, Leave(1011, "a turn has failed")))


def expect_no_reply(state: State, turn: UserTurn) -> None:
    """End a turn that wants no reply: it has no outcome."""
    turn.change(TurnSignal.ANSWER)
    forget(state, turn)


def forget(state: State, turn: UserTurn) -> None:
    """Forget the turn, if it is answered and its words are known; and the oldest of those whose words never came."""
    if turn.state is not TurnState.ANSWERED:
        return
    if not turn.awaits_words:
        state.turns.pop(turn.number, None)
        return
    lingering = [number for number, one in state.turns.items() if one.state is TurnState.ANSWERED]
    for number in lingering[:-LINGERING]:
        del state.turns[number]
