"""The command `parley`. It parses, and calls what does the work, which is imported only then."""

import json
import os
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import typer

from shared.distribution import checkout, version
from shared.engines.registry import UnknownEngine
from shared.protocol.session import SESSION_TABLE
from shared.settings import PROFILES, TABLE, BadSettings, Settings, load_settings

SETTINGS_WRONG = 2

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(version())
        raise typer.Exit


@app.callback()
def parley(
    show_version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """A voice agent that stays on the line."""


AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Url = Annotated[str | None, typer.Option(help="A running Parley; without it as PARLEY_HOST and PARLEY_PORT say.")]


def _settings() -> Settings:
    try:
        return load_settings()
    except BadSettings as error:
        print(error, file=sys.stderr)
        raise typer.Exit(SETTINGS_WRONG) from None


def _url(url: str | None) -> str:
    from deploy.local.address import base_url

    settings = _settings()
    return url or base_url(settings.host, settings.port)


def _serve(name: str) -> None:
    """Run one service until it is told to stop."""
    try:
        code = import_module(f"services.{name}.__main__").main()
    except (BadSettings, UnknownEngine) as error:
        print(error, file=sys.stderr)
        raise typer.Exit(SETTINGS_WRONG) from None
    raise typer.Exit(code or 0)


@app.command(rich_help_panel="One service")
def vad() -> None:
    """Listen to sessions: who speaks, and when a turn is over."""
    _serve("vad")


@app.command(rich_help_panel="One service")
def asr() -> None:
    """Turn speech into text."""
    _serve("asr")


@app.command(rich_help_panel="One service")
def llm() -> None:
    """Think of the reply."""
    _serve("llm")


@app.command(rich_help_panel="One service")
def tts() -> None:
    """Turn the reply into speech."""
    _serve("tts")


@app.command(rich_help_panel="One service")
def edge() -> None:
    """Talk to browsers, phones and SDKs."""
    _serve("edge")


@app.command()
def up(
    port: Annotated[int | None, typer.Option(help="Port of the page; without it PARLEY_PORT, else 8000.")] = None,
    profile: Annotated[
        str | None, typer.Option(help="Set of engines; without it PARLEY_PROFILE, else classic.")
    ] = None,
) -> None:
    """Run everything on this machine: broker, four stages, edge."""
    given = {"PARLEY_PORT": port, "PARLEY_PROFILE": profile}
    os.environ.update({name: str(value) for name, value in given.items() if value is not None})
    settings = _settings()
    from deploy.local.up import up as run_up

    raise typer.Exit(run_up(settings, os.environ))


Port = Annotated[int | None, typer.Option(min=1, max=65535)]


@app.command()
def observe(prometheus_port: Port = None, alertmanager_port: Port = None) -> None:
    """Run Prometheus and Alertmanager beside `parley up`, with our rules, where they are installed.

    Without a port they take their usual one (9090, 9093), or a free one where that is taken. Exit code: 0 after a
    signal, 1 this machine lacks something, 2 the settings are wrong.
    """
    settings = _settings()
    from deploy.local.observe import run_observe

    raise typer.Exit(run_observe(settings, os.environ, prometheus_port, alertmanager_port))


@app.command()
def config(as_json: AsJson = False) -> None:
    """Show every setting, with secrets masked."""
    rows = config_rows(_settings())
    if as_json:
        print(json.dumps(rows, indent=2))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, header_style="dim", padding=(0, 2, 0, 0))
    for heading in ("setting", "value", "default?", "what it is"):
        table.add_column(heading, overflow="fold", no_wrap=heading == "setting")
    for row in rows:
        mark = "yes" if row["is_default"] else "set"
        table.add_row(row["name"], "–" if row["value"] in (None, "") else str(row["value"]), mark, row["description"])
    Console(highlight=False, markup=False).print(table)


def config_rows(settings: Settings) -> list[dict[str, Any]]:
    """Each setting as JSON: its variable, value, default, what is allowed, who may set it, and what it does."""
    values = settings.flat()
    defaults = Settings.model_construct(profile=settings.profile).flat() | PROFILES[settings.profile]
    return [
        {
            "name": row.variable,
            "value": values[name],
            "default": defaults[name],
            "is_default": values[name] == defaults[name],
            "allowed": row.allowed,
            "unit": row.setting.unit,
            "client": name in SESSION_TABLE,
            "description": row.setting.text,
        }
        for name, row in TABLE.items()
    ]


@app.command()
def doctor(
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Tell what is wrong with this machine or a running system, and how to mend it.

    Exit code: 0 all is well, 1 something is wrong, 2 the settings are wrong.
    """
    settings = _settings()
    from deploy.local.doctor import run_doctor

    raise typer.Exit(run_doctor(settings, os.environ, url=url, as_json=as_json))


@app.command()
def top(
    url: Url = None,
    once: Annotated[bool, typer.Option("--once", help="Print it once, and end.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show stages, conversations and turns of a running Parley, live; q ends it. The page /monitor shows the same.

    Exit code: 0 figures were shown, 1 there are none, 2 the settings are wrong.
    """
    from deploy.monitor.top import run_top

    raise typer.Exit(run_top(_url(url), once=once, as_json=as_json))


@app.command()
def turns(
    session: Annotated[
        str | None, typer.Argument(help="Id of a conversation, or how it begins; without it the latest turns of all.")
    ] = None,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Show where the time of each turn of a conversation went.

    Exit code: 0 they were shown, 1 there is no such conversation or no Parley, 2 the settings are wrong.
    """
    from deploy.monitor.turns import run_turns

    raise typer.Exit(run_turns(_url(url), session, as_json=as_json))


@app.command()
def talk(
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="What to say: a WAV file, or a .scene.")],
    url: Url = None,
    out: Annotated[Path, typer.Option(help="Where the reply's audio goes.")] = Path("reply.wav"),
    clips: Annotated[
        Path | None, typer.Option(help="Folder of the recordings that a scene names; without it the scene's own.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Play a recording or a scripted scene to a running Parley as if it were spoken now; show and record what comes back."""
    from deploy.client.talk import run_talk

    raise typer.Exit(run_talk(file, url=_url(url), out=out, clips=clips, as_json=as_json))


models = typer.Typer(help="Bring and check the models that the engines load.", no_args_is_help=True)
app.add_typer(models, name="models")

Names = Annotated[
    list[str] | None,
    typer.Argument(metavar="[MODEL]...", help="Names on the hub, or folders; without any all that the settings use."),
]


@models.command("list")
def list_models(
    everything: Annotated[bool, typer.Option("--all", help="Those of the other engines, too.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show which models the settings call for, where they lie, and what is missing."""
    settings = _settings()
    from deploy.models.catalog import run_list

    _run(lambda: run_list(settings, everything=everything, as_json=as_json))


@models.command()
def pull(names: Names = None) -> None:
    """Bring models from the hub, as far as they are not here.

    HF_HOME says where they go, HF_TOKEN opens gated ones. Exit code: 0 all are here, 1 one could not be had, 2 the
    settings are wrong.
    """
    settings = _settings()
    from deploy.models.pull import run_pull

    _run(lambda: run_pull(settings, names or ()))


@models.command()
def verify(names: Names = None) -> None:
    """Check that all files are here, and are what the hub sent."""
    settings = _settings()
    from deploy.models.verify import run_verify

    _run(lambda: run_verify(settings, names or ()))


@models.command()
def warm() -> None:
    """Load every engine of the settings once, for real, and say how long it took."""
    settings = _settings()
    from deploy.models.warm import run_warm

    _run(lambda: run_warm(settings))


def _run(work: Callable[[], int]) -> None:
    try:
        code = work()
    except UnknownEngine as error:
        print(error, file=sys.stderr)
        raise typer.Exit(SETTINGS_WRONG) from None
    raise typer.Exit(code)


voices = typer.Typer(help="List, add and delete the cloned voices of a running Parley.", no_args_is_help=True)
app.add_typer(voices, name="voices")


@voices.command("list")
def list_voices(url: Url = None, as_json: AsJson = False) -> None:
    """Show what can be spoken with."""
    from deploy.client.voices import run_list

    raise typer.Exit(run_list(_url(url), as_json=as_json))


@voices.command()
def add(
    file: Annotated[
        Path, typer.Argument(exists=True, dir_okay=False, help="3 to 12 s of one person: WAV, FLAC, OGG, MP3.")
    ],
    name: Annotated[str, typer.Option(help="What sessions ask for.")],
    text: Annotated[str, typer.Option(help="What is said in the recording, word for word.")],
    url: Url = None,
) -> None:
    """Make a voice of a recording."""
    from deploy.client.voices import run_add

    raise typer.Exit(run_add(_url(url), file, name, text))


@voices.command()
def delete(name: Annotated[str, typer.Argument(help="The voice.")], url: Url = None) -> None:
    """Delete a voice. A sentence that is being spoken with it is finished."""
    from deploy.client.voices import run_delete

    raise typer.Exit(run_delete(_url(url), name))


@app.command(
    context_settings={"ignore_unknown_options": True, "allow_extra_args": True},
    add_help_option=False,
)
def bench(context: typer.Context) -> None:
    """Measure what runs on this machine, from a checkout: runs `python -m benchmarks` there."""
    root = checkout()
    if root is None:
        print("The benchmarks are not installed with Parley. Run this in a clone of its repository.", file=sys.stderr)
        raise typer.Exit(SETTINGS_WRONG)
    paths = [str(root), *filter(None, [os.environ.get("PYTHONPATH")])]
    argv = [sys.executable, "-m", "benchmarks", *context.args]
    os.execve(sys.executable, argv, {**os.environ, "PYTHONPATH": os.pathsep.join(paths)})  # noqa: S606  it takes our place


def main() -> None:
    app(prog_name="parley")


if __name__ == "__main__":
    main()
