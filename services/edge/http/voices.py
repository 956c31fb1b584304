"""`/v1/voices`: cloned voices as a resource. Add a recording, list what there is, delete one."""

import asyncio
import io
from collections.abc import Awaitable, Callable
from typing import Any

import numpy as np
import soundfile
import soxr
from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse

from services.edge.gateway.gateway import Edge
from shared.audio.voices import LARGEST_BYTES, LONGEST_S, ClonedVoice, Floats, VoiceInfo, advice, check_name, make_voice
from shared.bus.bus import Bus
from shared.bus.connection import BrokerGone

UPLOAD_S = 60.0
FASTEST_HZ, MOST_CHANNELS = 192_000, 2
KEPT_HZ = 24_000
"""What cloning models are given; a recording with a higher rate is kept at this one."""
TYPES_TOLD = "audio/wav, audio/flac, audio/ogg, audio/mpeg or application/octet-stream"


class Refused(Exception):
    """A request that is answered with this status and message."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status, self.code = status, code


def voices_router(edge: Edge) -> APIRouter:
    """The routes of the voices."""
    router = APIRouter(prefix="/v1/voices")
    decoding = asyncio.Semaphore(1)  # a recording takes up to 50 MB while it is looked at

    @router.get("")
    async def show() -> JSONResponse:
        async def answer(bus: Bus) -> JSONResponse:
            clones = edge.monitor.clones()
            own = [{"name": name, "kind": "engine", "usable": True} for name in edge.monitor.engine_voices()]
            cloned = [{**_shown(info), "usable": clones} for info in (await bus.voices()).values()]
            return JSONResponse({"voices": [*own, *cloned]})

        return await _answered(edge, answer)

    @router.post("/{name}")
    async def add(name: str, request: Request, text: str = "") -> JSONResponse:
        async def answer(bus: Bus) -> JSONResponse:
            _check(check_name, name)
            _check_type(request)
            if name in edge.monitor.engine_voices():
                raise Refused(409, "voice_exists", f"{name} is a voice of the engine itself: choose another name")
            body = await _read_body(request)
            async with decoding:
                voice = await asyncio.to_thread(_make, name, text, body)
            try:
                outcome = await edge.voices.add(bus, voice)
            except OSError as error:
                raise Refused(507, "not_kept", f"the voice cannot be kept: {error.strerror}") from error
            if outcome == "taken":
                raise Refused(
                    409, "voice_exists", f"there is another voice {name}: delete it first, or choose another name"
                )
            await edge.monitor.look(bus)
            shown = {**_shown(voice.info), "usable": edge.monitor.clones(), "advice": advice(voice.info.seconds)}
            return JSONResponse(shown, 201 if outcome == "added" else 200)

        return await _answered(edge, answer)

    @router.delete("/{name}")
    async def delete(name: str) -> JSONResponse:
        async def answer(bus: Bus) -> JSONResponse:
            _check(check_name, name)
            if name in edge.monitor.engine_voices():
                raise Refused(409, "voice_of_engine", f"{name} is a voice of the engine itself")
            try:
                if not await edge.voices.delete(bus, name):
                    raise Refused(404, "voice_unknown", f"there is no cloned voice {name}")
            except OSError as error:
                raise Refused(507, "not_deleted", f"the voice's files cannot be deleted: {error.strerror}") from error
            await edge.monitor.look(bus)
            return JSONResponse({"name": name, "deleted": True})

        return await _answered(edge, answer)

    return router


async def _answered(edge: Edge, answer: Callable[[Bus], Awaitable[JSONResponse]]) -> JSONResponse:
    """The answer, or the reason why there is none."""
    try:
        if edge.bus is None:
            raise BrokerGone("the broker is not reachable")
        return await answer(edge.bus)
    except BrokerGone as error:
        return _error(503, "unavailable", str(error))
    except Refused as refused:
        return _error(refused.status, refused.code, str(refused))


def _error(status: int, code: str, message: str) -> JSONResponse:
    kind = "server_error" if status >= 500 else "invalid_request_error"
    return JSONResponse({"error": {"type": kind, "code": code, "message": message}}, status)


def _shown(info: VoiceInfo) -> dict[str, Any]:
    seconds = round(info.seconds, 2)
    return {"name": info.name, "kind": "cloned", "text": info.text, "seconds": seconds, "rate_hz": info.rate_hz}


def _check(check: Callable[[str], None], value: str) -> None:
    try:
        check(value)
    except ValueError as error:
        raise Refused(400, "invalid_voice", str(error)) from error


def _check_type(request: Request) -> None:
    """A type that a page of another site cannot send without having asked whether it may."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if not kind.startswith("audio/") and kind not in ("application/octet-stream", "application/ogg"):
        raise Refused(415, "not_audio", f"Content-Type is {kind[:80] or 'missing'}: send the file as {TYPES_TOLD}")


async def _read_body(request: Request) -> bytes:
    told = request.headers.get("content-length", "0")
    body = bytearray()
    too_large = Refused(413, "too_large", f"the file is larger than {LARGEST_BYTES // 1024 // 1024} MB")
    if told.isdecimal() and int(told) > LARGEST_BYTES:
        raise too_large
    try:
        async with asyncio.timeout(UPLOAD_S):
            async for piece in request.stream():
                body += piece
                if len(body) > LARGEST_BYTES:
                    raise too_large
    except TimeoutError:
        raise Refused(408, "too_slow", f"the file did not come within {UPLOAD_S:g} s") from None
    if not body:
        raise Refused(400, "invalid_voice", "the recording is missing: send a WAV, FLAC, OGG or MP3 file as the body")
    return bytes(body)


def _make(name: str, text: str, body: bytes) -> ClonedVoice:
    try:
        samples, rate_hz = decode_recording(body)
        return make_voice(name, text, rate_hz, samples)
    except ValueError as error:
        raise Refused(400, "invalid_voice", str(error)) from error


def decode_recording(body: bytes) -> tuple[Floats, int]:
    """A file's samples, mono, at its own rate or at `KEPT_HZ` if that is lower.

    Raises:
        ValueError: it is no audio file, or one that is too long to be looked at.
    """
    try:
        with soundfile.SoundFile(io.BytesIO(body)) as file:
            rate_hz = int(file.samplerate)
            if rate_hz > FASTEST_HZ or file.channels > MOST_CHANNELS:
                raise ValueError(
                    f"the recording has {file.channels} channels at {rate_hz} Hz: "
                    f"mono or stereo and {FASTEST_HZ} Hz at most are wanted"
                )
            # Not what its header says: what comes out. A few megabytes can hold hours of silence.
            most = int(rate_hz * LONGEST_S) + 1
            samples = file.read(most, dtype="float32", always_2d=True).mean(axis=1, dtype=np.float32)
            if len(samples) == most:
                raise ValueError(f"the recording is longer than {LONGEST_S:g} s")
    except soundfile.SoundFileError as error:
        reason = str(error).rpartition(":")[2].strip() or "it cannot be read"
        raise ValueError(f"this is no WAV, FLAC, OGG or MP3 file ({reason})") from error
    if rate_hz > KEPT_HZ:
        return soxr.resample(samples, rate_hz, KEPT_HZ, quality="HQ").astype(np.float32, copy=False), KEPT_HZ
    return samples, rate_hz
