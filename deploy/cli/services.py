"""`parley vad`, `asr`, `llm`, `tts`, `edge`: each runs one service until it gets a signal."""

from collections.abc import Callable
from importlib import import_module

import typer

from deploy.cli.options import exit_settings_wrong
from shared.engines.registry import UnknownEngine
from shared.settings import BadSettings

SERVICES = {
    "vad": "Detect speech and decide when a turn ends.",
    "asr": "Transcribe speech.",
    "llm": "Write replies with a chat model.",
    "tts": "Speak replies.",
    "edge": "Serve the page and the protocols for browsers, phones and SDKs.",
}
"""Help by name."""


def command(name: str) -> Callable[[], None]:
    """Return the command that runs a service, and exits with its exit code."""

    def serve() -> None:
        try:
            code = import_module(f"services.{name}.__main__").main()
        except (BadSettings, UnknownEngine) as error:
            exit_settings_wrong(error)
        raise typer.Exit(code or 0)

    return serve
