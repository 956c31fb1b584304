"""The engines' benchmark: the load that it puts on them, and whole runs of the command."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path

import pytest
from typer.testing import CliRunner

from benchmarks.__main__ import app
from benchmarks.engines.load import (
    EmptyAnswer,
    Material,
    converse,
    offsets,
    recorded,
    reply,
    speak,
    transcribe,
    utterance,
)
from benchmarks.engines.setup import parse_batches, parse_engines
from services.asr.engines.guards import has_voice
from services.asr.engines.scripted import ScriptedRecognizer
from services.llm.engines.scripted import ScriptedModel
from services.tts.engines.scripted import ScriptedSynthesizer
from shared.protocol.session import RATE_HZ
from shared.settings import Settings, load_settings
from tests.support.waiting import HANG_S

pytestmark = pytest.mark.timeout(300)  # they start processes


@pytest.fixture(autouse=True)
def fresh_settings(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in [name for name in os.environ if name.startswith("PARLEY_")]:
        monkeypatch.delenv(name)
    load_settings.cache_clear()
    yield
    load_settings.cache_clear()


# the load


@pytest.fixture(scope="module")
def material() -> Material:
    return Material(1, "en", letters=False)


async def test_a_transcript_is_waited_for_from_the_end_of_speech(material: Material) -> None:
    transcript = await transcribe(ScriptedRecognizer(Settings(scripted_asr_ms=30)), material)
    assert transcript.amount == 1
    assert transcript.times_ms["final_ms"][0] >= 29


async def test_tokens_are_counted_and_timed(material: Material) -> None:
    said = await reply(ScriptedModel(Settings(scripted_llm_ms=30, scripted_deltas=10)), material)
    assert said.amount == 10
    assert said.times_ms["first_token_ms"][0] >= 29
    assert len(said.times_ms["next_token_ms"]) == 9


async def test_speech_is_timed_to_its_first_audio(material: Material) -> None:
    spoken = await speak(ScriptedSynthesizer(Settings(scripted_tts_ms=30, scripted_tts_seconds=2)), material)
    assert spoken.amount == 4
    assert {name: len(found) for name, found in spoken.times_ms.items()} == {
        "first_clause_audio_ms": 1, "first_sentence_audio_ms": 1
    }  # fmt: skip
    assert all(found[0] >= 29 for found in spoken.times_ms.values())


async def test_the_chain_is_the_sum_of_its_parts(material: Material) -> None:
    settings = Settings(scripted_asr_ms=30, scripted_llm_ms=20, scripted_tts_ms=10)
    engines = ScriptedRecognizer(settings), ScriptedModel(settings), ScriptedSynthesizer(settings)
    found = {name: value for name, (value,) in (await converse(*engines, material)).times_ms.items()}
    total_ms = found.pop("total_ms")
    assert total_ms == pytest.approx(sum(found.values()))
    assert total_ms >= 59
    assert list(found) == ["final_ms", "first_token_ms", "clause_ms", "first_audio_ms"]


async def test_a_model_that_says_nothing_is_no_figure(material: Material) -> None:
    silent = ScriptedModel(Settings(scripted_text=""))
    with pytest.raises(EmptyAnswer):
        await reply(silent, material)
    with pytest.raises(EmptyAnswer):
        await converse(
            ScriptedRecognizer(Settings()), silent, ScriptedSynthesizer(Settings()), material
        )  # fmt: skip


def test_offsets_are_within_a_second_and_the_same_in_every_run() -> None:
    found = offsets(64, 3)
    assert found == offsets(64, 3) != offsets(64, 4)
    assert found[0] == 0
    assert found == sorted(found)
    assert 0.5 < found[-1] < 1
    assert offsets(1, 3) == [0]


@pytest.mark.parametrize("voice", range(8))
def test_what_is_heard_passes_for_a_voice(voice: int) -> None:
    pcm = utterance(2, voice)
    assert len(pcm) == 2 * 2 * RATE_HZ
    assert has_voice(pcm)
    assert pcm == utterance(2, voice)


def test_recordings_are_cut_and_repeated_to_the_length(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no recording"):
        recorded(tmp_path, 2, 0)
    import soundfile

    for number, seconds in enumerate((1.0, 0.2)):
        soundfile.write(tmp_path / f"{number}.wav", [0.5 * number] * int(seconds * RATE_HZ), RATE_HZ, subtype="PCM_16")
    soundfile.write(tmp_path / "other.wav", [0.9] * 100, 8000)
    assert len(recorded(tmp_path, 5, 3)) == 5 * 2 * RATE_HZ
    assert recorded(tmp_path, 0.1, 0) == bytes(2 * RATE_HZ // 10)
    assert recorded(tmp_path, 0.1, 1) != recorded(tmp_path, 0.1, 0)


# the command


def test_engines_and_batches_are_read() -> None:
    assert parse_engines(["asr=transformers", "tts=mine:Voice"]) == {"asr": "transformers", "tts": "mine:Voice"}
    assert parse_batches("16, 1,4,4") == (1, 4, 16)


@pytest.mark.parametrize("argv", [["--engine", "vad=webrtc"], ["--engine", "asr"], ["--engine", "asr="],
                                  ["--batch", ""], ["--batch", "0"], ["--batch", "1;2"], ["--batch", "99999"],
                                  ["--device", "tpu"], ["--engine", "asr=nothing"]])  # fmt: skip
def test_what_cannot_be_measured_is_refused(argv: list[str], tmp_path: Path) -> None:
    found = CliRunner().invoke(app, ["engines", "--json", str(tmp_path / "x.json"), "--batch", "1", *argv])
    assert found.exit_code in (1, 2)
    assert argv[1].partition("=")[2] in found.output
    assert not isinstance(found.exception, ValueError)


SCRIPTED = [word for stage in ("asr", "llm", "tts") for word in ("--engine", f"{stage}=scripted")]


def run(*argv: str) -> tuple[int, str]:
    load_settings.cache_clear()
    found = CliRunner().invoke(app, ["engines", "--batch", "1,3", "--repeat", "1", *argv])
    assert found.exception is None or isinstance(found.exception, SystemExit), found.exception
    return found.exit_code, found.output


def test_a_run_is_written_and_compared(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for stage in ("ASR", "LLM", "TTS"):
        monkeypatch.setenv(f"PARLEY_SCRIPTED_{stage}_MS", "20")
    first, second = tmp_path / "first.json", tmp_path / "new" / "second.json"
    code, output = run(*SCRIPTED, "--chain", "--seconds", "1", "--json", str(first))
    assert code == 0, output
    made = json.loads(first.read_bytes())
    assert [(entry["stage"], entry["batch"]) for entry in made["entries"]] == [
        (stage, batch) for stage in ("asr", "llm", "tts", "chain") for batch in (1, 3)
    ]
    assert made["size"] == "real"
    assert {"date", "commit", "cpu", "device", "repeat"} <= made.keys()
    slower = deepcopy(made)
    for entry in slower["entries"]:
        if entry["stage"] == "asr":
            found = entry["figures"]["final_ms"]
            entry["figures"]["final_ms"] = {**found, "repeats": [mean / 100 for mean in found["repeats"]]}
    baseline = tmp_path / "baseline.json"
    baseline.write_text(json.dumps(slower))
    code, output = run("--engine", "asr=scripted", "--seconds", "1", "--json", str(second), "--compare", str(baseline))
    assert code == 1, output
    assert "regression" in output
    assert "not in this run: tts scripted (scripted) × 3: rtf" in output
    assert second.exists()


@pytest.mark.parametrize("text", ["{}", '{"device": {"name": "x"}, "size": "real", "seconds": 5, "entries": []}'])
def test_a_baseline_that_does_not_fit_is_refused_before_anything_is_measured(text: str, tmp_path: Path) -> None:
    baseline = tmp_path / "baseline.json"
    baseline.write_text(text)
    code, output = run("--engine", "asr=scripted", "--json", str(tmp_path / "x.json"), "--compare", str(baseline))
    assert code == 2
    assert f"--compare {baseline}: " in output
    assert not (tmp_path / "x.json").exists()


def test_an_engine_that_fails_leaves_the_others_figures(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PARLEY_SCRIPTED_TEXT", "")
    path = tmp_path / "x.json"
    code, output = run("--engine", "llm=scripted", "--engine", "tts=scripted", "--json", str(path))
    assert code == 1
    assert "EmptyAnswer: the chat model gave no text" in output
    entries = json.loads(path.read_bytes())["entries"]
    assert [bool(entry["figures"]) for entry in entries] == [False, True, True]


@pytest.mark.models
def test_a_random_model_is_measured_and_says_that_it_is_one(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    code, output = run(
        *("--engine", "asr=transformers", "--random-weights", "--size", "tiny", "--batch", "1", "--seconds", "1"),
        *("--device", "cpu", "--json", str(path)),
    )
    assert code == 0, output
    assert "random weights: speed only" in output
    made = json.loads(path.read_bytes())
    assert (made["size"], made["note"]) == ("tiny", "random weights: speed only")
    (entry,) = made["entries"]
    assert entry["model"] == "random tiny whisper"
    assert entry["figures"]["final_ms"]["mean"] > 0
    assert entry["memory"]["rss_mb"] >= 0


def test_an_interrupt_leaves_no_process_and_no_file(tmp_path: Path) -> None:
    env = {**os.environ, "PARLEY_SCRIPTED_ASR_MS": "60000", "TMPDIR": str(tmp_path)}
    argv = (sys.executable, "-m", "benchmarks", "engines", "--engine", "asr=scripted", "--batch", "1",
            "--json", str(tmp_path / "x.json"))  # fmt: skip
    with subprocess.Popen(argv, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        until_s = time.monotonic() + HANG_S
        while not list(tmp_path.glob("parley-bench-*")) and time.monotonic() < until_s:
            time.sleep(0.1)
        time.sleep(0.5)
        process.send_signal(signal.SIGINT)
        assert process.wait(HANG_S) == 130
    assert not list(tmp_path.iterdir())
