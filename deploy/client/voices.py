"""`parley voices`: list, add and delete the cloned voices of a running Parley."""

import json
import mimetypes
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
from rich.console import Console
from rich.text import Text

from deploy.monitor.client import TIMEOUT_S, RequestFailed, send
from shared.audio.voices import LARGEST_BYTES

UPLOAD_S = 60.0
TYPES = {".wav": "audio/wav", ".flac": "audio/flac", ".ogg": "audio/ogg", ".mp3": "audio/mpeg"}


def show_voices(url: str, *, language: str = "", as_json: bool) -> None:
    """Print the voices by language. `language`: only those that speak it (`de`, `en-gb`), and cloned ones, which speak any."""
    wanted = language.lower().replace("_", "-")
    voices = [voice for voice in _call("GET", url, "/v1/voices")["voices"] if _speaks(voice, wanted)]
    if as_json:
        print(json.dumps(voices, indent=2, ensure_ascii=False))
        return
    by_language: dict[str, list[str]] = {}
    for voice in voices:
        if voice["kind"] == "engine":
            by_language.setdefault(voice["language"].partition("-")[0].lower(), []).append(voice["name"])
    console = Console(highlight=False)
    for code, names in sorted(by_language.items()):
        console.print(Text(f"{code or 'any language'}: {', '.join(names)}"))
    for voice in voices:
        if voice["kind"] != "engine":
            usable = "" if voice["usable"] else ", not usable with this tts engine"
            print(f"{voice['name']}  cloned{usable}: {voice['seconds']:.1f} s, {voice['text']!r}")
    if not voices and wanted:
        print(f"No voice speaks {language!r}. Without --language all voices are listed.")
    elif not voices:
        print("No voices yet. Add one: parley voices add FILE --name NAME --text 'What is said in it.'")


def _speaks(voice: Mapping[str, Any], wanted: str) -> bool:
    """Whether a voice is listed for this language, in lower case; empty: for any."""
    own = voice.get("language", "").lower()
    return not wanted or not own or own == wanted or own.startswith(f"{wanted}-")


def add_voice(url: str, file: Path, name: str, text: str) -> None:
    """Clone a voice from a recording. `text`: what is said in it."""
    try:
        if file.stat().st_size > LARGEST_BYTES:
            raise RequestFailed(f"{file} is larger than {LARGEST_BYTES // 1024 // 1024} MB")
        body = file.read_bytes()
    except OSError as error:
        raise RequestFailed(f"{file}: {error.strerror}") from None
    kind = TYPES.get(file.suffix.lower()) or mimetypes.guess_type(file.name)[0] or ""
    headers = {"content-type": kind if kind.startswith("audio/") else "application/octet-stream"}
    shown = _call("POST", url, f"/v1/voices/{_path(name)}", params={"text": text}, content=body, headers=headers)
    print(f"added {shown['name']}: {shown['seconds']:.1f} s")
    if shown["advice"]:
        print(shown["advice"])
    if not shown["usable"]:
        print("The running tts engine cannot use cloned voices. PARLEY_TTS_ENGINE=f5 can.")


def delete_voice(url: str, name: str) -> None:
    print(f"deleted {_call('DELETE', url, f'/v1/voices/{_path(name)}')['name']}")


def _path(name: str) -> str:
    """Quote a name as one segment of a path.

    Raises:
        RequestFailed: it would lead to another path.
    """
    if name in ("", ".", "..") or "/" in name:
        raise RequestFailed(f"{name!r} cannot be the name of a voice")
    return quote(name, safe="")


def _call(method: str, url: str, path: str, **request: Any) -> Any:
    timeout = httpx.Timeout(TIMEOUT_S, read=UPLOAD_S, write=UPLOAD_S)
    response = send(method, url, path, timeout=timeout, **request)
    answer = response.json()
    if not response.is_success:
        raise RequestFailed(answer["error"]["message"])
    return answer
