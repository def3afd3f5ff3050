"""Python client: measures programs as runs. Imports nothing else from this package."""

from exporter.client.environment import software
from exporter.client.errors import BudgetExceeded, NotMeasured
from exporter.client.run import Run
from exporter.client.tracker import current_run, track

__all__ = ("BudgetExceeded", "NotMeasured", "Run", "current_run", "software", "track")
