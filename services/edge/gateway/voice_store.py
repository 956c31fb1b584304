"""The cloned voices on this edge's disk: NAME.flac with the recording, NAME.json with the rest.

The broker holds a copy for all workers and edges while it lives; what is kept here outlives it. An edge gives all that it
has to the broker whenever it connects. Where there are several edges they share one folder, or each keeps what was
added through it: then a voice is deleted at the edge that has it, or it comes back with that edge's next connection.
"""

import asyncio
import json
import os
from pathlib import Path
from typing import Literal

import numpy as np
import soundfile
import structlog

from shared.audio.voices import ClonedVoice, check_name, cloned_voice
from shared.bus.bus import Bus

log = structlog.get_logger()


class VoiceStore:
    """Files of one folder, which need not be there before the first voice is."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._changing = asyncio.Lock()

    async def share(self, bus: Bus) -> None:
        """Give every voice that lies here to the broker, and so to all workers."""
        for name in await asyncio.to_thread(self._names):
            async with self._changing:
                voice = await asyncio.to_thread(self._load, name)
                if voice is not None:
                    await bus.put_voice(voice, replace=True)

    async def add(self, bus: Bus, voice: ClonedVoice) -> Literal["added", "known", "taken"]:
        """Keep a voice and give it to all workers, unless its name is taken by another.

        Raises:
            OSError: it cannot be kept here; then nobody has it.
            BrokerGone: nobody was told.
        """
        async with self._changing:
            known = await bus.voice_info(voice.name) == voice.info
            if not await bus.put_voice(voice, replace=False):
                return "taken"
            try:
                await asyncio.to_thread(self._save, voice)
            except OSError:
                if not known:
                    await bus.drop_voice(voice.name)
                raise
            return "known" if known else "added"

    async def delete(self, bus: Bus, name: str) -> bool:
        """Take a voice from here and from all workers. False: there was none.

        Raises:
            OSError: its files cannot be deleted; then nobody can use it until this edge connects again.
            BrokerGone: the workers were not told.
        """
        async with self._changing:
            dropped = await bus.drop_voice(name)
            return await asyncio.to_thread(self._delete, name) or dropped

    # -- files, in a thread -----------------------------------------------------------------------

    def _names(self) -> list[str]:
        return sorted(path.stem for path in self._folder.glob("*.json"))

    def _load(self, name: str) -> ClonedVoice | None:
        """The voice, or None: a file that was changed by hand or half copied must not keep the edge from its work."""
        try:
            check_name(name)
            told = json.loads((self._folder / f"{name}.json").read_bytes())
            samples, rate_hz = soundfile.read(self._folder / f"{name}.flac", dtype="int16")
            voice = cloned_voice(name, str(told["text"]), int(rate_hz), samples.astype("<i2").tobytes())
            if voice.info.digest != told["digest"]:
                raise ValueError("its two files do not belong together")
        except (OSError, ValueError, KeyError, TypeError, soundfile.SoundFileError) as error:
            log.warning("a cloned voice cannot be used", voice=name, reason=f"{type(error).__name__}: {error}")
            return None
        return voice

    def _save(self, voice: ClonedVoice) -> None:
        info = voice.info
        self._folder.mkdir(parents=True, exist_ok=True)
        recording = self._folder / f"{info.name}.flac"
        unfinished = recording.with_suffix(".flac.new")
        try:
            with unfinished.open("wb") as file:
                samples = np.frombuffer(voice.pcm, "<i2")
                soundfile.write(file, samples, info.rate_hz, format="FLAC", subtype="PCM_16")
                _sync(file.fileno())
            unfinished.replace(recording)
            # The last of the two: a voice without it is none.
            told = {"text": info.text, "rate_hz": info.rate_hz, "seconds": info.seconds, "digest": info.digest}
            unfinished = recording.with_suffix(".json.new")
            with unfinished.open("w", encoding="utf-8") as out:
                json.dump(told, out, indent=2, ensure_ascii=False)
                out.flush()
                _sync(out.fileno())
            unfinished.replace(recording.with_suffix(".json"))
        except soundfile.SoundFileError as error:
            raise OSError(None, str(error)) from error
        finally:
            unfinished.unlink(missing_ok=True)

    def _delete(self, name: str) -> bool:
        told = self._folder / f"{name}.json"
        found = told.exists()
        told.unlink(missing_ok=True)
        (self._folder / f"{name}.flac").unlink(missing_ok=True)
        return found


def _sync(descriptor: int) -> None:
    os.fsync(descriptor)
