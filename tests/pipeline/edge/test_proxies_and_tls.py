"""The client's address and scheme behind a proxy, and TLS by the edge itself."""

import ssl
import subprocess
from pathlib import Path

import httpx
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from services.edge.__main__ import check_tls
from services.edge.access.keys import KeyFile
from shared.settings import BadSettings, Settings
from tests.conftest import need
from tests.support.edge import running_edge

FORGED = {"X-Forwarded-For": "203.0.113.9", "X-Forwarded-Proto": "https"}


@pytest.fixture
def where(tmp_path: Path) -> Settings:
    return Settings(data_dir=tmp_path, keys="required")


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1 that nobody has signed, and its key."""
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    subprocess.run(
        [
            need("openssl"), "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "1",
            "-subj", "/CN=edge", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(cert),
        ],
        check=True, capture_output=True,
    )  # fmt: skip
    return cert, key


async def address_of(settings: Settings, headers: dict[str, str], capsys: pytest.CaptureFixture[str]) -> str:
    """The address from which a refused request came, as the log has it."""
    async with running_edge(settings) as edge:
        assert (await edge.client.get("/config", headers=headers)).status_code == 401
    logged = "".join(capsys.readouterr())
    return logged.partition("address=")[2].split()[0]


async def test_nobody_chooses_an_address(where: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    KeyFile(where).create("one")
    assert await address_of(where, FORGED, capsys) == "127.0.0.1"
    other = where.model_copy(update={"trusted_proxies": "10.0.0.0/8"})
    assert await address_of(other, FORGED, capsys) == "127.0.0.1"


async def test_a_trusted_proxy_names_the_client(where: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    KeyFile(where).create("one")
    trusted = where.model_copy(update={"trusted_proxies": "10.0.0.0/8,127.0.0.1"})
    assert await address_of(trusted, FORGED, capsys) == "203.0.113.9"
    # What the client itself has sent stands before what the proxies have added.
    through_two = {"X-Forwarded-For": "1.1.1.1, 203.0.113.9, 10.1.2.3"}
    assert await address_of(trusted, through_two, capsys) == "203.0.113.9"


async def test_forwarded_headers_do_not_make_a_request_local(tmp_path: Path) -> None:
    async with running_edge(Settings(data_dir=tmp_path)) as edge:
        assert (await edge.client.get("/config")).status_code == 200
        for name in ("X-Forwarded-For", "Forwarded", "Via", "X-Real-IP"):
            assert (await edge.client.get("/config", headers={name: "127.0.0.1"})).status_code == 401
            assert (await edge.client.get("/monitor/data", headers={name: "127.0.0.1"})).status_code == 401


def test_a_wrong_proxy_stops_the_start(where: Settings) -> None:
    from services.edge.access.mode import mode_of

    for wrong in ("10.0.0.1/8", "1.2.3", "10.0.0.0/33"):
        with pytest.raises(BadSettings, match="PARLEY_TRUSTED_PROXIES"):
            mode_of(where.model_copy(update={"trusted_proxies": wrong}))


async def test_the_edge_speaks_tls(tmp_path: Path, certificate: tuple[Path, Path]) -> None:
    cert, key = certificate
    settings = Settings(data_dir=tmp_path, tls_cert=cert, tls_key=key)
    check_tls(settings)
    trust = ssl.create_default_context(cafile=cert)
    async with running_edge(settings) as edge, httpx.AsyncClient(verify=trust, trust_env=False) as client:
        base = f"https://127.0.0.1:{edge.port}"
        page = await client.get(base)
        assert page.status_code == 200
        assert "strict-transport-security" not in page.headers  # it would hold for all ports of this machine
        named = await client.get(base, headers={"Host": "192.0.2.1"})
        assert named.headers["strict-transport-security"] == "max-age=15552000"
        with pytest.raises(InvalidStatus) as refused:  # let in; there is no broker
            async with connect(f"wss://127.0.0.1:{edge.port}/v1/realtime", ssl=trust, proxy=None):
                pass
        assert refused.value.response.status_code == 503
        # A plain page of the same host could have been changed on the way.
        with pytest.raises(InvalidStatus) as refused:
            await connect(
                f"wss://127.0.0.1:{edge.port}/ws",
                ssl=trust,
                proxy=None,
                origin=f"http://127.0.0.1:{edge.port}",  # type: ignore[arg-type]
            )
        assert refused.value.response.status_code == 403


def test_files_that_are_no_certificate_stop_the_start(tmp_path: Path, certificate: tuple[Path, Path]) -> None:
    cert, key = certificate
    (tmp_path / "empty.pem").touch()
    for one, other in ((cert, None), (None, key), (tmp_path / "gone.pem", key), (cert, tmp_path / "empty.pem")):
        with pytest.raises(BadSettings, match="PARLEY_TLS_CERT"):
            check_tls(Settings(tls_cert=one, tls_key=other))
