"""`parley models verify`: are all files of the models here, and are they what the hub sent?"""

import hashlib
import json
import struct
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from shlex import quote

from deploy.models.catalog import Model, named_models, size_text, standing
from shared.engines.models import how_to_bring
from shared.settings import Settings

CHUNK_BYTES = 1 << 20
HEADER_LIMIT_BYTES = 100_000_000
"""The longest header that the safetensors library takes."""

Progress = Callable[[int], object]
"""Told the bytes that were read since the last call."""


def run_verify(settings: Settings, names: Sequence[str], cache: Path | None = None) -> int:
    """Look at these models, or at all that the settings use. Returns 0 where nothing is wrong, else 1."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn

    models = named_models(settings, names)
    if not models:
        print("the engines of these settings need no model of the hub")
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn())
    wrong = 0
    for model in models:
        found = standing(model, cache)
        # On the terminal's other channel, and gone at the end: what is printed is the result.
        with Progress(*columns, console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()) as bars:
            bar = bars.add_task(model.name, total=found.size)
            problems = list(check_model(model, cache, partial(bars.advance, bar)))
        if not problems:
            print(f"✓ {model.name}: {size_text(found.size)} in {found.folder}", flush=True)
        for problem, mend in problems:
            print(f"✗ {model.name}: {problem}\n    mend: {mend}", flush=True)
        wrong += bool(problems)
    return 1 if wrong else 0


def check_model(model: Model, cache: Path | None, progress: Progress) -> Iterator[tuple[str, str]]:
    """What is wrong with a model's files, and how to mend it."""
    found = standing(model, cache)
    if found.folder is None:
        yield "not on this machine", how_to_bring(model.name)
        return
    if found.missing:
        yield f"{', '.join(found.missing)} missing in {found.folder}", how_to_bring(model.name)
    files = [found.folder / model.file] if model.file else sorted(found.folder.rglob("*"))
    for file in files:
        if file.is_dir() or (not file.exists() and file.name in found.missing):
            continue
        if problem := check_file(file, progress):
            name = file.relative_to(found.folder)
            # A blob can itself be a link, to a store that several caches share.
            mend = f"rm {quote(str(file.resolve()))}, then: {how_to_bring(model.name)}"
            yield f"{name} is damaged: {problem}", mend


def check_file(file: Path, progress: Progress) -> str:
    """What is wrong with a file; empty if nothing is.

    One of the hub's cache is a link to a blob that is named by the hash of its contents: SHA-256 for a large file, git's
    SHA-1 for a small one. Of others only what they say of themselves can be checked.
    """
    try:
        blob = file.readlink().name if file.is_symlink() else ""
        if not file.exists():
            return "its contents are gone"
        digest = _hash(file, blob, progress)
        if digest and digest != blob:
            return "its contents are not those that its hash stands for"
        return check_safetensors(file) if file.suffix == ".safetensors" else ""
    except OSError as error:
        return str(error)


def _hash(file: Path, name: str, progress: Progress) -> str:
    """The hash of a kind that `name` can be; empty if it can be none."""
    if len(name) not in (40, 64) or not set(name) <= set("0123456789abcdef"):
        progress(file.stat().st_size)
        return ""
    hasher = hashlib.sha256() if len(name) == 64 else hashlib.sha1(usedforsecurity=False)
    if len(name) == 40:
        hasher.update(b"blob %d\0" % file.stat().st_size)
    with file.open("rb") as stream:
        while chunk := stream.read(CHUNK_BYTES):
            hasher.update(chunk)
            progress(len(chunk))
    return hasher.hexdigest()


def check_safetensors(file: Path) -> str:
    """What is wrong with the header of a safetensors file, or with its length; empty if nothing is."""
    size = file.stat().st_size
    with file.open("rb") as stream:
        start = stream.read(8)
        length = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
        if not 2 <= length <= min(HEADER_LIMIT_BYTES, size - 8):
            return "it has no header of safetensors"
        header = stream.read(length)
    try:
        tensors = {name: about for name, about in json.loads(header).items() if name != "__metadata__"}
        end = max((int(about["data_offsets"][1]) for about in tensors.values()), default=0)
    except (ValueError, KeyError, TypeError, AttributeError, IndexError):
        return "its header cannot be read"
    expected = 8 + length + end
    return "" if size == expected else f"it has {size} bytes, and its header stands for {expected}"
