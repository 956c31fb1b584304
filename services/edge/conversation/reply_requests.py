"""Replies that the client requests: they answer the conversation once everything said in it is understood. Pure."""

from dataclasses import replace

from services.edge.client import actions as act
from services.edge.conversation import deadline
from services.edge.conversation.inputs import Stamp
from services.edge.conversation.state import State
from shared.protocol.frames import ReplyRequested


def request(state: State, action: act.RequestReply, at: Stamp) -> None:
    """Reply as soon as everything is understood. A newer request replaces one that waits."""
    if state.open_commits or not _is_understood(state):
        state.waiting_request = action
    else:
        deadline.asked(state, at)
        state.publish(ReplyRequested(replace(action.options, wants_reply=True)))


def try_again(state: State, at: Stamp) -> None:
    """Make the waiting request, if everything said before it is understood now."""
    waiting, state.waiting_request = state.waiting_request, None
    if waiting is not None:
        request(state, waiting, at)


def commit_answered(state: State) -> None:
    state.open_commits = max(0, state.open_commits - 1)


def _is_understood(state: State) -> bool:
    """Whether the words of all turns that are over are known, or are not needed."""
    return not any(
        turn.spoken and turn.is_over and turn.awaits_words and not (turn.omni and turn.is_accepted)
        for turn in state.turns.values()
    )
