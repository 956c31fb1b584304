"""A conversation that goes on after its client has lost its connection, here or at another edge. Pure.

`rebuild` feeds the log to the core between the two inputs of this file.
"""

from services.edge.conversation import delivery, replies
from services.edge.conversation.idle import IdleMonitor
from services.edge.conversation.inputs import GoOn, Restore, Stamp
from services.edge.conversation.reply import ReplyState
from services.edge.conversation.state import State
from shared.protocol import frames as fr


def restore(state: State, what: Restore, at: Stamp) -> None:
    point = what.point
    state.settings = what.settings
    state.newest_over, state.newest_turn = point.newest_over, point.newest_turn
    state.accepted_turns, state.interrupted_replies = point.accepted_turns, point.interrupted_replies
    state.queue.gate.advance(point.floor_turn, point.floor_revision)
    state.queue.restrict(what.turn, what.samples)
    state.record.restore(what.history.messages, what.history.keys)
    state.idle = IdleMonitor(at.now_s - (at.now_ms - point.began_ms) / 1000)
    state.received_turn = what.turn


def interrupted(state: State, fact: fr.TurnInterrupted, at: Stamp) -> None:
    """Take an entry that the session itself wrote. If the reply still plays here, another edge had interrupted it."""
    reply = state.reply
    if reply is not None and reply.turn == fact.turn:
        reply.playout.report(fact.heard, at.now_s)
        replies.interrupt(state, fact.reason, fact.turn, at)


def played_out(state: State, fact: fr.PlayedOut, at: Stamp) -> None:
    """As `interrupted`, for a reply that the client had played."""
    reply = state.reply
    if reply is not None and reply.turn == fact.turn and reply.ended and reply.state is ReplyState.PLAYING:
        replies.finish(state, reply, at)


def go_on(state: State, what: GoOn, at: Stamp) -> None:
    while (reply := state.reply) is not None and reply.turn < state.received_turn:  # its end was not seen in time
        replies.finish(state, reply, at)
        if state.reply is reply:
            break
    state.queue.lift()
    if not what.whole:
        replies.interrupt(state, "lost", state.newest_turn, at)
    if (reply := state.reply) is not None:
        reply.playout.lift()
        delivery.send(state, reply, at)
    replies.begin_next(state, at)
    if state.is_silent:
        state.do(state.idle.fell_quiet(state.settings, at.now_s))
