"""`parley models`: list, download from a hub, find damaged files, load the engines."""

import json
import os
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from typer.testing import CliRunner

from deploy.cli.__main__ import app
from deploy.models.hub import Hub
from deploy.models.pull import run_pull
from deploy.models.used import Model, model_status, named_models, size_text, used_models
from deploy.models.verify import check_file, check_safetensors, run_verify
from deploy.models.warm import run_warm
from shared.engines.models import VOCODER
from shared.engines.registry import UnknownEngine
from shared.settings import Settings, load_settings
from tests.support.hub_server import HubServer
from tests.support.waiting import HANG_S

WHISPER = "openai/whisper-base"
HUGE = 10**16


def safetensors(numbers: bytes) -> bytes:
    header = json.dumps({"a": {"dtype": "U8", "shape": [len(numbers)], "data_offsets": [0, len(numbers)]}}).encode()
    return struct.pack("<Q", len(header)) + header + numbers


FILES = {
    "config.json": b'{"model_type": "whisper"}',
    "tokenizer.json": b"{}",
    "model.safetensors": safetensors(bytes(300_000)),
    "pytorch_model.bin": b"the same again",
    "README.md": b"# A model",
    "onnx/model.onnx": b"and again",
}
WANTED = ["config.json", "tokenizer.json", "model.safetensors"]


def settings(**values: Any) -> Settings:
    plain = {**Settings.model_construct().model_dump(), "device": "cpu", "asr_engine": "transformers"}
    engines = {"vad_engine": "webrtc", "llm_engine": "eliza", "tts_engine": "espeak"}
    return Settings.model_validate({**plain, **engines, **values})


@pytest.fixture(autouse=True)
def no_token(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PARLEY_PROFILE", "classic")


@pytest.fixture
def server() -> Iterator[HubServer]:
    with HubServer() as server:
        server.add(WHISPER, FILES)
        yield server


@pytest.fixture
def hub(server: HubServer, tmp_path: Path) -> Hub:
    return Hub(server.url, tmp_path / "cache")


def pulled(capsys: pytest.CaptureFixture[str], hub: Hub, *names: str, **values: Any) -> tuple[int, str, str]:
    code = run_pull(settings(**values), names, hub)
    return code, *capsys.readouterr()


# which models


def names_of(models: list[Model]) -> list[tuple[str, str, str]]:
    return [(model.stage, model.engine, model.name) for model in models]


def test_the_classic_engines_need_no_models() -> None:
    models = used_models(settings(asr_engine="sphinx"))
    assert names_of(models) == [
        ("vad", "webrtc", ""), ("asr", "sphinx", ""), ("llm", "eliza", ""), ("tts", "espeak", "")
    ]  # fmt: skip
    assert {model_status(model).state for model in models} == {"none needed"}


def test_the_models_of_every_kind_of_engine() -> None:
    models = used_models(
        settings(
            llm_engine="openai",
            llm_model="gpt",
            tts_engine="f5",
            tts_model="my/f5",
            endpoint_engine="smart-turn",
            vad_engine="outside:Engine",
        )
    )  # fmt: skip
    assert names_of(models) == [
        ("vad", "outside:Engine", ""),
        ("asr", "transformers", WHISPER),
        ("llm", "openai", ""),
        ("tts", "f5", "my/f5"),
        ("tts", "f5", VOCODER),
        ("endpoint", "smart-turn", "smart-turn-v3.2"),
    ]
    assert models[-1].expected == ("smart-turn-v3.2-cpu.onnx",)


def test_all_lists_each_engine_with_a_model_once() -> None:
    models = used_models(settings(asr_model="my/model"), everything=True)
    with_model = [(model.stage, model.engine) for model in models if model.name]
    assert with_model.count(("asr", "transformers")) == 1
    assert {("tts", "kokoro"), ("tts", "f5"), ("llm", "transformers"), ("endpoint", "smart-turn")} <= set(with_model)


def test_the_error_for_an_unknown_engine_lists_the_known_ones() -> None:
    with pytest.raises(UnknownEngine, match=r"PARLEY_TTS_ENGINE='esspeak': known are espeak, f5, kokoro"):
        used_models(settings(tts_engine="esspeak"))


def test_an_unknown_name_on_the_command_line_is_a_model_of_transformers() -> None:
    models = named_models(settings(), ["hexgrad/Kokoro-82M", "some/thing", "some/thing", VOCODER])
    assert [(model.name, model.kind) for model in models] == [
        ("hexgrad/Kokoro-82M", "kokoro"), ("some/thing", "transformers"), (VOCODER, "vocos")
    ]  # fmt: skip


def test_sizes() -> None:
    assert [size_text(size) for size in (0, 999, 1500, 3_200_000, 1.6e9, 4.1e12)] == [
        "0 B", "999 B", "2 kB", "3 MB", "1.6 GB", "4100.0 GB"
    ]  # fmt: skip


# pull


def test_pull_downloads_the_used_files_only_once(
    server: HubServer, hub: Hub, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = pulled(capsys, hub)
    assert (code, err) == (0, "")
    assert f"{WHISPER}: downloading 3 of 3 files, 300 kB" in out
    assert f"{WHISPER}: complete in {hub.cache}" in out
    assert sorted(server.downloads()) == sorted(WANTED)
    found = model_status(used_models(settings())[1], hub.cache)
    assert (found.state, found.size) == ("complete", sum(len(FILES[name]) for name in WANTED))
    server.requests.clear()
    code, out, _ = pulled(capsys, hub)
    assert (code, server.downloads()) == (0, [])
    assert "downloading" not in out


def test_pull_resumes_a_broken_download(server: HubServer, hub: Hub, capsys: pytest.CaptureFixture[str]) -> None:
    # The hub's library downloads, and keeps, pieces of 10 MB.
    server.add(WHISPER, {"config.json": b"{}", "model.safetensors": safetensors(bytes(24_000_000))})
    server.break_off.add("model.safetensors")
    assert pulled(capsys, hub)[0] == 0
    ranges = [range_ for method, path, range_ in server.requests if method == "GET" and path.endswith("safetensors")]
    assert ranges == [None, "bytes=10485760-"]
    assert run_verify(settings(), (), hub.cache) == 0


def test_pull_downloads_only_missing_files(server: HubServer, hub: Hub, capsys: pytest.CaptureFixture[str]) -> None:
    pulled(capsys, hub)
    server.add(WHISPER, {**FILES, "config.json": b'{"model_type": "whisper", "new": 1}'})
    server.requests.clear()
    code, out, _ = pulled(capsys, hub)
    assert code == 0
    assert "downloading 1 of 3 files, 35 B" in out
    assert server.downloads() == ["config.json"]
    assert b"new" in blob_of(hub, "config.json").read_bytes()


def test_an_update_that_fails_leaves_the_old_version(
    server: HubServer, hub: Hub, capsys: pytest.CaptureFixture[str]
) -> None:
    pulled(capsys, hub)
    old = blob_of(hub, "config.json")
    server.add(WHISPER, {**FILES, "config.json": b"{}"}, gated=True)
    assert pulled(capsys, hub)[0] == 1
    assert blob_of(hub, "config.json") == old
    assert run_verify(settings(), (), hub.cache) == 0


def test_pull_of_a_gated_model_says_what_to_do(
    server: HubServer, hub: Hub, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    server.add("meta/closed", FILES, gated=True)
    for token in ("", "hf_geheim"):
        monkeypatch.setenv("HF_TOKEN", token)
        code, _, err = pulled(capsys, hub, "meta/closed")
        assert code == 1
        assert f"meta/closed is gated: accept its terms at {hub.endpoint}/meta/closed, and set HF_TOKEN" in err
        assert "geheim" not in err


@pytest.mark.parametrize("token", ["", "hf_geheim"])
def test_pull_of_a_misspelt_name_suggests_the_nearest(
    token: str, hub: Hub, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", token)
    code, _, err = pulled(capsys, hub, "openai/wisper-base")
    assert (code, err.count("\n")) == (1, 1)
    assert "openai/wisper-base is not on the hub, or is private" in err
    assert f"Did you mean {WHISPER}?" in err
    assert "Did you mean" not in pulled(capsys, hub, "totally/else")[2]


@pytest.mark.parametrize(
    "name", ["", "a b", "a/b/c", "../up", "x" * 300, "ä/ö", "/no/such/folder", "~nobody/x", "a\0b"]
)
def test_pull_of_an_impossible_name(name: str, hub: Hub, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = pulled(capsys, hub, name or "--")
    assert (code, err.count("\n")) == (1, 1)
    assert "neither a folder, nor a model of the catalogue or the hub" in err


def test_a_failed_download_does_not_stop_the_others(hub: Hub, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = pulled(capsys, hub, "no/such", WHISPER)
    assert code == 1
    assert f"{WHISPER}: complete" in out
    assert "no/such is not on the hub" in err


def test_pull_stops_before_the_disk_is_full(server: HubServer, hub: Hub, capsys: pytest.CaptureFixture[str]) -> None:
    server.add(WHISPER, FILES, sizes={"model.safetensors": HUGE})
    code, _, err = pulled(capsys, hub)
    assert (code, server.downloads()) == (1, [])
    assert "needs 10500000.0 GB of free space" in err
    assert "HF_HOME" in err


@pytest.mark.parametrize(
    ("files", "lack"),
    [
        ({"README.md": b"no model"}, "config.json"),
        ({"config.json": b"{}", "flax_model.msgpack": b""}, "weights that can be loaded"),
        ({}, "config.json"),
    ],
)
def test_pull_of_a_repository_without_a_usable_model_downloads_nothing(
    files: dict[str, bytes], lack: str, server: HubServer, hub: Hub, capsys: pytest.CaptureFixture[str]
) -> None:
    server.add("some/thing", files)
    code, _, err = pulled(capsys, hub, "some/thing")
    assert (code, server.downloads()) == (1, [])
    assert err == f"some/thing on the hub has no {lack}: Parley cannot use it.\n"


def test_pull_of_a_model_whose_index_names_a_file_that_the_hub_lacks(
    server: HubServer, hub: Hub, capsys: pytest.CaptureFixture[str]
) -> None:
    index = json.dumps({"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}).encode()
    part = safetensors(b"1")
    server.add(WHISPER, {"config.json": b"{}", "model.safetensors.index.json": index, "model-1.safetensors": part})
    code, _, err = pulled(capsys, hub)
    assert (code, err.count("\n")) == (1, 1)
    assert f"{WHISPER}: model-2.safetensors missing in" in err


@pytest.mark.parametrize("status", [403, 500, 503])
def test_pull_from_a_hub_that_fails(
    status: int, server: HubServer, hub: Hub, capsys: pytest.CaptureFixture[str]
) -> None:
    server.answer = (status, {})
    code, _, err = pulled(capsys, hub)
    assert (code, str(status) in err, "Traceback" in err) == (1, True, False)


@pytest.mark.parametrize(
    "nonsense", [b"", b"<html>", b"[]", b"null", b'{"id": 3}', b'{"id": "a/b", "siblings": [3]}', b"[" * 100_000]
)
def test_pull_from_a_server_that_is_not_a_hub(
    nonsense: bytes, server: HubServer, hub: Hub, capsys: pytest.CaptureFixture[str]
) -> None:
    server.nonsense = nonsense
    code, _, err = pulled(capsys, hub)
    assert (code, err.count("\n")) == (1, 1)
    assert err.startswith(WHISPER)


def test_pull_from_a_hub_that_does_not_answer(server: HubServer, hub: Hub, capsys: pytest.CaptureFixture[str]) -> None:
    server.held.clear()
    code, _, err = pulled(capsys, Hub(hub.endpoint, hub.cache, timeout_s=0.2))
    server.held.set()
    assert (code, err.count("\n")) == (1, 1)
    assert "Timeout" in err


def test_pull_into_a_folder_that_cannot_be_written(hub: Hub, capsys: pytest.CaptureFixture[str]) -> None:
    assert hub.cache is not None
    hub.cache.write_text("a file where a folder should be")
    code, _, err = pulled(capsys, hub)
    assert (code, err.count("\n")) == (1, 1)
    assert "cannot write to the cache: " in err
    assert "HF_HOME" in err


def test_pull_selects_the_files_that_each_engine_uses(
    server: HubServer, hub: Hub, capsys: pytest.CaptureFixture[str]
) -> None:
    voices = {f"voices/{name}.pt": name.encode() for name in ("af_heart", "bf_emma")}
    server.add("hexgrad/Kokoro-82M", {**FILES, **voices, "kokoro-v1_0.pth": b"numbers"})
    assert pulled(capsys, hub, asr_engine="sphinx", tts_engine="kokoro")[0] == 0
    used = ["config.json", "kokoro-v1_0.pth", "voices/af_heart.pt", "voices/bf_emma.pt"]
    assert sorted(server.downloads()) == used


def test_the_token_is_never_printed(
    server: HubServer, hub: Hub, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_geheim")
    server.echo_authorization = True
    code, out, err = pulled(capsys, hub)
    assert code == 1
    assert "geheim" not in out + err


def test_pull_without_a_network(server: HubServer, hub: Hub, capsys: pytest.CaptureFixture[str]) -> None:
    nowhere = Hub("http://127.0.0.1:1", hub.cache)
    code, _, err = pulled(capsys, nowhere)
    assert (code, err.count("\n")) == (1, 1)
    assert "Missing on this machine: config.json, the weights." in err
    assert f"parley models pull {WHISPER}" in err
    pulled(capsys, hub)
    code, out, _ = pulled(capsys, nowhere)
    assert code == 0
    assert "not compared with the hub" in out


def test_pull_of_a_folder(hub: Hub, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    assert pulled(capsys, hub, str(folder))[0] == 1
    for name in WANTED:
        (folder / name).write_bytes(FILES[name])
    assert pulled(capsys, hub, asr_model=str(folder))[0] == 0


def test_pull_for_engines_without_models_asks_the_hub_nothing(
    server: HubServer, hub: Hub, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, _ = pulled(capsys, hub, asr_engine="sphinx")
    assert (code, server.requests) == (0, [])
    assert "need no model" in out


# verify


def blob_of(hub: Hub, name: str) -> Path:
    folder = model_status(used_models(settings())[1], hub.cache).folder
    assert folder is not None
    return (folder / name).resolve()


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
def test_verify_finds_one_wrong_byte_and_its_fix_works(name: str, hub: Hub, capsys: pytest.CaptureFixture[str]) -> None:
    pulled(capsys, hub)
    assert run_verify(settings(), (), hub.cache) == 0
    assert f"✓ {WHISPER}" in capsys.readouterr().out
    blob = blob_of(hub, name)
    data = bytearray(blob.read_bytes())
    data[-2] ^= 1
    blob.write_bytes(data)
    assert run_verify(settings(), (WHISPER,), hub.cache) == 1
    out = capsys.readouterr().out
    assert f"{name} is damaged" in out
    assert f"fix: rm {blob}, then: " in out
    blob.unlink()
    assert run_verify(settings(), (), hub.cache) == 1
    assert pulled(capsys, hub)[0] == 0
    assert run_verify(settings(), (), hub.cache) == 0


def test_a_damaged_index_is_found_and_can_be_fixed(
    server: HubServer, hub: Hub, capsys: pytest.CaptureFixture[str]
) -> None:
    index = json.dumps({"weight_map": {"a": "model-1.safetensors"}}).encode()
    part = safetensors(b"1")
    server.add(WHISPER, {"config.json": b"{}", "model.safetensors.index.json": index, "model-1.safetensors": part})
    assert pulled(capsys, hub)[0] == 0
    blob = blob_of(hub, "model.safetensors.index.json")
    blob.write_bytes(index[:-5])
    code, _, err = pulled(capsys, hub)
    assert (code, "a readable index of the weights missing" in err) == (1, True)
    assert run_verify(settings(), (), hub.cache) == 1
    assert f"rm {blob}" in capsys.readouterr().out
    blob.unlink()
    assert pulled(capsys, hub)[0] == 0
    assert run_verify(settings(), (), hub.cache) == 0


def test_verify_of_a_model_that_was_never_downloaded(hub: Hub, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_verify(settings(), (), hub.cache) == 1
    assert f"✗ {WHISPER}: not on this machine" in capsys.readouterr().out


def test_verify_of_a_folder_checks_files_and_headers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in WANTED:
        (tmp_path / name).write_bytes(FILES[name])
    assert run_verify(settings(), (str(tmp_path),)) == 0
    (tmp_path / "model.safetensors").write_bytes(FILES["model.safetensors"][:-1])
    (tmp_path / "config.json").unlink()
    assert run_verify(settings(), (str(tmp_path),)) == 1
    out = capsys.readouterr().out
    assert f"config.json missing in {tmp_path}" in out
    assert "its header says" in out


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"1234567",
        struct.pack("<Q", 2**63) + b"{}",
        struct.pack("<Q", 10) + b"{}",
        struct.pack("<Q", 2) + b"[]",
        struct.pack("<Q", 2) + b"\xff\xff",
        struct.pack("<Q", 8) + b'{"a": 3}',
        struct.pack("<Q", 2) + b"{}too long",
        safetensors(b"123")[:-1],
    ],
)
def test_damaged_safetensors_headers(data: bytes, tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"
    file.write_bytes(data)
    assert check_safetensors(file)
    assert check_file(file, lambda _: None)
    file.write_bytes(safetensors(b"123"))
    assert not check_file(file, lambda _: None)


# warm


class Engine:
    """A third-party engine, named in the settings as module:Class."""

    closed = 0

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    async def load(self) -> None:
        if self._settings.session.voice:
            raise RuntimeError(f"{self._settings.session.voice}\nand much more")

    async def close(self) -> None:
        Engine.closed += 1


@pytest.fixture
def outside(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Settings that select `Engine` for every stage."""
    module = ModuleType("outside_engines")
    module.Engine = Engine  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setattr(Engine, "closed", 0)
    return {f"{stage}_engine": "outside_engines:Engine" for stage in ("vad", "asr", "llm", "tts", "endpoint")}


def test_warm_loads_every_engine_and_closes_it(outside: dict[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run_warm(settings(**outside)) == 0
    out = capsys.readouterr().out
    assert out.count("✓ ") == Engine.closed == 5
    assert "✓ asr outside_engines:Engine: 0.0 s, " in out


def test_warm_names_the_engine_that_fails(outside: dict[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run_warm(settings(**outside, voice="no licence")) == 1
    out = capsys.readouterr().out
    assert "✗ tts outside_engines:Engine: RuntimeError: no licence\n" in out
    assert (out.count("✗ "), Engine.closed) == (5, 5)
    assert run_warm(settings(**{**outside, "tts_engine": "esspeak"})) == 1
    assert "PARLEY_TTS_ENGINE='esspeak'" in capsys.readouterr().out


# the command


@pytest.fixture
def fresh_settings() -> Iterator[None]:
    load_settings.cache_clear()
    yield
    load_settings.cache_clear()


@pytest.mark.usefixtures("fresh_settings")
@pytest.mark.parametrize("command", ["list", "pull", "verify", "warm"])
def test_wrong_settings_are_named(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PARLEY_DEVICE", "gpu")
    result = CliRunner().invoke(app, ["models", command])
    assert (result.exit_code, result.stdout) == (2, "")
    assert "PARLEY_DEVICE='gpu'" in result.stderr


@pytest.mark.usefixtures("fresh_settings")
@pytest.mark.parametrize("command", ["list", "pull", "verify"])
def test_an_unknown_engine_exits_as_a_wrong_setting(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PARLEY_TTS_ENGINE", "esspeak")
    result = CliRunner().invoke(app, ["models", command])
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1)


def parley(tmp_path: Path, *words: str, **env: str) -> "subprocess.CompletedProcess[str]":
    plain = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "PARLEY_"))}
    chosen = {"HF_HOME": str(tmp_path / "home"), "PARLEY_PROFILE": "classic", "PARLEY_DEVICE": "cpu"}
    chosen["PARLEY_ASR_ENGINE"] = "transformers"
    command = [sys.executable, "-m", "deploy.cli", "models", *words]
    return subprocess.run(
        command, env={**plain, **chosen, **env}, capture_output=True, text=True, timeout=HANG_S, check=False
    )  # fmt: skip


def test_cache_and_hub_come_from_the_environment(server: HubServer, tmp_path: Path) -> None:
    offline = parley(tmp_path, "pull", HF_ENDPOINT=server.url, HF_HUB_OFFLINE="1")
    assert (offline.returncode, server.requests) == (1, [])
    assert "Missing on this machine: config.json, the weights." in offline.stderr
    first = parley(tmp_path, "pull", HF_ENDPOINT=server.url, HF_TOKEN="hf_geheim")
    assert (first.returncode, first.stderr) == (0, "")
    assert str(tmp_path / "home" / "hub") in first.stdout
    assert "geheim" not in first.stdout
    again = parley(tmp_path, "pull", HF_ENDPOINT=server.url, HF_HUB_OFFLINE="1")
    assert (again.returncode, "not compared with the hub" in again.stdout) == (0, True)
    listed = parley(tmp_path, "list", "--json", HF_HUB_OFFLINE="1")
    rows = {row["stage"]: row for row in json.loads(listed.stdout)}
    assert (rows["asr"]["name"], rows["asr"]["state"], rows["asr"]["missing"]) == (WHISPER, "complete", [])
    assert (rows["tts"]["state"], rows["tts"]["note"]) == ("none needed", "comes with its package")


def test_the_table_of_models(tmp_path: Path) -> None:
    result = parley(tmp_path, "list", "--all")
    assert result.returncode == 0
    assert "hexgrad/Kokoro-82M" in result.stdout
    assert "absent" in result.stdout
