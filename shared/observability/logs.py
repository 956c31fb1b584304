"""Logging with structlog to stderr: text in a terminal, JSON lines elsewhere, and by default never what was said.

Logs and warnings of libraries and uncaught exceptions go the same way. Each line of a job has its session, turn,
revision and trace, which the worker binds to the context.
"""

import logging
import sys
import threading
from types import TracebackType
from typing import Any

import structlog
from structlog.stdlib import ProcessorFormatter

from shared.settings import Settings

log = structlog.get_logger()


class _Content:
    """The process-wide switch for content."""

    shown = False


def shows_content() -> bool:
    """Return whether logs and traces may contain what was said (`PARLEY_LOG_CONTENT`)."""
    return _Content.shown


def configure_logging(settings: Settings, role: str) -> None:
    """Set up logging for this process; every line carries its role."""
    _Content.shown = settings.log_content
    text = settings.log_format == "text" or (settings.log_format == "auto" and sys.stderr.isatty())
    level = logging.getLevelNamesMapping()[settings.log_level.upper()]

    def add_role(_: Any, __: str, event: structlog.types.EventDict) -> structlog.types.EventDict:
        event["role"] = role
        return event

    common: list[structlog.types.Processor] = [
        structlog.contextvars.merge_contextvars,
        add_role,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    renderer: structlog.types.Processor = structlog.processors.JSONRenderer(ensure_ascii=False, default=repr)
    if text:
        plain = structlog.dev.plain_traceback
        renderer = structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=plain)
    # Plain tracebacks in both formats: the pretty ones show local variables, and with them what was said.
    last: list[structlog.types.Processor] = [structlog.processors.format_exc_info, renderer]
    structlog.configure(
        processors=[*common, *last],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        ProcessorFormatter(
            foreign_pre_chain=[*common, structlog.stdlib.add_logger_name],
            processors=[ProcessorFormatter.remove_processors_meta, *last],
        )
    )
    # Below WARNING, libraries may log the contents of their requests, and with them what was said.
    logging.basicConfig(level=max(level, logging.WARNING), handlers=[handler], force=True)
    logging.setLoggerClass(_LibraryLogger)
    logging.captureWarnings(True)
    sys.excepthook = _died
    threading.excepthook = lambda died: _died(died.exc_type, died.exc_value, died.exc_traceback)


class _LibraryLogger(logging.Logger):
    """A library's logger that leaves output to the root's handler: some libraries, such as transformers, add their own
    console handler and stop propagation."""

    def addHandler(self, hdlr: logging.Handler) -> None:  # noqa: N802 - the standard library's name
        if type(hdlr) is not logging.StreamHandler:
            super().addHandler(hdlr)

    def callHandlers(self, record: logging.LogRecord) -> None:  # noqa: N802
        logger: logging.Logger | None = self
        while logger is not None:
            for handler in logger.handlers:
                if record.levelno >= handler.level:
                    handler.handle(record)
            logger = logger.parent


def _died(kind: type[BaseException], error: BaseException | None, traceback: TracebackType | None) -> None:
    if error is None or issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error or kind(), traceback)
    else:
        log.critical("uncaught exception", exc_info=(kind, error, traceback))
