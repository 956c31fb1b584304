"""One client's session: its actions become frames, the frames of its log become events.

It owns the conversation and what the client asked for; its microphone and its replies are files of their own. It
knows no wire protocol (the codec does), no socket (it is given `send` and `close`) and no turn-taking (the vad
worker does).
Everything in it runs on the event loop without waiting, so that silence on barge-in is one call away.
"""

import asyncio
import secrets
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import structlog

from services.edge import events as ev
from services.edge.history import Conversation, user_key
from services.edge.microphone import Microphone
from services.edge.playout import Playout
from services.edge.replies import Replies
from services.edge.timing import Timings
from shared import frames as fr
from shared import metrics
from shared.bus import Bus, Channel, Subscription
from shared.frames import Frame
from shared.session import RATE_HZ, Message, ReplyOptions, SessionSettings
from shared.settings import Settings
from shared.streams import Place
from shared.worker import pack_settings

log = structlog.get_logger()

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
        self._microphone: Microphone | None = None
        self._turn = 0
        self._conversation = Conversation()
        self._timings = Timings()
        self._replies = Replies(
            bus,
            self._channel,
            self.id,
            self._conversation,
            self._timings,
            self._emit,
            lambda: Playout(codec.rate_hz, settings.reply_ahead_s),  # the rate stands only once there is audio
        )
        self._awaiting: set[int] = set()  # committed turns whose transcript is still to come
        self._committing = 0  # the client's commits that were not answered yet
        self._requested: ev.RequestReply | None = None
        self._refused_audio_at_s = 0.0
        self._turns = 0

    # -- the client's side ------------------------------------------------------------------------

    def receive(self, message: str | bytes) -> None:
        """A message from the client."""
        if len(message) > self._codec.largest_message:
            self._close(1009, f"a message has at most {self._codec.largest_message} bytes")
            return
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
        if self._subscription is not None:
            self._subscription.close()
            self._subscription = None
        if self.started:
            self._replies.end("cancelled", reason)
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
                self._replies.interrupt("text", self._turn)
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
                self._replies.interrupt("client", self._turn)
            case ev.Played(turn, ms):
                self._replies.played(turn, ms)
            case ev.Configure(settings):
                self._configure(settings)
            case ev.SetHistory():
                self._set_history(action)
            case ev.Truncate(turn, ms):
                self._replies.truncate(turn, ms)
            case ev.GetStats():
                self._emit(ev.Stats(self.stats()))
            case ev.Reset():
                self._replies.interrupt("client", self._turn)
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
        now_s = self._loop.time()
        if self._microphone is None:
            self._microphone = Microphone(self._codec.rate_hz, self._began_s)
        dropped = self._microphone.dropped
        chunk = self._microphone.take(pcm, now_s)
        if chunk is None:
            if self._microphone.dropped > dropped:
                self._refuse_audio(
                    "audio_too_fast", "audio comes far faster than real time; what is too much is dropped"
                )
        elif self._bus.writer.backlog > BACKLOG_LIMIT:
            self._refuse_audio("broker_slow", "the broker is behind; audio is dropped")
        else:
            self._channel.publish(chunk, urgent=False)

    def _refuse_audio(self, code: str, message: str) -> None:
        metrics.dropped.labels(code).inc()
        now_s = self._loop.time()
        if now_s - self._refused_audio_at_s > 1.0:
            self._refused_audio_at_s = now_s
            self.tell(code, message)

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
                self._replies.handle(frame, fence, at_ms)
            case fr.SessionStarted() | fr.SessionEnded() | fr.TurnInterrupted() | fr.PlayedOut():
                pass  # our own
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
                    self._replies.interrupt("speech", self._turn)
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
            self._replies.interrupt("turn", self._turn)
            self._replies.advance(frame.turn, frame.revision)
        self._turn = max(self._turn, frame.turn)
        self._turns += 1
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
        self._replies.fail(frame.turn, frame.revision)

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
        microphone = self._microphone
        return {
            "session_id": self.id,
            "seconds": round(self._loop.time() - self._began_s, 3),
            "audio_seconds_in": round(microphone.received / RATE_HZ, 3) if microphone else 0.0,
            "dropped_samples": microphone.dropped if microphone else 0,
            "turn": self._turn,
            "turns": self._turns,
            "interrupted": self._replies.interrupted,
            "stale": self._replies.stale,
        }


def _ms(samples: int) -> int:
    return samples * 1000 // RATE_HZ
