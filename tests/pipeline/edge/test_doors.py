"""The doors of the edge: pages of other sites and foreign names are refused before anything is done for them."""

import pytest

from shared.settings import Settings
from tests.support.edge import running_edge

SOCKETS = ("/ws", "/v1/realtime", "/phone/twilio")
FOREIGN = "https://evil.example"
TAKEN = (101, 503)
"""Accepted, or refused only because there is no broker."""


async def test_a_page_of_another_site_opens_no_socket() -> None:
    async with running_edge(Settings()) as edge:
        for path in SOCKETS:
            assert await edge.handshake(path, {"Origin": FOREIGN}) == 403
            assert await edge.handshake(path, {"Origin": "null"}) == 403
            assert await edge.handshake(path, {"Origin": f"http://127.0.0.1:{edge.port}"}) in TAKEN
            assert await edge.handshake(path) in TAKEN


async def test_a_page_of_another_site_changes_nothing() -> None:
    async with running_edge(Settings()) as edge:
        for method, path in (("POST", "/test-connection"), ("POST", "/v1/voice-preview"), ("DELETE", "/v1/voices/x")):
            refused = await edge.client.request(method, path, headers={"Origin": FOREIGN})
            assert (refused.status_code, refused.json()["error"]["code"]) == (403, "unknown_origin")
            assert f"PARLEY_ORIGINS={FOREIGN}" in refused.json()["error"]["message"]
        own = {"Origin": f"http://127.0.0.1:{edge.port}"}
        assert (await edge.client.post("/test-connection", headers=own)).status_code == 503
        assert (await edge.client.get("/stats", headers={"Origin": FOREIGN})).status_code == 200  # it cannot read it


async def test_other_origins_are_allowed_by_name() -> None:
    async with running_edge(Settings(origins=f"https://shop.example,{FOREIGN}")) as edge:
        assert await edge.handshake("/ws", {"Origin": FOREIGN}) in TAKEN
        assert await edge.handshake("/ws", {"Origin": "https://evil.example.org"}) == 403


async def test_a_name_that_was_made_to_point_here_opens_nothing() -> None:
    async with running_edge(Settings()) as edge:
        # DNS rebinding: the page's origin and the Host header agree, and neither is this server's.
        rebound = {"Host": f"evil.example:{edge.port}", "Origin": f"http://evil.example:{edge.port}"}
        for path in SOCKETS:
            assert await edge.handshake(path, rebound) == 403
        for path in ("/", "/config", "/v1/voices", "/monitor/data", "/web/call/app.js"):
            refused = await edge.client.get(path, headers={"Host": "evil.example"})
            assert (refused.status_code, refused.json()["error"]["code"]) == (403, "unknown_host")
        assert (await edge.client.get("/config", headers={"Host": "localhost"})).status_code == 200


async def test_other_names_are_known_by_settings() -> None:
    named = Settings(hosts="voice.example,b.example", public_url="wss://calls.example/phone/twilio")
    async with running_edge(named) as edge:
        for host in ("voice.example", "b.example:81", "calls.example"):
            assert (await edge.client.get("/health", headers={"Host": host})).status_code == 503
        assert (await edge.client.get("/health", headers={"Host": "c.example"})).status_code == 403


@pytest.mark.parametrize("path", ["/", "/web/call/app.js", "/config", "/nowhere", "/monitor"])
async def test_every_answer_has_the_headers_that_protect_the_page(path: str) -> None:
    async with running_edge(Settings()) as edge:
        headers = (await edge.client.get(path)).headers
    assert "frame-ancestors 'none'" in headers["content-security-policy"]
    assert "connect-src 'self';" in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"
    assert "microphone=(self)" in headers["permissions-policy"]
    assert "strict-transport-security" not in headers
