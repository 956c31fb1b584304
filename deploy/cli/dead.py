"""`parley dead`: the jobs that stages have given up."""

from typing import Annotated

import typer

from deploy.cli.options import AsJson, read_settings

dead = typer.Typer(help="List, show, retry and delete the jobs that stages have given up.", no_args_is_help=True)

Names = Annotated[list[str], typer.Argument(help="Letters, as `parley dead list` names them: tts:1764325000000-0.")]
Stage = Annotated[
    str | None, typer.Option(help="Only those of vad, asr, llm, tts or edge.", show_default="those of all")
]


@dead.command("list")
def list_letters(stage: Stage = None, as_json: AsJson = False) -> None:
    """List dead letters, the oldest first.

    Exit code: 0 they were listed, 1 the broker does not answer, 2 the settings are wrong.
    """
    from deploy.local.dead import list_dead

    raise typer.Exit(list_dead(read_settings(), stage, as_json=as_json))


@dead.command()
def show(
    name: Annotated[str, typer.Argument(help="A letter, as `parley dead list` names it.")], as_json: AsJson = False
) -> None:
    """Show a dead letter with its job. That contains what the caller said: treat it as confidential.

    Exit code: 0 it was shown, 1 there is no such letter, or the broker does not answer, 2 the settings are wrong.
    """
    from deploy.local.dead import show_dead

    raise typer.Exit(show_dead(read_settings(), name, as_json=as_json))


@dead.command()
def retry(names: Names) -> None:
    """Put jobs back into their stage's stream, once. A job whose session has ended stays a dead letter.

    Exit code: 0 all were put back, 1 one was not, or the broker does not answer, 2 the settings are wrong.
    """
    from deploy.local.dead import retry_dead

    raise typer.Exit(retry_dead(read_settings(), names))


@dead.command()
def drop(
    names: Annotated[list[str] | None, typer.Argument(help="Letters, as `parley dead list` names them.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="All letters.")] = False,
    stage: Stage = None,
) -> None:
    """Delete dead letters: the named ones, or with --all all of them or those of a stage.

    Exit code: 0 they were deleted, 1 one was not there, or the broker does not answer, 2 the settings are wrong.
    """
    from deploy.local.dead import drop_dead

    if bool(names) == everything:
        raise typer.BadParameter("name letters, or use --all")
    raise typer.Exit(drop_dead(read_settings(), names or [], stage))
