"""Piper's architecture with random weights: voices, speakers, rates, stretches and errors; the speech is noise."""

import asyncio
import json
import shutil
import sys
from collections.abc import AsyncIterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import pytest_asyncio

from services.tts.engine import ENGINES, Speech
from services.tts.engines.espeak_library import library
from services.tts.engines.piper import PiperSynthesizer
from services.tts.engines.piper_network import load_network
from services.tts.engines.piper_voice import PiperVoice
from shared.audio.loudness import LEVEL_DBFS, level_dbfs
from shared.engines.models import ModelMissing
from shared.engines.registry import UnknownEngine, create_engine, loaded
from shared.settings import Settings
from tests.support import random_models
from tests.support.waiting import HANG_S

TEXT = "Hello there, my friend."
LONG = "Well, this is so, and this goes on and on, because nobody says that it is enough, or that it was too much."

pytestmark = [pytest.mark.models, pytest.mark.asyncio(loop_scope="module")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A voice with three speakers, and one of another language and rate."""
    folder = random_models.piper(tmp_path_factory.mktemp("piper"), "en_US-many-low", speakers=3)
    return random_models.piper(folder, "de_DE-one-low", rate_hz=16_000)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def engine(folder: Path) -> AsyncIterator[PiperSynthesizer]:
    async with loaded(PiperSynthesizer(Settings(tts_model=str(folder)))) as engine:
        yield engine


async def speak(
    engine: PiperSynthesizer, text: str, voice: str = "", speed: float = 1.0, language: str = "en"
) -> list[Speech]:
    return [piece async for piece in engine.speak(text, voice=voice, speed=speed, language=language)]


def samples(speech: list[Speech]) -> np.ndarray:
    return np.frombuffer(b"".join(piece.pcm for piece in speech), "<i2").astype(np.float32) / 32_768


async def test_it_speaks_in_slices_with_its_words(engine: PiperSynthesizer) -> None:
    speech = await speak(engine, LONG)
    words = [word for piece in speech for word in piece.words]
    assert " ".join(word.text for word in words) == LONG
    assert all(word.start <= word.end for word in words)
    assert all(before.end <= after.start for before, after in pairwise(words))
    assert words[-1].end <= len(samples(speech))
    assert all(0 < len(piece.pcm) <= 2 * engine.rate_hz // 5 for piece in speech)
    at = 0
    for piece in speech:
        assert all(at <= word.start < at + len(piece.pcm) // 2 for word in piece.words)
        at += len(piece.pcm) // 2


@pytest.mark.parametrize("voice", ["en_US-many-low/p0", "en_US-many-low/p2", "de_DE-one-low"])
async def test_each_voice_is_equally_loud(engine: PiperSynthesizer, voice: str) -> None:
    for _ in range(2):  # the first sentence of a voice is levelled by itself
        assert level_dbfs(samples(await speak(engine, LONG, voice)), engine.rate_hz) == pytest.approx(LEVEL_DBFS, abs=1)


async def test_the_voices_of_a_folder_are_listed_with_their_speakers(engine: PiperSynthesizer) -> None:
    assert engine.voices() == ("de_DE-one-low", "en_US-many-low/p0", "en_US-many-low/p1", "en_US-many-low/p2")


async def test_the_voice_of_another_rate_is_resampled(engine: PiperSynthesizer) -> None:
    assert engine.rate_hz == 22_050
    voice = engine._voices["de_DE-one-low"]
    (sentence,) = voice.sentences(TEXT)
    planned = voice.plan(sentence, 0, 1.0, engine.rate_hz)
    speech = await speak(engine, TEXT, "de_DE-one-low")
    seconds = planned.utterance.frames * 256 / 16_000
    assert len(samples(speech)) / engine.rate_hz == pytest.approx(seconds + 0.2, abs=0.3)


@pytest.mark.parametrize(
    ("voice", "language", "chosen"),
    [
        ("", "en", "en_US-many-low/p0"),
        ("", "en-GB", "en_US-many-low/p0"),
        ("", "de", "de_DE-one-low"),
        ("", "de-DE", "de_DE-one-low"),
        ("", "", "de_DE-one-low"),
        ("en_US-many-low/p2", "en", "en_US-many-low/p2"),
        ("en_US-many-low", "de", "en_US-many-low"),
    ],
)
async def test_the_choice_of_a_voice(engine: PiperSynthesizer, voice: str, language: str, chosen: str) -> None:
    assert engine._choose(voice, language) == chosen


@pytest.mark.parametrize(
    ("voice", "language", "says"),
    [
        ("nobody", "en", "unknown voice 'nobody'; available: de_DE-one-low, en_US-many-low/p0"),
        ("en_US-many-low/p3", "en", "unknown voice 'en_US-many-low/p3'"),
        ("", "hi", "does not speak 'hi', only de-de, en-us"),
    ],
)
async def test_unknown_voices_speakers_and_languages_are_errors(
    engine: PiperSynthesizer, voice: str, language: str, says: str
) -> None:
    with pytest.raises(ValueError, match=says):
        await speak(engine, TEXT, voice, language=language)


async def test_speakers_and_speeds_differ(engine: PiperSynthesizer) -> None:
    plain, other = [samples(await speak(engine, TEXT, f"en_US-many-low/{name}")) for name in ("p0", "p1")]
    assert len(plain) != len(other) or not np.allclose(plain, other, atol=0.01)
    slow, fast = [len(samples(await speak(engine, LONG, speed=speed))) for speed in (0.5, 2.0)]
    assert fast < 0.5 * slow


async def test_a_second_attempt_gives_the_same_samples(engine: PiperSynthesizer) -> None:
    first, second = [samples(speech) for speech in await asyncio.gather(speak(engine, LONG), speak(engine, LONG))]
    third = samples(await speak(engine, LONG))
    for other in (second, third):
        assert len(other) == len(first)
        # The gain of a sentence comes from those before it.
        assert bool(np.abs(first / first.std() - other / other.std()).max() < 0.02)


async def test_stretches_give_the_samples_of_the_whole(folder: Path) -> None:
    voice = PiperVoice(folder / "en_US-many-low.onnx", 1)
    (sentence,) = voice.sentences(LONG)
    planned = voice.plan(sentence, 1, 1.0, voice.rate_hz)
    stretches = list(planned.stretches(300, 1200))
    assert len(stretches) > 3
    assert stretches[0] == (0, 26)
    assert all(before[1] == after[0] for before, after in pairwise(stretches))
    assert stretches[-1][0] <= planned.last_word
    whole = voice.decode(planned, 0, planned.utterance.frames)
    parts = np.concatenate([voice.decode(planned, start, end) for start, end in stretches])
    assert np.abs(parts - whole).max() < 1e-5
    assert len(whole) == planned.utterance.frames * 256


async def test_a_network_that_cannot_be_cut_runs_as_a_whole(folder: Path, tmp_path: Path) -> None:
    import onnx

    model = onnx.load(folder / "de_DE-one-low.onnx")
    for node in model.graph.node:
        if node.op_type == "RandomNormalLike":
            node.op_type = "Identity"
            del node.attribute[:]
    onnx.save(model, tmp_path / "de_DE-other-low.onnx")
    shutil.copy(folder / "de_DE-one-low.onnx.json", tmp_path / "de_DE-other-low.onnx.json")
    async with loaded(PiperSynthesizer(Settings(tts_model=str(tmp_path), language="de"))) as engine:
        words = [word for piece in await speak(engine, TEXT, language="de") for word in piece.words]
    assert " ".join(word.text for word in words) == TEXT
    assert all(before.end <= after.start for before, after in pairwise(words))


async def test_an_interrupted_sentence_ends_at_its_stretch(
    engine: PiperSynthesizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    stretches = []
    decode = PiperVoice.decode

    def counted(voice: PiperVoice, planned: object, start: int, end: int) -> object:
        stretches.append(start)
        return decode(voice, planned, start, end)  # type: ignore[arg-type]

    monkeypatch.setattr(PiperVoice, "decode", counted)
    speech = engine.speak(LONG * 3, voice="", speed=1.0, language="en")
    assert (await anext(speech)).words[0].text == "Well,"
    async with asyncio.timeout(HANG_S):
        await speech.aclose()
    assert await speak(engine, "Yes.")  # the thread is free
    assert len(stretches) <= 3


@pytest.mark.parametrize("text", ["", " ", "…", "\x00", "\ud800", "—"])
async def test_a_text_without_sounds_is_hardly_longer_than_a_pause(engine: PiperSynthesizer, text: str) -> None:
    assert len(samples(await speak(engine, text))) < engine.rate_hz


@pytest.mark.parametrize(
    "text", ["🙂 yes", "मैं ठीक हूँ", "你好", "a\x00b", "[[ˈaɪ]] see", "x" * 700, "ok, " * 300, "1" * 60]
)
async def test_odd_texts_are_spoken(engine: PiperSynthesizer, text: str) -> None:
    speech = await speak(engine, text)
    assert len(samples(speech)) > engine.rate_hz // 10
    assert " ".join(word.text for piece in speech for word in piece.words) == " ".join(
        "".join(char if char.isprintable() else " " for char in text).split()
    )


async def test_the_espeak_engine_speaks_in_the_same_process(engine: PiperSynthesizer) -> None:
    """Piper's espeak-ng and the one of the espeak engine are two libraries with the same names."""
    voice, spoken = engine._voices["en_US-many-low"], bytearray()

    def receive(pcm: bytes, words: object) -> bool:
        spoken.extend(pcm)
        return True

    before = voice.sentences(TEXT)
    both = asyncio.to_thread(library().speak, "Hallo zusammen. " * 20, "de", 175, receive), speak(engine, TEXT)
    await asyncio.gather(*both)
    assert voice.sentences(TEXT) == before
    assert len(spoken) > 2 * 22_050 * 10


async def test_one_file_is_a_voice(folder: Path) -> None:
    async with loaded(PiperSynthesizer(Settings(tts_model=f"{folder}/de_DE-one-low.onnx", language="de"))) as engine:
        assert engine.voices() == ("de_DE-one-low",)
        assert engine.rate_hz == 16_000


async def test_the_language_of_new_sessions_needs_a_voice(folder: Path) -> None:
    with pytest.raises(UnknownEngine, match="does not speak 'hi', only de-de, en-us"):
        async with loaded(PiperSynthesizer(Settings(tts_model=str(folder), language="hi"))):
            pass


async def test_a_damaged_voice_is_named(folder: Path, tmp_path: Path) -> None:
    network, config = tmp_path / "en_US-bad.onnx", tmp_path / "en_US-bad.onnx.json"

    async def says(message: str) -> None:
        with pytest.raises(UnknownEngine, match=message):
            async with loaded(PiperSynthesizer(Settings(tts_model=str(tmp_path)))):
                pass

    await says("has no voice of Piper: a file x.onnx beside its x.onnx.json")
    network.write_bytes((folder / "en_US-many-low.onnx").read_bytes()[:-1000])
    await says(r"en_US-bad\.onnx\.json is missing")
    config.write_text("{ cut off")
    await says(r"en_US-bad\.onnx\.json cannot be read")
    for content in ("[]", "{}", '{"audio": 3}'):
        config.write_text(content)
        await says(r"en_US-bad\.onnx\.json is not the configuration of a Piper voice")
    good = json.loads((folder / "en_US-many-low.onnx.json").read_text())
    config.write_text(json.dumps(good))
    await says(r"en_US-bad\.onnx cannot be loaded: not an ONNX model, or damaged")
    shutil.copy(folder / "en_US-many-low.onnx", network)
    symbols = good["phoneme_id_map"]
    for change, message in (
        ({"phoneme_id_map": symbols | {"ə": [99_999]}}, r"does not fit en_US-bad\.onnx\.json"),
        ({"num_speakers": 9, "speaker_id_map": {"x": 8, "y": 0}}, r"does not fit en_US-bad\.onnx\.json"),
        ({"espeak": {"voice": "xx-nowhere"}}, "its text cannot be converted to phonemes"),
        ({"phoneme_type": "pinyin"}, "voices with pinyin are not supported"),
        ({"phoneme_type": "letters"}, "is not the configuration of a Piper voice"),
    ):
        config.write_text(json.dumps(good | change))
        await says(message)


async def test_other_files_are_no_networks(tmp_path: Path) -> None:
    (tmp_path / "x.onnx").write_bytes(b"not a network")
    with pytest.raises(ValueError, match="not an ONNX model"):
        load_network(tmp_path / "x.onnx", 1, 256)


async def test_the_default_voice_is_named_if_it_is_missing(tmp_path: Path) -> None:
    engine = create_engine("tts", "piper", ENGINES, Settings(models_dir=tmp_path))
    assert isinstance(engine, PiperSynthesizer)
    with pytest.raises(ModelMissing, match="piper-en_US-joe-medium is not on this machine"):
        await engine.load()


async def test_the_missing_package_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "piper", None)
    with pytest.raises(UnknownEngine, match=r"The piper engine is not installed \(missing: piper\).* EXTRAS=light$"):
        PiperVoice(folder / "de_DE-one-low.onnx", 1)
