"""`parley talk` with a small server of the same protocol, over a real socket."""

import asyncio
import io
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from rich.console import Console
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.datastructures import Headers
from websockets.http11 import Request, Response

from deploy.client.conversation import Conversation, Recording, TalkFailed, Track, converse, stream_url
from deploy.client.talk import Printer, read_speech, run_talk
from shared.protocol.session import RATE_HZ

SPEECH_S = 0.2
MARKS = {"endpoint": 100.0, "transcript": 101.0, "first_token": 102.0, "first_audio": 104.0}
SEGMENTS = [
    {"name": "endpoint", "begin_ms": 0.0, "end_ms": 100.0},
    {"name": "transcript", "begin_ms": 40.0, "end_ms": 90.0},
    {"name": "first_audio", "begin_ms": 102.0, "end_ms": 103.0},
]

Handler = Callable[[ServerConnection], Awaitable[None]]


@pytest.fixture(autouse=True)
def _hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deploy.client.conversation.QUIET_S", 0.1)


@pytest.fixture
def wav(tmp_path: Path) -> Path:
    file = tmp_path / "said.wav"
    tone = np.sin(np.arange(int(SPEECH_S * 8000)) * 0.3) * 0.5
    soundfile.write(file, np.stack([tone, tone], axis=1), 8000)
    return file


async def send(socket: ServerConnection, **message: Any) -> None:
    await socket.send(json.dumps(message))


async def ready(socket: ServerConnection) -> None:
    assert json.loads(await socket.recv()) == {"type": "start_streaming"}
    await send(socket, type="ready", session_id="s", config={"endpoint_ms": 100})


async def answer(socket: ServerConnection) -> None:
    """Receive 0.2 s of sound and then silence. Reply with 0.1 s of sound, faster than real time."""
    await ready(socket)
    await send(socket, type="vad_status", is_speaking=True, speech_probability=1.0)
    loud = 0
    async for frame in socket:
        assert isinstance(frame, bytes)
        assert len(frame) == 640
        if not any(frame):
            break
        loud += 1
    assert loud == SPEECH_S / 0.02
    await send(socket, type="vad_status", is_speaking=False, speech_probability=0.0)
    await send(socket, type="processing_started", turn=1, audio_duration=SPEECH_S)
    await send(socket, type="transcript", turn=1, text="a", final=False)
    await send(socket, type="transcript", turn=1, text="a tone", final=True)
    await send(socket, type="reply_started", turn=1)
    for delta in ("Quite ", "so."):
        await send(socket, type="model_response", turn=1, text=delta, finalize=False)
    await socket.send(np.full(1600, 1000, dtype="<i2").tobytes())
    await send(socket, type="model_response", turn=1, text="", finalize=True)
    await send(socket, type="reply_done", turn=1, status="completed")
    await send(socket, type="timing", turn=1, marks=MARKS, spoken=True, segments=SEGMENTS)
    async for _ in socket:
        pass


@asynccontextmanager
async def server(handler: Handler, **options: Any) -> AsyncIterator[str]:
    running: Server
    async with serve(handler, "127.0.0.1", 0, **options) as running:
        yield f"http://127.0.0.1:{next(iter(running.sockets)).getsockname()[1]}"


async def test_a_conversation_from_first_sample_to_last(wav: Path) -> None:
    async with server(answer) as url:
        conversation = await converse(Recording(read_speech(wav)), url)
    (turn,) = conversation.turns.values()
    assert (turn.said, turn.reply, turn.status, turn.marks) == ("a tone", "Quite so.", "completed", MARKS)
    track = np.frombuffer(bytes(conversation.track.pcm), dtype="<i2")
    sounding = np.flatnonzero(track)
    assert len(sounding) == 1600
    assert sounding[0] >= SPEECH_S * RATE_HZ


async def test_the_command_prints_and_records(wav: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "reply.wav"
    async with server(answer) as url:
        code = await asyncio.to_thread(run_talk, wav, url=url, out=out)
    shown = capsys.readouterr().out
    assert code == 0
    assert "a tone" in shown
    assert "Quite so." in shown
    assert "first audio sent 104 ms after the end of speech" in shown
    assert "Transcript         50 ms, done at    90 ms" in shown
    assert shown.count("prepared in the silence") == 1
    samples, rate_hz = soundfile.read(out, dtype="int16")
    assert rate_hz == RATE_HZ
    assert np.count_nonzero(samples) == 1600


async def test_json_is_one_document(wav: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async with server(answer) as url:
        assert await asyncio.to_thread(run_talk, wav, url=url, out=None, as_json=True) == 0
    turn = json.loads(capsys.readouterr().out)["turns"][0]
    assert turn == {
        "turn": 1, "said": "a tone", "reply": "Quite so.", "status": "completed", "reason": "", "marks": MARKS,
        "spoken": True, "segments": SEGMENTS,
    }  # fmt: skip


async def test_the_error_contains_the_reason_of_a_refusal(wav: Path) -> None:
    def refuse(connection: ServerConnection, request: Request) -> Response:
        return Response(503, "Service Unavailable", Headers({"Content-Length": "17"}), b"no asr is ready!!")

    async with server(answer, process_request=refuse) as url:
        with pytest.raises(TalkFailed, match=r"refused: HTTP 503 no asr is ready"):
            await converse(Recording(bytes(640)), url)


async def test_an_error_instead_of_ready_is_a_refusal(wav: Path) -> None:
    async def full(socket: ServerConnection) -> None:
        await socket.recv()
        await send(socket, type="error", code="busy", message="no llm is ready")

    async with server(full) as url:
        with pytest.raises(TalkFailed, match="refused: busy: no llm is ready"):
            await converse(Recording(bytes(640)), url)


@pytest.mark.parametrize("after_ready", [False, True])
async def test_the_error_contains_the_reason_of_a_close(after_ready: bool) -> None:
    async def close(socket: ServerConnection) -> None:
        if after_ready:
            await ready(socket)
        await socket.close(1013, "asr is too far behind")

    async with server(close) as url:
        with pytest.raises(TalkFailed, match="1013 asr is too far behind"):
            await converse(Recording(bytes(64_000)), url)


async def test_a_close_during_the_conversation_is_an_error() -> None:
    async def leave(socket: ServerConnection) -> None:
        await ready(socket)
        await socket.recv()
        await socket.close(1000)

    async with server(leave) as url:
        with pytest.raises(TalkFailed, match="ended the conversation: 1000"):
            await converse(Recording(bytes(64_000)), url)


async def test_an_unreachable_server_is_reported(
    wav: Path, capsys: pytest.CaptureFixture[str], unused_tcp_port: int
) -> None:
    code = await asyncio.to_thread(run_talk, wav, url=f"http://127.0.0.1:{unused_tcp_port}", out=None)
    assert code == 1
    assert "no Parley answers at ws://127.0.0.1" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "message"), [(None, "no such file"), (b"words", "not a sound file"), (b"", "not a sound file")]
)
def test_a_file_that_is_not_a_sound_file(
    content: bytes | None, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "said.wav"
    if content is not None:
        file.write_bytes(content)
    assert run_talk(file, url="http://127.0.0.1:9", out=None) == 1
    assert message in capsys.readouterr().err


def test_a_file_without_audio(tmp_path: Path) -> None:
    file = tmp_path / "said.wav"
    soundfile.write(file, np.zeros(0), RATE_HZ)
    with pytest.raises(TalkFailed, match="no audio"):
        read_speech(file)


def test_a_missing_folder_is_reported_before_the_conversation(
    wav: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_talk(wav, url="http://127.0.0.1:9", out=tmp_path / "none" / "reply.wav") == 1
    assert "does not exist" in capsys.readouterr().err


def test_any_file_becomes_mono_at_16_khz(wav: Path) -> None:
    assert len(read_speech(wav)) == pytest.approx(2 * SPEECH_S * RATE_HZ, abs=4)


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("http://127.0.0.1:8000", "ws://127.0.0.1:8000/ws?rate=16000"),
        ("https://talk.example/agent/", "wss://talk.example/agent/ws?rate=16000"),
        ("ws://127.0.0.1:8000/ws?rate=8000", "ws://127.0.0.1:8000/ws?rate=16000"),
        ("localhost:8123", "ws://localhost:8123/ws?rate=16000"),
    ],
)
def test_the_address_follows_from_any_url(url: str, address: str) -> None:
    assert stream_url(url) == address
    assert stream_url(url, "captain") == f"{address}&agent=captain"


# -- the pure parts -------------------------------------------------------------------------------


def test_audio_is_queued_and_an_interrupt_discards_unplayed_audio() -> None:
    track = Track()
    track.add(b"\1\1" * 1600, 1.0)
    track.add(b"\2\2" * 1600, 1.01)
    assert track.end_s == pytest.approx(1.2)
    track.clear(1.15)
    assert track.end_s == pytest.approx(1.15)
    track.clear(3.0)
    assert track.end_s == pytest.approx(1.15)
    track.add(b"\3\3" * 1600, 2.0)
    samples = np.frombuffer(bytes(track.pcm), dtype="<i2")
    assert track.end_s == pytest.approx(2.1)
    assert not samples[int(1.15 * RATE_HZ) : 2 * RATE_HZ].any()


def test_an_interrupt_clears_the_track() -> None:
    conversation = Conversation()
    conversation.take_audio(bytes(2 * RATE_HZ), 1.0)
    conversation.read({"type": "interrupt", "turn": 1, "heard_ms": 250}, 1.25)
    assert conversation.track.end_s == pytest.approx(1.25)


def test_a_conversation_is_idle_only_in_silence_and_without_an_open_turn() -> None:
    conversation = Conversation()
    conversation.read({"type": "vad_status", "is_speaking": True}, 1.0)
    assert conversation.idle_since_s() is None
    conversation.read({"type": "vad_status", "is_speaking": False}, 2.0)
    assert conversation.idle_since_s() == 2.0
    conversation.read({"type": "processing_started", "turn": 1}, 2.1)
    assert conversation.idle_since_s() is None
    conversation.take_audio(bytes(2 * RATE_HZ), 2.2)
    conversation.read({"type": "reply_done", "turn": 1, "status": "completed"}, 2.3)
    assert conversation.idle_since_s() == pytest.approx(3.2)


def test_errors_and_unusual_ends_are_printed() -> None:
    console = Console(width=100, record=True, file=io.StringIO())
    printer, conversation = Printer(console), Conversation()
    for message in (
        {"type": "transcript", "turn": 1, "text": "", "final": True},
        {"type": "reply_done", "turn": 1, "status": "empty"},
        {"type": "error", "code": "stage_failed", "message": "tts gave up"},
    ):
        conversation.read(message, 0.0)
        printer(message, conversation)
    shown = console.export_text()
    assert "(no words)" in shown
    assert "(empty)" in shown
    assert "stage_failed: tts gave up" in shown
