"""The turns of a session: what the log says of them becomes turns that are answered, or sounds that were none.

Whether speech into a reply is meant to stop it is the business of `BargeIn`, what is heard that of `Replies`.
"""

import asyncio
from collections.abc import Callable

from services.edge.account import Account
from services.edge.barge_in import BargeIn
from services.edge.client import actions as act
from services.edge.client import events as ev
from services.edge.pending import Accepted
from services.edge.record import Record
from services.edge.replies import Replies
from services.edge.reply_requests import ReplyRequests
from services.edge.timing import Timings
from services.edge.utterance import Utterance
from shared.observability import metrics
from shared.protocol import frames as fr
from shared.protocol.frames import Frame
from shared.protocol.session import OMNI, RATE_HZ, SessionSettings

WORDLESS_S = 1.5
"""A turn that is answered as it sounds waits for its transcript no longer than this, where it has to be known whether there
were words: speech into a reply is then taken for meant."""
LINGERING = 8
"""Turns that are answered and whose transcripts are still awaited; the oldest is forgotten first."""

TurnFact = (
    fr.SpeechStarted | fr.SpeechPaused | fr.SpeechResumed | fr.TurnCommitted | fr.TurnDiscarded
    | fr.TranscriptPartial | fr.TranscriptFinal | fr.TurnAudioReady | fr.StageFailed
)  # fmt: skip


class Turns:
    """All turns of one session, in order."""

    def __init__(
        self,
        replies: Replies,
        record: Record,
        timings: Timings,
        account: Account,
        settings: Callable[[], SessionSettings],
        emit: Callable[[ev.Event], None],
        publish: Callable[[Frame], None],
    ) -> None:
        self.turn = 0
        """The newest that was accepted."""
        self.count = 0
        self._replies, self._record, self._timings = replies, record, timings
        self._settings, self._emit = settings, emit
        self._loop = asyncio.get_running_loop()
        self._open: dict[int, Utterance] = {}
        self._committed = 0  # the newest turn that is over
        self._barge_in = BargeIn(replies, account, settings)
        self._requests = ReplyRequests(self._understood_all, publish)

    @property
    def open(self) -> bool:
        """Someone speaks, or what they said is still being understood."""
        return any(not utterance.lingers for utterance in self._open.values())

    # -- what the client asks for -----------------------------------------------------------------

    def client_commits(self) -> None:
        """The client has said that what was spoken is a turn: the log will answer."""
        self._requests.committing()

    def request(self, action: act.RequestReply) -> None:
        """Reply to the conversation as it stands, once what was said in it is understood."""
        self._requests.ask(action)

    def cancel(self) -> None:
        """Whatever is being said or prepared in reply is not wanted."""
        self._requests.drop()
        self._replies.interrupt("client", self.turn)

    def _understood_all(self) -> bool:
        """What was said in the turns that are over is known, or need not be."""
        return all(one.committed is None or (one.omni and one.accepted) for one in self._open.values())

    def close(self) -> None:
        """The session is over."""
        self._barge_in.pauses()
        self._open.clear()

    # -- what the log says ------------------------------------------------------------------------

    def handle(self, fact: TurnFact, at_ms: int) -> None:
        """The next fact about turns; `at_ms` is the broker's clock."""
        if isinstance(fact, fr.SpeechStarted | fr.TranscriptFinal | fr.TurnAudioReady):
            self._timings.follow(fact.turn, fact.trace)
        match fact:
            case fr.SpeechStarted():
                self._started(fact)
            case fr.SpeechPaused():
                self._paused(fact, at_ms)
            case fr.SpeechResumed():
                self._resumed(fact)
            case fr.TurnCommitted():
                self._over(fact, at_ms)
            case fr.TurnDiscarded(reason=fr.EMPTY):
                self._requests.committed()
                self._requests.ask_again()
            case fr.TurnDiscarded():
                self._drop(fact.turn, fact.reason)
            case fr.TranscriptPartial():
                self._partial(fact)
            case fr.TranscriptFinal():
                self._understood(fact, at_ms)
            case fr.TurnAudioReady():
                self._timings.mark(fact.turn, "sounded", at_ms)
                if (utterance := self._open.get(fact.turn)) is not None:
                    utterance.sounded(fact, at_ms)
            case fr.StageFailed():
                self._failed(fact)

    def _started(self, fact: fr.SpeechStarted) -> None:
        detected = self._settings().detect_turns
        utterance = Utterance(fact.turn, over_reply=detected and self._replies.live, onset=fact.onset)
        self._open[fact.turn] = utterance
        if detected:
            self._emit(ev.SpeechBegan(fact.turn, _ms(fact.start)))
        utterance.interrupts, utterance.omni = fact.interrupts, fact.route == OMNI
        self._barge_in.speaks(utterance)

    def _paused(self, fact: fr.SpeechPaused, at_ms: int) -> None:
        self._barge_in.pauses()
        if fact.speculate and (utterance := self._open.get(fact.turn)) is not None:
            utterance.paused_ms = at_ms
            metrics.speculations_begun.inc()
        self._emit(ev.SpeechEnded(fact.turn, _ms(fact.end), final=False))

    def _resumed(self, fact: fr.SpeechResumed) -> None:
        if (utterance := self._open.get(fact.turn)) is None:
            return
        utterance.resume(fact.revision)
        utterance.onset = fact.onset
        self._replies.supersede(fact.turn, fact.revision)
        self._emit(ev.SpeechBegan(fact.turn, _ms(fact.onset)))
        self._barge_in.speaks(utterance)

    def _partial(self, fact: fr.TranscriptPartial) -> None:
        if (utterance := self._open.get(fact.turn)) is None or fact.revision != utterance.revision:
            return
        self._emit(ev.Transcribed(fact.turn, fact.text, final=False))
        self._barge_in.weigh(utterance, fact.text, self.turn)

    def _understood(self, fact: fr.TranscriptFinal, at_ms: int) -> None:
        if (utterance := self._open.get(fact.turn)) is None:
            if fact.turn == self.turn and not self._record.has_said(fact.turn):
                self._said(fact, at_ms)  # it was typed
            return
        if not utterance.understood(fact, at_ms):
            return
        if utterance.committed is not None:
            self._settle(utterance)
            return
        if fact.text:
            self._emit(ev.Transcribed(fact.turn, fact.text, final=False))
        if not self._barge_in.weigh(utterance, fact.text, self.turn):
            self._replies.resume(fact.turn)

    def _over(self, fact: fr.TurnCommitted, at_ms: int) -> None:
        if fact.turn <= self._committed:
            return
        self._committed = fact.turn
        self._barge_in.pauses()
        if fact.end == fact.start:
            self._accept(Utterance(fact.turn, over_reply=False, committed_ms=at_ms), fact)
            return
        self._requests.committed()
        utterance = self._open.setdefault(fact.turn, Utterance(fact.turn, over_reply=False))
        if utterance.revision != fact.revision:
            utterance.resume(fact.revision)
        utterance.speculated = (utterance.sound if utterance.omni else utterance.transcript) is not None
        utterance.committed, utterance.committed_ms = fact, at_ms
        if self._settings().detect_turns:
            self._emit(ev.SpeechEnded(fact.turn, _ms(fact.decided_at), final=True))
        self._settle(utterance)
        if utterance.failure is not None:
            self._failed(utterance.failure)

    # -- what it was ------------------------------------------------------------------------------

    def _settle(self, utterance: Utterance) -> None:
        """It is over: a turn, or a sound into a reply. That may have to wait for its transcript."""
        if (committed := utterance.committed) is None:
            return
        transcript = utterance.transcript
        if utterance.over_reply:
            if transcript is None and not utterance.wordless:
                if utterance.omni:
                    self._loop.call_later(WORDLESS_S, self._settle_wordless, utterance)
                return
            if reason := self._barge_in.dismissal(utterance):
                self._drop(utterance.turn, reason)
                return
            utterance.over_reply = False
        if transcript is not None:
            del self._open[utterance.turn]
        answered, fresh = utterance.lingers, not utterance.accepted
        if fresh:
            utterance.accepted = True
            self._accept(utterance, committed)
            self._forget()
        elif transcript is not None:
            self._told(utterance, transcript)
        if transcript is not None and not transcript.text and not answered:
            self._replies.empty(transcript.turn, due=fresh and committed.options.wants_reply)
        if transcript is not None or utterance.omni:
            self._requests.ask_again()

    def _forget(self) -> None:
        """The oldest of the answered turns have waited long enough for their transcripts."""
        lingering = [turn for turn, utterance in self._open.items() if utterance.lingers]
        for turn in lingering[:-LINGERING]:
            del self._open[turn]

    def _settle_wordless(self, utterance: Utterance) -> None:
        """The transcript does not come in time: the model hears for itself whether there were words."""
        if self._open.get(utterance.turn) is utterance:
            utterance.wordless = True
            self._settle(utterance)

    def _accept(self, utterance: Utterance, fact: fr.TurnCommitted) -> None:
        at_ms, transcript = utterance.committed_ms, utterance.transcript
        options, spoken = fact.options, fact.end - fact.start
        # A reply to what a tool answered goes on from the one that asked for it, which may still be playing.
        goes_on = not spoken and self._record.ends_with_answer
        if options.wants_reply and options.say is None and not goes_on and self._replies.yields:
            self._replies.interrupt("turn", self.turn)
        self.turn = fact.turn
        self.count += 1
        self._timings.commit(fact, at_ms, detected=self._settings().detect_turns)
        for name, mark_ms in utterance.prepared().items():
            self._timings.mark(fact.turn, name, mark_ms)
        self._emit(ev.TurnBegan(fact.turn, _ms(spoken), options.wants_reply))
        text = "" if transcript is None else self._told(utterance, transcript)
        if options.wants_reply and (transcript is None or text):
            interruptible = self._settings().interrupt_reply if options.interruptible is None else options.interruptible
            turn = Accepted(
                fact.turn, fact.revision, text, options, utterance.speculated, interruptible, utterance.sound
            )
            self._replies.accept(turn)

    def _told(self, utterance: Utterance, transcript: fr.TranscriptFinal) -> str:
        """What was spoken is known, and the turn is accepted. Returns it."""
        self._said(transcript, utterance.transcript_ms)
        self._emit(ev.Transcribed(transcript.turn, transcript.text, final=True))
        return transcript.text

    def _said(self, transcript: fr.TranscriptFinal, at_ms: int) -> None:
        """This is what the person said, or typed."""
        self._timings.mark(transcript.turn, "transcript", at_ms)
        if transcript.text:
            self._record.said(transcript.turn, transcript.text)

    def _drop(self, turn: int, reason: str) -> None:
        """It was none."""
        self._open.pop(turn, None)
        self._barge_in.pauses()
        self._emit(ev.TurnDropped(turn, reason))
        self._replies.reject(turn)
        self._requests.ask_again()

    def _failed(self, fact: fr.StageFailed) -> None:
        utterance = self._open.get(fact.turn)
        if utterance is not None and fact.stage != "asr" and not utterance.accepted:
            self._replies.fail(fact.turn, fact.revision)  # it was prepared: it will be made anew if it is wanted
            return
        if utterance is not None and fact.stage == "asr" and fact.revision < utterance.revision:
            return
        if utterance is not None and utterance.omni and fact.stage == "asr":  # the reply needs no transcript
            self._emit(ev.Failed("stage_failed", f"asr gave up: {fact.message}"))
            utterance.wordless = True
            if not utterance.accepted:
                self._settle(utterance)
            if utterance.accepted:
                self._open.pop(fact.turn, None)
                self._requests.ask_again()
            return
        if utterance is not None and utterance.committed is None:
            utterance.failure = fact  # it may go on, and be understood then
            self._replies.resume(fact.turn)
            return
        if utterance is not None and not utterance.lingers:
            del self._open[fact.turn]
            if utterance.committed is not None and not utterance.accepted:
                self._replies.give_up(fact.turn, due=utterance.committed.options.wants_reply)
        if fact.turn <= self.turn or utterance is not None:
            self._emit(ev.Failed("stage_failed", f"{fact.stage} gave up: {fact.message}", fact.turn))
        self._replies.fail(fact.turn, fact.revision)
        self._requests.ask_again()


def _ms(samples: int) -> int:
    return samples * 1000 // RATE_HZ
