"""What is fuzzed without a broker: functions that take arbitrary bytes, and raise only if something is wrong."""

import asyncio
import logging
import random
import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path

import msgpack
import structlog

from services.edge.client.codec import Codec
from services.edge.gateway.abilities import Abilities
from services.edge.gateway.session import Session
from services.edge.protocols.realtime.codec import RealtimeCodec
from services.edge.protocols.stream import StreamCodec
from services.edge.protocols.twilio import TwilioCodec
from shared.agents.agent import Agents
from shared.agents.folder import load_agents
from shared.audio.voices import VoiceInfo
from shared.protocol.codec import BadFrame
from shared.protocol.frames import codec
from shared.protocol.session import SessionSettings
from shared.protocol.turn_record import BadRecord, TurnRecord
from shared.recordings import BadRecording, read_recording
from shared.settings import Settings
from tests.support import virtual_time
from tests.support.golden import record
from tests.support.simulated_bus import SimulatedBus

INTERNAL_ERROR = 1011
STEP_S = 0.5
"""Time that passes after each message of a client."""
SEPARATOR = b"\n\0\n"
"""Between the messages of one input."""

Target = Callable[[bytes], None]


def frames(data: bytes) -> None:
    """Bytes in a stream. What is decoded can be encoded, and decodes to the same."""
    with suppress(BadFrame):
        found = codec.decode_entry(data)
        again = codec.entry([codec.encode(frame) for frame in found])
        assert not found or repr(codec.decode_entry(again)) == repr(found)  # NaN is not equal to itself


def records(data: bytes) -> None:
    """Bytes under the keys of turn records and voices."""
    with suppress(BadRecord):
        TurnRecord.unpack(data)
    with suppress(ValueError):
        VoiceInfo.unpack(data)


def recording(data: bytes) -> None:
    """A file that claims to be the recording of a session."""
    with tempfile.NamedTemporaryFile() as file, suppress(BadRecording):
        file.write(data)
        file.flush()
        read_recording(Path(file.name))


def stream(data: bytes) -> None:
    """A client of `/ws`."""
    _converse(data, lambda: StreamCodec(16_000, SessionSettings()))


def realtime(data: bytes) -> None:
    """A client of `/v1/realtime`."""
    _converse(data, lambda: RealtimeCodec(SessionSettings(), "model"))


def twilio(data: bytes) -> None:
    """A caller of `/phone/twilio`."""
    _converse(data, lambda: TwilioCodec(_agents()))


def _converse(data: bytes, make_codec: Callable[[], Codec]) -> None:
    """Send the messages of a client to a whole session, in virtual time. It may close, but not because of an error of ours."""
    closed = virtual_time.run(_session(data.split(SEPARATOR)[:50], make_codec))
    assert INTERNAL_ERROR not in closed, "the session closed with an internal error"


async def _session(messages: Sequence[bytes], make_codec: Callable[[], Codec]) -> list[int]:
    closed: list[int] = []
    wire = make_codec()
    bus = SimulatedBus(random.Random(0), (0.0, 0.0))
    session = Session(
        bus, wire, _settings(), Abilities(), lambda message: True, lambda code, reason: closed.append(code)
    )
    if wire.starts_with is not None:
        session.start(wire.starts_with)
    for message in messages:
        session.receive(message[1:] if message[:1] == b"\0" else message.decode(errors="replace"))
        await asyncio.sleep(STEP_S)
        if closed:
            break
    session.end("left")
    await asyncio.sleep(STEP_S)
    for task in asyncio.all_tasks():
        if task is not asyncio.current_task():
            task.cancel()
    return closed


@cache
def _settings() -> Settings:
    return Settings()


@cache
def _agents() -> Agents:
    return load_agents(_settings())


TARGETS: dict[str, Target] = {
    target.__name__: target for target in (frames, records, recording, stream, realtime, twilio)
}


def seeds(name: str) -> list[bytes]:
    """Valid inputs of a target, from which a fuzzer starts."""
    golden = {kind: bytes.fromhex(kept["bytes"]) for kind, kept in record().items()}
    if name == "frames":
        return list(golden.values())
    if name == "records":
        return [golden["TurnRecord"], golden["VoiceInfo"]]
    if name == "recording":
        header = msgpack.packb(["parley-recording", 1, "0" * 32, "stream"])
        return [header + msgpack.packb(["in", "1-0", 1, golden["AudioChunk"]])]
    return [SEPARATOR.join(one) for one in CLIENTS[name]]


CLIENTS: dict[str, list[list[bytes]]] = {
    "stream": [
        [b'{"type": "start_streaming", "config": {"speed": 1.5, "greeting": "Hello."}}', b"\0" + bytes(640)],
        [b'{"type": "start_streaming"}', b'{"type": "text_input", "text": "hello"}', b'{"type": "cancel"}'],
        [b'{"type": "start_streaming"}', b'{"type": "played", "turn": 1, "ms": 20}', b'{"type": "get_history"}'],
        [b'{"type": "start_streaming"}', b'{"type": "say", "text": "hello"}', b'{"type": "reset_session"}'],
    ],
    "realtime": [
        [b'{"type": "session.update", "session": {"type": "realtime", "instructions": "be brief"}}'],
        [b'{"type": "input_audio_buffer.append", "audio": "AAAA"}', b'{"type": "input_audio_buffer.commit"}'],
        [
            b'{"type": "conversation.item.create", "item": {"type": "message", "role": "user", "content": []}}',
            b'{"type": "response.create"}',
            b'{"type": "response.cancel"}',
        ],
    ],
    "twilio": [
        [
            b'{"event": "connected"}',
            b'{"event": "start", "start": {"streamSid": "MZ", "mediaFormat": {"encoding": "audio/x-mulaw", "sampleRate": 8000}}}',
            b'{"event": "media", "media": {"payload": "//8="}}',
            b'{"event": "mark", "mark": {"name": "t1:160:0"}}',
            b'{"event": "stop"}',
        ]
    ],
}


def quiet() -> None:
    """Log nothing: a fuzzer makes thousands of sessions a second."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
