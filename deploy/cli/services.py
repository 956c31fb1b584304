"""`parley vad`, `asr`, `llm`, `tts`, `edge`: each runs one service until it gets a signal."""

from importlib import import_module

import typer

from deploy.cli.options import exit_settings_wrong
from shared.engines.registry import UnknownEngine
from shared.settings import BadSettings


def _serve(name: str) -> None:
    """Run a service, and exit with its exit code."""
    try:
        code = import_module(f"services.{name}.__main__").main()
    except (BadSettings, UnknownEngine) as error:
        exit_settings_wrong(error)
    raise typer.Exit(code or 0)


def vad() -> None:
    """Detect speech and decide when a turn ends."""
    _serve("vad")


def asr() -> None:
    """Transcribe speech."""
    _serve("asr")


def llm() -> None:
    """Write replies with a chat model."""
    _serve("llm")


def tts() -> None:
    """Speak replies."""
    _serve("tts")


def edge() -> None:
    """Serve the page and the protocols for browsers, phones and SDKs."""
    _serve("edge")
