"""The screenshots of the README: a conversation on the page, and the monitor, of a system with the classic engines.

`python -m tests.support.screenshots docs/images [--speech FILE.wav]` writes page.png and monitor.png, 1280 by 800 pixels.
FILE.wav is what the person says first; without it eSpeak NG says it.
"""

import argparse
import asyncio
import contextlib
import json
import subprocess
import sys
import tempfile
import wave
from pathlib import Path

from websockets.asyncio.client import ClientConnection, connect

from shared.audio.pcm import Resampler
from tests.browser.conftest import Page, chromium
from tests.support.system import CLASSIC, System, running_system

WIDTH, HEIGHT = 1280, 800
RATE_HZ = 16_000
FRAME_MS = 20
FRAME_BYTES = 2 * RATE_HZ * FRAME_MS // 1000
LEAD_S, TAIL_S = 1.5, 5.0
PALETTE = 256
"""Colours of a PNG: enough for the pages, and a third of the bytes."""

SPOKEN = "go forward ten meters"
TYPED = ("I am a little worried about tomorrow.", "My sister says that I think too much.")
INTERRUPTED = "Can you help me to understand my dreams?"
LAST = "Because I always dream of the sea."
HEARD_MS = 600
"""How much of a reply is heard before the next message interrupts it, and how long the page rests after one."""
BESIDE = ("I feel tired today.", "Are you a computer?", "I need a holiday.", "My brother is late.")
"""What others type, so that the monitor shows more than one conversation."""
OTHERS = 3

DONE = "return parley.turns.length === {} && parley.turns.at(-1).status && parley.state === 'listening'"
SOUNDS = "return parley.turns.length === {} && parley.state === 'speaking' && parley.turns.at(-1).marks.played"


def speech(recording: Path | None) -> bytes:
    """s16le mono at `RATE_HZ`."""
    if recording is None:
        argv = (sys.executable, str(Path(__file__).parent / "say.py"), SPOKEN, str(RATE_HZ))
        return subprocess.run(argv, check=True, capture_output=True).stdout
    with wave.open(str(recording)) as file:
        resampler = Resampler(file.getframerate(), RATE_HZ)
        return resampler.process(file.readframes(file.getnframes())) + resampler.flush()


def write_microphone(path: Path, pcm: bytes) -> None:
    """A WAV with silence around the speech."""
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, RATE_HZ, 0, "NONE", ""))
        file.writeframes(bytes(2 * int(RATE_HZ * LEAD_S)) + pcm + bytes(2 * int(RATE_HZ * TAIL_S)))


def save(page: Page, path: Path) -> None:
    """Take a screenshot, with a palette."""
    from PIL import Image

    page.driver.save_screenshot(str(path))
    Image.open(path).convert("RGB").quantize(PALETTE, dither=Image.Dither.NONE).save(path, optimize=True)


def wait(page: Page) -> None:
    page.driver.execute_async_script(f"setTimeout(arguments[0], {HEARD_MS})")


def converse(page: Page, url: str) -> None:
    """Speak once, type the rest, interrupt one reply; return while the last reply is spoken."""
    page.look(WIDTH, HEIGHT)
    page.open(url, "?raw=1")
    page.click("orb")
    page.until(DONE.format(1))
    wait(page)
    for number, text in enumerate(TYPED, start=2):
        page.type(text)
        page.until(DONE.format(number))
        wait(page)
    page.type(INTERRUPTED)
    page.until(SOUNDS.format(len(TYPED) + 2))
    wait(page)
    page.type(LAST)
    page.run("document.activeElement.blur()")
    page.until(SOUNDS.format(len(TYPED) + 3))
    wait(page)


async def speak_and_type(client: ClientConnection, pcm: bytes) -> None:
    """Hold a conversation of two spoken turns, in real time, and the typed ones of BESIDE."""

    async def reply() -> None:
        """Wait as long as the reply sounds: what is typed earlier would interrupt it."""
        size = 0
        async for message in client:
            if not isinstance(message, str):
                size += len(message)
            elif json.loads(message)["type"] == "reply_done":
                break
        await asyncio.sleep(size / 2 / RATE_HZ + HEARD_MS / 1000)

    await client.send(json.dumps({"type": "start_streaming"}))
    audio = pcm + bytes(2 * RATE_HZ)
    for _ in range(2):
        for at in range(0, len(audio), FRAME_BYTES):
            await client.send(audio[at : at + FRAME_BYTES])
            await asyncio.sleep(FRAME_MS / 1000)
        await reply()
    for text in BESIDE:
        await client.send(json.dumps({"type": "text_input", "text": text}))
        await reply()


def look(system: System, folder: Path, pcm: bytes) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        microphone = Path(scratch) / "microphone.wav"
        write_microphone(microphone, pcm)
        listens = f"--use-file-for-fake-audio-capture={microphone}%noloop"
        with chromium(Path(scratch), "--use-fake-ui-for-media-stream", listens) as page:
            converse(page, system.url)
            save(page, folder / "page.png")
            page.driver.switch_to.new_window("tab")
            page.look(WIDTH, HEIGHT)
            page.driver.get(f"{system.url}/monitor")
            page.until("return window.monitor && monitor.snapshots > 3")
            save(page, folder / "monitor.png")


async def main(folder: Path, recording: Path | None) -> None:
    pcm = speech(recording)
    async with running_system(CLASSIC) as system, contextlib.AsyncExitStack() as others:
        for _ in range(OTHERS):
            client = await others.enter_async_context(connect(system.stream_url, proxy=None))
            await speak_and_type(client, pcm)
        await asyncio.to_thread(look, system, folder, pcm)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--speech", type=Path, help="WAV, mono, 16 bits")
    arguments = parser.parse_args()
    asyncio.run(main(arguments.folder, arguments.speech))
