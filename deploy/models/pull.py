"""Downloads models: those that a command names (`parley models pull`), or those that a start needs (`ensure`)."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from deploy.models.hub import Hub
from deploy.models.repositories import pull_repositories
from deploy.models.sources import Progress
from deploy.models.store import Store
from deploy.models.used import known_names, model_status, named_models, size_text
from shared.engines.registry import UnknownEngine
from shared.settings import Settings


def run_pull(settings: Settings, names: Sequence[str], hub: Hub | None = None, store: Store | None = None) -> int:
    """Download these models, or without names all that the settings use. Returns 0 if all are complete, otherwise 1.

    Raises:
        UnknownEngine: the hub's library is not installed, or a setting names no engine.
    """
    models = named_models(settings, names)
    if not models:
        print("The engines of these settings need no model.")
        return 0
    store = store or Store(settings.models_dir)
    stored = [model.stored for model in models if model.stored]
    with progress_bars() as store.progress:
        store.say = _say
        failed = store.pull(stored)
    for entry in stored:
        if entry.name not in failed:
            print(f"{entry.name}: complete in {store.folder / entry.name} ({size_text(entry.size)})", flush=True)
    if repositories := [model for model in models if not model.stored]:
        failed |= pull_repositories(repositories, known_names(settings), hub)
    for reason in dict.fromkeys(failed.values()):
        print(reason, file=sys.stderr, flush=True)
    return 1 if failed else 0


def ensure(
    settings: Settings, progress: Progress | None = None, hub: Hub | None = None, store: Store | None = None
) -> dict[str, str]:
    """Download what this machine lacks of the models that the settings use.

    If all are complete, this takes milliseconds and touches no network. Two processes may call it at the same time. It blocks: call
    it outside of the event loop.

    Args:
        settings: The settings of the services that are to start.
        progress: Called with the name of a model, the bytes that are here, and the bytes to download.
        hub: The hub and its cache; None: as HF_ENDPOINT and HF_HOME say.
        store: The folder of the catalogue's models, and their sources; None: PARLEY_MODELS_DIR, the hub and pip's indexes.

    Returns:
        The names of the models that are still missing, each with the reason and what to do; empty if all are complete.

    Raises:
        UnknownEngine: a setting names no engine.
    """
    models = named_models(settings, ())
    store = store or Store(settings.models_dir)
    store.progress = progress or store.progress
    missing = store.pull(model.stored for model in models if model.stored)
    for model in models:
        if model.stored is None:
            try:
                if model_status(model, hub.cache if hub else None).state != "complete":
                    missing |= pull_repositories([model], known_names(settings), hub)
            except UnknownEngine as error:
                missing[model.name] = str(error)
    return missing


@contextmanager
def progress_bars() -> Iterator[Progress]:
    """Draw a bar for each model on stderr, if that is a terminal; yields what to call with the progress."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, TaskID, TextColumn, TimeRemainingColumn, TransferSpeedColumn
    from rich.progress import Progress as Bars

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    tasks: dict[str, TaskID] = {}
    # Removed at the end: what remains is the result, on stdout.
    with Bars(*columns, console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()) as bars:

        def show(name: str, done: int, total: int) -> None:
            if name not in tasks:
                tasks[name] = bars.add_task(name, total=total)
            bars.update(tasks[name], completed=done, total=total)

        yield show


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
