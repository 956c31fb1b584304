"""The command `parley`: this map of its commands. Each command imports the code that it needs only when it runs."""

from typing import Annotated

import typer

from deploy.cli import services
from deploy.cli.acl import acl
from deploy.cli.agents import agents
from deploy.cli.bench import bench
from deploy.cli.check import config, doctor
from deploy.cli.dead import dead
from deploy.cli.forget import forget
from deploy.cli.keys import keys
from deploy.cli.models import models
from deploy.cli.replay import replay
from deploy.cli.roll import roll
from deploy.cli.run import observe, up
from deploy.cli.talk import talk
from deploy.cli.voices import voices
from deploy.cli.watch import top, turns
from shared.distribution import checkout, version

START = "Start Parley on this machine"
USE = "Use a running Parley"
WATCH = "Watch a running Parley"
PREPARE = "Settings, models, measurements"
SERVICES = "Run one service alone, for a system on several machines"

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
for panel, commands in {
    START: (up, roll, doctor),
    USE: (talk,),
    WATCH: (top, turns, observe, replay, forget),
    PREPARE: (config, acl),
}.items():
    for command in commands:
        app.command(rich_help_panel=panel)(command)
for name, text in services.SERVICES.items():
    app.command(name, help=text, rich_help_panel=SERVICES)(services.command(name))
app.add_typer(voices, name="voices", rich_help_panel=USE)
app.add_typer(dead, name="dead", rich_help_panel=WATCH)
app.add_typer(agents, name="agents", rich_help_panel=PREPARE)
app.add_typer(keys, name="keys", rich_help_panel=PREPARE)
app.add_typer(models, name="models", rich_help_panel=PREPARE)
app.command(
    rich_help_panel=PREPARE,
    # The benchmarks read their own options, `--help` too.
    context_settings={"ignore_unknown_options": True, "allow_extra_args": True},
    add_help_option=False,
    hidden=checkout() is None,
)(bench)


def _print_version(requested: bool) -> None:
    if requested:
        print(version())
        raise typer.Exit


@app.callback()
def parley(
    show_version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """A voice agent: it listens, thinks and speaks, and can be interrupted.

    New here? `parley up` starts everything and prints the URL of its page.
    Something does not work? `parley doctor` says what, and how to fix it.
    """


def main() -> None:
    app(prog_name="parley")


if __name__ == "__main__":
    main()
