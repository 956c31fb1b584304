"""Downloads one file over HTTP into a folder. A download that was cut off is resumed, also by a later process."""

import hashlib
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from urllib.parse import urlsplit

import httpx

CHUNK_BYTES = 1 << 18
ATTEMPTS = 5
"""Number of attempts without a new byte after which a source has failed."""
PAUSE_S = 1.0
"""Pause before the second attempt; before each further one it is twice as long."""

Advance = Callable[[int], object]
"""Called with the number of bytes of a file that are on this machine."""


class DownloadFailed(Exception):
    """A model could not be downloaded. The message says why and what to do."""


class SourceFailed(Exception):
    """A source did not give the right files. The next source may."""


class Unreachable(SourceFailed):
    """The host of a source did not accept a connection."""


class BrokenOff(SourceFailed):
    """A transient error: the same request may succeed later."""


class AccessRefused(SourceFailed):
    """The source wants credentials or a certificate that this program does not have."""


def open_client(proxy: str | None = None, certificates: str | None = None, timeout_s: float = 15.0) -> httpx.Client:
    """Return a client that trusts the certificates of this system, and those of the file `certificates`.

    Raises:
        SourceFailed: the proxy or the certificates cannot be used.
    """
    timeout = httpx.Timeout(timeout_s, connect=min(timeout_s, 10.0))
    try:
        return httpx.Client(proxy=proxy, verify=_trust(certificates), timeout=timeout, follow_redirects=True)
    except (OSError, ValueError) as error:
        raise SourceFailed(f"the proxy {proxy} or the certificates {certificates} cannot be used: {error}") from error


@cache
def _trust(certificates: str | None) -> ssl.SSLContext:
    context = httpx.create_ssl_context()  # certifi's certificates, or those of SSL_CERT_FILE
    context.load_default_certs()
    if certificates:
        context.load_verify_locations(certificates)
    return context


@contextmanager
def explained(url: str) -> Iterator[None]:
    """Translate errors of the HTTP library into `SourceFailed`."""
    host = urlsplit(url).hostname
    try:
        yield
    except httpx.HTTPStatusError as error:
        status = error.response.status_code
        kind = (
            AccessRefused
            if status in (401, 403, 407)
            else BrokenOff
            if status == 429 or status >= 500
            else SourceFailed
        )
        raise kind(f"{host} answers {status} {error.response.reason_phrase}") from error
    except (httpx.ConnectError, httpx.ConnectTimeout, httpx.ProxyError) as error:
        kind = AccessRefused if "CERTIFICATE" in str(error) or "407" in str(error) else Unreachable
        raise kind(f"{host} cannot be reached ({_first_line(error)})") from error
    except httpx.TransportError as error:
        raise BrokenOff(f"{host}: {_first_line(error)}") from error
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise SourceFailed(f"{host}: {_first_line(error)}") from error


def download(client: httpx.Client, url: str, path: Path, size: int, sha256: str, advance: Advance) -> None:
    """Download a file of this size and SHA-256 to `path`. What was received lies in `path` with the suffix .part.

    Raises:
        SourceFailed: the server does not have the file, or it breaks off again and again.
        OSError: the file cannot be written.
    """
    part = path.with_name(path.name + ".part")
    at_first, failures = _size(part), 0
    while (received := _size(part)) < size:
        try:
            with explained(url):
                _append(client, url, part, size, advance)
        except (BrokenOff, Unreachable) as error:
            if isinstance(error, Unreachable) and received == at_first:
                raise  # it has sent nothing yet: the next source may be faster than a further attempt
            failures = 1 if _size(part) > received else failures + 1
            if failures == ATTEMPTS:
                raise
            time.sleep(PAUSE_S * 2 ** (failures - 1))
    if (found := file_sha256(part)) == sha256:
        part.replace(path)
        return
    part.unlink()
    if not at_first:
        raise SourceFailed(f"{urlsplit(url).hostname} has other contents: SHA-256 {found}, expected {sha256}")
    # The part of the earlier process may be what is damaged.
    download(client, url, path, size, sha256, advance)


def _append(client: httpx.Client, url: str, part: Path, size: int, advance: Advance) -> None:
    """Request what is missing of a file and append it. Returns when the file is complete, or the server ends early."""
    start = _size(part)
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={start}-"} if start else {})
    with client.stream("GET", url, headers=headers) as response:
        if response.status_code == 416:  # the file on the server is shorter
            part.unlink()
            raise SourceFailed(f"{urlsplit(url).hostname} has a shorter file than the {size} bytes expected")
        response.raise_for_status()
        if response.status_code != 206:
            start = 0  # the server sends the whole file
        length = response.headers.get("Content-Length", "")
        if length.isdecimal() and start + int(length) != size:
            raise SourceFailed(f"{urlsplit(url).hostname} has a file of {start + int(length)} bytes, not of {size}")
        with part.open("r+b" if start else "wb") as file:
            file.seek(start)
            for chunk in response.iter_raw():
                start += len(chunk)
                if start > size:
                    raise SourceFailed(f"{urlsplit(url).hostname} sends more than the {size} bytes expected")
                file.write(chunk)
                advance(start)
    if start < size:
        raise BrokenOff(f"{urlsplit(url).hostname} ended the download after {start} of {size} bytes")


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file as hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [""])[0] or type(error).__name__
