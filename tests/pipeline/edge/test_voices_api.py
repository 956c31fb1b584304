"""Cloned voices over HTTP: accepted and refused requests, the files on disk, and the copies for the workers."""

import asyncio
import io
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import soundfile

from services.edge.gateway.gateway import Gateway
from services.edge.http.app import create_app
from services.edge.http.decoder import decode_recording
from shared.audio.voices import LARGEST_BYTES, Floats
from shared.bus.bus import Bus
from shared.bus.leases import Leases
from shared.settings import Settings
from shared.worker.lifecycle import Shutdown
from tests.support.broker import embedded_broker
from tests.support.waiting import HANG_S

TEXT = "The birch canoe slid on the smooth planks, and sank."
CLONES = {"engine": "test", "voices": ["own", "other"], "voice_languages": {"own": "en-US"}, "clones": True}
DOES_NOT = {"engine": "test", "voices": ["own"], "clones": False}


def hum(seconds: float, rate_hz: int = 24_000, hz: float = 220) -> Floats:
    return (0.2 * np.sin(2 * np.pi * hz * np.arange(int(seconds * rate_hz)) / rate_hz)).astype(np.float32)


def recording(
    seconds: float = 4, rate_hz: int = 24_000, kind: str = "WAV", channels: int = 1, hz: float = 220
) -> bytes:
    file = io.BytesIO()
    samples = np.tile(hum(seconds, rate_hz, hz)[:, None], (1, channels))
    soundfile.write(file, samples, rate_hz, format=kind)
    return file.getvalue()


@dataclass
class Served:
    """A gateway with its broker, and an HTTP client."""

    client: httpx.AsyncClient
    gateway: Gateway
    bus: Bus
    folder: Path

    async def post(
        self, name: str, body: Any = None, text: str | None = TEXT, kind: str = "audio/wav"
    ) -> httpx.Response:
        return await self.client.post(
            f"/v1/voices/{name}",
            params={} if text is None else {"text": text},
            content=recording() if body is None else body,
            headers={"content-type": kind},
        )

    async def names(self) -> list[str]:
        return [voice["name"] for voice in (await self.client.get("/v1/voices")).json()["voices"]]


@asynccontextmanager
async def served(settings: Settings, info: dict[str, Any] = CLONES) -> AsyncIterator[Served]:
    """A gateway on the broker of these settings, with one ready tts worker that reports `info`."""
    shutdown = Shutdown(1)
    gateway = Gateway(settings, shutdown)
    transport = httpx.ASGITransport(create_app(gateway))
    async with (
        Bus.connect(settings, "edge") as bus,
        httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8000") as client,
        asyncio.TaskGroup() as tasks,
    ):
        leases = Leases(bus, "tts", 60_000)
        await leases.open()
        await leases.ready(info)
        tasks.create_task(gateway.run(bus))
        async with asyncio.timeout(HANG_S):
            while not gateway.admission.engine_voices():
                await asyncio.sleep(0.005)
        yield Served(client, gateway, bus, settings.data_dir / "voices")
        await leases.ready(info, ready=False)
        shutdown.request()


@pytest.fixture
async def where(tmp_path: Path) -> AsyncIterator[Settings]:
    async with embedded_broker(tmp_path / "data") as settings:
        yield settings


@pytest.fixture
async def api(where: Settings) -> AsyncIterator[Served]:
    async with served(where) as running:
        yield running


@pytest.fixture
def alone(tmp_path: Path) -> httpx.AsyncClient:
    """An HTTP client of a gateway without a broker."""
    gateway = Gateway(Settings(data_dir=tmp_path), Shutdown(1))
    return httpx.AsyncClient(transport=httpx.ASGITransport(create_app(gateway)), base_url="http://127.0.0.1:8000")


def message(response: httpx.Response, status: int) -> str:
    """Check the status and return the error message."""
    assert response.status_code == status, response.text
    error = response.json()["error"]
    assert set(error) == {"type", "code", "message"}
    return str(error["message"])


async def test_a_voice_is_added_listed_offered_to_sessions_kept_given_to_workers_and_deleted(api: Served) -> None:
    added = await api.post("ann")
    assert added.status_code == 201, added.text
    shown = {"name": "ann", "kind": "cloned", "text": TEXT, "seconds": 4.0, "rate_hz": 24_000, "usable": True}
    assert added.json() == {**shown, "advice": ""}
    assert (await api.client.get("/v1/voices")).json() == {
        "voices": [
            {"name": "own", "kind": "engine", "usable": True, "language": "en-US"},
            {"name": "other", "kind": "engine", "usable": True, "language": ""},
            shown,
        ]
    }
    assert (await api.client.get("/config")).json()["voices"] == ["own", "other", "ann"]
    assert sorted(path.name for path in api.folder.iterdir()) == ["ann.flac", "ann.json"]
    voice = await api.bus.voice("ann")
    assert voice is not None
    np.testing.assert_allclose(voice.samples(), hum(4), atol=1e-3)

    assert (await api.client.delete("/v1/voices/ann")).json() == {"name": "ann", "deleted": True}
    assert await api.names() == ["own", "other"]
    assert (await api.client.get("/config")).json()["voices"] == ["own", "other"]
    assert list(api.folder.iterdir()) == []
    assert await api.bus.voice("ann") is None
    assert await api.bus.call(b"HLEN", api.bus.keys.recordings()) == 0
    assert "no cloned voice is named ann" in message(await api.client.delete("/v1/voices/ann"), 404)


async def test_where_the_engine_cannot_clone_a_voice_is_kept_and_not_offered(where: Settings) -> None:
    async with served(where, DOES_NOT) as api:
        added = await api.post("ann")
        assert (added.status_code, added.json()["usable"]) == (201, False)
        assert (await api.client.get("/config")).json()["voices"] == ["own"]
        assert await api.names() == ["own", "ann"]


async def test_what_the_engine_can_say_for_itself_is_no_name_for_a_clone(api: Served) -> None:
    assert "choose another name" in message(await api.post("other"), 409)
    assert "voice of the engine" in message(await api.client.delete("/v1/voices/own"), 409)


async def test_a_request_that_comes_twice_is_answered_twice_and_another_voice_of_that_name_is_refused(
    api: Served,
) -> None:
    both = await asyncio.gather(api.post("ann"), api.post("ann"))
    assert sorted(response.status_code for response in both) == [200, 201]
    assert "delete it first" in message(await api.post("ann", recording(hz=330)), 409)
    assert "delete it first" in message(await api.post("ann", text=f"{TEXT} Or not."), 409)
    voice = await api.bus.voice("ann")
    assert voice is not None
    assert voice.info.text == TEXT
    assert await api.bus.call(b"HLEN", api.bus.keys.recordings()) == 1


async def test_only_one_of_two_simultaneous_voices_gets_a_name(api: Served) -> None:
    both = await asyncio.gather(api.post("ann", recording(hz=330)), api.post("ann", recording(hz=440)))
    assert sorted(response.status_code for response in both) == [201, 409]


@pytest.mark.parametrize(
    ("kind", "rate_hz", "channels", "kept_hz"),
    [
        ("WAV", 16_000, 1, 16_000),
        ("WAV", 48_000, 2, 24_000),
        ("FLAC", 24_000, 1, 24_000),
        ("FLAC", 44_100, 2, 24_000),
        ("OGG", 24_000, 1, 24_000),
        ("MP3", 44_100, 1, 24_000),
    ],
)
def test_formats_and_rates(kind: str, rate_hz: int, channels: int, kept_hz: int) -> None:
    samples, rate = decode_recording(recording(4, rate_hz, kind, channels), 30.0)
    assert rate == kept_hz
    assert len(samples) / rate == pytest.approx(4, abs=0.1)  # MP3 pads to whole blocks
    assert np.sqrt(np.mean(samples**2)) == pytest.approx(0.2 / 2**0.5, rel=0.05)


@pytest.mark.parametrize("name", ["Ann", "-a", "a" * 65, "a b", "..%2Fa", "%00"])
async def test_an_invalid_name_is_refused_before_the_file_is_decoded(api: Served, name: str) -> None:
    response = await api.post(name, b"no file")
    assert response.status_code in (400, 404)
    if response.status_code == 400:
        assert "a letter or digit" in message(response, 400)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "the recording is missing"),
        (b"hello", "not a readable WAV, FLAC, OGG or MP3"),
        (b"RIFF" + bytes(1000), "not a readable WAV, FLAC, OGG or MP3"),
        (recording(0.5), "lasts 0.5 s"),
        (recording(31), "longer than 30 s"),
        (recording(4, 8_000), "8000 Hz"),
        (recording(4, channels=3), "3 channels"),
        (recording()[:20_000], "lasts 0.4 s"),  # truncated: the rest is too short
        (recording(kind="FLAC")[:400], "not a readable WAV, FLAC, OGG or MP3|lasts 0.0 s"),
    ],
)
async def test_an_unusable_recording_is_refused_with_the_reason(api: Served, body: bytes, reason: str) -> None:
    assert re.search(reason, message(await api.post("ann", body), 400))
    assert await api.names() == ["own", "other"]


async def test_hours_of_silence_in_a_small_file_are_not_decoded(api: Served) -> None:
    file = io.BytesIO()
    soundfile.write(file, np.zeros(24_000 * 600, np.int16), 24_000, format="FLAC")
    assert len(file.getvalue()) < 1_000_000
    assert "longer than 30 s" in message(await api.post("ann", file.getvalue()), 400)


@pytest.mark.parametrize("text", [None, "", "  ", "Hi.", "word " * 100])
async def test_a_text_that_cannot_match_the_recording_is_refused(api: Served, text: str | None) -> None:
    assert "what is said in the recording, word for word" in message(await api.post("ann", text=text), 400)


async def test_a_huge_file_is_refused_during_the_upload(api: Served) -> None:
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        while True:
            sent += 1
            yield bytes(1024 * 1024)

    assert "larger than 10 MB" in message(await api.post("ann", endless()), 413)
    assert sent <= LARGEST_BYTES // 1024 // 1024 + 2
    assert "larger than 10 MB" in message(await api.post("ann", bytes(LARGEST_BYTES + 1)), 413)


async def test_a_stalled_upload_is_refused(api: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.edge.http.voices.UPLOAD_S", 0.05)

    async def late() -> AsyncIterator[bytes]:
        yield recording()[:100]
        await asyncio.sleep(30)

    assert "did not arrive within" in message(await api.post("ann", late()), 408)


async def test_content_types_of_cross_site_forms_are_refused(api: Served) -> None:
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=a", ""):
        assert "audio/wav" in message(await api.post("ann", kind=kind), 415)
    assert (await api.post("ann", kind="application/octet-stream")).status_code == 201


async def test_advice_on_a_recording_that_is_good_enough(api: Served) -> None:
    assert "3 to 12 s" in (await api.post("ann", recording(2), text="The birch canoe slid.")).json()["advice"]


async def test_without_a_broker_every_request_is_refused(alone: httpx.AsyncClient) -> None:
    async with alone as client:
        headers = {"content-type": "audio/wav"}
        for response in (
            await client.get("/v1/voices"),
            await client.post("/v1/voices/ann", params={"text": TEXT}, content=recording(), headers=headers),
            await client.delete("/v1/voices/ann"),
        ):
            assert "broker is not reachable" in message(response, 503)


async def test_a_voice_outlives_the_edge_and_the_broker(where: Settings, tmp_path: Path) -> None:
    async with served(where) as api:
        await api.post("ann")
        before = await api.bus.voice("ann")
    async with embedded_broker(where.data_dir) as fresh, served(fresh) as api:
        async with asyncio.timeout(HANG_S):
            while "ann" not in await api.names():
                await asyncio.sleep(0.005)
        assert await api.bus.voice("ann") == before


async def test_damaged_files_do_not_affect_other_voices(where: Settings) -> None:
    async with served(where) as api:
        for name in ("ann", "bob", "cid", "dee", "eve", "zoe"):
            assert (await api.post(name)).status_code == 201
        folder = api.folder
    (folder / "ann.flac").unlink()
    (folder / "bob.flac").write_bytes(b"fLaC")
    (folder / "cid.json").write_text("{")
    metadata = json.loads((folder / "dee.json").read_text())
    (folder / "dee.json").write_text(json.dumps({**metadata, "text": "something else"}))
    (folder / "eve.json").write_text("[]")
    (folder / "Bad Name.json").write_text("{}")
    async with embedded_broker(where.data_dir) as fresh, served(fresh) as api:
        async with asyncio.timeout(HANG_S):
            while "zoe" not in await api.names():
                await asyncio.sleep(0.005)
        assert await api.names() == ["own", "other", "zoe"]


async def test_a_voice_that_cannot_be_stored_is_not_offered(where: Settings, tmp_path: Path) -> None:
    (tmp_path / "data").write_text("a file where the folder would be")
    async with served(where) as api:
        assert "cannot be stored" in message(await api.post("ann"), 507)
        assert await api.names() == ["own", "other"]


async def test_unreadable_voices_in_the_broker_are_skipped_and_can_be_deleted(api: Served) -> None:
    await api.post("ann")
    await api.bus.call(b"HSET", api.bus.keys.voices(), "bob", b"no voice")
    assert await api.names() == ["own", "other", "ann"]
    assert await api.bus.voice("bob") is None
    assert (await api.client.delete("/v1/voices/bob")).status_code == 200


async def test_sharing_restores_the_recording_on_disk(where: Settings) -> None:
    async with served(where) as api:
        await api.post("ann")
        first = await api.bus.voice("ann")
        assert first is not None
        await api.bus.drop_voice("ann")
        other = where.model_copy(update={"data_dir": where.data_dir / "other"})
        async with served(other) as elsewhere:
            await elsewhere.post("ann", recording(hz=330))
        second = await api.bus.voice("ann", first)
        assert second is not None
        assert second != first
        await api.gateway.voices.share(api.bus)
        assert await api.bus.voice("ann", second) == first
        assert await api.bus.voice("ann", first) is not None
        assert await api.bus.call(b"HLEN", api.bus.keys.recordings()) == 1
