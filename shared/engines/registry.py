"""Create an engine by name: one that comes with Parley, or any `module:Class`."""

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
    """There is no engine of that name, or it cannot be loaded. The message says what to do."""


class EngineNotReady(UnknownEngine):
    """The engine needs something that is not ready yet, such as a model server that still loads its model.

    The worker waits, and loads the engine again.
    """

    def __init__(self, awaited: str, reason: str) -> None:
        """`awaited`: what the engine waits for, such as a URL. `reason`: why it is not ready, in a few words."""
        super().__init__(f"{awaited}: {reason}")
        self.awaited, self.reason = awaited, reason


class EngineLost(RuntimeError):
    """The engine cannot work again in this process: no memory, a failed device, a call that does not return.

    The worker hands its jobs back and exits; its supervisor restarts it.
    """


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, or the name of its type if the message is empty."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def model_of(engine: object) -> str:
    """Return the name of the model that an engine has loaded, its attribute `model_name`; empty for an engine without a model."""
    return str(getattr(engine, "model_name", ""))


def create_engine(stage: str, name: str, builtin: Mapping[str, str], settings: Settings) -> Any:
    """Create the engine called `name`, a key of `builtin` or a `module:Class`; its only argument is the settings.

    Raises:
        UnknownEngine: the name, module or class does not exist; the message lists the known names.
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
