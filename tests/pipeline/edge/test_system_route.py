"""`GET /v1/system`: the engines and models that the workers announce, by their names for people."""

from pathlib import Path

import httpx
import pytest

from services.edge.gateway.gateway import Gateway
from services.edge.http.app import create_app
from shared.bus.bus import Bus
from shared.bus.leases import Leases
from shared.settings import STAGES
from shared.worker.lifecycle import Shutdown
from tests.support.broker import embedded_broker

NONE = {"engine": "", "models": []}


@pytest.mark.parametrize(
    ("announced", "title"),
    [
        ("whisper-tiny.en", "Whisper tiny.en"),  # of the catalogue, with a title
        ("Qwen/Qwen3-0.6B", "Qwen3-0.6B"),
        ("/srv/models/my-model.gguf", "my-model"),  # where it lies is nobody's business
        ("qwen3:4b", "qwen3:4b"),
    ],
)
async def test_the_models_at_work_have_names_for_people(tmp_path: Path, announced: str, title: str) -> None:
    async with embedded_broker(tmp_path) as settings:
        gateway = Gateway(settings, Shutdown(1))
        transport = httpx.ASGITransport(create_app(gateway))
        async with (
            httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client,
            Bus.connect(settings, "edge") as bus,
        ):
            before = (await client.get("/v1/system")).json()
            assert before["stages"] == {
                **dict.fromkeys(STAGES, NONE),
                "vad": {**NONE, "endpointing": ""},
                "asr": {**NONE, "languages": []},
            }
            await bus.be_present()
            await Leases(bus, "llm", 60_000).ready({"engine": "some", "model": announced})
            for languages in (["de", "en"], ["en", "fr"]):  # any of the workers may get the job
                await Leases(bus, "asr", 60_000).ready({"engine": "some", "languages": languages})
            await Leases(bus, "vad", 60_000).ready({"engine": "webrtc", "endpointing": "fixed"})
            await gateway.admission.refresh(bus)
            after = (await client.get("/v1/system")).json()
    assert after["profile"] == settings.profile
    assert after["monitor"] is True
    assert after["stages"]["llm"] == {"engine": "some", "models": [title]}
    assert after["stages"]["asr"]["languages"] == ["en"]
    assert after["stages"]["vad"] == {"engine": "webrtc", "models": [], "endpointing": "fixed"}
