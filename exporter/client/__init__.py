"""Python client: measures programs as runs. Imports nothing else from this package."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from exporter.client.environment import software
    from exporter.client.errors import BudgetExceeded, NotMeasured
    from exporter.client.run import Run
    from exporter.client.tracker import current_run, track

__all__ = ("BudgetExceeded", "NotMeasured", "Run", "current_run", "software", "track")

_MODULES = {
    "BudgetExceeded": "errors",
    "NotMeasured": "errors",
    "Run": "run",
    "current_run": "tracker",
    "software": "environment",
    "track": "tracker",
}


def __getattr__(name: str) -> object:
    """Import a public name at its first use: the daemon needs only `sockets` and `errors`."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
