"""The person's turns: one function for each fact that the vad and asr stages write. Pure."""

from services.edge.client import events as ev
from services.edge.conversation import barge_in, deadline, failures, replies, reply_requests, speculation, turns
from services.edge.conversation.effects import Count, Tally
from services.edge.conversation.inputs import Stamp
from services.edge.conversation.state import State
from services.edge.conversation.turn_machine import TurnSignal, TurnState, UserTurn
from shared.protocol import frames as fr
from shared.protocol.session import OMNI, RATE_HZ


def speech_started(state: State, fact: fr.SpeechStarted, at: Stamp) -> None:
    if fact.turn in state.turns or fact.turn <= state.newest_over:
        return
    detected = state.settings.detect_turns
    turn = UserTurn(
        fact.turn,
        onset=fact.onset,
        began_s=at.now_s,
        omni=fact.route == OMNI,
        over_reply=detected and state.has_reply,
        interrupts=fact.interrupts,
    )
    turn.report.follow(fact.trace)
    state.turns[fact.turn] = turn
    if detected:  # this event and `Pause` are what clients fall silent on: they come before everything else
        state.emit(ev.SpeechBegan(fact.turn, _ms(fact.start)))
    barge_in.speech_began(state, turn, at)


def speech_paused(state: State, fact: fr.SpeechPaused, at: Stamp) -> None:
    turn = state.turns.get(fact.turn)
    if turn is None or fact.revision != turn.revision or not turn.change(TurnSignal.PAUSE):
        return
    barge_in.speech_ended(state, turn)
    if fact.speculate:
        turn.report.mark("paused", at.logged_ms)
        state.effects.append(Count(Tally.SPECULATION_BEGUN))
    state.emit(ev.SpeechEnded(fact.turn, _ms(fact.end), final=False))


def speech_resumed(state: State, fact: fr.SpeechResumed, at: Stamp) -> None:
    turn = state.turns.get(fact.turn)
    if turn is None or fact.revision <= turn.revision or not turn.change(TurnSignal.RESUME):
        return
    turn.begin_revision(fact.revision)
    turn.onset = fact.onset
    state.emit(ev.SpeechBegan(fact.turn, _ms(fact.onset)))
    barge_in.speech_began(state, turn, at)
    speculation.supersede(state, fact.turn, fact.revision)


def turn_committed(state: State, fact: fr.TurnCommitted, at: Stamp) -> None:
    if fact.end > fact.start:
        state.idle.person_spoke()
    if fact.turn <= state.newest_over:
        return
    state.newest_over = fact.turn
    detected, spoken = state.settings.detect_turns, fact.end > fact.start
    if spoken:
        reply_requests.commit_answered(state)
    elif state.asked_s:
        state.asked_s.popleft()
    turn = state.turns.setdefault(fact.turn, UserTurn(fact.turn, spoken=spoken))
    if not turn.change(TurnSignal.COMMIT):
        return
    barge_in.speech_ended(state, turn)
    if turn.revision != fact.revision:
        turn.begin_revision(fact.revision)
    turn.speculated = spoken and (turn.sound if turn.omni else turn.transcript) is not None
    turn.committed = fact
    turn.report.commit(fact, at.logged_ms, detected=detected)
    if spoken and detected:
        state.emit(ev.SpeechEnded(fact.turn, _ms(fact.decided_at), final=True))
    turns.settle(state, turn, at)
    if turn.failure:
        failures.lost_words(state, turn, turn.failure, at)
    deadline.watch(state, turn, at)


def turn_discarded(state: State, fact: fr.TurnDiscarded, at: Stamp) -> None:
    if fact.reason == fr.EMPTY:
        reply_requests.commit_answered(state)
        reply_requests.try_again(state, at)
    elif (turn := state.turns.get(fact.turn)) is not None:
        state.newest_over = max(state.newest_over, fact.turn)
        turns.discard(state, turn, fact.reason, at)
    if state.is_silent:
        state.do(state.idle.fell_quiet(state.settings, at.now_s))


def transcript_partial(state: State, fact: fr.TranscriptPartial, at: Stamp) -> None:
    turn = state.turns.get(fact.turn)
    if turn is None or fact.revision != turn.revision or (turn.is_accepted and not turn.awaits_words):
        return
    state.emit(ev.Transcribed(fact.turn, fact.text, final=False))
    barge_in.partial_came(state, turn, fact.text, at)


def transcript_final(state: State, fact: fr.TranscriptFinal, at: Stamp) -> None:
    """The words of a revision. The first transcript counts: another worker may have taken the same utterance for lost."""
    turn = state.turns.get(fact.turn)
    if turn is None:
        return
    turn.report.follow(fact.trace)
    if (
        fact.revision != turn.revision
        or turn.transcript is not None
        or (turn.omni and turn.words_lost and turn.is_over)
    ):
        return
    turn.transcript, turn.words_lost, turn.failure = fact, False, ""
    turn.progress_s = at.now_s
    turn.report.mark("transcript", at.logged_ms)
    match turn.state:
        case TurnState.SPEAKING | TurnState.PAUSED:
            if fact.text:
                state.emit(ev.Transcribed(fact.turn, fact.text, final=False))
            if not barge_in.words_came(state, turn, fact.text, at, murmur=fact.murmur):
                replies.resume(state, fact.turn, at)
        case TurnState.AWAITING_TRANSCRIPT:
            turns.settle(state, turn, at)
        case _:
            _words_of_an_accepted_turn(state, turn, at)


def _words_of_an_accepted_turn(state: State, turn: UserTurn, at: Stamp) -> None:
    turns.tell_words(state, turn)
    is_answered_as_it_sounds = turn.omni and turn.wants_reply
    if turn.spoken and not turn.text and not is_answered_as_it_sounds and state.queue.waits(turn.number):
        turns.had_no_words(state, turn, at)
    reply_requests.try_again(state, at)


def turn_audio_ready(state: State, fact: fr.TurnAudioReady, at: Stamp) -> None:
    """The audio of a revision was given to the chat model."""
    turn = state.turns.get(fact.turn)
    if turn is None:
        return
    turn.report.follow(fact.trace)
    if fact.revision == turn.revision:
        turn.sound = fact
        turn.report.mark("sounded", at.logged_ms)


def _ms(samples: int) -> int:
    return samples * 1000 // RATE_HZ
