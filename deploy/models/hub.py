"""What the hub's client library does not offer: paths in its cache, tidy progress bars, and plain error messages."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from deploy.models.download import DownloadFailed
from deploy.models.used import Model, model_status
from shared.engines.models import how_to_bring


@dataclass(frozen=True, slots=True)
class Hub:
    """The hub's URL and the folder of the cache; None: as HF_ENDPOINT and HF_HOME say."""

    endpoint: str | None = None
    cache: Path | None = None
    timeout_s: float = 15.0
    """Time that the hub may take to answer."""


def cache_of(hub: Hub) -> Path:
    """Folder of the cache."""
    from huggingface_hub import constants

    return hub.cache or Path(constants.HF_HUB_CACHE)


def repository_of(hub: Hub, model: Model) -> Path:
    """Folder of a model in the cache."""
    return cache_of(hub) / f"models--{model.name.replace('/', '--')}"


@contextmanager
def progress_bars() -> Iterator[type[Any]]:
    """The hub's progress bars, closed at the end. The library leaves them open, and they are drawn over later output."""
    from huggingface_hub.utils.tqdm import tqdm

    opened: list[Any] = []

    class Bar(tqdm):
        def __init__(self, *values: Any, **named: Any) -> None:
            super().__init__(*values, **{**named, "leave": False})  # type: ignore[no-untyped-call]
            opened.append(self)

    try:
        yield Bar
    finally:
        for bar in opened:
            bar.close()


def set_branch(repository: Path, commit: str) -> None:
    """Let the model's name refer to this commit, all of whose files are in the cache."""
    branch = repository / "refs" / "main"
    if branch.read_text() != commit:
        branch.with_suffix(".new").write_text(commit)
        branch.with_suffix(".new").replace(branch)


def explain(error: Exception, model: Model, hub: Hub, known: Iterable[str]) -> DownloadFailed:
    """Translate an error of the library into one line that says what to do. `known`: names to suggest for a misspelt one."""
    from huggingface_hub import constants
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, HFValidationError, RepositoryNotFoundError

    name, endpoint = model.name, hub.endpoint or constants.ENDPOINT
    near = get_close_matches(name, set(known) - {name}, n=1, cutoff=0.75)
    meant = f" Did you mean {near[0]}?" if near else ""
    if isinstance(error, GatedRepoError):
        return DownloadFailed(
            f"{name} is gated: accept its terms at {endpoint}/{name}, and set HF_TOKEN to a token of your account "
            f"({endpoint}/settings/tokens)."
        )
    if isinstance(error, RepositoryNotFoundError):
        return DownloadFailed(f"{name} is not on the hub, or is private and needs HF_TOKEN.{meant}")
    if isinstance(error, HFValidationError):
        return DownloadFailed(
            f"{name!r} is neither a folder, nor a model of the catalogue or the hub (owner/name).{meant}"
        )
    status = error.response.status_code if isinstance(error, HfHubHTTPError) else 0
    if status in (401, 403):
        return DownloadFailed(
            f"{name}: the hub denied access (HTTP {status}). Set HF_TOKEN to a valid token, or unset it."
        )
    found = model_status(model, hub.cache)
    missing = ", ".join(found.missing) or "nothing"
    return DownloadFailed(
        f"{name} could not be downloaded from the hub ({reason(error)}). Missing on this machine: {missing}. "
        f"Complete files are kept. {how_to_bring(name)}"
    )


def reason(error: Exception) -> str:
    """Type and first line of an error. The token is masked: an error can quote the headers of a request."""
    from huggingface_hub import get_token

    line, token = f"{type(error).__name__}: {error}".splitlines()[0], get_token()
    return line.replace(token, "****") if token else line
