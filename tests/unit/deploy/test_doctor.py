"""`parley doctor`: each check finds what is wrong and says how to fix it."""

import json
import socket
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx
import pytest

from deploy.local import doctor
from deploy.local.doctor import Check
from shared.settings import STAGES, Settings

READY = {stage: {"ready": 1, "engine": "some", "queue_age_ms": 3} for stage in STAGES}


def settings(**values: Any) -> Settings:
    return Settings.model_validate({**Settings.model_construct(profile="classic").model_dump(), **values})


def outcomes(checks: list[Check]) -> dict[str, str]:
    return {check.name: check.outcome for check in checks}


async def check_system(answer: Callable[[httpx.Request], httpx.Response], *, expected: bool = True) -> list[Check]:
    async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as client:
        health = await doctor._get_health(client, "http://edge")
        found: AsyncIterator[Check] = doctor.check_system(client, "http://edge", health, expected=expected)
        return [check async for check in found]


def edge(
    stages: object, status: int = 200, page: int = 200, monitor: int = 200
) -> Callable[[httpx.Request], httpx.Response]:
    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/health":
            return httpx.Response(status, json={"status": "ok", "stages": stages})
        if request.url.path == "/monitor/data":
            return httpx.Response(monitor, json={})
        return httpx.Response(page, html="<html>")

    return answer


async def test_a_healthy_system() -> None:
    checks = await check_system(edge(READY))
    assert outcomes(checks) == {**{f"{stage} stage": "ok" for stage in STAGES}, "page": "ok", "monitor": "ok"}
    assert checks[0].detail == "1 ready, engine some, queue age 3 ms"


@pytest.mark.parametrize("facts", [{"ready": 0, "engine": "some"}, {}, None])
async def test_a_stage_without_a_worker(facts: object) -> None:
    checks = await check_system(edge({**READY, "asr": facts}, status=503))
    assert [check.name for check in checks if check.outcome == "wrong"] == ["asr stage"]
    assert "parley asr" in checks[1].fix


async def test_a_worker_that_waits_for_its_endpoint() -> None:
    waiting = {"awaited": "http://here/v1", "reason": "connection refused", "seconds": 12}
    checks = await check_system(edge({**READY, "llm": {"ready": 0, "waiting": waiting}}, status=503))
    assert checks[2].detail == "the worker waits for http://here/v1: connection refused (12 s)"
    assert "PARLEY_LLM_URL" in checks[2].fix


async def test_a_page_that_answers_with_an_error() -> None:
    assert outcomes(await check_system(edge(READY, page=500)))["page"] == "wrong"


@pytest.mark.parametrize(("status", "outcome"), [(404, "skipped"), (500, "wrong")])
async def test_a_monitor_that_is_off_or_fails(status: int, outcome: str) -> None:
    checks = await check_system(edge(READY, monitor=status))
    assert (outcomes(checks)["monitor"], "PARLEY_MONITOR=on" in checks[-1].detail) == (outcome, status == 404)


@pytest.mark.parametrize(
    ("port", "offered", "outcome", "words"),
    [
        (9500, range(9500, 9505), "ok", "vad, asr, llm, tts, edge serve metrics at 127.0.0.1:9500"),
        (0, range(9464, 9469), "ok", "at 127.0.0.1:9464 and the ports after it"),
        (9500, range(9501, 9505), "wrong", "no metrics of vad at 127.0.0.1:9500 and the ports after it"),
        (9500, (), "wrong", "no metrics of vad, asr, llm, tts, edge at"),
        (0, (), "skipped", "no metrics of vad, asr, llm, tts, edge at"),
        (0, (9464,), "wrong", "no metrics of asr, llm, tts, edge at"),
    ],
)
async def test_metrics(port: int, offered: Sequence[int], outcome: str, words: str) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.port in offered:
            return httpx.Response(200, text="parley_build_info 1.0")
        if request.url.port == 9500:
            return httpx.Response(200, text="another program")
        raise httpx.ConnectError("refused")

    async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as client:
        check = await doctor.check_metrics(client, settings(metrics_port=port))
    assert (check.outcome, words in check.detail, bool(check.fix)) == (outcome, True, outcome != "ok")


def test_traces(monkeypatch: pytest.MonkeyPatch) -> None:
    assert doctor.check_traces(settings(traces="otlp")).outcome == "ok"
    monkeypatch.setitem(sys.modules, "shared.observability.otel", None)
    check = doctor.check_traces(settings(traces="otlp"))
    assert (check.outcome, "make install EXTRAS=otel" in check.fix) == ("wrong", True)


@pytest.mark.parametrize("body", ["no json", "[]", '{"stages": 1}'])
async def test_the_answer_of_another_program_is_no_health(body: str) -> None:
    checks = await check_system(lambda _: httpx.Response(200, text=body))
    assert outcomes(checks) == {"system": "wrong"}


async def test_without_an_answer_the_system_is_wrong_only_if_it_was_expected() -> None:
    def refuse(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused")

    assert outcomes(await check_system(refuse)) == {"system": "wrong"}
    assert outcomes(await check_system(refuse, expected=False)) == {"system": "skipped"}


def test_python() -> None:
    assert doctor.check_python((3, 11, 0)).outcome == "ok"
    assert doctor.check_python((3, 10, 9)).outcome == "wrong"


def test_libraries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert doctor.check_libraries(doctor.LIBRARIES).outcome == "ok"
    (tmp_path / "broken_native.py").write_text("raise OSError('libm.so: wrong ELF class')")
    monkeypatch.syspath_prepend(tmp_path)
    check = doctor.check_libraries(("json", "broken_native", "no_such_library"))
    assert check.outcome == "wrong"
    assert "broken_native (libm.so" in check.detail
    assert "no_such_library" in check.detail


class Engine:
    """A third-party engine, named in the settings as module:Class."""

    def __init__(self, settings: Settings) -> None:
        if settings.session.voice == "broken":
            raise RuntimeError("no licence")


@pytest.fixture
def outside(monkeypatch: pytest.MonkeyPatch) -> str:
    """The setting that selects `Engine`."""
    module = ModuleType("outside_engines")
    module.Engine = Engine  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, module.__name__, module)
    return "outside_engines:Engine"


def test_engines(outside: str) -> None:
    assert doctor.check_engine("tts", settings(tts_engine=outside)).outcome == "ok"
    broken = doctor.check_engine("tts", settings(tts_engine=outside, voice="broken"))
    assert (broken.outcome, "no licence" in broken.detail) == ("wrong", True)
    unknown = doctor.check_engine("tts", settings(tts_engine="esspeak"))
    assert "PARLEY_TTS_ENGINE='esspeak'" in unknown.detail
    assert unknown.fix == "unset PARLEY_TTS_ENGINE: the default is espeak"


def test_models_and_the_device_for_them(tmp_path: Path) -> None:
    assert list(doctor.check_models(settings())) == []
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    for folder in (whole, broken):
        folder.mkdir()
        (folder / "config.json").write_text("{}")
    (whole / "model.safetensors").write_bytes(b"1")
    engines = {"asr_engine": "transformers", "llm_engine": "transformers", "tts_engine": "transformers"}
    models = {"asr_model": str(whole), "llm_model": str(broken), "tts_model": str(tmp_path / "nothing")}
    found = {check.name: check for check in doctor.check_models(settings(**engines, **models, device="cuda:63"))}
    assert [found[f"{stage} model"].outcome for stage in ("asr", "llm", "tts")] == ["ok", "wrong", "wrong"]
    assert "is incomplete, without" in found["llm model"].detail
    assert found["device"].outcome == "wrong"
    assert "cuda:63" in found["device"].detail


def test_port() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        taken = settings(port=listener.getsockname()[1])
        assert doctor.check_port(taken, running=False).outcome == "wrong"
        assert doctor.check_port(taken, running=True).outcome == "ok"
    assert doctor.check_port(settings(port=0), running=False).outcome == "ok"


async def test_broker(tmp_path: Path) -> None:
    assert (await doctor.check_broker(settings(), {"PATH": ""})).outcome == "ok"
    old = tmp_path / "redis-server"
    old.write_text("#!/bin/sh\necho 'Redis server v=6.2.14'\n")
    old.chmod(0o755)
    refused = await doctor.check_broker(settings(), {"PATH": str(tmp_path)})
    assert (refused.outcome, "Redis 6.2.14 is too old" in refused.detail) == ("ok", True)
    unreachable = await doctor.check_broker(settings(redis_url="redis://127.0.0.1:1"), {})
    assert (unreachable.outcome, "PARLEY_REDIS_URL" in unreachable.fix) == ("wrong", True)


@pytest.mark.parametrize(("outcome", "code"), [("ok", 0), ("skipped", 0), ("wrong", 1)])
def test_the_exit_code_and_the_report(
    outcome: str, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def checks(*_: object) -> AsyncIterator[Check]:
        yield Check("first", "ok", "good")
        yield Check("second", outcome, "so so", "do this")  # type: ignore[arg-type]

    monkeypatch.setattr(doctor, "_checks", checks)
    assert doctor.run_doctor(settings(), {}, url=None, as_json=True) == code
    report = json.loads(capsys.readouterr().out)
    assert report["ok"] is (code == 0)
    assert report["checks"][1] == {"name": "second", "outcome": outcome, "detail": "so so", "fix": "do this"}
    assert doctor.run_doctor(settings(), {}, url=None, as_json=False) == code
    assert f"{doctor.MARKS[outcome]} second: so so\n    fix: do this" in capsys.readouterr().out
