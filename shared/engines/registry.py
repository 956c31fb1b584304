"""Find an engine by name: one that comes with Parley, or any `module:Class`."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from importlib import import_module
from typing import Any, Protocol, TypeVar

from shared.settings import Settings


class Loads(Protocol):
    """What every engine can do."""

    async def load(self) -> None: ...
    async def close(self) -> None: ...


E = TypeVar("E", bound=Loads)


class UnknownEngine(ValueError):
    """No engine goes by that name, or it cannot be loaded."""


class EngineLost(RuntimeError):
    """An engine will not work again in this process: no memory, a dead device, a call that does not return.

    The worker hands its work back and ends; whoever started it starts it again.
    """


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, or the name of its type if the message is empty."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def create_engine(stage: str, name: str, builtin: Mapping[str, str], settings: Settings) -> Any:
    """Make the engine that `name` stands for; it is called with the settings as its only argument.

    Raises:
        UnknownEngine: no such name, module or class; the message says which and what there is.
    """
    path = builtin.get(name, name)
    module_name, _, class_name = path.partition(":")
    if not class_name:
        known = ", ".join(sorted(builtin))
        raise UnknownEngine(f"PARLEY_{stage.upper()}_ENGINE={name!r}: known are {known}, or module:Class")
    try:
        factory = getattr(import_module(module_name), class_name)
    except (ImportError, AttributeError) as error:
        raise UnknownEngine(f"PARLEY_{stage.upper()}_ENGINE={name!r}: {error}") from error
    return factory(settings)


@asynccontextmanager
async def loaded(engine: E) -> AsyncIterator[E]:
    """Load an engine, and close it at the end."""
    try:
        await engine.load()
    except BaseException:
        with suppress(Exception):  # what is half loaded may not know how to close; the first error is the one to show
            await engine.close()
        raise
    try:
        yield engine
    finally:
        await engine.close()
