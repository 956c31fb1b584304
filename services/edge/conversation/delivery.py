"""The reply that plays: sent no faster than it is played, paused and resumed, interrupted, finished. Pure.

There is one at a time, `state.reply`. Which reply that is, and when, is decided in `replies`.
"""

from services.edge.client import actions as act
from services.edge.client import events as ev
from services.edge.conversation import effects as fx
from services.edge.conversation import outcome
from services.edge.conversation.inputs import Stamp, Timer
from services.edge.conversation.reply import Reply, ReplySignal, ReplyState
from services.edge.conversation.state import State
from shared.protocol import frames as fr
from shared.protocol.session import ToolCall
from shared.protocol.turn_record import INNER, segments

# -- sent -----------------------------------------------------------------------------------------


def begin(state: State, reply: Reply, at: Stamp) -> None:
    if not reply.change(ReplySignal.PLAY):
        return
    state.reply = reply
    state.emit(ev.ReplyBegan(reply.turn))
    send(state, reply, at)


def send(state: State, reply: Reply, at: Stamp) -> None:
    """Send what may be sent of the reply now, unless it is paused."""
    if reply.state is not ReplyState.PLAYING:
        return
    effects, playout = state.effects, reply.playout
    if not reply.ended and len(reply.text) > reply.sent_chars:
        effects.append(ev.ReplyText(reply.turn, reply.take_unsent()))
    offset = before = playout.sent
    underruns = playout.underruns
    for pcm in playout.release(at.now_s):
        effects.append(ev.ReplyAudio(reply.turn, offset, pcm))
        offset += len(pcm) // 2
    if offset > before:
        if playout.underruns > underruns:
            effects.append(fx.Count(fx.Tally.UNDERRUN))
        if not reply.audible:
            _became_audible(state, reply, at)
    if reply.fully_sent and not reply.ended:
        _end(state, reply)
    if not reply.timer_runs:
        _start_timer(state, reply, at)


def _became_audible(state: State, reply: Reply, at: Stamp) -> None:
    """Note the reply's first audio; report the timing of the turn, once for each turn."""
    reply.audible = True
    turn = state.turns.get(reply.turn)
    if turn is None or reply.failed:  # what is heard first may be the apology
        return
    for name, at_ms in reply.marks.items():
        turn.report.mark(name, at_ms)
    if turn.report.mark("first_audio", at.now_ms):
        marks = turn.report.marks()
        spoken = turn.report.spoken
        if spoken:
            state.effects.append(fx.FirstAudio(marks, turn.report.trace))
        shown = {name: ms for name, ms in marks.items() if name not in INNER}
        reasons = turn.committed.reasons if turn.committed is not None else ()
        state.emit(ev.Timing(reply.turn, shown, spoken, tuple(segments(marks, spoken=spoken)), reasons))


def _end(state: State, reply: Reply) -> None:
    """All buffered text and audio has been sent: end the reply for the client."""
    reply.ended, reply.status = True, "failed" if reply.failed else "completed"
    wanted, reply.calls = () if reply.failed else tuple(reply.calls), []
    reply.called = reply.called or bool(wanted)
    state.effects.append(state.record.heard(reply, reply.playout.received_samples))
    calls: tuple[ToolCall, ...] = ()
    if wanted:  # once: a reply of which a part is sent again ends again
        calls, saved = state.record.called(reply.turn, wanted)
        state.effects.append(saved)
    state.emit(ev.ReplyEnded(reply.turn, reply.status, reply.text, calls, reply.reason))


def _start_timer(state: State, reply: Reply, at: Stamp) -> None:
    """Start the timer for the next time at which more can be sent, or the reply has been played."""
    wait_s = reply.playout.wait_s(at.now_s)
    if wait_s is None and reply.ended:
        wait_s = max(0.0, reply.playout.left_s(at.now_s)) + 0.001
    if wait_s is not None:
        reply.timer_runs = True
        state.effects.append(fx.StartTimer(Timer.REPLY, wait_s, reply.turn))


def timer_fired(state: State, reply: Reply, at: Stamp) -> None:
    reply.timer_runs = False
    send(state, reply, at)


# -- someone speaks into it -----------------------------------------------------------------------


def pause(state: State, at: Stamp) -> bool:
    """Silence the client. Returns whether there was something to be silenced."""
    reply = state.reply
    if reply is None or not reply.change(ReplySignal.PAUSE):
        return False
    reply.playout.pause(at.now_s)
    heard = reply.playout.heard(at.now_s)
    if reply.playout.sent > heard or not reply.ended:
        reply.pause_sent = True
        state.emit(ev.Pause(reply.turn, reply.ms(heard)))
    if reply.playout.sent:
        state.effects.append(state.record.heard(reply, heard))
    return reply.pause_sent


def resume(state: State, at: Stamp) -> None:
    reply = state.reply
    if reply is None or not reply.change(ReplySignal.RESUME):
        return
    heard = reply.playout.heard(at.now_s)
    text = reply.unheard_text(heard)
    reply.playout.resume(at.now_s)
    received = reply.playout.received_samples
    state.effects.append(state.record.heard(reply, received) if reply.ended else state.record.forget(reply))
    reply.ended = reply.ended and reply.playout.fully_sent  # what is sent again ends again
    if reply.pause_sent:
        reply.pause_sent = False
        state.effects.append(fx.Count(fx.Tally.RESUMED))
        state.emit(ev.Resume(reply.turn, reply.ms(heard), text))
    _cancel_timer(state, reply)
    send(state, reply, at)


# -- its end --------------------------------------------------------------------------------------


def interrupt(state: State, reply: Reply, status: str, reason: str, at: Stamp) -> None:
    """Stop the reply: silence first, then the bookkeeping."""
    if not reply.change(ReplySignal.INTERRUPT):
        return
    heard = reply.playout.heard(at.now_s)
    state.emit(ev.Interrupt(reply.turn, reply.ms(heard), reply.heard_text(heard)))
    state.publish(fr.TurnInterrupted(reply.turn, reason, heard, reply.playout.rate_hz))
    if not reply.ended:
        reply.ended = True
        state.emit(ev.ReplyEnded(reply.turn, status, reply.text))
    state.effects.append(state.record.heard(reply, heard))
    reply.status = status
    _retire(state, reply, heard, at)
    state.interrupted_replies += 1


def finish(state: State, reply: Reply, at: Stamp) -> None:
    if reply.change(ReplySignal.FINISH):
        _retire(state, reply, reply.playout.heard(at.now_s), at)
        state.queue.gate.advance(reply.turn + 1)


def _retire(state: State, reply: Reply, heard: int, at: Stamp) -> None:
    _cancel_timer(state, reply)
    state.reply, state.past_reply = None, reply
    if (turn := state.turns.get(reply.turn)) is not None:
        for name, at_ms in reply.marks.items():
            turn.report.mark(name, at_ms)
    outcome.answer(state, reply, heard, at)
    playout = reply.playout
    state.publish(fr.PlayedOut(reply.turn, reply.revision, heard, playout.sent, playout.rate_hz), urgent=False)


def _cancel_timer(state: State, reply: Reply) -> None:
    if reply.timer_runs:
        reply.timer_runs = False
        state.effects.append(fx.CancelTimer(Timer.REPLY, reply.turn))


# -- what the client says of it -------------------------------------------------------------------


def played(state: State, action: act.Played, at: Stamp) -> None:
    reply, past, turn, ms = state.reply, state.past_reply, action.turn, action.ms
    if reply is not None and turn in (0, reply.turn):
        playout = reply.playout
        playout.report(ms * playout.rate_hz // 1000, at.now_s)
        if playout.steady:
            _played_first(state, reply, min(ms, reply.ms(playout.sent)), at)
        if playout.paused:
            state.effects.append(state.record.heard(reply, playout.heard(at.now_s)))
    elif past is not None and turn in (0, past.turn) and past.status == "interrupted":
        truncate(state, act.Truncate(past.turn, ms), at)  # the client knows best where it fell silent


def _played_first(state: State, reply: Reply, ms: int, at: Stamp) -> None:
    """The client has played this much without a break: the first report says when it began to."""
    turn = state.turns.get(reply.turn)
    if turn is not None and ms > 0 and turn.report.mark("played", at.now_ms - ms) and turn.report.spoken:
        marks = turn.report.marks()
        latency_s = max(0.0, marks["played"], marks.get("first_audio", 0.0)) / 1000
        state.effects.append(fx.FirstPlayed(latency_s, turn.report.trace))


def truncate(state: State, action: act.Truncate, at: Stamp) -> None:
    """Cut the reply to what was heard. It may have ended already."""
    for reply in (state.reply, state.past_reply):
        if reply is not None and reply.turn == action.turn:
            heard = min(action.ms * reply.playout.rate_hz // 1000, reply.playout.received_samples)
            if reply.playout.paused:
                reply.playout.report(heard, at.now_s)
            state.effects.append(state.record.heard(reply, heard))
            return
