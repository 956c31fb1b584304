"""The hub of models as its client library shows it: where it keeps things, its progress bars, and what its errors mean."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from deploy.models.catalog import Model, standing
from shared.engines.models import how_to_bring


class NotHad(Exception):
    """A model could not be brought; the message says why, and what to do."""


@dataclass(frozen=True, slots=True)
class Hub:
    """Where models come from and go to; None: as `HF_ENDPOINT` and `HF_HOME` say."""

    endpoint: str | None = None
    cache: Path | None = None
    timeout_s: float = 15.0
    """How long it may be silent."""


def cache_of(hub: Hub) -> Path:
    from huggingface_hub import constants

    return hub.cache or Path(constants.HF_HUB_CACHE)


def repository_of(hub: Hub, model: Model) -> Path:
    """Where the cache has a model."""
    return cache_of(hub) / f"models--{model.name.replace('/', '--')}"


@contextmanager
def progress_bars() -> Iterator[type[Any]]:
    """The hub's bars, but gone in the end: its library leaves them open, to be drawn again over what is printed later."""
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
    """Make a commit, all of which is here, the one that is found by the model's name."""
    branch = repository / "refs" / "main"
    if branch.read_text() != commit:
        branch.with_suffix(".new").write_text(commit)
        branch.with_suffix(".new").replace(branch)


def explain(error: Exception, model: Model, hub: Hub, known: Iterable[str]) -> NotHad:
    """What a person can do about it, in one line."""
    from huggingface_hub import constants
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, HFValidationError, RepositoryNotFoundError

    name, endpoint = model.name, hub.endpoint or constants.ENDPOINT
    near = get_close_matches(name, set(known) - {name}, n=1, cutoff=0.75)
    meant = f" Did you mean {near[0]}?" if near else ""
    if isinstance(error, GatedRepoError):
        return NotHad(
            f"{name} is gated: accept its terms at {endpoint}/{name}, and set HF_TOKEN to a token of that account "
            f"({endpoint}/settings/tokens)."
        )
    if isinstance(error, RepositoryNotFoundError):
        return NotHad(f"{name} is not on the hub, or is private and needs HF_TOKEN.{meant}")
    if isinstance(error, HFValidationError):
        return NotHad(f"{name!r} is neither a folder nor a model of the hub (owner/name).{meant}")
    status = error.response.status_code if isinstance(error, HfHubHTTPError) else 0
    if status in (401, 403):
        return NotHad(f"{name}: the hub refuses it ({status}). Set HF_TOKEN to a valid token, or unset it.")
    found = standing(model, hub.cache)
    missing = ", ".join(found.missing) or "nothing that is needed"
    return NotHad(
        f"{name} could not be brought from the hub ({reason(error)}). Missing here: {missing}. "
        f"What has come whole is kept. {how_to_bring(name)}"
    )


def reason(error: Exception) -> str:
    """An error's first line. The token is masked: an error can quote the headers of a request."""
    from huggingface_hub import get_token

    line, token = f"{type(error).__name__}: {error}".splitlines()[0], get_token()
    return line.replace(token, "****") if token else line
