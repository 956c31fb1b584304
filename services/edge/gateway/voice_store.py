"""The cloned voices on this edge's disk: NAME.flac is the recording, NAME.json its metadata.

The broker has a copy for all workers and edges, which is lost with the broker; the files persist. An edge uploads all
its voices to the broker whenever it connects. Several edges either share one folder, or each stores the voices that
were added through it. In the second case, delete a voice at the edge that stores it: otherwise that edge uploads it
again at its next connection.
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
    """The voices in one folder, which is created with the first voice."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._changing = asyncio.Lock()

    async def share(self, bus: Bus) -> None:
        """Upload every stored voice to the broker, for all workers."""
        for name in await asyncio.to_thread(self.names):
            async with self._changing:
                voice = await asyncio.to_thread(self._load, name)
                if voice is not None:
                    await bus.put_voice(voice, replace=True)

    async def add(self, bus: Bus, voice: ClonedVoice) -> Literal["added", "known", "taken"]:
        """Store a voice and upload it to the broker, for all workers.

        Returns "known" if exactly this voice is already there, and "taken" if another voice has its name.

        Raises:
            OSError: the files cannot be written. A new voice is then not uploaded either.
            BrokerGone: the connection to the broker was lost; the voice may not be uploaded.
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
        """Delete a voice on disk and in the broker. Returns False if there was no such voice.

        Raises:
            OSError: the files cannot be deleted. Workers cannot use the voice until this edge uploads it again.
            BrokerGone: the connection to the broker was lost; the workers may still have the voice.
        """
        async with self._changing:
            dropped = await bus.drop_voice(name)
            return await asyncio.to_thread(self._delete, name) or dropped

    def names(self) -> list[str]:
        """The stored voices. Blocking, as all that follows."""
        return sorted(path.stem for path in self._folder.glob("*.json"))

    # -- files; called in a thread ----------------------------------------------------------------

    def _load(self, name: str) -> ClonedVoice | None:
        """The voice, or None if its files are damaged (edited or incompletely copied): the edge must start anyway."""
        try:
            check_name(name)
            metadata = json.loads((self._folder / f"{name}.json").read_bytes())
            samples, rate_hz = soundfile.read(self._folder / f"{name}.flac", dtype="int16")
            voice = cloned_voice(name, str(metadata["text"]), int(rate_hz), samples.astype("<i2").tobytes())
            if voice.info.digest != metadata["digest"]:
                raise ValueError("recording and metadata do not match")
        except (OSError, ValueError, KeyError, TypeError, soundfile.SoundFileError) as error:
            log.warning("cloned voice skipped", voice=name, reason=f"{type(error).__name__}: {error}")
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
                os.fsync(file.fileno())
            unfinished.replace(recording)
            # Written last: a recording without metadata is not a voice.
            metadata = {"text": info.text, "rate_hz": info.rate_hz, "seconds": info.seconds, "digest": info.digest}
            unfinished = recording.with_suffix(".json.new")
            with unfinished.open("w", encoding="utf-8") as out:
                json.dump(metadata, out, indent=2, ensure_ascii=False)
                out.flush()
                os.fsync(out.fileno())
            unfinished.replace(recording.with_suffix(".json"))
        except soundfile.SoundFileError as error:
            raise OSError(None, str(error)) from error
        finally:
            unfinished.unlink(missing_ok=True)

    def _delete(self, name: str) -> bool:
        metadata = self._folder / f"{name}.json"
        found = metadata.exists()
        metadata.unlink(missing_ok=True)
        (self._folder / f"{name}.flac").unlink(missing_ok=True)
        return found
