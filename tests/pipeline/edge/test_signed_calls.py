"""Which calls are let in: those whose URL Twilio has signed."""

import base64
import hashlib
import hmac
from pathlib import Path

import pytest
from pydantic import ValidationError

from services.edge.http.phone import signed_url
from shared.settings import Settings
from tests.support.edge import running_edge

TOKEN, PUBLIC = "0123456789", "wss://calls.example.org/voice/phone/twilio"


def signature(url: str, token: str = TOKEN) -> dict[str, str]:
    signed = hmac.new(token.encode(), url.encode(), hashlib.sha1).digest()
    return {"X-Twilio-Signature": base64.b64encode(signed).decode()}


async def test_a_signature_is_for_one_url_with_its_query(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = Settings.model_validate({"data_dir": tmp_path, "twilio_auth_token": TOKEN, "public_url": PUBLIC})
    async with running_edge(settings) as edge:
        for query in ("", "?agent=host", "?a=1&b=%20"):
            taken = await edge.handshake(f"/phone/twilio{query}", signature(PUBLIC + query))
            assert taken == 503  # let in; there is no broker
            for wrong in (signature(f"{PUBLIC}?other"), signature(PUBLIC + query, "wrong token"), {}):
                assert await edge.handshake(f"/phone/twilio{query}", wrong) == 403
    logged = "".join(capsys.readouterr())
    assert f"{PUBLIC}?agent=host" in logged
    assert TOKEN not in logged


async def test_without_a_public_url_the_url_of_the_request_counts(tmp_path: Path) -> None:
    settings = Settings.model_validate({"data_dir": tmp_path, "twilio_auth_token": TOKEN})
    async with running_edge(settings) as edge:
        url = f"ws://127.0.0.1:{edge.port}/phone/twilio?x=1"
        assert await edge.handshake("/phone/twilio?x=1", signature(url)) == 503
        assert await edge.handshake("/phone/twilio?x=2", signature(url)) == 403


@pytest.mark.parametrize(
    "url",
    [
        "https://calls.example.org/phone/twilio", "wss://calls.example.org", "wss://calls.example.org/phone",
        "ws://calls.example.org/phone/twilio", "wss://calls.example.org/phone/twilio?a=1", "calls.example.org",
        "wss://calls.example.org/phone/twilio/",
    ],
)  # fmt: skip
def test_a_url_that_cannot_work_stops_the_start(url: str) -> None:
    with pytest.raises(ValidationError):
        Settings(public_url=url)


def test_what_twilio_signs() -> None:
    assert signed_url("", "ws://edge:8000/phone/twilio?a=1") == "ws://edge:8000/phone/twilio?a=1"
    assert signed_url(PUBLIC, "ws://edge:8000/phone/twilio?a=1") == f"{PUBLIC}?a=1"
    assert signed_url(PUBLIC, "ws://edge:8000/phone/twilio") == PUBLIC
