"""How the turns of one session went: told to the metrics, and kept as a record of each."""

from collections.abc import Callable

from services.edge.reply import Reply
from services.edge.timing import Timings
from services.edge.tracing import trace_reply
from shared.bus.session_store import SessionStore
from shared.observability import metrics
from shared.observability.tracing import trace_id
from shared.protocol.session import SessionSettings
from shared.protocol.turn_record import TurnRecord, segments

EngineOf = Callable[[str], str]
"""Takes a stage; gives the name of the engine that it runs on."""


class Account:
    """One session's."""

    def __init__(
        self,
        bus: SessionStore,
        session: str,
        protocol: str,
        timings: Timings,
        settings: Callable[[], SessionSettings],
        age_s: Callable[[int], float],
        engine_of: EngineOf,
    ) -> None:
        """`age_s`: how long ago the client's microphone took this sample."""
        self._bus, self._session, self._protocol, self._timings = bus, session, protocol, timings
        self._settings, self._age_s, self._engine_of = settings, age_s, engine_of
        self._out = metrics.audio_seconds.labels("out", protocol)

    def now_ms(self) -> int:
        """The broker's clock."""
        return self._bus.clock.now_ms()

    def sent(self, samples: int, rate_hz: int, underruns: int) -> None:
        """So much of a reply has left; the client had played all before it so many times."""
        self._out.inc(samples / rate_hz)
        if underruns:
            metrics.underruns.labels(self._protocol).inc(underruns)

    def began(self, turn: int) -> None:
        """The first audio of this turn's reply has left."""
        marks = self._timings.marks(turn)
        if not self._timings.spoken(turn):
            return
        exemplar = self._exemplar(turn)
        metrics.turn_latency.labels(self._protocol).observe(max(0.0, marks["first_audio"] / 1000), exemplar)
        for part in segments(marks):
            engine = self._engine_of(part.stage)
            metrics.turn_segment.labels(part.name, part.stage, engine).observe(part.seconds, exemplar)

    def heard(self, turn: int, played_ms: int) -> None:
        """The client says that it has played so much of this turn's reply, without a break: the first time tells when it
        began to."""
        if played_ms > 0 and self._timings.mark(turn, "played", self.now_ms() - played_ms):
            marks = self._timings.marks(turn)
            if self._timings.spoken(turn):
                latency_s = max(marks["played"], marks.get("first_audio", 0.0)) / 1000
                metrics.turn_heard_latency.labels(self._protocol).observe(max(0.0, latency_s), self._exemplar(turn))

    def silenced(self, onset: int) -> None:
        """The reply fell silent for speech that began at this sample."""
        metrics.barge_in.labels(self._protocol).observe(self._age_s(onset))

    def over(self, reply: Reply, heard: int) -> None:
        """The reply was played, or will not be: `heard` samples of it were. One that failed has failed, also if someone
        spoke into what there was of it."""
        rate_hz = reply.playout.rate_hz
        outcome = "failed" if reply.failed else reply.status
        lengths_ms = (heard * 1000 // rate_hz, reply.playout.sent * 1000 // rate_hz)
        self._count(reply.turn, outcome, reply.revision, *lengths_ms)

    def unanswered(self, turn: int, outcome: str) -> None:
        """A turn that was to be answered is over, and nothing was heard of its reply."""
        self._count(turn, outcome, 0, 0, 0)

    def _count(self, turn: int, outcome: str, revision: int, heard_ms: int, reply_ms: int) -> None:
        metrics.turns_total.labels(outcome).inc()
        parent, spoken_ms = self._timings.trace(turn), self._timings.spoken_ms(turn)
        record = TurnRecord(
            session=self._session,
            turn=turn,
            at_ms=self.now_ms(),
            protocol=self._protocol,
            route=self._settings().route,
            outcome=outcome,
            revision=revision,
            heard_ms=heard_ms,
            reply_ms=reply_ms,
            trace=trace_id(parent),
            spoken=self._timings.spoken(turn),
            marks=self._timings.marks(turn),
        )
        self._bus.keep_turn(record)
        if spoken_ms:  # else it is not known when it began
            trace_reply(parent, record, spoken_ms)

    def _exemplar(self, turn: int) -> dict[str, str] | None:
        trace = trace_id(self._timings.trace(turn))
        return {"trace_id": trace} if trace else None
