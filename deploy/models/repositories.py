"""Downloads repositories of the hub into its cache, after a check of their size and the free disk space."""

import os
import shutil
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from glob import escape
from pathlib import Path
from typing import Any

from deploy.models.download import DownloadFailed
from deploy.models.hub import Hub, cache_of, explain, progress_bars, reason, repository_of, set_branch
from deploy.models.used import Model, ModelStatus, model_status, size_text
from shared.distribution import not_installed
from shared.engines.models import as_folder
from shared.engines.registry import UnknownEngine
from shared.engines.repositories import are_weights

SPACE_FACTOR = 1.05
"""Free disk space that is required, as a multiple of the size of the download."""


@dataclass(frozen=True, slots=True)
class Plan:
    """A download."""

    model: Model
    commit: str
    files: tuple[str, ...]
    size: int
    """Bytes of all files."""
    missing_size: int
    """Bytes of the files that are not in the cache."""


def pull_repositories(models: Iterable[Model], known: Iterable[str], hub: Hub | None = None) -> dict[str, str]:
    """Download the files of these models that an engine uses. Returns the names of those that failed, with the reason.

    `known` are names to suggest for a misspelt one.

    Raises:
        UnknownEngine: the hub's library is not installed.
    """
    try:
        from huggingface_hub.utils.tqdm import disable_progress_bars
    except ImportError as error:
        raise UnknownEngine(not_installed("The library that downloads models", "neural", error.name)) from error
    hub = hub or Hub()
    if not sys.stderr.isatty():
        disable_progress_bars()
    plans: list[Plan] = []
    failed: dict[str, str] = {}
    for model in models:
        try:
            if (plan := _plan(model, hub, known)) is not None:
                plans.append(plan)
        except DownloadFailed as error:
            failed[model.name] = str(error)
    try:
        _require_space(cache_of(hub), sum(plan.missing_size for plan in plans))
    except DownloadFailed as error:
        return failed | {plan.model.name: str(error) for plan in plans}
    for plan in plans:
        try:
            _download(plan, hub, known)
        except DownloadFailed as error:
            failed[plan.model.name] = str(error)
    return failed


def _plan(model: Model, hub: Hub, known: Iterable[str]) -> Plan | None:
    """Compare a model with the hub. None: it is complete, and is a folder or the hub cannot be reached.

    Raises:
        DownloadFailed: the hub does not have the model, or it is incomplete here and the hub cannot be reached.
    """
    from huggingface_hub import HfApi

    if as_folder(model.name) is not None:
        _report_complete(model, model_status(model, hub.cache), "a folder of this machine")
        return None
    try:
        about = HfApi(endpoint=hub.endpoint).model_info(model.name, files_metadata=True, timeout=hub.timeout_s)
    except Exception as error:
        found = model_status(model, hub.cache)
        if found.state == "complete":
            _report_complete(model, found, f"not compared with the hub: {reason(error)}")
            return None
        raise explain(error, model, hub, known) from error
    files = {sibling.rfilename: sibling for sibling in about.siblings or ()}
    wanted = model.wanted(files)
    absent = [need for need in model.needs if need not in files]
    if absent or not any(map(are_weights, wanted)):
        what = ", ".join(absent) or "weights that can be loaded"
        raise DownloadFailed(f"{model.name} on the hub has no {what}: {_engine_of(model)} cannot use it.")
    repository = repository_of(hub, model)
    missing = [file for file in wanted if not _in_cache(repository, str(about.sha), file, files[file])]
    sizes = {file: files[file].size or 0 for file in wanted}
    total, missing_size = sum(sizes.values()), sum(sizes[file] for file in missing)
    if missing:
        count = f"{len(missing)} of {len(wanted)} files"
        print(f"{model.name}: downloading {count}, {size_text(missing_size)}", flush=True)
    return Plan(model, str(about.sha), tuple(wanted), total, missing_size)


def _in_cache(repository: Path, commit: str, file: str, about: Any) -> bool:
    """Whether the cache has a file, from this commit or from another with the same contents."""
    blob = about.lfs.sha256 if about.lfs else about.blob_id
    return (repository / "snapshots" / commit / file).exists() or bool(blob and (repository / "blobs" / blob).exists())


def _require_space(cache: Path, size: int) -> None:
    """Raises `DownloadFailed` if the cache cannot take `size` bytes."""
    if not size:
        return
    try:
        cache.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(cache).free
    except OSError as error:
        raise DownloadFailed(f"cannot write to the cache: {error}. Set HF_HOME to another folder.") from error
    if not os.access(cache, os.W_OK):
        raise DownloadFailed(f"cannot write to the cache {cache}: no permission. Set HF_HOME to another folder.")
    if (needed := size * SPACE_FACTOR) > free:
        raise DownloadFailed(
            f"{cache} needs {size_text(needed)} of free space and has {size_text(free)}: nothing was downloaded. "
            "Free disk space, or set HF_HOME to a folder on a larger disk."
        )


def _download(plan: Plan, hub: Hub, known: Iterable[str]) -> None:
    from huggingface_hub import snapshot_download

    model = plan.model
    # An update that breaks off must leave the old version usable: the branch moves only after the new one is complete.
    is_update = model_status(model, hub.cache).state == "complete"
    try:
        with progress_bars() as bar:
            snapshot_download(
                model.name,
                revision=plan.commit if is_update else None,
                tqdm_class=bar,
                allow_patterns=[escape(file) for file in plan.files],
                endpoint=hub.endpoint,
                cache_dir=hub.cache,
                etag_timeout=hub.timeout_s,
            )
        if is_update:
            set_branch(repository_of(hub, model), plan.commit)
    except Exception as error:
        raise explain(error, model, hub, known) from error
    _report_complete(model, model_status(model, hub.cache), size_text(plan.size))


def _report_complete(model: Model, found: ModelStatus, remark: str) -> None:
    """Print that a model is complete.

    Raises:
        DownloadFailed: files are missing that the hub does not have.
    """
    if found.state != "complete":
        raise DownloadFailed(
            f"{model.name}: {', '.join(found.missing)} missing in {found.folder}: {_engine_of(model)} cannot use it."
        )
    print(f"{model.name}: complete in {found.folder} ({remark})", flush=True)


def _engine_of(model: Model) -> str:
    return f"the {model.stage} engine {model.engine}" if model.engine != "–" else "Parley"
