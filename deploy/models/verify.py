"""`parley models verify`: checks that no file of a model is missing, and that the contents match their hashes."""

import hashlib
import json
import struct
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from shlex import quote

from deploy.models.download import file_sha256
from deploy.models.used import Model, ModelStatus, model_status, named_models, size_text
from shared.engines.catalog import CatalogModel
from shared.engines.models import how_to_bring
from shared.settings import Settings

CHUNK_BYTES = 1 << 20
HEADER_LIMIT_BYTES = 100_000_000
"""The longest header that the safetensors library reads."""

Progress = Callable[[int], object]
"""Called with the number of bytes read since the last call."""


def run_verify(settings: Settings, names: Sequence[str], cache: Path | None = None) -> int:
    """Check these models, or without names all that the settings use. Returns 0 if all are good, otherwise 1."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn

    models = named_models(settings, names)
    if not models:
        print("The engines of these settings need no model.")
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn())
    wrong = 0
    for model in models:
        found = model_status(model, cache, settings.models_dir)
        # On stderr, and removed at the end: stdout contains only the result.
        with Progress(*columns, console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()) as bars:
            bar = bars.add_task(model.name, total=found.size)
            problems = list(check_model(model, found, partial(bars.advance, bar)))
        if not problems:
            print(f"✓ {model.name}: {size_text(found.size)} in {found.folder}", flush=True)
        for problem, fix in problems:
            print(f"✗ {model.name}: {problem}\n    fix: {fix}", flush=True)
        wrong += bool(problems)
    return 1 if wrong else 0


def check_model(model: Model, found: ModelStatus, progress: Progress) -> Iterator[tuple[str, str]]:
    """Yield each problem of a model's files, and its fix."""
    if found.folder is None:
        yield "not on this machine", how_to_bring(model.name)
        return
    if found.missing:
        yield f"{', '.join(found.missing)} missing in {found.folder}", how_to_bring(model.name)
    if model.stored:
        checks = _stored_files(model.stored, found.folder, progress)
    else:
        checks = _files(found.folder, found.missing, progress)
    for file, problem in checks:
        # A blob can itself be a link, to a store that several caches share.
        fix = f"rm {quote(str(file.resolve()))}, then: {how_to_bring(model.name)}"
        yield f"{file.relative_to(found.folder)} is damaged: {problem}", fix


def _stored_files(entry: CatalogModel, folder: Path, progress: Progress) -> Iterator[tuple[Path, str]]:
    """Yield the files of a model of the catalogue whose contents do not match its hashes."""
    missing = entry.missing_files(folder)
    for file in entry.files:
        if file.name not in missing:
            if file_sha256(folder / file.name) != file.sha256:
                yield folder / file.name, "its contents do not match its hash"
            progress(file.size)


def _files(folder: Path, missing: Sequence[str], progress: Progress) -> Iterator[tuple[Path, str]]:
    """Yield the damaged files of a repository."""
    for file in sorted(folder.rglob("*")):
        if file.is_dir() or (not file.exists() and file.name in missing):
            continue
        if problem := check_file(file, progress):
            yield file, problem


def check_file(file: Path, progress: Progress) -> str:
    """Return what is wrong with a file; empty if it is good.

    A file in the hub's cache is a link to a blob, whose name is the hash of its contents: SHA-256 for a large file, git's
    SHA-1 for a small one. Other files have no hash; of those, only safetensors files are checked, by their headers.
    """
    try:
        blob = file.readlink().name if file.is_symlink() else ""
        if not file.exists():
            return "its link points to nothing"
        digest = _hash(file, blob, progress)
        if digest and digest != blob:
            return "its contents do not match its hash"
        return check_safetensors(file) if file.suffix == ".safetensors" else ""
    except OSError as error:
        return str(error)


def _hash(file: Path, name: str, progress: Progress) -> str:
    """The hash of a file, of the kind that `name` has: SHA-256 or git's SHA-1. Empty if `name` is not a hash."""
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
    """Return what is wrong with the header or the length of a safetensors file; empty if they are good.

    The file begins with the length of its header (64 bits), then the header: JSON with the offsets of all tensors.
    """
    size = file.stat().st_size
    with file.open("rb") as stream:
        start = stream.read(8)
        length = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
        if not 2 <= length <= min(HEADER_LIMIT_BYTES, size - 8):
            return "it has no safetensors header"
        header = stream.read(length)
    try:
        tensors = {name: about for name, about in json.loads(header).items() if name != "__metadata__"}
        end = max((int(about["data_offsets"][1]) for about in tensors.values()), default=0)
    except (ValueError, KeyError, TypeError, AttributeError, IndexError):
        return "its safetensors header is damaged"
    expected = 8 + length + end
    return "" if size == expected else f"it has {size} bytes, its header says {expected}"
