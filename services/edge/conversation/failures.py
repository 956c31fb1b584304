"""A stage has given up on a turn: what that means for the turn and its reply. Pure."""

from services.edge.client import events as ev
from services.edge.conversation import outcome, replies, reply_requests, turns
from services.edge.conversation.inputs import Stamp
from services.edge.conversation.state import State
from services.edge.conversation.turn_machine import TurnState, UserTurn
from shared.protocol.frames import StageFailed


def stage_failed(state: State, fact: StageFailed, at: Stamp) -> None:
    turn = state.turns.get(fact.turn)
    if fact.stage == "asr":
        if turn is not None and turn.spoken and turn.awaits_words and fact.revision >= turn.revision:
            lost_words(state, turn, fact.message, at)
        return
    if turn is not None and not turn.is_accepted:
        replies.fail(state, fact.turn, fact.revision, at)  # it was prepared: it is made again if it is wanted
    elif fact.turn <= state.newest_turn and not _is_superseded(state, fact):
        _tell(state, fact.stage, fact.message, fact.turn)
        replies.fail(state, fact.turn, fact.revision, at)


def lost_words(state: State, turn: UserTurn, message: str, at: Stamp) -> None:
    """There will be no transcript of the turn's revision."""
    turn.words_lost = True
    if turn.omni:  # the reply needs no transcript
        _tell(state, "asr", message)
        turns.presume_words(state, turn, at)
        outcome.forget(state, turn)
        reply_requests.try_again(state)
        return
    match turn.state:
        case TurnState.SPEAKING | TurnState.PAUSED:
            turn.failure = message  # the person may speak on, and be understood then
            replies.resume(state, turn.number, at)
            return
        case TurnState.AWAITING_TRANSCRIPT:
            _give_up(state, turn, at)
    _tell(state, "asr", message, turn.number)
    replies.fail(state, turn.number, turn.revision, at)
    outcome.forget(state, turn)
    reply_requests.try_again(state)


def _give_up(state: State, turn: UserTurn, at: Stamp) -> None:
    """It was spoken into a reply, and nobody knows whether it was meant: the reply goes on."""
    if turn.wants_reply:
        outcome.answer_without_reply(state, turn.number, "failed", at)
    else:
        outcome.expect_no_reply(state, turn)
    replies.reject(state, turn.number, at)


def _is_superseded(state: State, fact: StageFailed) -> bool:
    """Another revision of the turn is being answered."""
    reply = state.reply if state.reply is not None and state.reply.turn == fact.turn else state.queue.get(fact.turn)
    return reply is not None and reply.revision != fact.revision


def _tell(state: State, stage: str, message: str, turn: int = 0) -> None:
    state.emit(ev.Failed("stage_failed", f"{stage} gave up: {message}", turn))
