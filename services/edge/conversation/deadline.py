"""The deadline of a turn: it passes when no stage has made progress for too long. `failures` says what follows. Pure.

Each turn that is over has a timer. Progress (a transcript, any frame of its reply) only notes the time, because a reply
has a frame for each piece of audio; the timer looks at that time when it fires, and starts again for the rest.
"""

from services.edge.conversation.effects import StartTimer
from services.edge.conversation.inputs import Stamp, Timer
from services.edge.conversation.reply import Reply
from services.edge.conversation.state import State
from services.edge.conversation.turn_machine import TurnState, UserTurn

TIMER_S = 0.001
"""Timers may fire this much early."""


def watch(state: State, turn: UserTurn, at: Stamp) -> None:
    """Start the deadline of a turn on which workers have to make progress."""
    turn.progress_s = at.now_s
    if stage_due(state, turn):
        state.effects.append(StartTimer(Timer.DEADLINE, allowed_s(state, "tts"), turn.number))


def asked(state: State, at: Stamp) -> None:
    """The client has typed something or requested a reply: a turn without a number, until the vad stage gives it one."""
    state.asked_s.append(at.now_s)
    if len(state.asked_s) == 1:
        state.effects.append(StartTimer(Timer.DEADLINE, state.deadline_s))


def allowed_s(state: State, stage: str) -> float:
    """How long this stage may make no progress. The voice is allowed least: by then, the person has waited for the text."""
    return min(state.deadline_s, state.reply_deadline_s) if stage == "tts" else state.deadline_s


def left_for_turn_s(state: State, turn: UserTurn, stage: str, at: Stamp) -> float:
    """Time until this stage, which is due, has taken too long, in seconds; 0: it has."""
    reply = reply_to(state, turn)
    since_s = turn.progress_s
    if reply is not None and stage == "tts":  # while the person hears what there is, the voice has time
        since_s = max(since_s, reply.voice_due_s, reply.playout.heard_out_s(at.now_s))
    elif reply is not None:
        since_s = max(since_s, reply.progress_s)
    return left_s(since_s + allowed_s(state, stage), at)


def left_s(until_s: float, at: Stamp) -> float:
    """Time until then, in seconds; 0: it has passed."""
    left_s = until_s - at.now_s
    return left_s if left_s > TIMER_S else 0.0


def stage_due(state: State, turn: UserTurn) -> str:
    """Return the stage that has to make progress; empty if no stage has to."""
    if not turn.is_over:
        return ""
    if turn.spoken and turn.awaits_words and not turn.omni:
        return "asr"
    if turn.state not in (TurnState.AWAITING_TRANSCRIPT, TurnState.ACCEPTED) or not turn.wants_reply:
        return ""
    reply = reply_to(state, turn)
    if reply is None:
        return "llm"
    if reply.failed or reply.fully_received:
        return ""
    return "tts" if any(index >= reply.playout.next_sentence for index in reply.sentences) else "llm"


def reply_to(state: State, turn: UserTurn) -> Reply | None:
    reply = state.reply
    return reply if reply is not None and reply.turn == turn.number else state.queue.get(turn.number)
