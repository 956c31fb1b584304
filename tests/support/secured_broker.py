"""A redis-server that takes only TLS with client certificates, and only the users of an ACL file."""

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from deploy.local.address import claim_port
from shared.bus.acl import COMMANDS, acl_file
from tests.support.waiting import HANG_S

HOST = "127.0.0.1"
SETTLE_S = 0.1
"""A TLS connection closes only after an exchange with the other side, or when that is gone."""
SUBJECTS = {
    "ca": ("/CN=test authority", "basicConstraints=critical,CA:true"),
    "server": (f"/CN={HOST}", f"subjectAltName=IP:{HOST}"),
    "client": ("/CN=parley", "extendedKeyUsage=clientAuth"),
}


@dataclass(frozen=True, slots=True)
class SecuredBroker:
    folder: Path
    port: int
    passwords: dict[str, str]

    def environment(self, role: str) -> dict[str, str]:
        """The settings with which a role connects."""
        return {
            "PARLEY_REDIS_URL": f"rediss://{role}:{self.passwords[role]}@{HOST}:{self.port}",
            "PARLEY_REDIS_CA_FILE": str(self.folder / "ca.pem"),
            "PARLEY_REDIS_CERT_FILE": str(self.folder / "client.pem"),
            "PARLEY_REDIS_KEY_FILE": str(self.folder / "client.key"),
        }


@asynccontextmanager
async def secured_broker(folder: Path, redis_server: str, openssl: str) -> AsyncIterator[SecuredBroker]:
    """Run it, with a user for each role. `redis_server` and `openssl`: paths of the programs."""
    await _make_certificates(folder, openssl)
    passwords = {role: secrets.token_hex(8) for role in COMMANDS}
    (folder / "users.acl").write_text(acl_file(passwords))
    port = claim_port(HOST, 0)
    files = {"ca-cert": "ca.pem", "cert": "server.pem", "key": "server.key"}
    process = await asyncio.create_subprocess_exec(
        redis_server, "--bind", HOST, "--port", "0", "--tls-port", str(port), "--tls-auth-clients", "yes",
        "--save", "", "--dir", str(folder), "--loglevel", "warning", "--aclfile", str(folder / "users.acl"),
        *(part for name, file in files.items() for part in (f"--tls-{name}-file", str(folder / file))),
    )  # fmt: skip
    try:
        async with asyncio.timeout(HANG_S):
            while not await _listens(port):
                await asyncio.sleep(0.01)
        yield SecuredBroker(folder, port, passwords)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
        await asyncio.sleep(SETTLE_S)


async def _listens(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection(HOST, port)
    except OSError:
        return False
    writer.close()
    await writer.wait_closed()
    return True


async def _make_certificates(folder: Path, openssl: str) -> None:
    for name, (subject, extension) in SUBJECTS.items():
        signer = () if name == "ca" else ("-CA", str(folder / "ca.pem"), "-CAkey", str(folder / "ca.key"))
        process = await asyncio.create_subprocess_exec(
            openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
            "-days", "1", "-subj", subject, "-addext", extension, "-keyout", str(folder / f"{name}.key"),
            "-out", str(folder / f"{name}.pem"), *signer, stderr=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
        assert await process.wait() == 0
