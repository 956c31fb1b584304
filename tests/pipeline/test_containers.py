"""The images and the compose file, without a container engine: built, started and stopped as one would do it."""

import asyncio
import json
import re
import shutil
import signal
import subprocess
import tomllib
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Self

import pytest
import yaml

from shared.settings import STAGES, TABLE, Settings
from tests.conftest import need
from tests.support.broker import embedded_broker
from tests.support.containers import Builder, Image, Stage, context_files, read_dockerfile
from tests.support.free_ports import free_ports
from tests.support.waiting import HANG_S

ROOT = Path(__file__).parents[2]
SERVICES = (*STAGES, "edge")


def stages(profile: str = "classic") -> dict[str, Stage]:
    return read_dockerfile((ROOT / "deploy/Dockerfile").read_text(), PROFILE=profile)


def compose() -> dict[str, Any]:
    """compose.yaml, read as with an empty environment."""
    text = re.sub(r"\$\{\w+:-(\w*)\}", r"\1", (ROOT / "compose.yaml").read_text())
    assert "${" not in text
    read: dict[str, Any] = yaml.safe_load(text)
    return read


def seconds(text: str) -> float:
    assert text.endswith("s")
    return float(text[:-1])


class Container:
    """A service started as its image says, with what compose.yaml adds; its ports are free ones of this machine."""

    def __init__(self, image: Image, env: dict[str, str]) -> None:
        ports = {"PARLEY_METRICS_PORT": str(free_ports(1)), "PARLEY_PORT": str(free_ports(1))}
        self._image, self.env = image, {**image.env, **env, **ports}
        self._process: asyncio.subprocess.Process | None = None

    async def __aenter__(self) -> Self:
        self._process = await asyncio.create_subprocess_exec(
            *self._image.command, env=self.env, cwd=self._image.workdir, stderr=asyncio.subprocess.PIPE
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._process is not None
        if self._process.returncode is None:
            self._process.kill()
        await self._process.communicate()

    async def is_healthy(self) -> bool:
        """What the engine would see."""
        check = await asyncio.create_subprocess_exec(
            *self._image.health, env=self.env, cwd=self._image.workdir, stderr=asyncio.subprocess.DEVNULL
        )
        return await check.wait() == 0

    async def until_healthy(self) -> None:
        while not await self.is_healthy():
            await self._pause()

    async def until_heard(self) -> None:
        """Until it listens on its port, ready or not."""
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", int(self.env["PARLEY_PORT"]))
            except OSError:
                await self._pause()
            else:
                writer.close()
                return

    async def _pause(self) -> None:
        assert self._process is not None
        assert self._process.returncode is None, (await self._process.communicate())[1].decode()
        await asyncio.sleep(0.2)

    async def stop(self, grace_s: float) -> int:
        """The exit code."""
        assert self._process is not None
        self._process.send_signal(signal.Signals[self._image.stop_signal])
        async with asyncio.timeout(grace_s):
            await self._process.communicate()
        return self._process.returncode or 0


@pytest.fixture
def roomy(tmp_path: Path) -> Iterator[Path]:
    """A folder for hundreds of megabytes, gone at once after the test."""
    yield tmp_path
    shutil.rmtree(tmp_path)


async def test_each_target_is_built_gets_healthy_and_drains(roomy: Path) -> None:
    builder = Builder(stages(), ROOT, roomy)
    images = {name: await asyncio.to_thread(builder.build, name) for name in SERVICES}
    builder.place(images["edge"])
    assert {image.files for image in images.values()} == {images["edge"].files}, "one set of files serves all"
    services = compose()["services"]
    async with embedded_broker(roomy) as settings, AsyncExitStack() as stack:
        assert settings.redis_url is not None
        containers = {}
        for name, image in images.items():
            program = shutil.which(image.command[0], path=image.env["PATH"])
            assert program == str(builder.root / "opt/venv/bin/parley")
            env = {**services[name]["environment"], "PARLEY_REDIS_URL": settings.redis_url.get_secret_value()}
            containers[name] = Container(image, env)

        edge = await stack.enter_async_context(containers["edge"])
        async with asyncio.timeout(HANG_S):
            await edge.until_heard()
        assert not await edge.is_healthy(), "no stage is ready yet"
        assert not await containers["asr"].is_healthy(), "it does not run yet"
        for stage in STAGES:
            await stack.enter_async_context(containers[stage])
        async with asyncio.timeout(HANG_S):
            for container in containers.values():
                await container.until_healthy()

        codes = await asyncio.gather(
            *(container.stop(seconds(services[name]["stop_grace_period"])) for name, container in containers.items())
        )
        assert dict(zip(containers, codes, strict=True)) == dict.fromkeys(SERVICES, 0)


@pytest.mark.parametrize("profile", ["classic", "neural"])
def test_each_service_has_a_target_for_itself(profile: str) -> None:
    found = stages(profile)
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for name in SERVICES:
        chain = [found[name]]
        while chain[-1].parent in found:
            chain.append(found[chain[-1].parent])
        steps = [step for stage in chain for step in stage.steps]
        assert found[name].steps[-1].word == "CMD"
        assert json.loads(found[name].steps[-1].rest) == ["parley", name]
        assert profile in (chain[1].parent, found[name].parent)
        assert re.fullmatch(r"python:3\.\d+-slim-\w+", chain[-1].parent), "others' image, by its version"
        assert [step.rest for step in steps if step.word == "USER"] == ["parley"]
    installs = re.findall(r"\.\[(\w+)\]", " ".join(step.rest for stage in found.values() for step in stage.steps))
    assert set(installs) == {"neural"} <= set(extras)


def test_what_the_images_set_is_a_setting() -> None:
    steps = [step for stage in stages().values() for step in stage.steps if step.word == "ENV"]
    names = {name.lower() for step in steps for name in re.findall(r"\bPARLEY_(\w+)=", step.rest)}
    assert {"metrics_host", "metrics_port", "host", "port"} <= names <= set(TABLE)


def test_nothing_private_goes_into_an_image() -> None:
    files = {str(path) for path in context_files(ROOT)}
    assert {"pyproject.toml", "shared/settings.py", "services/edge/web/index.html"} <= files
    assert not [
        name
        for name in files
        if re.search(r"(^|/)(\.|tests/|__pycache__)|\.pyc$|^benchmarks/|^dashboards/\w+\.py$", name)
    ]


# -- compose.yaml -----------------------------------------------------------------------------------


def test_every_service_of_compose_is_bound_pinned_and_kept_alive() -> None:
    services = compose()["services"]
    assert set(services) == {*SERVICES, "broker", "prometheus", "alertmanager", "grafana"}
    published = {}
    for name, service in services.items():
        assert service["restart"] == "unless-stopped"
        assert {"max-size", "max-file"} <= set(service["logging"]["options"])
        assert ("build" in service) == (name in SERVICES)
        if "image" in service:
            assert re.search(r":v?\d+\.\d+", service["image"]), f"{name} has no version"
        if "ports" in service:
            published[name] = service["ports"]
        for needed, how in service.get("depends_on", {}).items():
            assert how == {"condition": "service_healthy"}
            assert "healthcheck" in services[needed] or needed in SERVICES
        for volume in service.get("volumes", ()):
            source = volume.partition(":")[0]
            assert (ROOT / source).exists() if source.startswith("./") else source in compose()["volumes"], source
    assert published == {"edge": ["127.0.0.1:8000:8000"], "grafana": ["127.0.0.1:3000:3000"]}


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_of_compose_is_built_from_its_target_and_gets_real_settings(name: str) -> None:
    service = compose()["services"][name]
    assert (ROOT / service["build"]["dockerfile"]).is_file()
    assert service["build"]["target"] == name
    assert service["build"]["target"] in stages(service["build"]["args"]["PROFILE"])
    fields = {key.removeprefix("PARLEY_").lower(): value for key, value in service["environment"].items()}
    assert set(fields) <= set(TABLE)
    settings = Settings.model_validate(fields)
    assert seconds(service["stop_grace_period"]) > settings.drain_ms / 1000 + 5
    assert settings.redis_url is not None
    assert settings.redis_url.get_secret_value() == "redis://broker:6379/0"


def mounted(service: str, folder: Path) -> Path:
    """The files that compose.yaml mounts into a container, in a folder in place of its file system."""
    for volume in compose()["services"][service]["volumes"]:
        source, target, *_ = volume.split(":")
        if source.startswith("./"):
            place = folder / target.lstrip("/")
            place.parent.mkdir(parents=True, exist_ok=True)
            (shutil.copytree if (ROOT / source).is_dir() else shutil.copyfile)(ROOT / source, place)
    return folder


def test_prometheus_asks_every_service_of_compose(tmp_path: Path) -> None:
    path = mounted("prometheus", tmp_path) / "etc/prometheus/prometheus.yml"
    subprocess.run([need("promtool"), "check", "config", path], check=True, timeout=HANG_S)
    config = yaml.safe_load(path.read_text())
    (job,) = config["scrape_configs"]
    (found,) = job["dns_sd_configs"]
    steps = [step.rest for stage in stages().values() for step in stage.steps if step.word == "ENV"]
    assert f"PARLEY_METRICS_PORT={found['port']}" in " ".join(steps).split()
    assert found["names"] == list(SERVICES)
    assert job["honor_labels"], "a label `stage` of a metric's own counts"
    (alertmanager,) = config["alerting"]["alertmanagers"]
    assert alertmanager["static_configs"][0]["targets"] == ["alertmanager:9093"]
    for flag in ("--config.file", "--storage.tsdb.path", "--storage.tsdb.retention.time"):
        assert any(part.startswith(f"{flag}=") for part in compose()["services"]["prometheus"]["command"])


def test_alertmanager_reads_its_configuration(tmp_path: Path) -> None:
    path = mounted("alertmanager", tmp_path) / "etc/alertmanager/alertmanager.yml"
    subprocess.run([need("amtool"), "check-config", path], check=True, timeout=HANG_S)
    assert f"--config.file=/{path.relative_to(tmp_path)}" in compose()["services"]["alertmanager"]["command"]


def test_grafana_finds_its_sources_and_dashboards(tmp_path: Path) -> None:
    grafana = mounted("grafana", tmp_path)
    sources = yaml.safe_load((grafana / "etc/grafana/provisioning/datasources/parley.yaml").read_text())["datasources"]
    assert {source["uid"]: source["url"] for source in sources} == {
        "prometheus": "http://prometheus:9090",
        "alertmanager": "http://alertmanager:9093",
    }
    (provider,) = yaml.safe_load((grafana / "etc/grafana/provisioning/dashboards/parley.yaml").read_text())["providers"]
    assert list((grafana / provider["options"]["path"].lstrip("/")).glob("*.json"))
    home = compose()["services"]["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert (grafana / home.lstrip("/")).is_file()


def test_the_engine_itself_takes_the_compose_file() -> None:
    docker = shutil.which("docker")
    if docker is None or subprocess.run([docker, "compose", "version"], capture_output=True, check=False).returncode:
        pytest.skip("docker compose is not installed")
    done = subprocess.run(
        [docker, "compose", "config", "--quiet"], cwd=ROOT, capture_output=True, text=True, timeout=HANG_S, check=False
    )
    assert done.returncode == 0, done.stderr


# -- the reader of Dockerfiles ----------------------------------------------------------------------


def test_a_build_stops_where_it_would_leave_its_folder_or_a_command_fails(tmp_path: Path) -> None:
    def build(line: str, folder: str) -> Callable[[], Image]:
        (tmp_path / folder).mkdir()
        found = read_dockerfile(f"FROM python AS one\nWORKDIR /src\n{line}\n")
        return lambda: Builder(found, ROOT, tmp_path / folder).build("one")

    with pytest.raises(AssertionError, match="would change /etc of this machine"):
        build("RUN touch /etc/parley", "a")()
    with pytest.raises(AssertionError, match="exit 3"):
        build("RUN exit 3", "b")()
    with pytest.raises(AssertionError, match="keeps one of"):
        build("COPY Makefile .", "c")()
    with pytest.raises(AssertionError, match="is unknown here"):
        build("SHELL sh", "d")()
