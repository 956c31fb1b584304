"""The core of a conversation: what follows from each fact, action and timer. Pure.

It waits for nothing, knows no clock and does no I/O: `on` returns what its shell, `conversation.Conversation`, is to do.
"""

from collections.abc import Callable
from typing import Any, get_args

from services.edge.client import actions as act
from services.edge.conversation import (
    barge_in,
    client_actions,
    delivery,
    failures,
    listening,
    replies,
    resumption,
    turns,
)
from services.edge.conversation.effects import Effect
from services.edge.conversation.inputs import Begin, End, GoOn, Leave, Restore, Stamp, Timer, TimerFired
from services.edge.conversation.reply import ReplyState
from services.edge.conversation.state import State
from shared.protocol import frames as fr
from shared.protocol.frames import Frame

Input = Frame | act.Action | TimerFired | Begin | Restore | GoOn | Leave | End


def _own(state: State, what: Frame, at: Stamp) -> None:
    """Ignore what the session itself wrote."""


def _begin(state: State, what: Begin, at: Stamp) -> None:
    state.settings = what.settings
    state.do(state.idle.greet(what.settings, at.now_s))


def _leave(state: State, what: Leave, at: Stamp) -> None:
    state.do(state.idle.leave(state.settings, what))


def _end(state: State, what: End, at: Stamp) -> None:
    state.idle.end()
    replies.end(state, what.reason, at)
    state.turns.clear()
    state.asked_s.clear()


def _timer_fired(state: State, what: TimerFired, at: Stamp) -> None:
    turn, reply = state.turns.get(what.turn), state.reply
    match what.timer:
        case Timer.REPLY if reply is not None and reply.turn == what.turn:
            delivery.timer_fired(state, reply, at)
        case Timer.SILENCE if turn is not None:
            barge_in.speech_lasted(state, turn, at)
        case Timer.TRANSCRIPT if turn is not None:
            turns.presume_words(state, turn, at)
        case Timer.DEADLINE if turn is not None:
            failures.deadline_of_turn(state, turn, at)
        case Timer.DEADLINE if not what.turn:
            failures.deadline_of_request(state, at)
        case Timer.IDLE:
            state.do(state.idle.waited(state.settings, at.now_s, silent=state.is_silent))
        case Timer.GOODBYE:
            state.do(state.idle.goodbye_failed())


HANDLERS: dict[type, Callable[[State, Any, Stamp], None]] = {
    fr.VoiceChunk: replies.voice_chunk,
    **dict.fromkeys(get_args(replies.ReplyFrame), replies.reply_frame),
    fr.SpeechStarted: listening.speech_started,
    fr.SpeechPaused: listening.speech_paused,
    fr.SpeechResumed: listening.speech_resumed,
    fr.TurnCommitted: listening.turn_committed,
    fr.TurnDiscarded: listening.turn_discarded,
    fr.TranscriptPartial: listening.transcript_partial,
    fr.TranscriptFinal: listening.transcript_final,
    fr.TurnAudioReady: listening.turn_audio_ready,
    fr.StageFailed: failures.stage_failed,
    fr.TurnInterrupted: resumption.interrupted,
    fr.PlayedOut: resumption.played_out,
    **dict.fromkeys((fr.SessionStarted, fr.SessionEnded, fr.SessionResumed), _own),
    act.Configure: client_actions.configure,
    act.Stop: client_actions.stop,
    act.Say: client_actions.say,
    act.Commit: client_actions.commit,
    act.Clear: client_actions.clear,
    act.RequestReply: client_actions.request_reply,
    act.CancelReply: client_actions.cancel_reply,
    act.Played: delivery.played,
    act.Truncate: delivery.truncate,
    act.SetHistory: client_actions.set_history,
    act.GetHistory: client_actions.get_history,
    act.Reset: client_actions.reset,
    TimerFired: _timer_fired,
    Begin: _begin,
    Restore: resumption.restore,
    GoOn: resumption.go_on,
    Leave: _leave,
    End: _end,
}
"""Which function handles which input."""


class Core:
    """One conversation, as values in and values out."""

    def __init__(self, state: State) -> None:
        self.state = state

    def on(self, what: Input, at: Stamp) -> list[Effect]:
        """Return what follows from this fact, action or timer, in order. A frame that does not belong in a log is ignored: a later
        release may write it there.

        Raises:
            TypeError: this action does not belong to a conversation.
        """
        state = self.state
        if (handler := HANDLERS.get(type(what))) is None:
            if isinstance(what, fr.Frame):
                return []
            raise TypeError(f"{type(what).__name__} is not an input of a conversation")
        reply = state.reply
        if reply is not None and reply.ended and reply.state is ReplyState.PLAYING and reply.played_out(at.now_s):
            replies.finish(state, reply, at)
        handler(state, what, at)
        effects, state.effects = state.effects, []
        return effects
