"""Decides whether a turn that is over is accepted and answered, or discarded. Pure."""

from services.edge.client import events as ev
from services.edge.conversation import barge_in, outcome, replies, reply_requests
from services.edge.conversation.effects import StartTimer
from services.edge.conversation.inputs import Stamp, Timer
from services.edge.conversation.state import State
from services.edge.conversation.turn_machine import TurnSignal, TurnState, UserTurn
from shared.protocol.frames import TurnCommitted
from shared.protocol.session import RATE_HZ

TRANSCRIPT_S = 1.5
"""A turn that is answered as it sounds waits no longer for its transcript, where its words decide whether it was meant:
speech into a reply is then taken for meant."""


def settle(state: State, turn: UserTurn, at: Stamp) -> None:
    """The turn is over: accept or discard it, unless that has to wait for its transcript."""
    if turn.state is not TurnState.AWAITING_TRANSCRIPT:
        return
    if turn.over_reply:
        if turn.transcript is None and not turn.presumed_words:
            if turn.omni:
                state.effects.append(StartTimer(Timer.TRANSCRIPT, TRANSCRIPT_S, turn.number))
            return
        if reason := barge_in.dismissal(state, turn):
            discard(state, turn, reason, at)
            return
        turn.over_reply = False
    accept(state, turn, at)
    if turn.transcript is not None or turn.omni:
        reply_requests.try_again(state, at)


def presume_words(state: State, turn: UserTurn, at: Stamp) -> None:
    """The transcript does not come in time: the chat model hears for itself whether there were words."""
    turn.presumed_words = True
    settle(state, turn, at)


def accept(state: State, turn: UserTurn, at: Stamp) -> None:
    """Accept the turn. If its transcript comes so late that a newer turn is being answered, it is only recorded."""
    committed = turn.committed
    if committed is None or not turn.change(TurnSignal.ACCEPT):
        return
    options, is_late = committed.options, state.queue.gate.is_stale(turn.number, committed.revision)
    is_due = options.wants_reply and not is_late
    # A reply to a tool's result goes on from the reply that called the tool, which may still be playing.
    goes_on = not turn.spoken and state.record.ends_with_answer
    if is_due and options.say is None and not goes_on and state.interruptible:
        replies.interrupt(state, "turn", turn.number - 1, at)
    elif state.paused_by_turn == turn.number:
        replies.interrupt(state, "speech", turn.number - 1, at)
    state.newest_turn = max(state.newest_turn, turn.number)
    state.accepted_turns += 1
    state.emit(ev.TurnBegan(turn.number, spoken_ms(committed), is_due))
    if turn.transcript is not None:
        tell_words(state, turn)
    if is_due and turn.spoken and turn.transcript is not None and not turn.text:
        had_no_words(state, turn, at)
    elif is_due:
        replies.accept(state, turn, at)
    elif options.wants_reply:
        replies.reject(state, turn.number, at)
        outcome.answer_without_reply(state, turn.number, "interrupted", at)
    else:
        outcome.expect_no_reply(state, turn)
    replies.begin_next(state, at)


def tell_words(state: State, turn: UserTurn) -> None:
    """Report the words of an accepted turn to the client and the record."""
    if turn.text:
        state.effects.append(state.record.said(turn.number, turn.text))
    if turn.spoken:
        state.emit(ev.Transcribed(turn.number, turn.text, final=True))
    outcome.forget(state, turn)


def had_no_words(state: State, turn: UserTurn, at: Stamp) -> None:
    """The turn was to be answered, and has no words to be answered."""
    replies.give_up(state, [turn.number], "empty", at)
    replies.reject(state, turn.number, at)


def discard(state: State, turn: UserTurn, reason: str, at: Stamp) -> None:
    """Discard the turn: a reply that it paused resumes."""
    if not turn.change(TurnSignal.DISCARD):
        return
    barge_in.speech_ended(state, turn)
    state.turns.pop(turn.number, None)
    state.emit(ev.TurnDropped(turn.number, reason))
    replies.reject(state, turn.number, at)
    reply_requests.try_again(state, at)


def spoken_ms(fact: TurnCommitted) -> int:
    return (fact.end - fact.start) * 1000 // RATE_HZ
