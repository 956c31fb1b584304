"""Performs a scene: the audio of the caller's microphone frame by frame, and the true times of each sound.

Its only clock is its count of samples. Its user calls `reply_began` and `reply_over` when playback of a reply starts
and ends. Everything but `gather_sounds` is pure.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import soundfile
import soxr

from deploy.client.acoustics import CONDITIONS, SPEECH_DB
from deploy.client.conversation import Conversation
from deploy.client.scene import BadScene, Cue, Scene
from shared.audio.channels import mixed
from shared.protocol.session import RATE_HZ

FRAME = 320
"""Samples of 20 ms."""
LEVEL_DB = SPEECH_DB
"""RMS level of all sounds, in dBFS."""
COUGH_S = 0.25
REPLY_WAIT_S = 5.0
"""Without a reply for this time after the end of speech, the scene goes on."""
TAIL_S = 3.0
"""Silence at the end of the call."""

Samples = npt.NDArray[np.float32]
"""Mono audio at 16 kHz, from -1 to 1."""


@dataclass(slots=True)
class Sound:
    """A sound that was performed, with its times in seconds since the start of the call."""

    cue: Cue
    start_s: float
    end_s: float
    into_reply: bool
    """A reply was playing when it began."""


class Performer:
    """Performs one scene; also a `Speech`. `sounds` are its sounds by cue; `seed` selects the noise."""

    def __init__(self, scene: Scene, sounds: Mapping[Cue, Samples], seed: int = 1) -> None:
        self.scene = scene
        self.done: list[Sound] = []
        self.skipped: list[Cue] = []
        """Cues for replies that did not come."""
        self._cues = list(scene.cues)
        self._sounds = {cue: sounds[cue] for cue in scene.cues}
        self._playing: list[tuple[Samples, int]] = []  # current sounds, and the samples of each already played
        self._position = 0
        self._random = np.random.default_rng(seed)
        self._noise = self._make_noise()
        self._lengths_s = {cue: len(sound) / RATE_HZ for cue, sound in self._sounds.items()}
        self._place(seed)
        self._reply_began_s = float("-inf")  # before the first reply
        self._spoken_until_s = 0.0  # end of the last sound; its reverberation may last longer
        self._reply_over_s = 0.0
        self.replying = False
        """Whether a reply is playing."""

    @property
    def now_s(self) -> float:
        return self._position / RATE_HZ

    @property
    def over(self) -> bool:
        """Whether all cues are performed, and `TAIL_S` of silence has followed."""
        silent = not self._cues and not self._sounding and not self.replying
        return silent and self.now_s > self._quiet_s + TAIL_S

    def spoken_until(self, conversation: Conversation, now_s: float) -> float | None:
        """See `Speech`. The cues follow the replies that the conversation plays."""
        if conversation.track.playing(now_s):
            self.reply_began()
        else:
            self.reply_over()
        if self._cues or self._sounding:
            return None
        return max((sound.end_s for sound in self.done), default=0.0)

    def reply_began(self) -> None:
        """Note that a reply is playing. Only the first call for a reply counts."""
        if not self.replying:
            self._reply_began_s, self.replying = self.now_s, True

    def reply_over(self) -> None:
        if self.replying:
            self.replying, self._reply_over_s = False, self.now_s

    def frame(self) -> bytes:
        """The next 20 ms, s16le."""
        while self._cues:
            if self._cues[0].when == "reply" and not self._sounding and self._unanswered:
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
        self._playing = going
        self._position += FRAME
        return (frame * 32_767).clip(-32_768, 32_767).astype("<i2").tobytes()

    @property
    def _sounding(self) -> bool:
        return self.now_s < self._spoken_until_s

    @property
    def _quiet_s(self) -> float:
        """Time since which both sides are silent."""
        return max(self._spoken_until_s, self._reply_over_s)

    @property
    def _unanswered(self) -> bool:
        """Whether the reply that is waited for does not come."""
        return not self.replying and self.now_s > self._quiet_s + REPLY_WAIT_S

    @property
    def _answered(self) -> bool:
        """Whether a reply has begun since the last speech."""
        asked_s = max((sound.start_s for sound in self.done if sound.cue.what == "say"), default=0.0)
        return self._reply_began_s >= asked_s

    def _due(self, cue: Cue) -> bool:
        match cue.when:
            case "at":
                return self.now_s >= cue.seconds
            case "reply":
                return self.replying and self._answered and self.now_s >= self._reply_began_s + cue.seconds
            case "pause":
                return not self._sounding and self.now_s >= self.done[-1].end_s + cue.seconds
            case _:
                quiet = not self._sounding and not self.replying and (self._answered or self._unanswered)
                return quiet and self.now_s >= self._quiet_s + cue.seconds

    def _begin(self, cue: Cue) -> None:
        samples = self._sounds[cue]
        end_s = self.now_s + self._lengths_s[cue]
        self._spoken_until_s = max(self._spoken_until_s, end_s)
        self.done.append(Sound(cue, self.now_s, end_s, self.replying))
        self._playing.append((samples, 0))

    def _place(self, seed: int) -> None:
        """Put the sounds and the background into the scene's room, or on its telephone line."""
        if not self.scene.acoustics:
            return
        condition, others = CONDITIONS[self.scene.acoustics], list(self._sounds.values())
        self._noise = condition(self._noise, [sound[::-1] for sound in others], seed)  # babble: the words backwards
        tail = np.zeros(RATE_HZ // 2, np.float32)
        self._sounds = {cue: condition(np.concatenate([sound, tail]), [], seed) for cue, sound in self._sounds.items()}

    def _make_noise(self) -> Samples:
        samples = 10 * RATE_HZ
        quiet = self._random.normal(0, 6e-5, samples)  # -84 dBFS: a microphone is never at digital zero
        if not self.scene.noise:
            return quiet.astype(np.float32)
        spectrum = np.fft.rfft(self._random.standard_normal(samples))
        if self.scene.noise == "pink":
            spectrum /= np.sqrt(np.maximum(np.arange(len(spectrum)), 1))
        noise = np.fft.irfft(spectrum, samples)
        level = 10 ** ((LEVEL_DB - self.scene.noise_db) / 20)
        loud: Samples = (noise / np.sqrt(np.mean(noise**2)) * level).astype(np.float32)
        return loud


def cough() -> Samples:
    """A decaying burst of noise, as loud as speech."""
    random = np.random.default_rng(7)
    count = int(COUGH_S * RATE_HZ)
    noise = np.convolve(random.standard_normal(count), np.hanning(9) / 4, "same")
    decay = np.exp(-np.arange(count) / (0.08 * RATE_HZ)) * np.minimum(1, np.arange(count) / (0.01 * RATE_HZ))
    return levelled((noise * decay).astype(np.float32))


def levelled(samples: Samples) -> Samples:
    """Trim silence at both ends, and scale to `LEVEL_DB`."""
    loud = np.flatnonzero(np.abs(samples) > 0.02 * np.abs(samples).max(initial=1e-9))
    trimmed = samples[loud[0] : loud[-1] + 1] if len(loud) else samples
    level = np.sqrt(np.mean(trimmed**2)) + 1e-9
    at_level: Samples = (trimmed * 10 ** (LEVEL_DB / 20) / level).clip(-1, 1).astype(np.float32)
    return at_level


def gather_sounds(
    scenes: Sequence[Scene], clips: Path | None, speak: Callable[[Sequence[str]], Mapping[str, Samples]] | None = None
) -> dict[Cue, Samples]:
    """Load, synthesise or generate every sound of these scenes.

    `clips`: folder of the recordings. `speak`: returns the speech of texts; None: eSpeak speaks.

    Raises:
        BadScene: a recording cannot be read.
    """
    cues = {cue for scene in scenes for cue in scene.cues}
    texts = sorted({cue.sound for cue in cues if cue.spoken})
    voices = (speak or (lambda texts: asyncio.run(spoken(texts))))(texts) if texts else {}
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
        return read_sound(path)
    except (OSError, soundfile.LibsndfileError) as error:
        raise BadScene(f"cannot read the recording {name} ({path}): {error}") from None


def read_sound(path: Path) -> Samples:
    """Read a sound file. Raises `OSError` or `soundfile.LibsndfileError`."""
    samples, rate_hz = soundfile.read(path, dtype="float32", always_2d=True)
    mono: Samples = soxr.resample(mixed(samples), rate_hz, RATE_HZ)
    return mono


async def spoken(texts: Sequence[str], speed: float = 1.0) -> dict[str, Samples]:
    """Synthesise texts with eSpeak."""
    from services.tts.engines.espeak import EspeakSynthesizer
    from shared.settings import Settings

    voice = EspeakSynthesizer(Settings())
    await voice.load()
    found: dict[str, Samples] = {}
    try:
        for text in texts:
            pieces = [piece.pcm async for piece in voice.speak(text, voice="", speed=speed, language="en")]
            samples = np.frombuffer(b"".join(pieces), "<i2").astype(np.float32) / 32_768
            found[text] = soxr.resample(samples, voice.rate_hz, RATE_HZ)
    finally:
        await voice.close()
    return found
