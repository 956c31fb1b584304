"""Performs a scene: frame by frame what the microphone hears, and what really was meant by it. Pure but for the voice.

Whoever runs it tells it when the reply begins to sound and when it is over; it knows no server and no clock but its own
count of samples.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import soundfile
import soxr

from deploy.client.scene import BadScene, Cue, Scene

RATE_HZ = 16_000
FRAME = 320
"""Samples of 20 ms."""
LEVEL_DB = -26.0
"""RMS of whatever is said."""
COUGH_S = 0.25
REPLY_WAIT_S = 5.0
"""A reply that has not begun so long after the end of speech is taken not to come."""
TAIL_S = 3.0

Samples = npt.NDArray[np.float32]


@dataclass(slots=True)
class Sound:
    """Something that the person did, and when: in seconds of the call."""

    cue: Cue
    start_s: float
    end_s: float
    into_reply: bool
    """A reply was sounding when it began."""


class Performer:
    """One scene being played."""

    def __init__(self, scene: Scene, sounds: Mapping[Cue, Samples], seed: int = 1) -> None:
        self.scene = scene
        self.done: list[Sound] = []
        self.skipped: list[Cue] = []
        """Cues into replies that never came."""
        self._cues = list(scene.cues)
        self._sounds = sounds
        self._playing: list[tuple[Samples, int]] = []  # what sounds now, and how much of it has
        self._position = 0
        self._chance = np.random.default_rng(seed)
        self._noise = self._make_noise()
        self._reply_began_s: float | None = None
        self._quiet_s = 0.0  # since when neither side has spoken
        self._replying = False

    @property
    def now_s(self) -> float:
        return self._position / RATE_HZ

    @property
    def over(self) -> bool:
        """All was said, and a reply had its time."""
        silent = not self._cues and not self._playing and not self._replying
        return silent and self.now_s > self._quiet_s + TAIL_S

    @property
    def said_all_s(self) -> float | None:
        """When the last thing was said; None while there is more to say."""
        if self._cues or self._playing:
            return None
        return max((sound.end_s for sound in self.done), default=0.0)

    @property
    def replying(self) -> bool:
        """A reply sounds, as far as it was told."""
        return self._replying

    def reply_began(self) -> None:
        """The client hears a reply; the first time that it is told counts."""
        if not self._replying:
            self._reply_began_s, self._replying = self.now_s, True

    def reply_over(self) -> None:
        """It hears no more of it."""
        if self._replying:
            self._replying, self._quiet_s = False, self.now_s

    def frame(self) -> bytes:
        """The next 20 ms, s16le."""
        while self._cues:
            if self._hopeless(self._cues[0]):
                self.skipped.append(self._cues.pop(0))
            elif self._due(self._cues[0]):
                self._begin(self._cues.pop(0))
            else:
                break
        frame = self._noise[self._position % len(self._noise) :][:FRAME].copy()
        frame = np.pad(frame, (0, FRAME - len(frame)))
        going: list[tuple[Samples, int]] = []
        for samples, at in self._playing:
            piece = samples[at : at + FRAME]
            frame[: len(piece)] += piece
            if at + FRAME < len(samples):
                going.append((samples, at + FRAME))
        if self._playing and not going:
            self._quiet_s = self.now_s + FRAME / RATE_HZ
        self._playing = going
        self._position += FRAME
        return (frame * 32_767).clip(-32_768, 32_767).astype("<i2").tobytes()

    @property
    def _unanswered(self) -> bool:
        return not self._replying and self.now_s > self._quiet_s + REPLY_WAIT_S

    @property
    def _answered(self) -> bool:
        """A reply has begun since the person said something."""
        asked_s = max((sound.start_s for sound in self.done if sound.cue.what == "say"), default=0.0)
        return self._reply_began_s is not None and self._reply_began_s >= asked_s

    def _hopeless(self, cue: Cue) -> bool:
        """It waits for a reply, and none comes."""
        return cue.when == "reply" and not self._playing and self._unanswered

    def _due(self, cue: Cue) -> bool:
        match cue.when:
            case "at":
                return self.now_s >= cue.seconds
            case "reply":
                return self._in_reply(cue)
            case "pause":
                return not self._playing and self.now_s >= self.done[-1].end_s + cue.seconds
            case _:
                quiet = not self._playing and not self._replying and (self._answered or self._unanswered)
                return quiet and self.now_s >= self._quiet_s + cue.seconds

    def _in_reply(self, cue: Cue) -> bool:
        if not (self._replying and self._answered) or self._reply_began_s is None:
            return False
        return self.now_s >= self._reply_began_s + cue.seconds

    def _begin(self, cue: Cue) -> None:
        samples = self._sounds[cue]
        self.done.append(Sound(cue, self.now_s, self.now_s + len(samples) / RATE_HZ, self._replying))
        self._playing.append((samples, 0))

    def _make_noise(self) -> Samples:
        samples = 10 * RATE_HZ
        quiet = self._chance.normal(0, 6e-5, samples)  # -84 dBFS: no microphone gives digital zero
        if not self.scene.noise:
            return quiet.astype(np.float32)
        spectrum = np.fft.rfft(self._chance.standard_normal(samples))
        if self.scene.noise == "pink":
            spectrum /= np.sqrt(np.maximum(np.arange(len(spectrum)), 1))
        noise = np.fft.irfft(spectrum, samples)
        level = 10 ** ((LEVEL_DB - self.scene.noise_db) / 20)
        loud: Samples = (noise / np.sqrt(np.mean(noise**2)) * level).astype(np.float32)
        return loud


def cough() -> Samples:
    """A burst of noise, as loud as speech, that falls off: no word in it."""
    chance = np.random.default_rng(7)
    count = int(COUGH_S * RATE_HZ)
    noise = np.convolve(chance.standard_normal(count), np.hanning(9) / 4, "same")
    fall = np.exp(-np.arange(count) / (0.08 * RATE_HZ)) * np.minimum(1, np.arange(count) / (0.01 * RATE_HZ))
    return levelled((noise * fall).astype(np.float32))


def levelled(samples: Samples) -> Samples:
    """At the level of all that is said; from its first sound to its last."""
    loud = np.flatnonzero(np.abs(samples) > 0.02 * np.abs(samples).max(initial=1e-9))
    trimmed = samples[loud[0] : loud[-1] + 1] if len(loud) else samples
    level = np.sqrt(np.mean(trimmed**2)) + 1e-9
    at_level: Samples = (trimmed * 10 ** (LEVEL_DB / 20) / level).clip(-1, 1).astype(np.float32)
    return at_level


def gather_sounds(scenes: Sequence[Scene], clips: Path | None) -> dict[Cue, Samples]:
    """Every sound of these scenes.

    Raises:
        BadScene: a recording that is not there.
    """
    cues = {cue for scene in scenes for cue in scene.cues}
    texts = sorted({cue.sound for cue in cues if cue.spoken})
    voices = asyncio.run(_speak(texts)) if texts else {}
    found: dict[Cue, Samples] = {}
    for cue in cues:
        if cue.what == "cough":
            found[cue] = cough()
        else:
            found[cue] = levelled(voices[cue.sound] if cue.spoken else _recording(cue.sound, clips))
    return found


def _recording(name: str, clips: Path | None) -> Samples:
    path = (clips or Path()) / (name if name.endswith(".wav") else f"{name}.wav")
    try:
        samples, rate_hz = soundfile.read(path, dtype="float32", always_2d=True)
    except (OSError, soundfile.LibsndfileError) as error:
        raise BadScene(f"the recording {name} is not at {path}: {error}") from None
    mono: Samples = soxr.resample(samples.mean(axis=1), rate_hz, RATE_HZ)
    return mono


async def _speak(texts: Sequence[str]) -> dict[str, Samples]:
    from services.tts.engines.espeak import EspeakSynthesizer
    from shared.settings import Settings

    voice = EspeakSynthesizer(Settings())
    await voice.load()
    found: dict[str, Samples] = {}
    try:
        for text in texts:
            pieces = [piece.pcm async for piece in voice.speak(text, voice="", speed=1.0, language="en")]
            samples = np.frombuffer(b"".join(pieces), "<i2").astype(np.float32) / 32_768
            found[text] = soxr.resample(samples, voice.rate_hz, RATE_HZ)
    finally:
        await voice.close()
    return found
