"""A container engine in miniature: builds the stages of our Dockerfile in a folder."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from tests.support.waiting import HANG_S

OURS = ("data", "opt", "src", "wheels")
"""Root folders that our images create. Here they are in the builder's folder."""
OF_THE_MACHINE = ("apt-get", "useradd")
"""Commands that change more than files. They are skipped."""
PASSED_ON = re.compile(r"pip_|ssl_|requests_|curl_|.*_proxy$", re.IGNORECASE)
"""Variables with which a container engine reaches the registry; taken from the environment."""


@dataclass(frozen=True, slots=True)
class Step:
    """One instruction."""

    word: str
    rest: str


@dataclass(frozen=True, slots=True)
class Stage:
    """FROM … AS name, and what follows it."""

    parent: str
    steps: list[Step] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Image:
    """A built stage, and how to run it. Its paths are real ones."""

    files: Path | None
    env: Mapping[str, str]
    workdir: str = "/"
    user: str = "root"
    command: tuple[str, ...] = ()
    health: tuple[str, ...] = ()
    stop_signal: str = ""
    exposed: frozenset[str] = frozenset()


def read_dockerfile(text: str, **build_args: str) -> dict[str, Stage]:
    """The stages by name."""
    stages: dict[str, Stage] = {}
    known: dict[str, str] = {}
    name = ""
    for step in _steps(text):
        if step.word == "FROM":
            parent, word, name = step.rest.split()
            assert word.upper() == "AS", step
            stages[name] = Stage(expand(parent, known))
        elif name:
            stages[name].steps.append(step)
        else:
            assert step.word == "ARG", step
            argument, _, default = step.rest.partition("=")
            known[argument] = build_args.get(argument, default)
    return stages


def _steps(text: str) -> Iterator[Step]:
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    for line in re.sub(r"\\\n", " ", "\n".join(lines)).splitlines():
        if line.strip():
            word, rest = line.split(maxsplit=1)
            yield Step(word.upper(), rest.strip())


def expand(text: str, known: Mapping[str, str]) -> str:
    """Replace every ${NAME}. Raises KeyError for an unknown one."""
    return re.sub(r"\$\{(\w+)\}", lambda found: known[found[1]], text)


def context_files(root: Path) -> Iterator[Path]:
    """The files that .dockerignore lets in, relative to the root."""
    rules = [line for line in (root / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    kept = {rule.removeprefix("!") for rule in rules if rule.startswith("!")}
    dropped = [rule for rule in rules if not rule.startswith("!") and rule != "*"]
    assert "*" in rules, "what is not named must stay out"
    for name in sorted(kept):
        for path in [root / name, *(root / name).rglob("*")]:
            inner = path.relative_to(root)
            out = any(parent.match(rule.removeprefix("**/")) for rule in dropped for parent in (inner, *inner.parents))
            if (path.is_file() or path.is_symlink()) and not out:
                yield inner


class Builder:
    """Builds each stage in the same folder, `root`, and then moves it aside: so the paths inside its files stay valid."""

    def __init__(self, stages: Mapping[str, Stage], context: Path, folder: Path) -> None:
        self._stages, self._context, self._folder = stages, context, folder
        self._built: dict[str, Image] = {}
        self.root = folder / "root"
        (folder / "bin").mkdir()
        python = folder / "bin" / "python"  # alone in this folder, so that nothing else of this environment is found
        python.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
        python.chmod(0o755)

    def build(self, name: str) -> Image:
        """Build a stage and the stages that it is made from. A stage that changes no file has its parent's files."""
        if name not in self._stages:  # an image from the registry
            return Image(None, {"PATH": f"{self._folder / 'bin'}:/usr/local/bin:/usr/bin:/bin"})
        if name not in self._built:
            stage = self._stages[name]
            image = self.build(stage.parent)
            for step in stage.steps:
                if source := re.match(r"--from=(\S+)", step.rest):
                    self.build(source[1])
            changes = any(step.word in ("COPY", "RUN", "WORKDIR") for step in stage.steps)
            if changes:
                self._open(image)
            arguments: dict[str, str] = {}
            for step in stage.steps:
                image = self._do(step, image, arguments)
            if changes:
                image = replace(image, files=self._folder / name)
                self.root.rename(self._folder / name)
            self._built[name] = image
        return self._built[name]

    def place(self, image: Image) -> None:
        """Put an image's files back where they were built. They run only there."""
        assert image.files is not None
        _link(image.files, self.root)

    def real(self, text: str) -> str:
        """Replace the image's paths by real ones."""
        return re.sub(rf"(?<![\w./:-])/(?=({'|'.join(OURS)})\b)", f"{self.root}/", text)

    def _open(self, image: Image) -> None:
        if image.files is None:
            self.root.mkdir()
        else:
            _link(image.files, self.root)

    def _do(self, step: Step, image: Image, arguments: dict[str, str]) -> Image:
        match step.word:
            case "ARG":
                name, _, default = step.rest.partition("=")
                arguments[name] = default
            case "ENV":
                env = dict(image.env)
                for pair in shlex.split(step.rest):
                    name, _, value = pair.partition("=")
                    env[name] = expand(self.real(value), image.env)
                return replace(image, env=env)
            case "WORKDIR":
                workdir = self.real(step.rest)
                Path(workdir).mkdir(parents=True, exist_ok=True)
                return replace(image, workdir=workdir)
            case "COPY":
                self._copy(step.rest, image)
            case "RUN":
                self._run(expand(step.rest, arguments), image)
            case "CMD":
                return replace(image, command=tuple(json.loads(step.rest)))
            case "HEALTHCHECK":
                return replace(image, health=tuple(json.loads(step.rest.partition(" CMD ")[2])))
            case "USER":
                return replace(image, user=step.rest)
            case "STOPSIGNAL":
                return replace(image, stop_signal=step.rest)
            case "EXPOSE":
                return replace(image, exposed=image.exposed | set(step.rest.split()))
            case _:
                raise AssertionError(f"{step} is unknown here")
        return image

    def _copy(self, rest: str, image: Image) -> None:
        if found := re.match(r"--from=(\S+) (\S+) (\S+)$", rest):
            files = self._built[found[1]].files
            assert files is not None
            _link(files / found[2].lstrip("/"), Path(self.real(found[3])))
            return
        *sources, target = rest.split()
        assert target in (".", "./"), "only to the working directory"
        taken = [path for path in context_files(self._context) if sources == ["."] or str(path) in sources]
        assert sources == ["."] or len(taken) == len(sources), f".dockerignore keeps one of {sources} out"
        for path in taken:
            (Path(image.workdir) / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(self._context / path, Path(image.workdir) / path, follow_symlinks=False)

    def _run(self, command: str, image: Image) -> None:
        if command.split(maxsplit=1)[0] in OF_THE_MACHINE:
            if home := re.search(r"--home-dir (\S+)", command):
                Path(self.real(home[1])).mkdir(parents=True)
            return
        foreign = set(re.findall(r"(?<![\w./:-])/(\w+)", command)) - set(OURS)
        assert not foreign, f"{command!r} would change /{foreign.pop()} of this machine"
        passed = {name: value for name, value in os.environ.items() if PASSED_ON.match(name)}
        env = {"HOME": str(self._folder), **passed, **image.env}
        done = subprocess.run(
            ["sh", "-ec", self.real(command)], env=env, cwd=image.workdir, capture_output=True, text=True,
            timeout=HANG_S, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"{command}:\n{done.stdout}\n{done.stderr}"


def _link(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run(["cp", "-al", source, target], check=True, timeout=HANG_S)
