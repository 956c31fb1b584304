"""`parley top` and `parley turns`: the monitor of a running Parley, in a terminal."""

from typing import Annotated

import typer

from deploy.cli.options import AsJson, Url, server_url


def top(
    url: Url = None,
    once: Annotated[bool, typer.Option("--once", help="Print it once and exit.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show stages, conversations and turns, live; q exits. The page /monitor shows the same.

    Exit code: 0 figures were shown, 1 the monitor gave none,
    2 the settings are wrong.
    """
    from deploy.monitor.top import run_top

    raise typer.Exit(run_top(server_url(url), once=once, as_json=as_json))


def turns(
    session: Annotated[
        str | None,
        typer.Argument(help="Id of a conversation, or the beginning of it.", show_default="the latest turns of all"),
    ] = None,
    find: Annotated[
        str | None,
        typer.Option(help="List the past conversations in which this was said, or whose id begins with it."),
    ] = None,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Show the time that each stage took in each turn of a conversation, or find past conversations.

    Exit code: 0 turns were shown, 1 no such conversation, or no Parley answers,
    2 the settings are wrong.
    """
    from deploy.monitor.turns import run_find, run_turns

    if find is not None:
        raise typer.Exit(run_find(server_url(url), find, as_json=as_json))
    raise typer.Exit(run_turns(server_url(url), session, as_json=as_json))
