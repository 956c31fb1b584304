"""One client's session: its actions become frames, the frames of its log become events.

It owns the microphone's sample count, the gate, the current reply and the conversation. It knows no wire
protocol (the codec does), no socket (it is given `send` and `close`) and no turn-taking (the vad worker does).
Everything in it runs on the event loop without waiting, so that silence on barge-in is one call away.
"""

import asyncio
import secrets
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import structlog

from services.edge import events as ev
from services.edge.history import Conversation, cut_text, reply_key, user_key
from services.edge.playout import Playout
from services.edge.reply import Reply
from services.edge.timing import Timings
from shared import frames as fr
from shared import metrics
from shared.audio import Resampler
from shared.bus import Bus, Channel, Subscription
from shared.frames import Frame
from shared.session import RATE_HZ, Message, ReplyOptions, SessionSettings
from shared.settings import Settings
from shared.streams import Place
from shared.turns import TurnGate
from shared.worker import pack_settings

log = structlog.get_logger()

BURST_S = 30.0
"""Audio may come so much faster than real time; what exceeds it is refused."""
FASTEST = 1.5
BACKLOG_LIMIT = 5_000
"""Commands that the broker has not answered; above it, audio is dropped rather than queued."""
CODES_SHOWN = 500

Send = Callable[[str | bytes], bool]
Close = Callable[[int, str], None]


class Session:
    """From the client's first message to its last."""

    def __init__(
        self, bus: Bus, codec: ev.Codec, settings: Settings, voices: Sequence[str], send: Send, close: Close
    ) -> None:
        self.id = secrets.token_urlsafe(16)
        self.started = False
        self.settings = SessionSettings()
        self._bus, self._codec, self._config, self._voices = bus, codec, settings, voices
        self._send, self._close = send, close
        self._loop = asyncio.get_running_loop()
        self._began_s = self._loop.time()
        self._channel: Channel = bus.channel("edge", self.id)
        self._subscription: Subscription | None = None
        self._input: Resampler | None = None
        self._received = 0  # samples at 16 kHz
        self._gate = TurnGate()
        self._turn = 0
        self._reply: Reply | None = None
        self._pump: asyncio.TimerHandle | None = None
        self._conversation = Conversation()
        self._timings = Timings()
        self._last_cut: tuple[int, str, float] = (
            0,
            "",
            0.0,
        )  # turn, text and length in ms of the last interrupted reply
        self._awaiting: set[int] = set()  # committed turns whose transcript is still to come
        self._committing = 0  # the client's commits that were not answered yet
        self._requested: ev.RequestReply | None = None
        self._refused_audio_at_s = 0.0
        self._counts = {"turns": 0, "interrupted": 0, "stale": 0, "dropped_samples": 0}

    # -- the client's side ------------------------------------------------------------------------

    def receive(self, message: str | bytes) -> None:
        """A message from the client."""
        try:
            for action in self._codec.decode(message):
                if type(action) is ev.Audio:
                    self._audio(action.pcm)
                else:
                    self._act(action)
        except Exception:  # the rim: a fault of ours with one client's message is that client's end only
            log.exception("session failed", session=self.id)
            self._close(1011, "internal error")

    def start(self, settings: SessionSettings) -> None:
        """Begin: from now on a vad worker listens."""
        if self.started:
            return
        if not self._voice_known(settings.voice):
            self._close(1008, "unknown voice")
            return
        self.started = True
        self.settings = settings
        self._bus.save_settings(self.id, settings, pack_settings(settings))
        self._channel.publish(fr.SessionStarted(self.id, settings))
        self.keep_alive()
        self._subscription = self._bus.follow(Place.OUT, self.id, "0-0", self._deliver)
        self._emit(ev.Ready(self.id, settings))

    def keep_alive(self) -> None:
        """To be called every while: the session's keys live on."""
        if self.started:
            self._bus.keep_alive(self.id)

    def end(self, reason: str) -> None:
        """The client is gone, or is to go."""
        if self._pump is not None:
            self._pump.cancel()
        if self._subscription is not None:
            self._subscription.close()
            self._subscription = None
        if self.started:
            self._end_reply("cancelled", reason)
            self._channel.publish(fr.SessionEnded(reason))
            self._bus.stop(self.id, self._turn + 1, 0)
            self.keep_alive()
            self.started = False

    def tell(self, code: str, message: str) -> None:
        """Tell the client what is wrong."""
        self._emit(ev.Failed(code, message))

    def _act(self, action: ev.Action) -> None:
        match action:
            case ev.Start(settings):
                self.start(settings)
            case ev.Stop():
                self._publish(fr.InputCommitted(ReplyOptions(wanted=self.settings.create_reply)))
            case ev.Say(text, options):
                self._interrupt("text")
                self._publish(fr.TextTyped(text, options))
            case ev.Commit(options):
                self._committing += self.started
                self._publish(fr.InputCommitted(options))
            case ev.Clear():
                self._publish(fr.InputCleared())
            case ev.RequestReply():
                self._request(action)
            case ev.CancelReply():
                self._requested = None
                self._interrupt("client")
            case ev.Played(turn, ms):
                self._played(turn, ms)
            case ev.Configure(settings):
                self._configure(settings)
            case ev.SetHistory():
                self._set_history(action)
            case ev.Truncate(turn, ms):
                self._truncate(turn, ms)
            case ev.GetStats():
                self._emit(ev.Stats(self.stats()))
            case ev.Reset():
                self._interrupt("client")
                self._publish(fr.InputCleared())
                self._conversation.clear()
                self._save_history()
            case ev.Send(messages):
                self._send_all(messages)
            case ev.Close(code, reason):
                self._close(code, reason)
            case _:
                raise TypeError(f"no such action: {action!r}")

    def _publish(self, frame: Frame) -> None:
        if self.started:
            self._channel.publish(frame)

    def _audio(self, pcm: bytes) -> None:
        if not self.started:
            return
        if self._input is None:
            self._input = Resampler(self._codec.rate_hz, RATE_HZ)
        pcm = self._input.process(pcm)
        samples = len(pcm) // 2
        if not samples:
            return
        now_s = self._loop.time()
        if self._received + samples > RATE_HZ * (BURST_S + FASTEST * (now_s - self._began_s)):
            self._counts["dropped_samples"] += samples
            metrics.dropped.labels("audio_too_fast").inc()
            if now_s - self._refused_audio_at_s > 1.0:
                self._refused_audio_at_s = now_s
                self.tell("audio_too_fast", "audio comes far faster than real time; what is too much is dropped")
            return
        if self._bus.writer.backlog > BACKLOG_LIMIT:
            self._counts["dropped_samples"] += samples
            metrics.dropped.labels("broker_slow").inc()
            return
        self._channel.publish(fr.AudioChunk(self._received, pcm), urgent=False)
        self._received += samples

    def _request(self, action: ev.RequestReply) -> None:
        if self._awaiting or self._committing:
            self._requested = action  # what is to be answered is still being transcribed
        else:
            self._publish(fr.ReplyRequested(replace(action.options, wanted=True)))

    def _request_again(self) -> None:
        """The reply that was asked for, if what it is to answer is there now."""
        requested, self._requested = self._requested, None
        if requested is not None:
            self._request(requested)

    def _configure(self, settings: SessionSettings) -> None:
        if not self._voice_known(settings.voice):
            return
        self.settings = settings
        if self.started:
            self._bus.save_settings(self.id, settings, pack_settings(settings))
            self._channel.publish(fr.SettingsChanged(settings))

    def _voice_known(self, voice: str) -> bool:
        if not voice or not self._voices or voice.partition("+")[0] in self._voices:
            return True
        shown = ", ".join(self._voices)[:CODES_SHOWN]
        self.tell("unknown_voice", f"voice {voice[:100]!r}: known are {shown}")
        return False

    # -- the conversation -------------------------------------------------------------------------

    def _set_history(self, action: ev.SetHistory) -> None:
        if not action.role and not action.text:
            self._conversation.remove(action.key)
        else:
            self._conversation.put(action.key, Message(action.role, action.text, self._turn), action.after)
        self._save_history()

    def _truncate(self, turn: int, ms: int) -> None:
        reply = self._reply
        if reply is not None and reply.turn == turn:
            reply.playout.report(ms * self._codec.rate_hz // 1000, self._loop.time())
            sent_ms = reply.playout.sent * 1000 / self._codec.rate_hz
            share = ms / sent_ms if sent_ms else 0.0
            self._cut(turn, reply.text, share)
        elif turn == self._last_cut[0]:  # it was interrupted, and the client knows better what was heard
            _, text, sent_ms = self._last_cut
            self._cut(turn, text, ms / sent_ms if sent_ms else 0.0)

    def _cut(self, turn: int, text: str, share: float) -> None:
        message = Message("assistant", cut_text(text, share), turn, interrupted=share < 1)
        self._conversation.put(reply_key(turn), message)
        self._save_history()

    def _save_history(self) -> None:
        self._bus.save_history(self.id, self._conversation.messages())

    # -- the log's side ---------------------------------------------------------------------------

    def _deliver(self, entry_id: str, fence: int, frames: list[Frame]) -> None:
        at_ms = int(entry_id.partition("-")[0])
        try:
            for frame in frames:
                self._handle(frame, fence, at_ms)
        except Exception:  # the rim, as above
            log.exception("session failed", session=self.id)
            self._close(1011, "internal error")

    def _handle(self, frame: Frame, fence: int, at_ms: int) -> None:
        match frame:
            case fr.VoiceChunk() | fr.ReplyDelta() | fr.ReplySentence() | fr.VoiceDone() | fr.ReplyDone():
                if self._gate.is_stale(frame.turn, frame.revision):
                    self._counts["stale"] += 1
                    metrics.dropped.labels("stale").inc()
                    return
            case fr.SessionStarted() | fr.SessionEnded() | fr.TurnInterrupted() | fr.PlayedOut():
                return  # our own
            case _:
                pass  # what the person said counts, whatever became of the reply
        match frame:
            case fr.VoiceChunk():
                reply = self._reply_to(frame.turn, frame.revision)
                reply.playout.add(frame, fence)
                self._release(reply, at_ms)
            case fr.ReplyDelta():
                reply = self._reply_to(frame.turn, frame.revision)
                self._timings.mark(frame.turn, "first_token", at_ms)
                self._text(reply, reply.add_text(frame))
            case fr.ReplySentence():
                self._reply_to(frame.turn, frame.revision).sentences[frame.index] = frame.text
                self._timings.mark(frame.turn, "first_sentence", at_ms)
            case fr.VoiceDone():
                reply = self._reply_to(frame.turn, frame.revision)
                reply.playout.sentence_done(frame.sentence, frame.samples)
                self._release(reply, at_ms)
            case fr.ReplyDone():
                reply = self._reply_to(frame.turn, frame.revision)
                self._text(reply, reply.finish_text(frame))
                self._release(reply, at_ms)
            case fr.StageFailed():
                self._failed(frame)
            case _:
                self._turn_fact(frame, at_ms)

    def _turn_fact(self, frame: Frame, at_ms: int) -> None:
        match frame:
            case fr.SpeechStarted():
                if self.settings.detect_turns:
                    self._emit(ev.SpeechBegan(frame.turn, _ms(frame.start)))
                if frame.interrupts:
                    self._interrupt("speech")
            case fr.SpeechPaused():
                self._emit(ev.SpeechEnded(frame.turn, _ms(frame.end), final=False))
            case fr.SpeechResumed():
                self._emit(ev.SpeechBegan(frame.turn, _ms(frame.onset)))
            case fr.TurnCommitted():
                self._committed(frame, at_ms)
            case fr.TurnDiscarded(reason=fr.EMPTY):
                self._committing = max(0, self._committing - 1)
                self._request_again()
            case fr.TurnDiscarded():
                self._emit(ev.TurnDropped(frame.turn, frame.reason))
            case fr.TranscriptPartial():
                self._emit(ev.Heard(frame.turn, frame.text, final=False))
            case fr.TranscriptFinal():
                self._heard(frame, at_ms)
            case _:
                raise TypeError(f"{type(frame).__name__} does not belong into a log")

    def _committed(self, frame: fr.TurnCommitted, at_ms: int) -> None:
        if frame.options.wanted:
            self._interrupt("turn")
            self._gate.advance(frame.turn, frame.revision)
        self._turn = max(self._turn, frame.turn)
        self._counts["turns"] += 1
        self._timings.commit(frame, at_ms)
        spoken = frame.end - frame.start
        if spoken:
            self._committing = max(0, self._committing - 1)
            self._awaiting.add(frame.turn)
            if self.settings.detect_turns:
                self._emit(ev.SpeechEnded(frame.turn, _ms(frame.decided), final=True))
        self._emit(ev.TurnBegan(frame.turn, _ms(spoken), frame.options.wanted))

    def _heard(self, frame: fr.TranscriptFinal, at_ms: int) -> None:
        spoken = frame.turn in self._awaiting
        self._awaiting.discard(frame.turn)
        self._timings.mark(frame.turn, "transcript", at_ms)
        if frame.text:
            self._conversation.put(user_key(frame.turn), Message("user", frame.text, frame.turn))
            self._save_history()
        if spoken:
            self._emit(ev.Heard(frame.turn, frame.text, final=True))
        if spoken and not frame.text:
            metrics.turns_total.labels("empty").inc()
            self._emit(ev.ReplyEnded(frame.turn, "empty", ""))
        self._request_again()

    def _failed(self, frame: fr.StageFailed) -> None:
        self._awaiting.discard(frame.turn)
        self._emit(ev.Failed("stage_failed", f"{frame.stage} gave up: {frame.message}", frame.turn))
        self._request_again()
        if not self._gate.is_stale(frame.turn, frame.revision):
            self._finish(self._reply_to(frame.turn, frame.revision), "failed")

    # -- the reply --------------------------------------------------------------------------------

    def _reply_to(self, turn: int, revision: int) -> Reply:
        reply = self._reply
        if reply is None or (reply.turn, reply.revision) != (turn, revision):
            self._end_reply("interrupted", "turn")
            playout = Playout(self._codec.rate_hz, self._config.reply_ahead_s)
            reply = self._reply = Reply(turn, revision, playout)
            self._emit(ev.ReplyBegan(turn))
        return reply

    def _text(self, reply: Reply, text: str) -> None:
        if text and not reply.ended:
            self._emit(ev.ReplyText(reply.turn, text))

    def _release(self, reply: Reply, at_ms: int) -> None:
        now_s = self._loop.time()
        playout = reply.playout
        offset = playout.sent
        for pcm in playout.release(now_s):
            self._emit(ev.ReplyAudio(reply.turn, offset, pcm))
            offset += len(pcm) // 2
        if offset and at_ms and self._timings.mark(reply.turn, "first_audio", at_ms):
            marks = self._timings.marks(reply.turn)
            metrics.turn_latency.observe(max(0.0, marks["first_audio"] / 1000))
            self._emit(ev.Timing(reply.turn, marks))
        if reply.complete:
            if not reply.ended:
                self._finish(reply, "completed")
        elif self._pump is None and (wait_s := playout.wait_s(now_s)) is not None:
            self._pump = self._loop.call_later(wait_s, self._pump_more, reply)

    def _pump_more(self, reply: Reply) -> None:
        self._pump = None
        if reply is self._reply:
            self._release(reply, 0)

    def _finish(self, reply: Reply, status: str) -> None:
        """Nothing more is sent of this reply."""
        if reply.ended:
            return
        reply.ended = True
        metrics.turns_total.labels(status).inc()
        text = reply.text
        if status != "completed":
            text = reply.heard_text(self._loop.time())
        if text:
            message = Message("assistant", text, reply.turn, interrupted=status != "completed")
            self._conversation.put(reply_key(reply.turn), message)
            self._save_history()
        self._emit(ev.ReplyEnded(reply.turn, status, reply.text))

    def _interrupt(self, reason: str) -> None:
        """Whatever reply is being made or played: it is not to be heard any further."""
        reply = self._reply
        now_s = self._loop.time()
        if reply is None:
            if self._turn and self._gate.advance(self._turn + 1):
                self._bus.stop(self.id, self._turn + 1, 0)
            return
        if reply.ended and not reply.playout.playing(now_s):
            return
        self._end_reply("cancelled" if reason == "client" else "interrupted", reason)

    def _end_reply(self, status: str, reason: str) -> None:
        """Silence first, then the bookkeeping."""
        reply, self._reply = self._reply, None
        if self._pump is not None:
            self._pump.cancel()
            self._pump = None
        if reply is None:
            return
        now_s = self._loop.time()
        playout = reply.playout
        heard = playout.heard(now_s)
        unheard = playout.playing(now_s) or not reply.ended
        if unheard:
            self._emit(ev.Interrupt(reply.turn, heard * 1000 // playout.rate_hz))
            self._last_cut = (reply.turn, reply.text, playout.sent * 1000 / playout.rate_hz)
            self._counts["interrupted"] += 1
            self._gate.advance(reply.turn + 1)
            self._channel.publish(fr.TurnInterrupted(reply.turn, reason, heard))
            self._bus.stop(self.id, reply.turn + 1, 0)
            if reply.ended and (text := reply.heard_text(now_s)) != reply.text:
                self._conversation.put(reply_key(reply.turn), Message("assistant", text, reply.turn, interrupted=True))
                self._save_history()
            self._finish(reply, status)
        self._channel.publish(fr.PlayedOut(reply.turn, reply.revision, heard, playout.sent))

    def _played(self, turn: int, ms: int) -> None:
        reply = self._reply
        if reply is not None and turn in (0, reply.turn):
            reply.playout.report(ms * reply.playout.rate_hz // 1000, self._loop.time())

    # -- out --------------------------------------------------------------------------------------

    def _emit(self, event: ev.Event) -> None:
        self._send_all(self._codec.encode(event))

    def _send_all(self, messages: Sequence[str | bytes]) -> None:
        for message in messages:
            if not self._send(message):
                metrics.dropped.labels("slow_reader").inc()
                self._close(1013, "too much is unread")
                return

    def stats(self) -> dict[str, Any]:
        """The session's figures."""
        return {
            "session_id": self.id,
            "seconds": round(self._loop.time() - self._began_s, 3),
            "audio_seconds_in": round(self._received / RATE_HZ, 3),
            "turn": self._turn,
            **self._counts,
        }


def _ms(samples: int) -> int:
    return samples * 1000 // RATE_HZ
