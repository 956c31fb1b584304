"""Utterances of a streaming model: the tokens written so far are the partial transcript.

Each utterance has at most one step waiting, so that streams are served fairly; the next follows when its audio has
arrived. To finish, an utterance feeds silence until the last word is written. Then it undoes these steps, so that the
person can speak on.
"""

import asyncio
from concurrent.futures import Future
from contextlib import suppress

from services.asr.engine import Transcript
from services.asr.engines.guards import VoiceGate, streamed_without_hallucinations
from services.asr.engines.model import BYTES_PER_S
from services.asr.engines.voxtral_realtime import Step, VoxtralRealtime
from shared.engines.batching import Batcher
from shared.engines.registry import EngineLost
from shared.protocol.session import RATE_HZ
from shared.settings import Settings

LEAD_S = 2.0
"""Audio kept from before the first voice."""

BEHIND_S = 30.0
"""Audio that may wait for the model. Above it, `accept` waits."""

STEP_TIMEOUT_S = 120.0
"""A step that takes longer means that the engine is lost."""

PAUSE = 2
"""Padding tokens in a row after which no further word comes, once all audio and the delay have passed."""

_TRIM_BYTES = BYTES_PER_S  # processed audio is dropped in pieces of at least this size


class StreamPool:
    """All utterances of one model, and the rows of its caches."""

    def __init__(self, model: VoxtralRealtime, settings: Settings) -> None:
        self._model = model
        # A stream waits for its own audio most of the time, so a late step does better with the next call.
        wait_ms = min(1.0, settings.batch_ms)
        self._batcher = Batcher("asr", model.advance, most=settings.batch, wait_ms=wait_ms, timeout_s=STEP_TIMEOUT_S)
        # The lowest free row comes first, because the caches allocate all rows up to the highest in use.
        self._rows: asyncio.PriorityQueue[int] = asyncio.PriorityQueue()
        for row in range(settings.model_slots):
            self._rows.put_nowait(row)

    async def warm_up(self) -> None:
        """Run a first step and a later one."""
        model = self._model
        for at, tokens in ((0, model.prefix), (len(model.prefix), (model.pad,))):
            first, end = model.span(at, len(tokens))
            await self._batcher.ask(Step(0, at, tokens, bytes(2 * (end - first))))

    async def open(self, language: str) -> "StreamingUtterance":
        """Begin an utterance. Waits while all rows are in use."""
        row = await self._rows.get()
        return StreamingUtterance(self._model, self._batcher, self._rows, row, language)

    async def close(self) -> None:
        await self._batcher.close()


class StreamingUtterance:
    """See `engine.Utterance`."""

    def __init__(
        self,
        model: VoxtralRealtime,
        batcher: Batcher[Step, int],
        rows: "asyncio.PriorityQueue[int]",
        row: int,
        language: str,
    ) -> None:
        self._model, self._batcher, self._rows, self._row, self._language = model, batcher, rows, row, language
        self._loop = asyncio.get_running_loop()
        self._voice = VoiceGate()
        self._pcm = bytearray()
        self._dropped = 0  # samples before `_pcm` that are not needed any more
        self._tokens: list[int] = []
        self._decoded, self._text = 0, ""  # tokens decoded for good, up to a word boundary, and their text
        self._pending: Future[int] | None = None
        self._stepped = asyncio.Event()
        self._error: BaseException | None = None
        self._finishing = False
        self._partial = ""
        self._final: Transcript | None = None

    async def accept(self, pcm: bytes) -> str | None:
        self._pcm += pcm
        self._final = None
        if not self._voice.is_open:
            self._voice.add(pcm)
            if not self._voice.is_open:
                del self._pcm[: -round(LEAD_S * BYTES_PER_S)]
                return None
        self._submit_step()
        while self._behind_s > BEHIND_S:
            await self._wait_for_step()
        if self._error is not None:
            raise self._error
        partial = self._written()
        if partial == self._partial:
            return None
        self._partial = partial
        return partial

    async def finish(self) -> Transcript:
        if self._final is None:
            text = await self._flush() if self._voice.is_open else ""
            text = streamed_without_hallucinations(text, self._received / RATE_HZ)
            self._final = Transcript(text, self._language)
        return self._final

    def close(self) -> None:
        self._cancel_step()
        self._rows.put_nowait(self._row)

    @property
    def _received(self) -> int:
        """Samples accepted so far."""
        return self._dropped + len(self._pcm) // 2

    @property
    def _behind_s(self) -> float:
        """Audio that waits for the model, in seconds."""
        return (self._received - self._needed(len(self._tokens))) / RATE_HZ

    def _needed(self, tokens: int) -> int:
        """Return the samples needed for the token that follows this many tokens."""
        return self._model.span(0, len(self._model.prefix) + tokens)[1]

    async def _flush(self) -> str:
        """Return the text of all audio so far. Undoes the steps with silence afterwards, also when cancelled."""
        self._finishing = True
        try:
            self._submit_step()
            while not self._is_complete:
                await self._wait_for_step()
            return self._written()
        finally:
            self._finishing = False
            self._cancel_step()
            while self._tokens and self._needed(len(self._tokens) - 1) > self._received:
                self._tokens.pop()
            self._decoded, self._text = 0, ""

    @property
    def _is_complete(self) -> bool:
        """Whether the text of all audio is written: the model has had enough silence after it, or has paused."""
        model, tokens = self._model, self._tokens
        audio_tokens = -(-self._received // model.samples_per_token)
        silence = len(model.prefix) + len(tokens) - 1 - model.left_padding - audio_tokens  # in tokens
        return silence >= model.right_padding - 1 or (
            silence > model.delay and len(tokens) >= PAUSE and all(token == model.pad for token in tokens[-PAUSE:])
        )

    def _submit_step(self) -> None:
        """Submit the next step, if its audio has arrived and no other step is waiting."""
        if self._pending is not None or self._error is not None:
            return
        ready = not self._is_complete if self._finishing else self._needed(len(self._tokens)) <= self._received
        if ready and self._voice.is_open:
            self._pending = self._batcher.submit(self._next_step())
            self._pending.add_done_callback(self._on_answer)

    def _next_step(self) -> Step:
        model = self._model
        tokens = (self._tokens[-1],) if self._tokens else model.prefix
        at = len(model.prefix) + len(self._tokens) - 1 if self._tokens else 0
        first, end = model.span(at, len(tokens))
        begin = max(0, first - self._dropped)
        pcm = bytes(self._pcm[2 * begin : 2 * (end - self._dropped)])
        silence_before = bytes(2 * (self._dropped + begin - first))
        if begin * 2 > _TRIM_BYTES and not self._finishing:
            del self._pcm[: 2 * begin]
            self._dropped += begin
        return Step(self._row, at, tokens, (silence_before + pcm).ljust(2 * (end - first), b"\0"))

    def _on_answer(self, done: Future[int]) -> None:
        """Called in the model's thread."""
        with suppress(RuntimeError):  # the event loop is already closed
            self._loop.call_soon_threadsafe(self._take_answer, done)

    def _take_answer(self, done: Future[int]) -> None:
        if done is not self._pending:
            return  # the step was cancelled
        self._pending = None
        if done.cancelled():
            self._error = EngineLost("the recogniser was closed")
        elif (error := done.exception()) is not None:
            self._error = error
        else:
            self._tokens.append(done.result())
            self._submit_step()
        self._stepped.set()

    async def _wait_for_step(self) -> None:
        """Wait for the pending step.

        Raises:
            EngineLost: it takes longer than `STEP_TIMEOUT_S`, or the device has failed.
        """
        self._stepped.clear()
        if self._error is None:
            try:
                async with asyncio.timeout(STEP_TIMEOUT_S):
                    await self._stepped.wait()
            except TimeoutError:
                self._error = EngineLost(f"the model has not answered for {STEP_TIMEOUT_S:g} s")
        if self._error is not None:
            raise self._error

    def _cancel_step(self) -> None:
        if self._pending is not None:
            pending, self._pending = self._pending, None
            pending.cancel()

    def _written(self) -> str:
        """Return the text so far, without a last character whose bytes are incomplete."""
        tokens, special = self._tokens, self._model.special
        cut = next((end for end in range(len(tokens), self._decoded, -1) if tokens[end - 1] in special), self._decoded)
        self._text += self._model.decode(tokens[self._decoded : cut])
        self._decoded = cut
        return (self._text + self._model.decode(tokens[cut:])).rstrip("\ufffd").strip()
