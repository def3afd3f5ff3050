"""Logging to standard error, as logfmt or JSON."""

import json
import logging
import time
from collections.abc import Callable
from typing import Literal

from exporter.errors import EmissionsError

log = logging.getLogger(__name__)

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime"}


class _LogFormatter(logging.Formatter):
    """Formats a record as one line: time, level, component, message, then its extra fields."""

    def __init__(self, form: Literal["logfmt", "json"]) -> None:
        super().__init__()
        self._form = form

    def format(self, record: logging.LogRecord) -> str:
        """Format a record."""
        fields = {
            "ts": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
            + f".{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "component": record.name.removeprefix("exporter."),
            "msg": record.getMessage(),
            **{key: value for key, value in vars(record).items() if key not in _STANDARD},
        }
        if record.exc_info:
            fields["error"] = self.formatException(record.exc_info)
        if self._form == "json":
            return json.dumps(fields, default=str, ensure_ascii=False)
        return " ".join(
            f"{key}={_quote_value(str(value))}" for key, value in fields.items() if value != ""
        )


def _quote_value(text: str) -> str:
    plain = text.isprintable() and not any(c in text for c in ' "=')
    return text if plain else json.dumps(text, ensure_ascii=False)


def configure_logging(level: str, form: Literal["logfmt", "json"]) -> None:
    """Send everything of `level` and above to standard error."""
    handler = logging.StreamHandler()
    handler.setFormatter(_LogFormatter(form))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)


def run_logged(work: Callable[[], int], form: Literal["logfmt", "json"]) -> int:
    """Run a daemon's command and return its exit code.

    With JSON logs, the error that ends the command is logged instead of raised. Unexpected
    exceptions are logged with their traceback in every format.
    """
    try:
        return work()
    except EmissionsError as error:
        if form != "json":
            raise
        log.critical("%s", error)  # no traceback: the message contains the remedy
        return error.exit_code
    except Exception:
        log.critical(
            "daemon failed with an unexpected error; the journal holds all counted energy",
            exc_info=True,
        )
        return 1
