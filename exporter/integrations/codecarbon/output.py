"""Output handlers with the names of `codecarbon.output`."""

import json
import os
from collections.abc import Sequence
from enum import StrEnum
from typing import Any

from exporter.integrations.codecarbon.csv_writer import write_row_with_warning
from exporter.integrations.codecarbon.data import EmissionsData, TaskEmissionsData, known

__all__ = (
    "BaseOutput",
    "EmissionsData",
    "FileOutput",
    "GoogleCloudLoggerOutput",
    "LoggerOutput",
    "OutputMethod",
    "TaskEmissionsData",
)


class OutputMethod(StrEnum):
    """CodeCarbon's output methods; only CSV and loggers are supported."""

    CSV = "csv"
    API = "api"
    LOGGER = "logger"
    PROMETHEUS = "prometheus"
    LOGFIRE = "logfire"
    BOAMPS = "boamps"


class BaseOutput:
    """Base class of handlers; `delta` is the difference to the previous call."""

    def out(self, total: EmissionsData, delta: EmissionsData) -> None:
        """Called by `flush` and `stop`."""

    def live_out(self, total: EmissionsData, delta: EmissionsData) -> None:
        """Called at every `api_call_interval`th measurement."""

    def task_out(self, data: Sequence[TaskEmissionsData], experiment_name: str) -> None:
        """Called by `flush` and `stop` if there are tasks."""

    def exit(self) -> None:
        """Called last by `stop`."""


class FileOutput(BaseOutput):
    """Writes emissions.csv, as trackers do by default."""

    def __init__(
        self, output_file_name: str, output_dir: str, on_csv_write: str = "append"
    ) -> None:
        """Configure the file; with `on_csv_write="update"`, a run has one row."""
        self.output_file_name = output_file_name
        self.output_dir = output_dir
        self.on_csv_write = on_csv_write
        self.save_file_path = os.path.join(output_dir, output_file_name)

    def out(self, total: EmissionsData, delta: EmissionsData) -> None:  # noqa: ARG002
        """Write the row of the total. Raises OSError."""
        columns = known(total.values)
        row = {name: "" if value is None else value for name, value in columns.items()}
        write_row_with_warning(self.save_file_path, row, replacing=self.on_csv_write == "update")


class LoggerOutput(BaseOutput):
    """Logs the data as a line of JSON, with null for unknown numbers."""

    def __init__(self, logger: Any, severity: Any = 20) -> None:
        """Configure the logger; `severity` is a level of `logging`, INFO by default."""
        self.logger = logger
        self.logging_severity = severity

    def out(self, total: EmissionsData, delta: EmissionsData) -> None:  # noqa: ARG002
        """Log the total."""
        self.logger.log(self.logging_severity, msg=json.dumps(known(total.values)))

    def live_out(self, total: EmissionsData, delta: EmissionsData) -> None:
        """Log the total."""
        self.out(total, delta)


class GoogleCloudLoggerOutput(LoggerOutput):
    """Logs structured data to a Google Cloud logger."""

    def out(self, total: EmissionsData, delta: EmissionsData) -> None:  # noqa: ARG002
        """Log the total."""
        self.logger.log_struct(known(total.values), severity=self.logging_severity)
