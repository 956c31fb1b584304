"""One client's session: its actions become frames, the frames of its log become events.

It owns the conversation and what the client asked for; its microphone, its turns and its replies are files of their own.
It knows no wire protocol (the codec does), no socket (it is given `send` and `close`) and no turn-taking (the vad
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
from services.edge.microphone import Microphone
from services.edge.pending import Accepted
from services.edge.playout import Playout
from services.edge.presence import Presence
from services.edge.record import Record
from services.edge.replies import Replies
from services.edge.timing import Timings
from services.edge.turns import Turns
from shared import frames as fr
from shared import metrics
from shared.bus import Bus, Channel, Subscription
from shared.frames import Frame
from shared.prompt import SOUND, basis, prompt
from shared.session import OMNI, RATE_HZ, ReplyOptions, SessionSettings
from shared.settings import Settings
from shared.streams import Place
from shared.turns import WHOLE_SESSION
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
        self,
        bus: Bus,
        codec: ev.Codec,
        settings: Settings,
        voices: Sequence[str],
        send: Send,
        close: Close,
        *,
        hears: bool = False,
    ) -> None:
        """`hears`: the chat model that will be asked can, so that the route may be `omni`."""
        self.id = secrets.token_urlsafe(16)
        self.started = False
        self.settings = SessionSettings()
        self._bus, self._codec, self._config, self._voices = bus, codec, settings, voices
        self._send, self._close, self._hears = send, close, hears
        self._loop = asyncio.get_running_loop()
        self._began_s = self._loop.time()
        self._channel: Channel = bus.channel("edge", self.id)
        self._subscription: Subscription | None = None
        self._microphone: Microphone | None = None
        self._record = Record(bus, self.id)
        timings = Timings()
        self._replies = Replies(
            bus,
            self._channel,
            self.id,
            self._record,
            timings,
            self._emit,
            # the rate stands only once there is audio
            lambda: Playout(codec.rate_hz, settings.reply_ahead_s, keeps=not codec.can_pause),
            self._basis,
            self._quiet,
        )
        self._turns = Turns(
            self._replies,
            self._record,
            timings,
            lambda: self.settings,
            self._emit,
            self._publish,
        )
        self._presence = Presence(lambda: self.settings, self._is_silent, self._publish, self._emit, close)
        self._refused_audio_at_s = 0.0

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
        if not self._route_open(settings.route):
            self._close(1008, "route omni: the chat model cannot hear")
            return
        self.started = True
        self.settings = settings
        self._bus.save_settings(self.id, settings, pack_settings(settings))
        self._channel.publish(fr.SessionStarted(self.id, settings))
        self.keep_alive()
        self._subscription = self._bus.follow(Place.OUT, self.id, "0-0", self._deliver)
        self._emit(ev.Ready(self.id, settings))
        self._presence.greet()

    def keep_alive(self) -> None:
        """To be called every while: the session's keys live on."""
        if self.started:
            self._bus.keep_alive(self.id)

    def end(self, reason: str) -> None:
        """The client is gone, or is to go."""
        if self._subscription is not None:
            self._subscription.close()
            self._subscription = None
        self._presence.end()
        self._turns.close()
        if self.started:
            self._replies.end(reason)
            self._channel.publish(fr.SessionEnded(reason))
            self._bus.stop(self.id, WHOLE_SESSION, 0)
            self.keep_alive()
            self.started = False

    def hang_up(self, code: int, reason: str) -> None:
        """Say goodbye, where the session has one, and close."""
        self._presence.leave(code, reason)

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
                if self._replies.yields:
                    self._replies.interrupt("text", self._turns.turn)
                self._presence.heard()
                self._publish(fr.TextTyped(text, options))
            case ev.Commit(options):
                if self.started:
                    self._turns.client_commits()
                    self._publish(fr.InputCommitted(options))
            case ev.Clear():
                self._publish(fr.InputCleared())
            case ev.RequestReply():
                if self.started:
                    self._turns.request(action)
            case ev.CancelReply():
                self._turns.cancel()
            case ev.HangUp():
                self.hang_up(1000, "goodbye")
            case ev.Played(turn, ms):
                self._replies.played(turn, ms)
            case ev.Configure(settings):
                self._configure(settings)
            case ev.SetHistory():
                self._record.edit(action, self._turns.turn)
            case ev.Truncate(turn, ms):
                self._replies.truncate(turn, ms)
            case ev.GetStats():
                self._emit(ev.Stats(self.stats()))
            case ev.GetHistory():
                self._emit(ev.Said(tuple(self._record.messages())))
            case ev.Reset():
                self._turns.cancel()
                self._publish(fr.InputCleared())
                self._record.clear()
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

    def _configure(self, settings: SessionSettings) -> None:
        if not self._voice_known(settings.voice):
            return
        if not self._route_open(settings.route):
            settings = replace(settings, route=self.settings.route)
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

    def _route_open(self, route: str) -> bool:
        if route != OMNI or self._hears:
            return True
        self.tell("cannot_hear", "route 'omni': the chat model cannot hear; known is 'cascade'")
        return False

    # -- the conversation -------------------------------------------------------------------------

    def _basis(self, turn: Accepted) -> int:
        """Checksum of what the chat model would be told now."""
        text = turn.text if turn.sound is None else SOUND
        messages = prompt(self.settings, turn.options, self._record.messages(), turn.turn, text)
        return basis(self.settings, turn.options, messages)

    def _is_silent(self) -> bool:
        return not self._turns.open and not self._replies.live

    def _quiet(self) -> None:
        """All was said that was to be said."""
        if not self._turns.open:
            self._presence.quiet()

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
            case (
                fr.VoiceChunk()
                | fr.ReplyDelta()
                | fr.ReplySentence()
                | fr.VoiceDone()
                | fr.ToolCalled()
                | fr.ReplyDone()
                | fr.ReplyStarted()
            ):
                self._replies.handle(frame, fence, at_ms)
            case fr.SessionStarted() | fr.SessionEnded() | fr.TurnInterrupted() | fr.PlayedOut():
                pass  # our own
            case (
                fr.SpeechStarted() | fr.SpeechPaused() | fr.SpeechResumed() | fr.TurnCommitted() | fr.TurnDiscarded()
                | fr.TranscriptPartial() | fr.TranscriptFinal() | fr.TurnHeard() | fr.StageFailed()
            ):  # fmt: skip
                self._turns.handle(frame, at_ms)
                if type(frame) is fr.TurnCommitted and frame.end > frame.start:
                    self._presence.heard()
                if type(frame) is fr.TurnDiscarded and self._is_silent():
                    self._presence.quiet()
            case _:
                raise TypeError(f"{type(frame).__name__} does not belong into a log")

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
            "turn": self._turns.turn,
            "turns": self._turns.count,
            "interrupted": self._replies.interrupted,
            "stale": self._replies.stale,
        }
