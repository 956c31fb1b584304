"""`parley models pull`: brings models from the hub into the cache, with their size and the free disk space looked at before."""

import os
import shutil
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from glob import escape
from pathlib import Path
from typing import Any

from deploy.models.catalog import Model, Standing, known_names, named_models, size_text, standing
from deploy.models.hub import Hub, NotHad, cache_of, explain, progress_bars, reason, repository_of, set_branch
from shared.distribution import not_installed
from shared.engines.models import are_weights, as_folder
from shared.engines.registry import UnknownEngine
from shared.settings import Settings

SPARE = 1.05
"""Room on the disk, as a multiple of what is to be brought."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be brought of a model."""

    model: Model
    commit: str
    files: tuple[str, ...]
    size: int
    """Bytes of all files."""
    to_come: int
    """Bytes of those that are lacking."""


def run_pull(settings: Settings, names: Sequence[str], hub: Hub | None = None) -> int:
    """Bring these models, or all that the settings use. Returns 0 where all are here, else 1."""
    models = named_models(settings, names)
    if not models:
        print("the engines of these settings need no model of the hub")
        return 0
    try:
        from huggingface_hub.utils.tqdm import disable_progress_bars
    except ImportError as error:
        raise UnknownEngine(not_installed("The library that downloads models", "neural", error.name)) from error
    hub = hub or Hub()
    if not sys.stderr.isatty():
        disable_progress_bars()
    known = known_names(settings)
    plans, failed = [], False
    for model in models:
        try:
            if (plan := _plan(model, hub, known)) is not None:
                plans.append(plan)
        except NotHad as error:
            failed = _complain(error)
    try:
        _require_space(cache_of(hub), sum(plan.to_come for plan in plans))
    except NotHad as error:
        _complain(error)
        return 1
    for plan in plans:
        try:
            _bring(plan, hub, known)
        except NotHad as error:
            failed = _complain(error)
    return 1 if failed else 0


def _plan(model: Model, hub: Hub, known: Iterable[str]) -> Plan | None:
    """What is to be brought; None where nothing can be and nothing is missing."""
    from huggingface_hub import HfApi

    if as_folder(model.name) is not None:
        _require(model, standing(model, hub.cache), "a folder of this machine")
        return None
    try:
        about = HfApi(endpoint=hub.endpoint).model_info(model.name, files_metadata=True, timeout=hub.timeout_s)
    except Exception as error:
        found = standing(model, hub.cache)
        if found.state == "complete":
            _require(model, found, f"not compared with the hub: {reason(error)}")
            return None
        raise explain(error, model, hub, known) from error
    files = {sibling.rfilename: sibling for sibling in about.siblings or ()}
    wanted = model.wanted(files)
    lacks = [need for need in model.needs if need not in files]
    if lacks or not any(map(are_weights, wanted)):
        lack = ", ".join(lacks) or "weights that can be loaded"
        raise NotHad(f"{model.name} on the hub has no {lack}: it is no model for {_user(model)}.")
    repository = repository_of(hub, model)
    lacking = [file for file in wanted if not _is_here(repository, str(about.sha), file, files[file])]
    sizes = {file: files[file].size or 0 for file in wanted}
    total, to_come = sum(sizes.values()), sum(sizes[file] for file in lacking)
    if lacking:
        print(f"{model.name}: {len(lacking)} of {len(wanted)} files to bring, {size_text(to_come)}", flush=True)
    return Plan(model, str(about.sha), tuple(wanted), total, to_come)


def _is_here(repository: Path, commit: str, file: str, about: Any) -> bool:
    """Whether a file is in the cache, of this commit or of another that has the same."""
    blob = about.lfs.sha256 if about.lfs else about.blob_id
    return (repository / "snapshots" / commit / file).exists() or bool(blob and (repository / "blobs" / blob).exists())


def _require_space(cache: Path, to_come: int) -> None:
    """Raises `NotHad` if so many bytes cannot be written there."""
    if not to_come:
        return
    try:
        cache.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(cache).free
    except OSError as error:
        raise NotHad(f"the cache cannot be written: {error}. Set HF_HOME to another folder.") from error
    if not os.access(cache, os.W_OK):
        raise NotHad(f"the cache {cache} is not for you to write. Set HF_HOME to another folder.")
    if (needed := to_come * SPARE) > free:
        raise NotHad(
            f"{size_text(needed)} are needed in {cache}, and {size_text(free)} are free: nothing was brought. "
            "Make room, or set HF_HOME to a folder on a larger disk."
        )


def _bring(plan: Plan, hub: Hub, known: Iterable[str]) -> None:
    from huggingface_hub import snapshot_download

    model = plan.model
    # The branch is only set to a new commit when all of it is here: a pull that breaks off must not take away what worked.
    renewed = standing(model, hub.cache).state == "complete"
    try:
        with progress_bars() as bar:
            snapshot_download(
                model.name,
                revision=plan.commit if renewed else None,
                tqdm_class=bar,
                allow_patterns=[escape(file) for file in plan.files],
                endpoint=hub.endpoint,
                cache_dir=hub.cache,
                etag_timeout=hub.timeout_s,
            )
        if renewed:
            set_branch(repository_of(hub, model), plan.commit)
    except Exception as error:
        raise explain(error, model, hub, known) from error
    _require(model, standing(model, hub.cache), size_text(plan.size))


def _require(model: Model, found: Standing, remark: str) -> None:
    """Say that a model is complete.

    Raises:
        NotHad: it is not, and the hub has no more of it.
    """
    if found.state != "complete":
        raise NotHad(
            f"{model.name}: {', '.join(found.missing)} missing in {found.folder}: no model for {_user(model)}."
        )
    print(f"{model.name}: complete in {found.folder} ({remark})", flush=True)


def _user(model: Model) -> str:
    return f"the {model.stage} engine {model.engine}" if model.engine != "–" else "any engine here"


def _complain(error: NotHad) -> bool:
    print(error, file=sys.stderr, flush=True)
    return True
