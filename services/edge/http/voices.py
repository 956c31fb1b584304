"""`/v1/voices`: list all voices, add a cloned voice from a recording, delete a cloned voice."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from fastapi.responses import JSONResponse

from services.edge.gateway.errors import Refused
from services.edge.gateway.gateway import Gateway
from services.edge.http.guard import caller_of
from services.edge.http.uploads import decode_upload
from shared.audio.voices import LARGEST_BYTES, ClonedVoice, VoiceInfo, advice, check_name, make_voice
from shared.bus.bus import Bus
from shared.bus.connection import BrokerGone

UPLOAD_S = 60.0
ACCEPTED_TYPES = "audio/wav, audio/flac, audio/ogg, audio/mpeg or application/octet-stream"


def voices_router(gateway: Gateway) -> APIRouter:
    router = APIRouter(prefix="/v1/voices")
    admission = gateway.admission
    decoding = asyncio.Semaphore(1)  # one process at a time

    async def connected() -> AsyncIterator[Bus]:
        try:
            if gateway.bus is None:
                raise BrokerGone("the broker is not reachable")
            yield gateway.bus
        except BrokerGone as error:
            raise Refused(503, "unavailable", str(error)) from error

    Broker = Annotated[Bus, Depends(connected)]  # noqa: N806 - a type

    @router.get("")
    async def show(bus: Broker) -> JSONResponse:
        clones = admission.clones_voices()
        languages = admission.voice_languages()
        own = [
            {"name": name, "kind": "engine", "usable": True, "language": languages.get(name, "")}
            for name in admission.engine_voices()
        ]
        cloned = [{**_shown(info), "usable": clones} for info in (await bus.voices()).values()]
        return JSONResponse({"voices": [*own, *cloned]})

    @router.post("/{name}")
    async def add(bus: Broker, name: str, request: Request, text: str = "") -> JSONResponse:
        caller_of(request).check_trusted()
        _check(check_name, name)
        _check_type(request)
        if name in admission.engine_voices():
            raise Refused(409, "voice_exists", f"{name} is a built-in voice of the engine: choose another name")
        body = await _read_body(request)
        async with decoding:
            voice = await _make(name, text, body)
        try:
            outcome = await gateway.voices.add(bus, voice)
        except OSError as error:
            raise Refused(507, "not_kept", f"the voice cannot be stored: {error.strerror}") from error
        if outcome == "taken":
            message = f"another voice is named {name}: delete it first, or choose another name"
            raise Refused(409, "voice_exists", message)
        await admission.refresh(bus)
        usable, hint = admission.clones_voices(), advice(voice.info.seconds)
        shown = {**_shown(voice.info), "usable": usable, "advice": hint}
        return JSONResponse(shown, 201 if outcome == "added" else 200)

    @router.delete("/{name}")
    async def delete(bus: Broker, name: str, request: Request) -> JSONResponse:
        caller_of(request).check_trusted()
        _check(check_name, name)
        if name in admission.engine_voices():
            raise Refused(409, "voice_of_engine", f"{name} is a built-in voice of the engine and cannot be deleted")
        try:
            if not await gateway.voices.delete(bus, name):
                raise Refused(404, "voice_unknown", f"no cloned voice is named {name}")
        except OSError as error:
            raise Refused(507, "not_deleted", f"the voice's files cannot be deleted: {error.strerror}") from error
        await admission.refresh(bus)
        return JSONResponse({"name": name, "deleted": True})

    return router


def _shown(info: VoiceInfo) -> dict[str, Any]:
    seconds = round(info.seconds, 2)
    return {"name": info.name, "kind": "cloned", "text": info.text, "seconds": seconds, "rate_hz": info.rate_hz}


def _check(check: Callable[[str], None], value: str) -> None:
    try:
        check(value)
    except ValueError as error:
        raise Refused(400, "invalid_voice", str(error)) from error


def _check_type(request: Request) -> None:
    """Accept only types that need a CORS preflight, so that a page of another site cannot upload."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if not kind.startswith("audio/") and kind not in ("application/octet-stream", "application/ogg"):
        raise Refused(415, "not_audio", f"Content-Type is {kind[:80] or 'missing'}: send the file as {ACCEPTED_TYPES}")


async def _read_body(request: Request) -> bytes:
    declared = request.headers.get("content-length", "0")
    body = bytearray()
    too_large = Refused(413, "too_large", f"the file is larger than {LARGEST_BYTES // 1024 // 1024} MB")
    if declared.isdecimal() and int(declared) > LARGEST_BYTES:
        raise too_large
    try:
        async with asyncio.timeout(UPLOAD_S):
            async for piece in request.stream():
                body += piece
                if len(body) > LARGEST_BYTES:
                    raise too_large
    except TimeoutError:
        raise Refused(408, "too_slow", f"the file did not arrive within {UPLOAD_S:g} s") from None
    if not body:
        raise Refused(400, "invalid_voice", "the recording is missing: send a WAV, FLAC, OGG or MP3 file as the body")
    return bytes(body)


async def _make(name: str, text: str, body: bytes) -> ClonedVoice:
    try:
        samples, rate_hz = await decode_upload(body)
        return await asyncio.to_thread(make_voice, name, text, rate_hz, samples)
    except ValueError as error:
        raise Refused(400, "invalid_voice", str(error)) from error
