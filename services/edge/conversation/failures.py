"""What follows when a stage has given up on a turn, or does not answer. Pure."""

from services.edge.client import events as ev
from services.edge.conversation import deadline, outcome, replies, reply_requests, turns
from services.edge.conversation.effects import StartTimer
from services.edge.conversation.inputs import Stamp, Timer
from services.edge.conversation.state import State
from services.edge.conversation.turn_machine import TurnState, UserTurn
from shared.protocol.frames import StageFailed
from shared.protocol.reasons import REPLY_DEADLINE, STAGE_FAILED, TURN_DEADLINE, known_failure


def stage_failed(state: State, fact: StageFailed, at: Stamp) -> None:
    turn, code = state.turns.get(fact.turn), known_failure(fact.code)
    if fact.stage == "asr":
        if turn is not None and turn.spoken and turn.awaits_words and fact.revision >= turn.revision:
            lost_words(state, turn, _gave_up(fact), at, code)
        return
    if turn is not None and (not turn.is_accepted or replies.is_made_again(state, fact.turn, fact.revision)):
        replies.fail(state, fact.turn, fact.revision, code, at)
    elif fact.turn <= state.newest_turn and not _is_superseded(state, fact):
        state.emit(ev.Failed(code, _gave_up(fact), fact.turn, state.speaks_failures))
        replies.fail(state, fact.turn, fact.revision, code, at)


def deadline_of_turn(state: State, turn: UserTurn, at: Stamp) -> None:
    """The turn's timer has fired: give it up if nothing of it has arrived since the timer was started."""
    stage = deadline.stage_due(state, turn)
    if not stage:
        return
    reply = deadline.reply_to(state, turn)
    if left_s := deadline.left_for_turn_s(state, turn, stage, at):
        # Another stage may be due by then, which may have less time.
        state.effects.append(StartTimer(Timer.DEADLINE, min(left_s, deadline.allowed_s(state, "tts")), turn.number))
        return
    message = _unanswered(state, stage)
    if stage == "asr":
        lost_words(state, turn, message, at, TURN_DEADLINE)
        return
    revision = turn.revision
    if reply is not None:
        revision, reply.speculated = reply.revision, False  # it is too late to ask for another one
    code = REPLY_DEADLINE if stage == "tts" else TURN_DEADLINE
    state.emit(ev.Failed(code, message, turn.number, state.speaks_failures))
    replies.fail(state, turn.number, revision, code, at)
    state.stop_workers(turn.number, revision + 1, only=True)


def deadline_of_request(state: State, at: Stamp) -> None:
    """The timer of what was typed or requested has fired: the vad stage may not have made a turn of it."""
    if not state.asked_s:
        return
    if left_s := deadline.left_s(state.asked_s[0] + state.deadline_s, at):
        state.effects.append(StartTimer(Timer.DEADLINE, left_s))
        return
    state.asked_s.clear()
    state.emit(ev.Failed(TURN_DEADLINE, _unanswered(state, "vad")))


def lost_words(state: State, turn: UserTurn, message: str, at: Stamp, code: str = STAGE_FAILED) -> None:
    """There will be no transcript of the turn's revision. The client gets this message, now or when the turn is over."""
    turn.words_lost = True
    if turn.omni:  # the reply needs no transcript
        state.emit(ev.Failed(code, message))
        turns.presume_words(state, turn, at)
        outcome.forget(state, turn)
        reply_requests.try_again(state, at)
        return
    match turn.state:
        case TurnState.SPEAKING | TurnState.PAUSED:
            turn.failure = message  # the person may speak on, and be understood then
            replies.resume(state, turn.number, at)
            return
        case TurnState.AWAITING_TRANSCRIPT:
            _give_up(state, turn, code, at)
    in_reply = state.speaks_failures and turn.state is TurnState.ACCEPTED and turn.wants_reply
    state.emit(ev.Failed(code, message, turn.number, in_reply))
    replies.fail(state, turn.number, turn.revision, code, at)
    outcome.forget(state, turn)
    reply_requests.try_again(state, at)


def _give_up(state: State, turn: UserTurn, code: str, at: Stamp) -> None:
    """End a turn that was spoken into a reply and whose words are lost: the reply resumes."""
    if turn.wants_reply:
        outcome.answer_without_reply(state, turn.number, "failed", at, code)
    else:
        outcome.expect_no_reply(state, turn)
    replies.reject(state, turn.number, at)


def _is_superseded(state: State, fact: StageFailed) -> bool:
    """Another revision of the turn is being answered."""
    reply = state.reply if state.reply is not None and state.reply.turn == fact.turn else state.queue.get(fact.turn)
    return reply is not None and reply.revision != fact.revision


def _gave_up(fact: StageFailed) -> str:
    return f"{fact.stage} gave up: {fact.message}"


def _unanswered(state: State, stage: str) -> str:
    return f"the {stage} stage has not answered for {deadline.allowed_s(state, stage):g} s"
