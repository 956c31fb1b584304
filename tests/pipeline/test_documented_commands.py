"""Every command in README and docs is run, in a copy of a checkout beside a system that `make run` started.

A command that no rule knows fails. Those that change the machine, download or take minutes are not run; what is checked of
them instead is in `RULES`.
"""

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import time
import wave
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
import redis
import yaml
from typer.testing import CliRunner
from websockets.sync.client import connect

from benchmarks.__main__ import app as benchmarks
from deploy.cli.__main__ import app as parley
from deploy.local.broker import broker_argv, find_program
from shared.protocol.streams import Keys
from shared.settings import Settings
from tests.support.documented import ROOT, SHELL, Block, Command, blocks, commands
from tests.support.free_ports import free_ports
from tests.support.system import CLASSIC
from tests.support.waiting import HANG_S

OTHER_LANGUAGES = {"ini", "js", "python", "text", "toml", "xml"}
SERVICES = 5
POLL_S = 0.1
NOT_OURS = re.compile(r"PARLEY_|MAKE|MFLAGS|.*_proxy$", re.IGNORECASE)

WORDS = "What I say in the recording takes a little more than three seconds, and every word of it is clear."
"""Length of me.wav: a voice is made from 3 to 12 seconds."""


@dataclass(frozen=True, slots=True)
class Checkout:
    """A folder that looks like a checkout after `make install`, and the system that runs beside it."""

    folder: Path
    env: dict[str, str]
    replaced: dict[str, str]
    """What the documentation says, and what it is here: ports, the broker, the id of a session."""

    def here(self, text: str) -> str:
        for documented, actual in self.replaced.items():
            text = text.replace(documented, actual)
        return text

    def start(self, command: str, **env: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            ("bash", "-c", command),
            cwd=self.folder,
            env={**self.env, **env},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def call(self, command: str, **env: str) -> str:
        """Run it to its end; its output.

        Raises:
            AssertionError: it failed.
        """
        process = self.start(command, **env)
        try:
            output, _ = process.communicate(timeout=HANG_S)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.communicate()
        assert process.returncode == 0, f"{command}: exit code {process.returncode}\n{output}"
        return output


# -- what a command is checked by -----------------------------------------------------------------------------------------


def run(command: Command, checkout: Checkout) -> None:
    checkout.call(checkout.here(command.text), **command.assigned)


def run_curl(command: Command, checkout: Checkout) -> None:
    checkout.call(checkout.here(command.text).replace("curl ", "curl --fail --silent --show-error ", 1))


def run_fewer_turns(command: Command, checkout: Checkout) -> None:
    words = [*command.words, "--turns", "50"]
    checkout.call(" ".join(words))


def run_service(command: Command, checkout: Checkout) -> None:
    """Start it, wait until the broker knows that it is ready, end it by a signal."""
    stage = command.words[-1]
    process = checkout.start(checkout.here(command.text))
    try:
        with redis.Redis.from_url(checkout.here(command.assigned["PARLEY_REDIS_URL"])) as broker:
            while not broker.exists(Keys().ready(stage)):
                assert process.poll() is None, process.communicate()[0]
                time.sleep(POLL_S)
        os.killpg(process.pid, signal.SIGTERM)
        output, _ = process.communicate(timeout=HANG_S)
        assert process.returncode == 0, output
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()


def accept_options(command: Command, checkout: Checkout) -> None:
    """Its options exist: an unknown one is an error also before --help. Parley's own are read in this process."""
    match command.words:
        case (".venv/bin/parley", "bench", *words):
            result = CliRunner().invoke(benchmarks, [*words, "--help"])
        case (".venv/bin/parley", *words):
            result = CliRunner().invoke(parley, [*words, "--help"])
        case _:
            checkout.call(" ".join((*command.words, "--help")))
            return
    assert result.exit_code == 0, result.output


def dry_run(command: Command, checkout: Checkout) -> None:
    """The target exists, and Makefile or environment know the variables."""
    _, target, *variables = command.words
    known = set(re.findall(r"^([A-Z_]+) \?=", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert {name.partition("=")[0] for name in variables} <= known
    assert {name for name in command.assigned if not name.startswith(("PARLEY_", "OTEL_"))} <= known
    checkout.call(f"make --dry-run {target} {' '.join(variables)}", **command.assigned)


def name_services(command: Command, checkout: Checkout) -> None:
    """The subcommand is one that we use, and services are in compose.yaml; tests/pipeline/test_containers.py runs them."""
    known = set(yaml.safe_load((ROOT / "compose.yaml").read_text())["services"])
    _, _, subcommand, *words = command.words
    assert subcommand in {"up", "build", "run", "logs", "restart"}
    named = {word.partition("=")[0] for word in words if re.fullmatch(r"[a-z]+(=\d+)?", word)}
    if subcommand == "run":
        assert words[:2] in (["--rm", service] for service in known)
    else:
        assert named <= known


def name_packages(command: Command, checkout: Checkout) -> None:
    """The packages are those that the Makefile installs for the tests."""
    packages = " ".join(re.findall(r'packages="\$packages ([\w-]+)"', (ROOT / "tests/programs.sh").read_text()))
    assert command.words[:3] == ("sudo", "apt-get", "install")
    assert set(command.words[3:]) <= set(packages.split())


def leave(command: Command, checkout: Checkout) -> None:
    """Not checked."""


@dataclass(frozen=True, slots=True)
class Rule:
    """How commands are checked, and why they are not simply run."""

    pattern: str
    check: Callable[[Command, Checkout], None]
    reason: str = ""


RULES = (
    Rule(r"make \w", dry_run, "installs, or runs all tests; `make run` starts the system of this test"),
    Rule(r"\.venv/bin/parley (asr|vad|llm|tts|edge)$", run_service, "runs until a signal"),
    Rule(r"\.venv/bin/parley up", accept_options, "`make run` starts it"),
    Rule(r"\.venv/bin/parley bench ", accept_options, "takes minutes; tests/commands/benchmarks tests them"),
    Rule(r"\.venv/bin/parley models (pull|verify|warm)", accept_options, "needs models; tests/unit/deploy tests them"),
    Rule(r"redis-server ", leave, "starts a broker; tests/pipeline/test_secured_broker.py tests such a one"),
    Rule(r"\.venv/bin/python -m tests\.support\.simulation$", run_fewer_turns, "takes minutes"),
    Rule(r"\.venv/bin/python -m tests\.support\.screenshots", accept_options, "takes a minute, and changes files"),
    Rule(r"\.venv/bin/python -m dashboards$", accept_options, "changes files; `make check` compares them"),
    Rule(r"\.venv/bin/python -m spacy download en_core_web_sm$", leave, "downloads a package"),
    Rule(r"\.venv/bin/parley talk --between", accept_options, "takes minutes; tests/pipeline/test_duet.py tests it"),
    Rule(
        r"\.venv/bin/parley (forget|roll|replay)",
        accept_options,
        "changes what others ask for; tests/pipeline tests them",
    ),
    Rule(r"\.venv/bin/parley ", run),
    Rule(r"redis-cli ", run),
    Rule(r"curl ", run_curl),
    Rule(r"docker compose ", name_services, "needs a container engine"),
    Rule(r"sudo apt-get install ", name_packages, "changes the machine"),
    Rule(r"git worktree add ", leave, "needs the history, which a shallow clone does not have"),
)
"""The first one that matches counts. Without one, a command fails the test."""


# -- the checkout and its system -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout after `make install`: links to this one, and commands that run its code."""
    folder = tmp_path_factory.mktemp("checkout")
    for name in ("Makefile", "pyproject.toml", "constraints.txt", "compose.yaml", "benchmarks"):
        (folder / name).symlink_to(ROOT / name)
    programs = folder / ".venv/bin"
    programs.mkdir(parents=True)
    # What make would install, it would install into the environment of this test.
    no_pip = 'case "$*" in "-m pip "*) echo "nothing is installed here" >&2; exit 1;; esac'
    for name, arguments in (("python", ""), ("parley", " -P -m deploy.cli")):
        (programs / name).write_text(f'#!/bin/sh\n{no_pip}\nexec {sys.executable}{arguments} "$@"\n')
        (programs / name).chmod(0o755)
    for part in ("run", "light", "neural", "dev"):
        (folder / f".venv/.installed-{part}").touch()
    return folder


@pytest.fixture(scope="module")
def env(folder: Path) -> dict[str, str]:
    """Without settings, proxies, and the flags of the make that may run this test."""
    ours = {name: value for name, value in os.environ.items() if not NOT_OURS.match(name)}
    return {**ours, **CLASSIC, "PYTHONPATH": str(ROOT), "PARLEY_DATA_DIR": str(folder / "data"), "COLUMNS": "120"}


@contextmanager
def made_run(folder: Path, env: dict[str, str], port: int, metrics_port: int) -> Iterator[None]:
    """`make run`, until its page answers."""
    with (folder / "run.log").open("w+") as log:
        argv = ("make", "run", f"PORT={port}", f"METRICS_PORT={metrics_port}")
        process = subprocess.Popen(
            argv, cwd=folder, env=env, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            with httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client:
                while not _is_healthy(client):
                    assert process.poll() is None, (folder / "run.log").read_text()
                    time.sleep(POLL_S)
            yield
            os.killpg(process.pid, signal.SIGINT)  # Ctrl-C
            process.wait(HANG_S)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def _is_healthy(client: httpx.Client) -> bool:
    try:
        return client.get("/health").status_code == 200
    except httpx.HTTPError:
        return False


@pytest.fixture(scope="module")
def other_broker(folder: Path) -> Iterator[str]:
    """The address of a broker on TCP, which stands for the one of another machine."""
    program = asyncio.run(find_program("", lambda reason: None))
    port = free_ports(1)
    argv = (*broker_argv(program, folder), "--port", str(port), "--bind", "127.0.0.1")
    with subprocess.Popen(argv, stdout=subprocess.DEVNULL) as process:
        yield f"127.0.0.1:{port}"
        process.terminate()


@pytest.fixture(scope="module")
def checkout(
    folder: Path, env: dict[str, str], other_broker: str, speech_pcm: Callable[[str, int], bytes]
) -> Iterator[Checkout]:
    port = free_ports(1 + SERVICES)
    metrics_port = port + 1
    for name, words in (("hello.wav", "hello there"), ("me.wav", WORDS)):
        with wave.open(str(folder / name), "wb") as file:
            file.setparams((1, 2, 16_000, 0, "NONE", ""))
            file.writeframes(speech_pcm(words, 16_000))
    with made_run(folder, env, port, metrics_port), connect(f"ws://127.0.0.1:{port}/ws", proxy=None) as client:
        client.send(json.dumps({"type": "start_streaming"}))
        session = json.loads(client.recv())["session_id"]
        client.send(json.dumps({"type": "text_input", "text": "hello"}))
        while isinstance(message := client.recv(), bytes) or json.loads(message)["type"] != "reply_done":
            pass
        replaced = {
            "127.0.0.1:8000": f"127.0.0.1:{port}",
            "127.0.0.1:9464": f"127.0.0.1:{metrics_port}",
            "10.0.0.5:6379": other_broker,
            "SESSION": session,
        }
        yield Checkout(folder, {**env, "PARLEY_PORT": str(port)}, replaced)


# -- the tests ---------------------------------------------------------------------------------------------------------------

BLOCKS = blocks()


def test_each_block_says_its_language() -> None:
    assert not [str(block) for block in BLOCKS if block.language not in SHELL | OTHER_LANGUAGES]


@pytest.mark.parametrize("block", [block for block in BLOCKS if block.language in SHELL], ids=str)
def test_the_commands_of_a_block(block: Block, checkout: Checkout, monkeypatch: pytest.MonkeyPatch) -> None:
    found = list(commands(block))
    assert found
    for command in found:
        said = " ".join(command.words)
        rule = next((rule for rule in RULES if re.match(rule.pattern, said)), None)
        assert rule is not None, f"{block}: no rule in RULES says how to check: {said}"
        with monkeypatch.context() as patched:
            for name, value in command.assigned.items():
                patched.setenv(name, value)
            Settings()  # no misspelt PARLEY_ variable, no value that is not allowed
        rule.check(command, checkout)


@pytest.mark.parametrize("block", [block for block in BLOCKS if block.language == "python"], ids=str)
def test_a_python_example(block: Block, checkout: Checkout) -> None:
    (checkout.folder / "example.py").write_text(checkout.here(block.text))
    assert checkout.call(".venv/bin/python example.py").strip()


def test_each_rule_is_needed() -> None:
    said = [" ".join(command.words) for block in BLOCKS if block.language in SHELL for command in commands(block)]
    assert not [rule.pattern for rule in RULES if not any(re.match(rule.pattern, one) for one in said)]
