"""CodeCarbon's decorators."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from exporter.client.decorating import Function, measuring
from exporter.integrations.codecarbon.settings import OF_DECORATOR
from exporter.integrations.codecarbon.tracker import (
    EmissionsTracker,
    OfflineEmissionsTracker,
    TaskEmissionsTracker,
)


def track_emissions(fn: Function | None = None, *given: Any, **named: Any) -> Any:
    """Measure each call of a function; the arguments are those of a tracker, and `offline`."""
    arguments = {**dict(zip(OF_DECORATOR, given, strict=False)), **named}
    kind = OfflineEmissionsTracker if arguments.pop("offline", False) else EmissionsTracker
    return _decorator(fn, lambda: kind(**arguments))


def track_task_emissions(
    fn: Function | None = None, tracker: EmissionsTracker | None = None, task_name: str = ""
) -> Any:
    """Measure each call of a function as a task of a tracker, or of one of its own."""
    return _decorator(fn, lambda: TaskEmissionsTracker(task_name, tracker))


def _decorator(fn: Function | None, measured: Callable[[], AbstractContextManager[Any]]) -> Any:
    def decorate(function: Function) -> Function:
        return measuring(function, measured)

    return decorate if fn is None else decorate(fn)
