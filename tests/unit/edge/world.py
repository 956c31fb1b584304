"""A world around the core of a conversation, in virtual time: stages with random delays, doubles and failures, and a client
that plays what it is sent and checks it. There is no event loop: a case takes a few milliseconds."""

import heapq
import random
from collections.abc import Callable
from functools import partial
from itertools import count
from typing import Any

import numpy as np

from services.edge.client import events as ev
from services.edge.conversation import effects as fx
from services.edge.conversation.core import Core
from services.edge.conversation.inputs import Begin, End, Stamp, Timer, TimerFired
from services.edge.conversation.outcome import LINGERING
from services.edge.conversation.playout import Playout
from services.edge.conversation.state import State
from shared.protocol import frames as fr
from shared.protocol.frames import Frame
from shared.protocol.prompt import SOUND, prompt, prompt_hash
from shared.protocol.session import OMNI, ReplyOptions, SessionSettings, ToolCall, Word
from shared.protocol.turns import TurnGate
from tests.unit.edge.careful_client import RATE, CarefulClient

WORD = 400
"""Samples of each spoken word."""
SAID = ("stop it now", "what about Rome", "no", "okay", "uh-huh", "")
CLOCK_MS = 1_000_000
FAILURE = 0.06
DOUBLE = 0.1


class World:
    """The stages around one core. What they write is delivered after a random delay, sometimes twice, sometimes never."""

    def __init__(self, seed: int, settings: SessionSettings, *, can_pause: bool = True) -> None:
        self.chance = random.Random(seed)
        self.now_s = 0.0
        self.client = CarefulClient(self, can_pause=can_pause)
        new_playout = partial(Playout, RATE, 2.0, keeps=not can_pause)
        self.core = Core(State("session", new_playout, 0.0, deadline_s=20.0, shows_failures=True))
        self.closed = self.left = False
        self.outcomes: dict[int, list[str]] = {}
        self.committed: dict[int, fr.TurnCommitted] = {}
        self.reliable = False
        """From now on no stage fails, and nothing arrives twice."""
        self.said: dict[tuple[int, int], str] = {}
        """The transcript of each revision."""
        self.received: dict[tuple[int, int], tuple[float, int]] = {}
        """When each reply was requested, and its prompt hash."""
        self.committed_s: dict[int, float] = {}
        self.reset_turn = 0
        """The newest turn when the client last cleared the history."""
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = count()
        self._timers: dict[tuple[Timer, int], int] = {}
        self._gate = TurnGate()
        self._made: dict[tuple[int, int], list[str]] = {}
        self._past: list[Frame] = []
        # the vad stage
        self.turn = self.revision = 0
        self.speaking = self.paused = False
        self._speculated = False
        self.on(Begin(settings))

    @property
    def state(self) -> Any:
        return self.core.state

    # -- time -------------------------------------------------------------------------------------

    def at(self, delay_s: float, what: Callable[[], None]) -> int:
        number = next(self._numbers)
        heapq.heappush(self._due, (self.now_s + delay_s, number, what))
        return number

    def wait(self, seconds: float) -> None:
        until_s = self.now_s + seconds
        while self._due and self._due[0][0] <= until_s:
            self.now_s, _, what = heapq.heappop(self._due)
            what()
        self.now_s = until_s

    def _later(self, longest_s: float = 1.0) -> float:
        return self.chance.choice((0.0, 0.01, 0.2, 1.0)) * self.chance.random() * longest_s

    # -- the core ---------------------------------------------------------------------------------

    def on(self, what: Any, fence: int = 1) -> None:
        now_ms = CLOCK_MS + int(self.now_s * 1000)
        for effect in self.core.on(what, Stamp(self.now_s, now_ms, now_ms, fence)):
            match effect:
                case fx.Publish(frame):
                    self._published(frame)
                case fx.StopWorkers(turn, revision, only):
                    (self._gate.supersede if only else self._gate.advance)(turn, revision)
                case fx.StartTimer(timer, delay_s, turn):
                    self._start_timer(timer, turn, delay_s)
                case fx.CancelTimer(timer, turn):
                    self._timers.pop((timer, turn), None)
                case fx.TurnEnded(turn, outcome):
                    self.outcomes.setdefault(turn, []).append(outcome)
                case fx.Close():
                    self.closed = True
                case ev.Failed("turn_deadline"):  # no stage of this world is stuck: the core has lost the turn
                    raise AssertionError(effect.message)
                case fx.SaveHistory() | fx.Count() | fx.Silenced() | fx.FirstAudio() | fx.FirstPlayed():
                    pass
                case _:
                    self.client.tell(effect)

    def _start_timer(self, timer: Timer, turn: int, delay_s: float) -> None:
        def fire() -> None:
            if self._timers.get((timer, turn)) == number:
                del self._timers[timer, turn]
                self.on(TimerFired(timer, turn))

        number = self._timers[timer, turn] = self.at(delay_s, fire)

    def log(self, *frames: Frame, fence: int = 1) -> None:
        for frame in frames:
            self._past.append(frame)
            if isinstance(frame, fr.TurnCommitted):
                self.committed.setdefault(frame.turn, frame)
                self.committed_s.setdefault(frame.turn, self.now_s)
            self.on(frame, fence)

    def again(self) -> None:
        """Something that was written lately arrives once more."""
        recent = [frame for frame in self._past[-12:] if not isinstance(frame, fr.TurnDiscarded)]
        if recent:
            self.on(self.chance.choice(recent))

    def _published(self, frame: Frame) -> None:
        match frame:
            case fr.TextTyped(text, options):
                self.at(self._later(0.1), lambda: self._ask(text, options))
            case fr.ReplyRequested(options, unless_spoken):
                self.at(self._later(0.1), lambda: self._ask("", options, unless_spoken=unless_spoken))
            case fr.InputCommitted(options):
                self.at(self._later(0.1), lambda: self.commit(options))
            case fr.InputCleared():
                self.at(self._later(0.1), lambda: self.discard("cleared"))
            case fr.TranscriptFinal(turn=turn, revision=revision) | fr.TurnAudioReady(turn=turn, revision=revision):
                self.log(frame)
                self._ask_model(turn, revision)
            case _:
                pass

    # -- the vad stage ----------------------------------------------------------------------------

    @property
    def _place(self) -> int:
        return 16_000 * self.turn

    def _omni(self) -> bool:
        return bool(self.state.settings.route == OMNI)

    def speak(self) -> None:
        if self.speaking or self.paused:
            return
        self.turn, self.revision, self.speaking, self._speculated = self.turn + 1, 0, True, False
        settings = self.state.settings
        interrupts = settings.interrupt_reply and settings.detect_turns
        place = (self.turn, 0, self._place, self._place, "0-0", "en", interrupts, "", settings.route)
        self.log(fr.SpeechStarted("session", *place))

    def pause(self) -> None:
        if not self.speaking or not self.state.settings.detect_turns:
            return
        self.speaking, self.paused = False, True
        speculate = self.state.settings.create_reply and (self.reliable or self.chance.random() < 0.8)
        self.log(fr.SpeechPaused(self.turn, self.revision, self._place + 8000, speculate))
        if speculate:
            self._speculated = True
            self._understand(ReplyOptions(wants_reply=self.state.settings.create_reply))

    def resume(self) -> None:
        if not self.paused:
            return
        self.speaking, self.paused, self._speculated = True, False, False
        self.revision += 1
        self.log(fr.SpeechResumed(self.turn, self.revision, self._place + 8000))

    def commit(self, options: ReplyOptions) -> None:
        if not (self.speaking or self.paused):
            self.log(fr.TurnDiscarded(self.turn, self.revision, fr.EMPTY))
            return
        self.speaking = self.paused = False
        start, end = self._place, self._place + 8000
        self.log(fr.TurnCommitted(self.turn, self.revision, start, end, end + 8000, self._now_ms(), options))
        if not self._speculated:
            self._understand(options)

    def discard(self, reason: str) -> None:
        if self.speaking or self.paused:
            self.speaking = self.paused = False
            self.log(fr.TurnDiscarded(self.turn, self.revision, reason))

    def _ask(self, text: str, options: ReplyOptions, *, unless_spoken: bool = False) -> None:
        if self.speaking or self.paused:
            if unless_spoken:
                return
            self.commit(ReplyOptions(wants_reply=False))
        self.turn, self.revision = self.turn + 1, 0
        turn, place = self.turn, self._place
        self.said[turn, 0] = text
        self.log(
            fr.TurnCommitted(turn, 0, place, place, place, self._now_ms(), options),
            fr.TranscriptFinal("session", turn, 0, text, options),
        )
        if options.wants_reply:
            self._ask_model(turn, 0)

    def _now_ms(self) -> int:
        return CLOCK_MS + int(self.now_s * 1000)

    # -- the other stages -------------------------------------------------------------------------

    def _fails(self) -> bool:
        return not self.reliable and self.chance.random() < FAILURE

    def _write(self, delay_s: float, *frames: Frame) -> float:
        """One entry of a stage, after a while; sometimes a successor writes it once more."""
        self.at(delay_s, lambda: self.log(*frames))
        if not self.reliable and self.chance.random() < DOUBLE:
            self.at(delay_s + self._later(3), lambda: self.log(*frames, fence=2))
        return delay_s

    def _understand(self, options: ReplyOptions) -> None:
        """The asr stage; in the route `omni` the chat model is asked at the same time."""
        turn, revision, omni = self.turn, self.revision, self._omni()
        text = SAID[0] if self.reliable else self.chance.choice(SAID)
        if omni and options.wants_reply:
            heard = fr.TurnAudioReady("session", turn, revision, "0-0", self._place, self._place + 8000, options)
            self.log(heard)
            self._ask_model(turn, revision)
        self.said[turn, revision] = text
        delay_s = self._later(4)
        if text and self.chance.random() < 0.5:
            delay_s = self._write(delay_s, fr.TranscriptPartial(turn, revision, text.split()[0])) + self._later(1)
        if self._fails():
            self._write(delay_s, fr.StageFailed("asr", turn, revision, "gone"))
            return
        final = fr.TranscriptFinal("session", turn, revision, text, options)
        self._write(delay_s, final)
        if not omni and text and options.wants_reply:
            self.at(delay_s, lambda: self._ask_model(turn, revision))

    def _ask_model(self, turn: int, revision: int) -> None:
        self.at(self._later(), lambda: self._reply(turn, revision))

    def _reply(self, turn: int, revision: int) -> None:
        """The llm and tts stages. Both stop early on a stop message, or (one in two) write on."""
        obedient = self.reliable or self.chance.random() < 0.5
        committed = self.committed.get(turn)
        options = (
            committed.options if committed is not None else ReplyOptions(wants_reply=self.state.settings.create_reply)
        )
        received = self._prompt_hash(turn, revision, options)
        self.received.setdefault((turn, revision), (self.now_s, received))
        at = (turn, revision)
        sentences = self._made.setdefault(at, self._sentences(turn, revision))

        def unless_stopped(*frames: Frame) -> Callable[[], None]:
            def write() -> None:
                if not (obedient and self._gate.is_stale(*at)):
                    self.log(*frames)

            return write

        def write(delay_s: float, *frames: Frame) -> float:
            self.at(delay_s, unless_stopped(*frames))
            if not self.reliable and self.chance.random() < DOUBLE:
                self.at(delay_s + self._later(2), unless_stopped(*frames))
            return delay_s

        delay_s, offset = write(self._later(), fr.ReplyStarted(*at, received)), 0
        for index, sentence in enumerate(sentences):
            delay_s += self._later(0.5)
            if self._fails():
                write(delay_s, fr.StageFailed("llm", *at, "gone"))
                return
            piece = sentence if not index else f" {sentence}"
            spoken = fr.ReplySentence("session", *at, index, sentence, "", 1.0, "en")
            write(delay_s, fr.ReplyDelta(*at, offset, piece), spoken)
            offset += len(piece)
            self._speak(at, index, sentence, delay_s, write)
        if self.chance.random() < 0.15:
            write(delay_s, fr.ToolCalled(*at, ToolCall(f"call_{turn}", "weather", "{}")))
        write(delay_s + self._later(0.3), fr.ReplyDone(*at, " ".join(sentences), len(sentences)))

    def _prompt_hash(self, turn: int, revision: int, options: ReplyOptions) -> int:
        """The prompt hash of a request that is made now."""
        history, settings = self.state.record.messages(), self.state.settings
        found = self.state.turns.get(turn)
        committed = self.committed.get(turn)
        heard = revision if committed is None else min(revision, committed.revision)  # a later one is the same turn
        is_sound = found is not None and found.omni and found.sound is not None
        text = SOUND if is_sound else self.said.get((turn, heard), "")
        return prompt_hash(settings, options, prompt(settings, options, history, turn, text))

    def check_told(self, turn: int) -> None:
        """A speculative reply plays only if its prompt hash still matches."""
        at, committed = (turn, self.revision_of(turn)), self.committed[turn]
        asked_s, received = self.received.get(at, (self.now_s, 0))
        if at[1] == committed.revision and asked_s < self.committed_s[turn]:
            assert received == self._prompt_hash(*at, committed.options), f"reply {turn} answers another conversation"

    def _speak(self, at: tuple[int, int], index: int, text: str, delay_s: float, write: Callable[..., float]) -> None:
        words = text.split()
        voice = np.full(WORD * len(words), 16 * at[0] + at[1], "<i2")
        for number, word in enumerate(words):
            delay_s += self._later(0.5)
            if self._fails():
                write(delay_s, fr.StageFailed("tts", *at, "gone"))
                return
            start = WORD * number
            pcm = voice[start : start + WORD].tobytes()
            write(delay_s, fr.VoiceChunk(*at, index, start, RATE, pcm, (Word(word, start, start + WORD),)))
        write(delay_s, fr.VoiceDone(*at, index, len(voice)))

    def _sentences(self, turn: int, revision: int) -> list[str]:
        return [
            " ".join(f"t{turn}r{revision}s{index}w{word}" for word in range(self.chance.randint(1, 4)))
            for index in range(self.chance.randint(1, 3))
        ]

    # -- what must hold ---------------------------------------------------------------------------

    def revision_of(self, turn: int) -> int:
        """The revision of the reply that may be heard: the committed one, or the one after it."""
        for reply in (self.state.reply, self.state.past_reply):
            if reply is not None and reply.turn == turn:
                committed = self.committed[turn].revision
                assert reply.revision in (committed, committed + 1), "a reply to another revision"
                return int(reply.revision)
        raise AssertionError(f"reply {turn} is neither playing nor past")

    def full_text(self, turn: int) -> str:
        return " ".join(self._made[turn, self.revision_of(turn)])

    def voice(self, turn: int) -> np.ndarray[Any, Any]:
        revision = self.revision_of(turn)
        words = sum(len(sentence.split()) for sentence in self._made[turn, revision])
        return np.full(WORD * words, 16 * turn + revision, "<i2")

    def settle(self) -> None:
        """All that was begun is finished."""
        if self.speaking or self.paused:
            self.commit(ReplyOptions())
        self.wait(400)

    def check_at_rest(self) -> None:
        state = self.state
        assert not state.paused_by_turn, f"turn {state.paused_by_turn} still pauses the reply"
        assert state.reply is None, f"reply {state.reply.turn} still plays"
        assert not state.queue.is_waiting, "a turn still waits for its reply"
        assert not self.client.paused or not self.client.turn, "the client is still paused"
        assert state.is_silent, f"open turns: {state.turns}"
        assert len(state.turns) <= LINGERING
        self.check_outcomes()

    def check_outcomes(self) -> None:
        """Every turn that was to be answered has exactly one outcome, and its client knows of it."""
        for turn, announced in self.client.began.items():
            if self.committed[turn].options.wants_reply:
                assert len(self.outcomes.get(turn, ())) == 1, f"turn {turn}: outcomes {self.outcomes.get(turn)}"
            else:
                assert turn not in self.outcomes, f"turn {turn} has an outcome and wants none"
            received = bool(self.client.statuses.get(turn))
            assert received == announced or self.left, f"turn {turn}: the client waits for its reply"
        for turn, outcomes in self.outcomes.items():
            assert turn in self.client.began or outcomes == ["failed"], f"turn {turn} was never accepted: {outcomes}"

    def leave(self) -> None:
        """The client is gone."""
        self.left = True
        self.on(End("left"))

    def check_history(self) -> None:
        """The history is what was said, and of each reply the words that were played."""
        self.client.leave()
        messages = self.state.record.messages()
        replies = {
            message.turn: message.text for message in messages if message.role == "assistant" and not message.calls
        }
        users = {message.turn: message.text for message in messages if message.role == "user"}
        assert list(users) == sorted(users)
        for turn, heard in self.client.heard.items():
            if turn <= self.reset_turn:
                continue
            words = " ".join(self._made.get((turn, self.client.revisions[turn]), ())).split()
            counts = {sum(WORD * at + WORD // 2 <= heard + off for at in range(len(words))) for off in (-3, 0, 3)}
            assert replies.get(turn, "") in {" ".join(words[:number]) for number in counts}, f"reply {turn}: {heard}"
        assert all(turn in self.client.heard or turn <= self.reset_turn for turn in replies)
        called = [call.id for message in messages for call in message.calls if message.turn > self.reset_turn]
        assert set(called) <= set(self.client.calls), f"{called} on record, the client ran {self.client.calls}"
        for turn, text in users.items():
            if turn > self.reset_turn:
                assert text == self.said[turn, self.committed[turn].revision], f"turn {turn}: other words on record"
        spoken = {turn for turn, text in self.client.words.items() if text and turn > self.reset_turn}
        assert spoken <= users.keys(), f"words that are not on record: {spoken - users.keys()}"
