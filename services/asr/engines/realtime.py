"""Utterances of a model that hears as it is spoken to: what it has written so far is the partial transcript.

An utterance has one step asked at a time, so that streams are fair to each other, and the next when its audio is there. To
finish, it hears silence until the last word is written; that is taken back at once, so that the person may go on.
"""

import asyncio
from collections.abc import Iterable
from concurrent.futures import Future
from contextlib import suppress

from services.asr.engine import Transcript
from services.asr.engines.clips import BYTES_PER_S
from services.asr.engines.guards import Voice, is_too_much, without_loops
from services.asr.engines.voxtral_realtime import Realtime, Step
from shared.engines.batching import Batcher
from shared.engines.registry import EngineLost
from shared.protocol.session import RATE_HZ
from shared.settings import Settings

LEAD_S = 2.0
"""Of what comes before a voice, no more is heard."""

BEHIND_S = 30.0
"""A model that is so far behind is waited for, before more audio is taken."""

PATIENCE_S = 120.0
"""No step takes so long."""

PAUSE = 2
"""Tokens of nothing in a row, once all has been heard and the delay is over, after which no word comes."""

_TRIMMED = BYTES_PER_S  # audio that is heard is thrown away when there is so much of it


class Streams:
    """All utterances of one model."""

    def __init__(self, model: Realtime, settings: Settings) -> None:
        self._model = model
        # A session waits for its own audio most of the time: those who are late go with the next call.
        wait_ms = min(1.0, settings.batch_ms)
        self._batcher = Batcher("asr", model.advance, most=settings.batch, wait_ms=wait_ms, timeout_s=PATIENCE_S)
        self._rows: asyncio.PriorityQueue[int] = (
            asyncio.PriorityQueue()
        )  # the lowest first: memory is kept up to the last
        for row in range(settings.model_slots):
            self._rows.put_nowait(row)

    async def warm_up(self) -> None:
        """A step of each kind."""
        model = self._model
        for at, tokens in ((0, model.prefix), (len(model.prefix), (model.pad,))):
            first, end = model.span(at, len(tokens))
            await self._batcher.ask(Step(0, at, tokens, bytes(2 * (end - first))))

    async def open(self, language: str) -> "RealtimeUtterance":
        """Waits while all rows are taken."""
        row = await self._rows.get()
        return RealtimeUtterance(self._model, self._batcher, self._rows, row, language)

    async def close(self) -> None:
        await self._batcher.close()


class RealtimeUtterance:
    """See `engine.Utterance`."""

    def __init__(
        self,
        model: Realtime,
        batcher: Batcher[Step, int],
        rows: "asyncio.PriorityQueue[int]",
        row: int,
        language: str,
    ) -> None:
        self._model, self._batcher, self._rows, self._row, self._language = model, batcher, rows, row, language
        self._loop = asyncio.get_running_loop()
        self._voice = Voice()
        self._pcm = bytearray()
        self._gone = 0  # samples before it that are not needed any more
        self._tokens: list[int] = []
        self._read, self._text = 0, ""  # so many of them, up to the last between two words, and what they say
        self._asked: Future[int] | None = None
        self._moved = asyncio.Event()
        self._error: BaseException | None = None
        self._finishing = False
        self._partial = ""
        self._final: Transcript | None = None

    async def accept(self, pcm: bytes) -> str | None:
        self._pcm += pcm
        self._final = None
        if not self._voice.heard:
            self._voice.hear(pcm)
            if not self._voice.heard:
                del self._pcm[: -round(LEAD_S * BYTES_PER_S)]
                return None
        self._ask()
        while self._behind > BEHIND_S:
            await self._step()
        if self._error is not None:
            raise self._error
        partial = self._written()
        if partial == self._partial:
            return None
        self._partial = partial
        return partial

    async def finish(self) -> Transcript:
        if self._final is None:
            text = await self._flush() if self._voice.heard else ""
            self._final = Transcript(trusted(text, self._heard / RATE_HZ), self._language)
        return self._final

    def close(self) -> None:
        self._drop()
        self._rows.put_nowait(self._row)

    @property
    def _heard(self) -> int:
        """Samples that were accepted."""
        return self._gone + len(self._pcm) // 2

    @property
    def _behind(self) -> float:
        """Seconds of audio that wait for the model."""
        return (self._heard - self._needed(len(self._tokens))) / RATE_HZ

    def _needed(self, tokens: int) -> int:
        """Samples that must have been heard for the token that comes after so many."""
        return self._model.span(0, len(self._model.prefix) + tokens)[1]

    async def _flush(self) -> str:
        """What was said up to here; the silence that this takes is taken back, also when nobody waits for it any more."""
        self._finishing = True
        try:
            self._ask()
            while not self._is_written:
                await self._step()
            return self._written()
        finally:
            self._finishing = False
            self._drop()
            while self._tokens and self._needed(len(self._tokens) - 1) > self._heard:
                self._tokens.pop()
            self._read, self._text = 0, ""

    @property
    def _is_written(self) -> bool:
        """Whether all that was heard is written, after so much silence as the model needs for it."""
        model, tokens = self._model, self._tokens
        silence = len(model.prefix) + len(tokens) - 1 - model.left - -(-self._heard // model.samples)  # in tokens
        return silence >= model.right - 1 or (
            silence > model.delay and len(tokens) >= PAUSE and all(token == model.pad for token in tokens[-PAUSE:])
        )

    def _ask(self) -> None:
        """For the next token, if its audio is there."""
        if self._asked is not None or self._error is not None:
            return
        ready = not self._is_written if self._finishing else self._needed(len(self._tokens)) <= self._heard
        if ready and self._voice.heard:
            self._asked = self._batcher.submit(self._next())
            self._asked.add_done_callback(self._answered)

    def _next(self) -> Step:
        model = self._model
        tokens = (self._tokens[-1],) if self._tokens else model.prefix
        at = len(model.prefix) + len(self._tokens) - 1 if self._tokens else 0
        first, end = model.span(at, len(tokens))
        begin = max(0, first - self._gone)
        pcm = bytes(self._pcm[2 * begin : 2 * (end - self._gone)])
        before = bytes(2 * (self._gone + begin - first))
        if begin * 2 > _TRIMMED and not self._finishing:
            del self._pcm[: 2 * begin]
            self._gone += begin
        return Step(self._row, at, tokens, (before + pcm).ljust(2 * (end - first), b"\0"))

    def _answered(self, done: Future[int]) -> None:
        with suppress(RuntimeError):  # the loop has ended before the model
            self._loop.call_soon_threadsafe(self._take, done)

    def _take(self, done: Future[int]) -> None:
        if done is not self._asked:
            return  # it was taken back
        self._asked = None
        if done.cancelled():
            self._error = EngineLost("the recogniser was closed")
        elif (error := done.exception()) is not None:
            self._error = error
        else:
            self._tokens.append(done.result())
            self._ask()
        self._moved.set()

    async def _step(self) -> None:
        """Wait for the step in hand.

        Raises:
            EngineLost: it takes longer than any should, or the device has failed.
        """
        self._moved.clear()
        if self._error is None:
            try:
                async with asyncio.timeout(PATIENCE_S):
                    await self._moved.wait()
            except TimeoutError:
                self._error = EngineLost(f"the model has not answered for {PATIENCE_S:g} s")
        if self._error is not None:
            raise self._error

    def _drop(self) -> None:
        if self._asked is not None:
            asked, self._asked = self._asked, None
            asked.cancel()

    def _written(self) -> str:
        """The text so far; a letter of which not all bytes are there waits for them."""
        tokens, special = self._tokens, self._model.special
        cut = next((end for end in range(len(tokens), self._read, -1) if tokens[end - 1] in special), self._read)
        self._text += self._model.decode(tokens[self._read : cut])
        self._read = cut
        return (self._text + self._model.decode(tokens[cut:])).rstrip("\ufffd").strip()


def trusted(text: str, seconds: float) -> str:
    """What was written, less what was made up: more than anybody says, or the same words again and again to the end."""
    words, kept = text.split(), without_loops(text).split()
    # A loop that the model came out of was said: no, no, no, no, not this one.
    if _bare(words[len(kept) :]) <= _bare(kept):
        text = " ".join(kept)
    return "" if is_too_much(text, seconds) else text


def _bare(words: Iterable[str]) -> set[str]:
    return {"".join(filter(str.isalnum, word.casefold())) for word in words} - {""}
