"""Traces: each turn is one, through real workers on a real broker, and through real processes to a real receiver."""

import asyncio
import gzip
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import pytest_asyncio
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from services.asr.__main__ import build as build_asr
from services.llm.__main__ import build as build_llm
from services.tts.__main__ import build as build_tts
from services.vad.__main__ import build as build_vad
from shared.bus.bus import Bus
from shared.bus.leases import Leases
from shared.observability.otel import make_provider
from shared.observability.tracing import session_label, start_tracing, stop_tracing
from shared.protocol import frames as fr
from shared.protocol.frames import Frame
from shared.protocol.session import ReplyOptions, SessionSettings
from shared.protocol.streams import StreamKind
from shared.settings import Settings
from shared.worker.lifecycle import Shutdown
from shared.worker.worker import Stage, Worker
from tests.conftest import system
from tests.support.broker import embedded_broker
from tests.support.caller import calling
from tests.support.system import SCRIPTED
from tests.support.waiting import HANG_S

Speech = Callable[[str, int], bytes]

ENGINES = {"vad_engine": "webrtc", "asr_engine": "scripted", "llm_engine": "scripted", "tts_engine": "scripted"}
CHUNK = 640
SESSION = "a-session"


@pytest.fixture
def spans(request: pytest.FixtureRequest) -> Iterator[InMemorySpanExporter]:
    """Whatever this process traces, as soon as it ends; of so large a share of the turns."""
    exporter = InMemorySpanExporter()
    start_tracing(make_provider("test", "1", getattr(request, "param", 1.0), SimpleSpanProcessor(exporter)))
    yield exporter
    stop_tracing()


@pytest_asyncio.fixture
async def broker(tmp_path: Path) -> AsyncIterator[Settings]:
    async with embedded_broker(tmp_path) as settings:
        yield settings.model_copy(update={**ENGINES, "lease_ms": 300})


@pytest.fixture(scope="module")
def words(speech_pcm: Speech) -> bytes:
    pcm = speech_pcm("hello there how are you today my friend", 16_000)
    return pcm + bytes(-len(pcm) % CHUNK)


class Talk:
    """A client of one session, as the broker sees it."""

    def __init__(self, bus: Bus, **settings: Any) -> None:
        self.log: list[Frame] = []
        self.bus, self._channel, self._sent = bus, bus.channel("edge", SESSION), 0
        wanted = SessionSettings(**settings)
        bus.save_settings(SESSION, wanted)
        started = fr.SessionStarted(SESSION, wanted)
        bus.request_listener(started)
        self.do(started)
        bus.keep_alive(SESSION)
        bus.follow(StreamKind.OUT, SESSION, "0-0", lambda at, fence, frames: self.log.extend(frames))

    def do(self, frame: Frame) -> None:
        self._channel.publish(frame)

    def speak(self, pcm: bytes, silence_s: float) -> None:
        """All at once: the workers count samples, and look at no clock."""
        pcm += bytes(int(silence_s * 50) * CHUNK)
        for at in range(0, len(pcm), CHUNK):
            self.do(fr.AudioChunk(self._sent, pcm[at : at + CHUNK]))
            self._sent += CHUNK // 2

    async def until(self, kind: type[Frame], **fields: Any) -> Any:
        async with asyncio.timeout(HANG_S):
            while True:
                for frame in self.log:
                    if type(frame) is kind and all(getattr(frame, name) == fields[name] for name in fields):
                        return frame
                await asyncio.sleep(0.005)


@asynccontextmanager
async def working(settings: Settings, *stages: Stage) -> AsyncIterator[None]:
    """These stages at work; at the end they hand back what they have in hand."""
    shutdowns = []
    async with AsyncExitStack() as stack:
        for stage in stages:
            bus = await stack.enter_async_context(Bus.connect(settings, stage.name))
            shutdowns.append(Shutdown(1))
            await stage.load()
            stack.push_async_callback(stage.close)
            tasks = await stack.enter_async_context(asyncio.TaskGroup())
            tasks.create_task(
                Worker(stage, settings, shutdowns[-1], bus, Leases(bus, stage.name, settings.lease_ms)).run()
            )
        yield
        for shutdown in shutdowns:
            shutdown.request()


def all_stages(settings: Settings) -> Sequence[Stage]:
    return build_vad(settings), build_asr(settings), build_llm(settings), build_tts(settings)


async def ended(spans: InMemorySpanExporter, count: int) -> dict[str, list[ReadableSpan]]:
    """The spans by name, once all have arrived."""
    async with asyncio.timeout(HANG_S):
        while len(found := spans.get_finished_spans()) < count:
            await asyncio.sleep(0.005)
    assert len(found) == count, [span.name for span in found]
    names = {span.name for span in found}
    return {name: [span for span in found if span.name == name] for name in names}


def is_below(child: ReadableSpan, parent: ReadableSpan) -> bool:
    above, context, own = child.parent, parent.get_span_context(), child.get_span_context()
    assert context is not None
    assert own is not None
    return above is not None and (above.span_id, own.trace_id) == (context.span_id, context.trace_id)


async def test_a_turn_is_one_trace_through_all_stages(
    broker: Settings, words: bytes, spans: InMemorySpanExporter
) -> None:
    async with Bus.connect(broker, "edge") as edge, working(broker, *all_stages(broker)):
        talk = Talk(edge)
        talk.speak(words, 0.8)
        await talk.until(fr.VoiceDone, turn=1)
        found = await ended(spans, 4)
    (turn,), (asr,), (llm,), (tts,) = found["turn"], found["asr"], found["llm"], found["tts"]
    assert turn.parent is None
    assert is_below(asr, turn)
    assert is_below(llm, asr)
    assert is_below(tts, llm)
    about = {"parley.session": session_label(SESSION), "parley.turn": 1, "parley.revision": 0}
    for span in (turn, asr, llm, tts):
        assert about.items() <= dict(span.attributes or {}).items()
    assert turn.attributes
    assert turn.attributes["parley.outcome"] == "committed"
    own = {"parley.stage": "llm", "parley.engine": "scripted", "parley.attempt": 1, "parley.outcome": "done"}
    chat = {"gen_ai.operation.name": "chat", "gen_ai.provider.name": "scripted", "gen_ai.output.type": "text"}
    assert {**own, **chat, "gen_ai.request.max_tokens": 400}.items() <= dict(llm.attributes or {}).items()
    assert [event.name for event in turn.events] == ["pause"]
    assert [event.name for event in llm.events] == ["first token"]
    assert [event.name for event in tts.events] == ["first audio"]
    assert turn.start_time is not None
    assert llm.start_time is not None
    assert (llm.start_time - turn.start_time) / 1e9 > len(words) / 32_000 - 0.5  # from the first sample of speech
    assert "scripted reply" not in str([span.to_json() for span in (turn, asr, llm, tts)])
    assert SESSION not in str([span.to_json() for span in (turn, asr, llm, tts)])


async def test_a_reply_that_was_prepared_and_discarded_is_stale(
    broker: Settings, words: bytes, spans: InMemorySpanExporter
) -> None:
    broker = broker.model_copy(update={"scripted_llm_ms": 5000})
    async with Bus.connect(broker, "edge") as edge, working(broker, *all_stages(broker)):
        talk = Talk(edge)
        talk.speak(words, 0.3)
        await talk.until(fr.ReplyStarted, turn=1)
        talk.speak(words, 0.0)
        again = await talk.until(fr.SpeechResumed, turn=1)
        edge.stop(SESSION, 1, again.revision, only=True)  # as the edge does
        (llm,) = (await ended(spans, 1))["llm"]
        assert llm.attributes
        assert (llm.attributes["parley.outcome"], llm.attributes["parley.revision"]) == ("stale", 0)


async def test_a_typed_turn_is_traced_from_its_number_on(broker: Settings, spans: InMemorySpanExporter) -> None:
    async with Bus.connect(broker, "edge") as edge, working(broker, *all_stages(broker)):
        talk = Talk(edge)
        talk.do(fr.TextTyped("hello", ReplyOptions()))
        await talk.until(fr.VoiceDone, turn=1)
        found = await ended(spans, 3)
    assert is_below(found["llm"][0], found["turn"][0])
    assert is_below(found["tts"][0], found["llm"][0])


async def test_a_successor_ends_the_span_that_a_worker_began(
    broker: Settings, words: bytes, spans: InMemorySpanExporter
) -> None:
    async with Bus.connect(broker, "edge") as edge:
        async with working(broker, build_vad(broker)):
            talk = Talk(edge)
            talk.speak(words, 0.0)
            started = await talk.until(fr.SpeechStarted)
        async with working(broker, build_vad(broker)):
            talk.speak(b"", 0.8)
            await talk.until(fr.TurnCommitted)
            (turn,) = (await ended(spans, 1))["turn"]
    context = turn.get_span_context()
    assert context is not None
    assert started.trace == f"00-{context.trace_id:032x}-{context.span_id:016x}-01"
    assert turn.parent is None
    assert turn.end_time is not None
    assert turn.start_time is not None
    assert (turn.end_time - turn.start_time) / 1e9 > len(words) / 32_000 - 0.5


@pytest.mark.parametrize("spans", [0.0], indirect=True)
async def test_a_turn_that_is_not_in_the_share_is_not_traced_anywhere(
    broker: Settings, spans: InMemorySpanExporter
) -> None:
    async with Bus.connect(broker, "edge") as edge, working(broker, *all_stages(broker)):
        talk = Talk(edge)
        talk.do(fr.TextTyped("hello", ReplyOptions()))
        await talk.until(fr.VoiceDone, turn=1)
        assert (await talk.until(fr.ReplySentence)).trace == ""
    assert not spans.get_finished_spans()


class Failing:
    """Fails at all it is given."""

    name, long_lived, interruptible, slots = "tts", False, True, 4

    async def load(self) -> None: ...

    def info(self) -> dict[str, Any]:
        return {"engine": "broken"}

    async def work(self, work: Any) -> Sequence[Frame]:
        raise LookupError("no voice for what was said")

    async def close(self) -> None: ...


async def test_an_error_is_named_without_its_words(broker: Settings, spans: InMemorySpanExporter) -> None:
    parent = f"00-{1:032x}-{2:016x}-01"
    async with Bus.connect(broker, "edge") as edge, working(broker, Failing()):
        talk = Talk(edge)
        edge.channel("llm", SESSION).publish(fr.ReplySentence(SESSION, 1, 0, 0, "Hi.", "", 1.0, "en", parent))
        await talk.until(fr.StageFailed)
        found = (await ended(spans, 3))["tts"]
    assert [dict(span.attributes or {})["parley.attempt"] for span in found] == [1, 2, 3]
    assert [dict(span.attributes or {})["parley.outcome"] for span in found] == ["failed", "failed", "dead"]
    for span in found:
        assert span.context is not None
        assert span.context.trace_id == 1
        assert not span.status.is_ok
        assert dict(span.attributes or {})["error.type"] == "LookupError"
        assert "what was said" not in span.to_json()


# -- real processes -------------------------------------------------------------------------------


class Receiver(ThreadingHTTPServer):
    """Takes what OTLP's HTTP exporters send."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Taker)
        self.spans: list[tuple[str, Any]] = []
        """The service's name, and the span as it was sent."""


class Taker(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        for sent in ExportTraceServiceRequest.FromString(body).resource_spans:
            names = [one.value.string_value for one in sent.resource.attributes if one.key == "service.name"]
            self.server.spans += [(names[0], span) for scope in sent.scope_spans for span in scope.spans]
        self.send_response(200)
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None: ...  # noqa: A002 - the standard library's name


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_all_processes_send_their_part_of_the_trace(receiver: Receiver, words: bytes) -> None:
    where = {
        "PARLEY_TRACES": "otlp",
        "PARLEY_LOG_LEVEL": "debug",
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{receiver.server_port}",
        "OTEL_BSP_SCHEDULE_DELAY": "60000",  # only their end makes the processes send
        "PARLEY_SCRIPTED_TTS_SECONDS": "0.3",
    }

    async def talk(url: str) -> None:
        async with calling(url) as caller:
            await caller.speak(words, silence_s=0.7)
            await caller.until("reply_done", turn=1)
            await caller.speak(b"", silence_s=0.8)

    with system({**SCRIPTED, **where}) as running:
        asyncio.run(talk(running.url))
    for text in (str(receiver.spans), "\n".join(running.journal.lines)):
        assert "hello there" not in text
        assert "scripted reply" not in text
    found = {span.name: (service, span) for service, span in receiver.spans}
    assert {name: service for name, (service, _) in found.items()} == {
        "turn": "parley-vad",
        "asr": "parley-asr",
        "llm": "parley-llm",
        "tts": "parley-tts",
        "reply": "parley-edge",
    }
    assert len({span.trace_id for _, span in receiver.spans}) == 1
    for child, parent in (("asr", "turn"), ("llm", "asr"), ("tts", "llm"), ("reply", "turn")):
        assert found[child][1].parent_span_id == found[parent][1].span_id, child
    reply = {one.key: one.value for one in found["reply"][1].attributes}
    assert reply["parley.outcome"].string_value == "completed"
    assert reply["parley.heard_ms"].int_value == 300
    assert reply["parley.protocol"].string_value
    assert [event.name for event in found["reply"][1].events][-1] == "first_audio"
