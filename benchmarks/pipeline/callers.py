"""Callers of `/ws` in real time, many in one process: `python -m benchmarks.pipeline.callers URL --sessions N`.

Each plays two seconds of speech and two of silence in frames of 20 ms, each sent when its last sample has been spoken, and
checks every sample of the replies. In a second phase all callers interrupt every reply. It prints a JSON line when a phase
begins, and the result at the end.
"""

import argparse
import asyncio
import sys
from collections import Counter
from itertools import chain
from time import monotonic_ns
from typing import Any

import orjson
import uvloop
from picows import WSError, WSFrame, WSListener, WSMsgType, WSTransport, ws_connect

from benchmarks.figures import summary
from benchmarks.pipeline.clip import SPEECH_FRAMES, quiet_frames, speech_frames
from benchmarks.pipeline.ramp import FRAME_MS, RampChecker, spread
from benchmarks.pipeline.ticker import Ticker
from shared.protocol.session import RATE_HZ

CYCLE_FRAMES = 2 * SPEECH_FRAMES
FRAME_NS = FRAME_MS * 1_000_000
BARGE_AFTER_NS = 300_000_000
"""How long a caller listens to a reply before speaking over it."""
PATIENCE_NS = 4_000_000_000
"""After this time without a reply, a caller who interrupts speaks again."""
CONNECT_S = 10
WARM_UP_S = 6
"""Time before anything counts."""
REPLY_SAMPLES = RATE_HZ
"""Length of a sentence of the scripted voice."""
GRAIN_MS = 1.0
"""Interval of wake-ups. A wake-up costs three times as much as a frame: of a hundred callers, five share one."""


class Tally:
    """The measurements of all callers of the process."""

    def __init__(self, endpoint_ms: int, speculations: int = 3) -> None:
        self.endpoint_ms, self.speculations = endpoint_ms, speculations
        self.window_ns = (0, 0)
        """Only turns whose speech ends in this span count."""
        self.barging = False
        self.overhead_ms: list[float] = []
        self.barge_ms: list[float] = []
        self.counts: Counter[str] = Counter()
        self.errors: Counter[str] = Counter()
        self.lateness_ms: list[float] = []

    def replied(self, end_ns: int, at_ns: int) -> None:
        """Count the first audio of a reply to speech that ended at `end_ns`."""
        if self.window_ns[0] <= end_ns < self.window_ns[1]:
            self.overhead_ms.append((at_ns - end_ns) / 1e6 - self.endpoint_ms)


class Caller(WSListener):
    """One caller: sends audio without a break, and checks the replies."""

    def __init__(self, tally: Tally, clip: tuple[list[bytes], list[bytes]], wait_frames: int, samples: int) -> None:
        self.tally = tally
        self.ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.gone = False
        self._transport: WSTransport | None = None
        self._speech, self._quiet = clip
        self._at = -wait_frames  # frame within the cycle of a turn; below 0: the caller has not begun
        self._end_ns = 0
        self._onset_ns = 0  # of speech during a reply, until the interrupt arrives
        self._audio_ns = 0  # arrival of the first audio of this turn's reply; 0: none yet
        self._turn = 0
        self._listening = False
        self._ramp = RampChecker(samples)

    # -- sending --------------------------------------------------------------------------------

    def play(self, due_ns: int) -> None:
        """Send the frame whose last sample is spoken at `due_ns`."""
        at = self._at
        if 0 <= at < SPEECH_FRAMES:
            frame = self._speech[at]
            if at == 0:
                self._begin(due_ns)
            elif at == SPEECH_FRAMES - 1:
                self._end_ns, self._audio_ns = due_ns, 0
                self.tally.counts["turns"] += 1
        else:
            frame = self._quiet[at % len(self._quiet)]
        self._at = self._next(at, due_ns)
        self.send(frame)

    def send(self, frame: bytes) -> None:
        """Send to the server, if connected."""
        if self._transport is not None and not self.gone:
            self._transport.send(WSMsgType.BINARY, frame)

    def _next(self, at: int, due_ns: int) -> int:
        if at < SPEECH_FRAMES or not self.tally.barging:
            return 0 if at + 1 == CYCLE_FRAMES else at + 1
        since_ns, patience_ns = (self._audio_ns, BARGE_AFTER_NS) if self._audio_ns else (self._end_ns, PATIENCE_NS)
        speak = due_ns >= since_ns + patience_ns  # the next frame begins when this one ends
        return 0 if speak else SPEECH_FRAMES

    def _begin(self, due_ns: int) -> None:
        counts = self.tally.counts
        if self._end_ns and not self._audio_ns:
            counts["unanswered"] += 1
        elif self.tally.barging and self._end_ns and due_ns < self._audio_ns + 2 * BARGE_AFTER_NS:
            counts["interruptions"] += 1
            counts["not_interrupted"] += self._onset_ns != 0
            self._onset_ns = due_ns - FRAME_NS  # when the frame's first sample was spoken

    # -- receiving -------------------------------------------------------------------------------

    def on_ws_connected(self, transport: WSTransport) -> None:
        self._transport = transport
        config = {"endpoint_ms": self.tally.endpoint_ms, "speculations": self.tally.speculations}
        transport.send(WSMsgType.TEXT, orjson.dumps({"type": "start_streaming", "config": config}))

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        self.gone = True
        handshake = transport.close_handshake
        said = handshake.recv if handshake else None
        reason = f"closed: {said.code} {said.reason}" if said else "closed: no reason given"
        if not self.ready.done():
            self.ready.set_exception(ConnectionError(reason))
        elif not self.tally.counts["hanging_up"]:
            self.tally.errors[reason] += 1

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        now_ns = monotonic_ns()
        if frame.msg_type == WSMsgType.BINARY:
            self.take_audio(frame.get_payload_as_bytes(), now_ns)
        elif frame.msg_type == WSMsgType.TEXT:
            message = orjson.loads(frame.get_payload_as_bytes())
            self.read(message, now_ns)
        elif frame.msg_type == WSMsgType.CLOSE:
            transport.send_close(frame.get_close_code())
            transport.disconnect()

    def take_audio(self, pcm: bytes, now_ns: int) -> None:
        if not self._listening:
            self.tally.counts["late_samples"] += len(pcm) // 2
            return
        if not self._audio_ns:
            self._audio_ns = now_ns
            self.tally.replied(self._end_ns, now_ns)
        self._ramp.feed(pcm)

    def read(self, message: dict[str, Any], now_ns: int) -> None:
        kind, counts = message["type"], self.tally.counts
        if kind == "reply_started":
            turn = message["turn"]
            speaking = 0 < self._at < SPEECH_FRAMES
            counts["unexpected_replies"] += turn <= self._turn or speaking or bool(self._audio_ns)
            self._turn, self._listening = turn, True
            self._ramp.restart()
        elif kind == "reply_done":
            if message["status"] == "completed":
                counts["replies"] += 1
                self._ramp.finish()
            elif not self.tally.barging:
                self.tally.errors[f"reply {message['status']}"] += 1
            self._listening = False
        elif kind in ("pause", "interrupt"):
            self._listening = False
            if self._onset_ns:
                self.tally.barge_ms.append((now_ns - self._onset_ns) / 1e6)
                self._onset_ns = 0
            elif not self.tally.barging:
                counts["unexpected_interrupts"] += 1
        elif kind == "resume":
            self._listening = True
        elif kind == "error":
            self.tally.errors[f"{message['code']}: {message['message']}"] += 1
        elif kind == "ready":
            self.ready.set_result(None)

    def hang_up(self) -> None:
        if self._transport is not None and not self.gone:
            self._transport.disconnect()

    def add_up(self) -> None:
        self.tally.counts["lost_samples"] += self._ramp.lost
        self.tally.counts["doubled_samples"] += self._ramp.doubled


class Fleet:
    """All callers of the process on one clock, spread evenly over the 20 ms of a frame."""

    def __init__(self, callers: list[Caller], tally: Tally, grain_ms: float) -> None:
        count = min(len(callers), round(FRAME_MS / grain_ms))
        self._slots = [callers[slot::count] for slot in range(count)]
        self._tally = tally
        self._ticks = 0
        self._ticker = Ticker(FRAME_NS // count, self._tick)

    def _tick(self, due: int) -> None:
        self._tally.lateness_ms.append((monotonic_ns() - self._ticker.due_ns(self._ticks)) / 1e6)
        for _ in range(due):
            due_ns = self._ticker.due_ns(self._ticks)
            for caller in self._slots[self._ticks % len(self._slots)]:
                caller.play(due_ns)
            self._ticks += 1

    def close(self) -> None:
        self._ticker.close()
        for caller in chain.from_iterable(self._slots):
            caller.hang_up()


async def call(url: str, arguments: argparse.Namespace) -> dict[str, Any]:
    tally = Tally(arguments.endpoint_ms, arguments.speculations)
    clip = (await speech_frames(), quiet_frames())
    waits = spread(arguments.sessions, CYCLE_FRAMES)
    callers = [Caller(tally, clip, wait, REPLY_SAMPLES) for wait in waits]
    for caller in callers:  # one after another: connecting is not part of the load
        async with asyncio.timeout(CONNECT_S):
            await ws_connect(lambda caller=caller: caller, url)
            await caller.ready
    fleet = Fleet(callers, tally, GRAIN_MS)
    say("warm-up")
    await asyncio.sleep(WARM_UP_S)
    tally.lateness_ms.clear()
    tally.window_ns = (monotonic_ns(), monotonic_ns() + round(arguments.seconds * 1e9))
    say("turns")
    await asyncio.sleep(arguments.seconds)
    lateness_ms = summary(tally.lateness_ms)
    say("barge-in")
    tally.barging = True
    await asyncio.sleep(arguments.barge)
    tally.counts["hanging_up"] = 1
    fleet.close()
    for caller in callers:
        caller.add_up()
    del tally.counts["hanging_up"]
    return {
        "overhead_ms": tally.overhead_ms,
        "barge_ms": tally.barge_ms,
        "counts": dict(tally.counts),
        "errors": dict(tally.errors),
        "send_lateness_ms": lateness_ms,
    }


def say(phase: str, **values: Any) -> None:
    sys.stdout.buffer.write(orjson.dumps({"phase": phase, **values}) + b"\n")
    sys.stdout.flush()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("url", help="ws://host:port/ws?rate=16000")
    parser.add_argument("--sessions", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=32, help="length of the phase of plain turns")
    parser.add_argument("--barge", type=float, default=12, help="length of the phase of interruptions")
    parser.add_argument("--endpoint-ms", type=int, default=500)
    parser.add_argument("--speculations", type=int, default=3, help="replies prepared before a turn is over")
    arguments = parser.parse_args()
    try:
        say("done", **uvloop.run(call(arguments.url, arguments)))
    except (WSError, OSError, TimeoutError) as error:
        say("failed", reason=f"{type(error).__name__}: {error}")
        sys.exit(1)


if __name__ == "__main__":
    main()
