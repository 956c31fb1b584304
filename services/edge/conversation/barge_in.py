"""Barge-in: whether speech into a reply is meant to stop it. Pure.

The reply pauses at once, the first words that take the floor interrupt it, and without any it goes on.
"""

from services.edge.conversation import replies
from services.edge.conversation.backchannels import takes_the_floor
from services.edge.conversation.effects import CancelTimer, Silenced, StartTimer
from services.edge.conversation.inputs import Stamp, Timer
from services.edge.conversation.reply import Reply
from services.edge.conversation.state import State
from services.edge.conversation.turn_machine import TurnState, UserTurn

MURMUR_S = 0.9
"""Speech that lasts longer is no murmur. Counted from the beginning of the turn, which is known after `start_ms` of speech."""
ANSWER_S = 1.0
"""What is said within this time before the end of a reply answers it, even if it is only a "yes"."""


def speech_began(state: State, turn: UserTurn, at: Stamp) -> None:
    """Pause the reply that the speech interrupts, now or after the time in which it is protected."""
    if not (turn.over_reply and turn.interrupts):
        return
    settings, reply = state.settings, state.reply
    wait_ms = float(max(0, settings.interrupt_ms - settings.start_ms))
    if reply is not None and (began_s := reply.playout.began_s) is not None:
        guard_ms = settings.echo_guard_ms - 1000 * (at.now_s - began_s)
        if guard_ms > 0:
            turn.echo = True
            wait_ms = max(wait_ms, guard_ms)
    if wait_ms > 0:
        turn.silence_due = True
        state.effects.append(StartTimer(Timer.SILENCE, wait_ms / 1000, turn.number))
    elif _pause_reply(state, turn, at):
        state.effects.append(Silenced(turn.onset))


def speech_lasted(state: State, turn: UserTurn, at: Stamp) -> None:
    """The timer `SILENCE` has fired."""
    if turn.silence_due and turn.state is TurnState.SPEAKING:
        turn.silence_due = False
        _pause_reply(state, turn, at)


def speech_ended(state: State, turn: UserTurn) -> None:
    """Keep a reply that was not paused yet: the speech has ended."""
    if turn.silence_due:
        turn.silence_due = False
        state.effects.append(CancelTimer(Timer.SILENCE, turn.number))


def _pause_reply(state: State, turn: UserTurn, at: Stamp) -> bool:
    turn.echo = False
    turn.answers_reply = state.reply is not None and _is_nearly_over(state.reply, at.now_s)
    return replies.pause(state, turn.number, at)


def _is_nearly_over(reply: Reply, now_s: float) -> bool:
    if not reply.fully_received:
        return False
    playout = reply.playout
    return playout.received_samples - playout.heard(now_s) < ANSWER_S * playout.rate_hz


def partial_came(state: State, turn: UserTurn, text: str, at: Stamp) -> None:
    """Words that were recognised while the person speaks. A recogniser finds words in a murmur, too: until speech has lasted
    longer than murmurs do, only words that claim the floor count."""
    words_came(state, turn, text, at, murmur=at.now_s - turn.began_s < MURMUR_S)


def words_came(state: State, turn: UserTurn, text: str, at: Stamp, *, murmur: bool) -> bool:
    """Words that take the floor interrupt the reply that they were spoken into. Returns whether these do."""
    if not _take_floor(state, turn, text, murmur=murmur):
        return False
    if turn.over_reply and state.paused_by_turn:
        turn.over_reply = False
        replies.interrupt(state, "speech", turn.number - 1, at)
        state.paused_by_turn = turn.number  # nothing else begins while the person speaks on
    return True


def dismissal(state: State, turn: UserTurn) -> str:
    """Why speech into a reply, now that it is over, is not a turn; empty if it is one. Without a transcript it counts as
    words."""
    if turn.echo:
        return "echo"
    if turn.transcript is None or _take_floor(state, turn, turn.text, murmur=turn.transcript.murmur):
        return ""
    return "backchannel" if turn.text else "noise"


def _take_floor(state: State, turn: UserTurn, text: str, *, murmur: bool) -> bool:
    if turn.answers_reply:
        return bool(text)
    return takes_the_floor(text, state.settings.language, state.settings.min_words, murmur=murmur)
