"""The replies of a session: frames that arrive for them, and which of them plays next. Pure."""

from services.edge.client import events as ev
from services.edge.conversation import delivery, failed_reply, outcome, speculation
from services.edge.conversation.effects import Count, Tally
from services.edge.conversation.inputs import Stamp
from services.edge.conversation.reply import Reply
from services.edge.conversation.state import State
from services.edge.conversation.turn_machine import UserTurn
from shared.protocol import frames as fr
from shared.protocol.reasons import NO_VOICE
from shared.protocol.turns import WHOLE_SESSION, WHOLE_TURN

ReplyFrame = fr.ReplyStarted | fr.ReplyDelta | fr.ReplySentence | fr.VoiceDone | fr.ToolCalled | fr.ReplyDone

# -- frames ---------------------------------------------------------------------------------------


def voice_chunk(state: State, frame: fr.VoiceChunk, at: Stamp) -> None:
    """Take a slice of audio. Nearly all frames are of this kind, and most belong to the reply that plays."""
    reply = state.reply
    is_playing = reply is not None and frame.turn == reply.turn and frame.revision == reply.revision
    if (reply is None or not is_playing or reply.failed) and (reply := _wanted(state, frame)) is None:
        return
    reply.progress_s = reply.voice_due_s = at.now_s
    reply.mark("voice", at.logged_ms)
    playout = reply.playout
    late = playout.late
    playout.add(frame, at.fence)
    if playout.late > late:
        state.effects.append(Count(Tally.DUPLICATE))
    if is_playing:
        delivery.send(state, reply, at)
    else:
        begin_next(state, at)


def reply_frame(state: State, frame: ReplyFrame, at: Stamp) -> None:
    """Take any other frame of a reply."""
    if (reply := _wanted(state, frame)) is None:
        return
    reply.progress_s = at.now_s
    match frame:
        case fr.ReplyStarted():
            reply.prompt_hash, reply.voiced = frame.prompt_hash, frame.voiced
        case fr.ReplyDelta():
            reply.mark("first_token", at.logged_ms)
            reply.add_text(frame)
        case fr.ReplySentence():
            reply.mark("first_sentence", at.logged_ms)
            reply.add_sentence(frame.index, frame.text, at.now_s)
        case fr.VoiceDone():
            reply.voice_due_s = at.now_s
            reply.playout.sentence_done(frame.sentence, frame.samples)
        case fr.ToolCalled():
            reply.add_call(frame.call)
        case fr.ReplyDone():
            reply.finish_text(frame)
    if reply.is_mute:
        if not failed_reply.is_made_again(reply):
            state.emit(ev.Failed(NO_VOICE, "the voice made no sound", reply.turn, state.speaks_failures))
        failed_reply.end(state, reply, NO_VOICE)
    _look_after(state, reply, at)


def _wanted(state: State, frame: fr.VoiceChunk | ReplyFrame) -> Reply | None:
    """The reply that the frame belongs to; None, and counted, if that is stale."""
    reply = _find(state, frame.turn, frame.revision)
    if reply is None or reply.failed:
        state.stale_frames += 1
        state.effects.append(Count(Tally.STALE))
        return None
    reply.arrived = True
    return reply


def _find(state: State, turn: int, revision: int) -> Reply | None:
    reply = state.reply
    if reply is None or turn > reply.turn:
        return state.queue.find(turn, revision)
    return reply if turn == reply.turn and revision == reply.revision else None


def _look_after(state: State, reply: Reply, at: Stamp) -> None:
    """Do what follows from a change in this reply."""
    if reply is state.reply:
        delivery.send(state, reply, at)
    else:
        begin_next(state, at)


def is_made_again(state: State, turn: int, revision: int) -> bool:
    """If this reply fails, another one is asked for."""
    reply = _find(state, turn, revision)
    return reply is not None and failed_reply.is_made_again(reply)


def fail(state: State, turn: int, revision: int, why: str, at: Stamp) -> None:
    """A stage gave up: no more of this reply arrives. Play what has arrived. `why`: one of `reasons.FAILURES`."""
    reply = _find(state, turn, revision)
    if reply is not None and not reply.fully_received:
        reply.arrived = True
        failed_reply.end(state, reply, why)
        _look_after(state, reply, at)


# -- which one plays ------------------------------------------------------------------------------


def accept(state: State, turn: UserTurn, at: Stamp) -> None:
    """Let this turn be answered as soon as nothing else plays or is spoken."""
    assert turn.committed is not None  # noqa: S101 - a turn that is accepted is over
    reply = state.queue.accept(turn.number, turn.committed.revision)
    if reply is None:
        give_up(state, [turn.number], "interrupted", at)
        return
    wish = turn.committed.options.interruptible
    reply.interruptible = state.settings.interrupt_reply if wish is None else wish
    reply.speculated = turn.speculated
    for number in state.queue.overdue():
        reject(state, number, at)
        give_up(state, [number], "interrupted", at)


def begin_next(state: State, at: Stamp) -> None:
    """Play the reply to the oldest turn that waits for one, if some of it has arrived and nothing else plays."""
    if state.reply is not None or state.paused_by_turn or (reply := state.queue.first()) is None:
        return
    if reply.speculated:
        if not speculation.is_valid(state, reply):
            speculation.redo(state, reply, at)
            return
        state.effects.append(Count(Tally.SPECULATION_REUSED))
    state.queue.take(reply)
    delivery.begin(state, reply, at)


def finish(state: State, reply: Reply, at: Stamp) -> None:
    delivery.finish(state, reply, at)
    begin_next(state, at)
    if not state.has_reply:
        state.do(state.idle.fell_quiet(state.settings, at.now_s))


# -- someone speaks into it -----------------------------------------------------------------------


def pause(state: State, turn: int, at: Stamp) -> bool:
    """This turn is spoken into the replies: silence, until it is known whether these are words. Returns whether there was
    something to be silenced."""
    if not (state.has_reply and state.interruptible):
        return False
    state.paused_by_turn = turn
    return delivery.pause(state, at)


def resume(state: State, turn: int, at: Stamp) -> None:
    """This turn's speech was a false interruption, so far: go on from where it stopped."""
    if state.paused_by_turn == turn:
        state.paused_by_turn = 0
        delivery.resume(state, at)
        begin_next(state, at)


def reject(state: State, turn: int, at: Stamp) -> None:
    """Give this turn no reply; it no longer pauses one."""
    speculation.supersede(state, turn, WHOLE_TURN)
    if state.paused_by_turn == turn:
        resume(state, turn, at)
    else:
        begin_next(state, at)


# -- the end --------------------------------------------------------------------------------------


def interrupt(state: State, reason: str, until: int, at: Stamp) -> None:
    """Stop the replies to all turns up to this one. `reason`: see
    `frames.TurnInterrupted`."""
    status = "cancelled" if reason == "client" else "interrupted"
    if state.reply is None or state.reply.turn <= until:
        _interrupt_reply(state, status, reason, at)
    waited = state.queue.drop_until(until)
    if until and state.queue.gate.advance(until + 1):
        state.stop_workers(until + 1, 0)
    give_up(state, waited, status, at)


def give_up(state: State, turns: list[int], status: str, at: Stamp) -> None:
    """Give these turns no reply, and each its outcome; report that to the client."""
    for number in turns:
        outcome.answer_without_reply(state, number, status, at)
        state.emit(ev.ReplyEnded(number, status, ""))


def end(state: State, reason: str, at: Stamp) -> None:
    status = "failed" if reason == "failed" else "cancelled"
    for number in state.queue.drop_until(WHOLE_SESSION):
        outcome.answer_without_reply(state, number, status, at)
    _interrupt_reply(state, status, reason, at)


def _interrupt_reply(state: State, status: str, reason: str, at: Stamp) -> None:
    state.paused_by_turn = 0
    if (reply := state.reply) is not None:
        delivery.interrupt(state, reply, status, reason, at)
        if state.queue.gate.advance(reply.turn + 1):
            state.stop_workers(reply.turn + 1, 0)
