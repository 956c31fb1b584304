"""The client's actions: one function for each. Pure.

`delivery` has those that report what was played.
"""

from services.edge.client import actions as act
from services.edge.client import events as ev
from services.edge.conversation import deadline, replies, reply_requests
from services.edge.conversation.inputs import Stamp
from services.edge.conversation.state import State
from shared.protocol import frames as fr
from shared.protocol.session import ReplyOptions


def configure(state: State, action: act.Configure, at: Stamp) -> None:
    state.settings = action.settings


def stop(state: State, action: act.Stop, at: Stamp) -> None:
    state.publish(fr.InputCommitted(ReplyOptions(wants_reply=state.settings.create_reply)))


def say(state: State, action: act.Say, at: Stamp) -> None:
    if state.interruptible:
        replies.interrupt(state, "text", state.newest_turn, at)
    state.idle.person_spoke()
    deadline.asked(state, at)
    state.publish(fr.TextTyped(action.text, action.options))


def commit(state: State, action: act.Commit, at: Stamp) -> None:
    state.open_commits += 1
    state.publish(fr.InputCommitted(action.options))


def clear(state: State, action: act.Clear, at: Stamp) -> None:
    state.publish(fr.InputCleared())


def request_reply(state: State, action: act.RequestReply, at: Stamp) -> None:
    reply_requests.request(state, action, at)


def cancel_reply(state: State, action: act.CancelReply, at: Stamp) -> None:
    replies.interrupt(state, "client", state.newest_turn, at)
    state.waiting_request = None


def set_history(state: State, action: act.SetHistory, at: Stamp) -> None:
    state.effects.append(state.record.edit(action, state.newest_turn))


def get_history(state: State, action: act.GetHistory, at: Stamp) -> None:
    state.emit(ev.Said(tuple(state.record.messages())))


def reset(state: State, action: act.Reset, at: Stamp) -> None:
    replies.interrupt(state, "client", state.newest_turn, at)
    state.waiting_request = None
    state.publish(fr.InputCleared())
    state.past_reply = None  # a late report of what was played would put it back on record
    state.effects.append(state.record.clear())
