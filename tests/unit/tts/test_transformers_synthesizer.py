"""Transformers models that speak: the real architectures with random weights. The speech is noise, its form is not."""

import asyncio
import json
import shutil
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import pytest_asyncio
from structlog.testing import capture_logs

from services.tts.engine import ENGINES, Speech
from services.tts.engines.languages import two_letters
from services.tts.engines.loading import load_model
from services.tts.engines.model import Abandoned
from services.tts.engines.transformers import FIRST_LONGEST, TransformersSynthesizer, pieces
from services.tts.engines.vits import numbers_in_words
from shared.audio.loudness import LEVEL_DBFS, level_dbfs
from shared.engines.devices import Device
from shared.engines.registry import UnknownEngine, create_engine, loaded
from shared.engines.repositories import ModelMissing
from shared.settings import Settings
from tests.support import random_models
from tests.support.waiting import HANG_S

TEXT = "Hello there, my friend."
TEXTS = [TEXT, "Yes.", "This is another one, and it is a good deal longer than the others."]


@pytest.fixture(scope="module")
def mms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return random_models.vits(tmp_path_factory.mktemp("mms"))


@pytest.fixture(scope="module")
def talker(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return random_models.speecht5(tmp_path_factory.mktemp("speecht5"))


def made(folder: Path, **options: object) -> TransformersSynthesizer:
    return TransformersSynthesizer(Settings(tts_model=str(folder), device="cpu", **options))  # type: ignore[arg-type]


Engines = dict[str, TransformersSynthesizer]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def engines(mms: Path, talker: Path, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Engines]:
    folders = {
        "vits": mms,
        "crowd": random_models.vits(tmp_path_factory.mktemp("crowd"), speakers=3),
        "speecht5": talker,
        "csm": random_models.csm(tmp_path_factory.mktemp("csm")),
    }
    engines = {name: made(folder) for name, folder in folders.items()}
    for engine in engines.values():
        await engine.load()
    yield engines
    for engine in engines.values():
        await engine.close()


@pytest.fixture
def vits(engines: Engines) -> TransformersSynthesizer:
    return engines["vits"]


@pytest.fixture
def crowd(engines: Engines) -> TransformersSynthesizer:
    return engines["crowd"]


@pytest.fixture
def speecht5(engines: Engines) -> TransformersSynthesizer:
    return engines["speecht5"]


async def speak(
    engine: TransformersSynthesizer, text: str, voice: str = "", speed: float = 1.0, language: str = "en"
) -> list[Speech]:
    return [piece async for piece in engine.speak(text, voice=voice, speed=speed, language=language)]


def samples(speech: list[Speech]) -> np.ndarray:
    return np.frombuffer(b"".join(piece.pcm for piece in speech), "<i2").astype(np.float32) / 32_768


pytestmark = [pytest.mark.models, pytest.mark.asyncio(loop_scope="module")]


@pytest.mark.parametrize(
    ("name", "rate_hz", "voices"),
    [
        ("vits", 16_000, ("speaker-0",)),
        ("crowd", 16_000, ("speaker-0", "speaker-1", "speaker-2")),
        ("speecht5", 16_000, ("voice-0", "voice-1")),
        ("csm", 24_000, ("speaker-0", "speaker-1")),
    ],
)
async def test_it_speaks_in_slices_at_its_level(
    name: str, rate_hz: int, voices: tuple[str, ...], engines: Engines
) -> None:
    engine = engines[name]
    assert (engine.rate_hz, engine.voices()) == (rate_hz, voices)
    speech = await speak(engine, TEXT)
    assert all(0 < len(piece.pcm) <= 2 * rate_hz // 5 for piece in speech)
    assert not any(piece.words for piece in speech)
    assert level_dbfs(samples(speech), rate_hz) == pytest.approx(LEVEL_DBFS, abs=6)  # some utterances are very short
    assert np.array_equal(samples(speech), samples(await speak(engine, TEXT)))


@pytest.mark.parametrize("name", ["vits", "crowd", "speecht5"])
async def test_sentences_sound_the_same_in_a_batch_as_alone(name: str, engines: Engines) -> None:
    engine = engines[name]
    voice = engine.voices()[-1]
    texts = [text for text in TEXTS if name != "speecht5" or text != "Yes."]  # speecht5 misses its end
    model = engine._model
    together = model.speak([*texts, "…"], voice, 1.0, lambda: True)
    assert not len(together[-1])
    for text, one in zip(texts, together, strict=False):
        (alone,) = model.speak([text], voice, 1.0, lambda: True)
        assert len(one) == len(alone)
        assert np.abs(one - alone).max() < 1e-4 * np.abs(alone).max()


async def test_voices_and_speeds_share_the_model(crowd: TransformersSynthesizer) -> None:
    asked = [(text, voice, speed) for text in TEXTS for voice in crowd.voices() for speed in (1.0, 1.5)]
    alone = [samples(await speak(crowd, *one)) for one in asked]
    together = await asyncio.gather(*(speak(crowd, *one) for one in asked))
    for one, other in zip(alone, together, strict=True):
        assert len(one) == len(samples(other))


async def test_vits_has_a_speed(vits: TransformersSynthesizer) -> None:
    plain, fast = [len(samples(await speak(vits, TEXTS[2], speed=speed))) for speed in (1.0, 1.9)]
    assert fast < 0.8 * plain


async def test_voices_differ(crowd: TransformersSynthesizer, speecht5: TransformersSynthesizer) -> None:
    for engine in (crowd, speecht5):
        first, last = [samples(await speak(engine, TEXTS[2], voice)) for voice in engine.voices()[-2:]]
        assert len(first) != len(last) or not np.array_equal(first, last)


@pytest.mark.parametrize(
    ("voice", "language", "says"),
    [
        ("nobody", "en", "unknown voice 'nobody'; available: speaker-0"),
        ("", "de", "does not speak 'de', only en"),
        ("", "hi-IN", r"'hi-IN'.*facebook/mms-tts-"),
    ],
)
async def test_unknown_voices_and_languages_are_errors(
    vits: TransformersSynthesizer, voice: str, language: str, says: str
) -> None:
    with pytest.raises(ValueError, match=says):
        await speak(vits, TEXT, voice, language=language)
    assert await speak(vits, TEXT, language="en-GB")


@pytest.mark.parametrize("name", ["vits", "speecht5"])
@pytest.mark.parametrize("text", ["…", "🙂", " ", "", "!?!", "\x00"])
async def test_a_text_without_words_is_a_short_silence(name: str, text: str, engines: Engines) -> None:
    engine = engines[name]
    assert len(samples(await speak(engine, text))) < engine.rate_hz


async def test_unknown_characters_are_skipped(vits: TransformersSynthesizer) -> None:
    assert len(samples(await speak(vits, "café नमस्ते 🙂 ok."))) > vits.rate_hz // 5


async def test_a_long_sentence_starts_early_and_can_be_closed(vits: TransformersSynthesizer) -> None:
    spoken: list[str] = []
    say = vits._model._speak  # type: ignore[attr-defined]

    def listen(texts: list[str], voice: str, speed: float) -> object:
        spoken.extend(texts)
        return say(texts, voice, speed)

    vits._model._speak = listen  # type: ignore[attr-defined]
    try:
        speech = vits.speak("Well, so, " + "and this goes on and on, " * 60, voice="", speed=1.0, language="en")
        assert (await anext(speech)).pcm
        assert len(spoken[0]) <= FIRST_LONGEST
        await asyncio.wait_for(speech.aclose(), HANG_S)
        assert (await speak(vits, "Yes."))[0].pcm
        assert len(spoken) <= 3
        assert spoken[-1] == "Yes."
    finally:
        vits._model._speak = say  # type: ignore[attr-defined]


@pytest.mark.parametrize(("name", "steps"), [("speecht5", 3), ("csm", 3), ("vits", 0)])
async def test_a_call_is_abandoned_when_no_longer_wanted(name: str, steps: int, engines: Engines) -> None:
    engine, asked = engines[name], 0

    def wanted() -> bool:
        nonlocal asked
        asked += 1
        return asked <= steps

    with pytest.raises(Abandoned):
        engine._model.speak(["Yes."], engine.voices()[0], 1.0, wanted)
    assert asked == steps + 1
    assert await speak(engine, TEXT)


@pytest.mark.parametrize("name", ["speecht5", "csm"])
async def test_sentences_can_be_cancelled_during_a_call(name: str, engines: Engines) -> None:
    asking = [asyncio.ensure_future(speak(engines[name], TEXTS[2])) for _ in range(3)]
    await asyncio.sleep(0.05)
    for one in asking:
        one.cancel()
    ends = await asyncio.gather(*asking, return_exceptions=True)
    assert all(isinstance(end, list | asyncio.CancelledError) for end in ends)
    assert await speak(engines[name], "Yes.")


async def test_an_ignored_speed_is_logged_once(speecht5: TransformersSynthesizer) -> None:
    speecht5._model._warned_of_speed = False  # type: ignore[attr-defined]
    with capture_logs() as logs:
        plain, fast, _ = [samples(await speak(speecht5, TEXT, speed=speed)) for speed in (1.0, 1.5, 1.7)]
    assert [entry["speed"] for entry in logs] == [1.5]
    assert abs(len(plain) - len(fast)) < speecht5.rate_hz // 5  # only the pause after the sentence is shorter


async def test_without_x_vectors_there_is_one_voice_and_a_warning(talker: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(talker, folder, ignore=shutil.ignore_patterns("speakers"))
    engine = made(folder, data_dir=tmp_path)
    with capture_logs() as logs:
        await engine.load()
    assert engine.voices() == ("speaker-0",)
    assert any("x-vectors" in entry["event"] for entry in logs)
    await engine.close()

    import torch

    (tmp_path / "speakers").mkdir()
    torch.save(torch.randn(1, 16), tmp_path / "speakers" / "anna.pt")
    (tmp_path / "speakers" / "readme.txt").write_text("not a voice")
    engine = made(folder, data_dir=tmp_path)
    await engine.load()
    assert engine.voices() == ("anna",)
    await engine.close()


@pytest.mark.parametrize(
    ("content", "says"),
    [(b"", "not an x-vector"), (b"\x93NUMPY\x01", "not an x-vector"), (None, "7 numbers instead of 16")],
)
async def test_an_invalid_x_vector_is_named(talker: Path, tmp_path: Path, content: bytes | None, says: str) -> None:
    (tmp_path / "speakers").mkdir()
    place = tmp_path / "speakers" / "bad.npy"
    if content is None:
        np.save(place, np.zeros(7, np.float32))
    else:
        place.write_bytes(content)
    with pytest.raises(UnknownEngine, match=f"bad.npy.*{says}"):
        async with loaded(made(talker, data_dir=tmp_path)):
            pass


async def test_a_missing_vocoder_is_named(talker: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    shutil.copytree(talker, tmp_path / "model", ignore=shutil.ignore_patterns("vocoder"))
    with pytest.raises(ModelMissing, match="microsoft/speecht5_hifigan is not on this machine"):
        async with loaded(made(tmp_path / "model")):
            pass


async def test_fastspeech2_has_a_speed(tmp_path: Path) -> None:
    engine = made(random_models.fastspeech2(tmp_path))
    await engine.load()
    assert engine.rate_hz == 22_050
    plain, fast = [len(samples(await speak(engine, TEXT, speed=speed))) for speed in (1.0, 2.0)]
    assert fast < 0.7 * plain
    await engine.close()


async def test_bark_has_the_voices_with_complete_files(tmp_path: Path) -> None:
    import torch

    model = load_model(random_models.bark(tmp_path), Device("cpu", torch.float32), Settings())
    assert (model.rate_hz, model.voices) == (24_000, ("v2/en_speaker_0", "v2/de_speaker_0"))
    (wave,) = model.speak(["Yes."], "v2/de_speaker_0", 1.0, lambda: True)
    assert 0 < len(wave) <= 5 * model.rate_hz
    with pytest.raises(Abandoned):
        model.speak(["Yes."], "v2/en_speaker_0", 1.0, lambda: False)


async def test_the_language_comes_from_the_folder_or_tokenizer(tmp_path: Path) -> None:
    folder = random_models.vits(tmp_path / "models--facebook--mms-tts-hin", language=None)
    with pytest.raises(UnknownEngine, match=r"mms-tts-hin cannot speak here: .*does not speak 'en', only hi"):
        async with loaded(made(folder)):
            pass
    engine = made(folder, language="hi-IN")
    await engine.load()
    with pytest.raises(ValueError, match="does not speak 'en'"):
        await speak(engine, TEXT)
    await engine.close()


async def test_a_missing_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "uroman", None)
    folder = random_models.vits(tmp_path, language="hin", uroman=True)
    with pytest.raises(UnknownEngine, match=r"uroman.* make install EXTRAS=speech$"):
        async with loaded(made(folder, language="hi")):
            pass


async def test_other_scripts_are_romanized(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = []

    def uroman() -> SimpleNamespace:
        loaded.append(1)
        return SimpleNamespace(romanize_string=lambda text: text.replace("नमस्ते", "namaste"))

    monkeypatch.setitem(sys.modules, "uroman", SimpleNamespace(Uroman=uroman))
    engine = made(random_models.vits(tmp_path, language="hin", uroman=True), language="hi")
    await engine.load()
    assert engine._model.prepare("नमस्ते, DUNIYA ।") == "namaste, duniya "
    assert len(samples(await speak(engine, "नमस्ते।", language="hi"))) > engine.rate_hz // 5
    assert loaded == [1]
    await engine.close()


async def test_a_voice_with_a_language_in_its_name_is_the_default(talker: Path, tmp_path: Path) -> None:
    (tmp_path / "speakers").mkdir()
    for name in ("aa", "de_anna", "women_1"):
        np.save(tmp_path / "speakers" / f"{name}.npy", np.ones(16, np.float32))
    folder = tmp_path / "model"
    shutil.copytree(talker, folder, ignore=shutil.ignore_patterns("speakers"))
    engine = made(folder, data_dir=tmp_path)
    await engine.load()
    assert [engine._choose("", language) for language in ("de-AT", "en", "")] == ["de_anna", "aa", "aa"]
    await engine.close()


async def test_models_that_cannot_speak_are_rejected(mms: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelMissing, match=r"config\.json"):
        async with loaded(made(tmp_path)):
            pass
    (tmp_path / "model.safetensors").write_bytes(b"")
    for config, says in (
        ({"model_type": "whisper"}, "a model of the type 'whisper' cannot speak"),
        ({"model_type": "musicgen"}, "a model of the type 'musicgen' cannot speak"),
        ({"model_type": "not_yet_written"}, "the installed transformers cannot read this model's configuration"),
        ({}, "the installed transformers cannot read this model's configuration"),
        ({"model_type": "vits"}, "the vits model cannot be loaded"),
    ):
        (tmp_path / "config.json").write_text(json.dumps(config))
        with pytest.raises(UnknownEngine, match=says):
            async with loaded(made(tmp_path)):
                pass
    (tmp_path / "config.json").write_text("{ cut off")
    with pytest.raises(UnknownEngine, match="cannot read this model's configuration"):
        async with loaded(made(tmp_path)):
            pass
    with pytest.raises(UnknownEngine, match=r"cuda:7.*0 CUDA devices"):
        await TransformersSynthesizer(Settings(tts_model=str(mms), device="cuda:7")).load()


async def test_the_default_model() -> None:
    engine = create_engine("tts", "transformers", ENGINES, Settings(device="cpu"))
    assert isinstance(engine, TransformersSynthesizer)
    assert engine.model_name == "facebook/mms-tts-eng"


@pytest.mark.parametrize(
    ("text", "longest", "cut"),
    [
        ("Yes.", 400, ["Yes."]),
        ("", 400, []),
        ("one, two three", 9, ["one,", "two three"]),
        ("aaaa bbbb, cccc dddd", 12, ["aaaa bbbb,", "cccc dddd"]),
        ("x" * 25, 10, ["x" * 10, "x" * 10, "x" * 5]),
        ("नमस्ते। दुनिया", 10, ["नमस्ते।", "दुनिया"]),
    ],
)
async def test_text_is_cut_at_punctuation(text: str, longest: int, cut: list[str]) -> None:
    assert pieces(text, longest) == cut


async def test_pieces_are_complete_and_short() -> None:
    text = "word, " * 500 + "y" * 3000 + " end."
    found = pieces(text, 400)
    assert "".join(found).replace(" ", "") == text.replace(" ", "")
    assert max(map(len, found)) <= 400
    assert len(found[0]) <= FIRST_LONGEST


@pytest.mark.parametrize(
    ("text", "language", "written"),
    [
        ("no number", "en", "no number"),
        ("at 10:30, 1,000.5 m", "en", "at ten : thirty , one thousand point five m"),
        ("1.000 und 3,5", "de", "eintausend und drei Komma fünf"),
        ("call 030 12", "en", "call zero three zero twelve"),
        ("7", "xx", "7"),
        ("1" * 5000, "en", " ".join(["one"] * 5000)),
        ("1.2.3", "en", "one two three"),
    ],
)
async def test_numbers_are_written_in_words(text: str, language: str, written: str) -> None:
    assert numbers_in_words(text, language) == written


@pytest.mark.parametrize(
    ("tag", "code"),
    [("hi-IN", "hi"), ("hin", "hi"), ("uzb-script_cyrillic", "uz"), ("EN_us", "en"), ("yue", "yue"), ("", "")],
)
async def test_two_letter_codes(tag: str, code: str) -> None:
    assert two_letters(tag) == code
