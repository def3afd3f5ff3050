"""A row of emissions.csv as the receipt of a run."""

from collections.abc import Mapping
from typing import Any

from exporter.client.words import warn
from exporter.integrations.codecarbon.emissions_csv import put
from exporter.integrations.codecarbon.machine import facts
from exporter.report.forms.codecarbon import Row, values


def add_row(path: str, record: Mapping[str, Any], *, is_alone: bool) -> None:
    """Have the record in the file: kept up to date, or once it has ended.

    Runs of several nodes are not alone: each node adds a row, and none may replace another's.
    Raises OSError.
    """
    if is_alone or record["ended"] is not None:
        write_row(path, values(record, facts()), replacing=is_alone)


def write_row(path: str, row: Row, *, replacing: bool) -> None:
    """As `put`, and say where the row is if the file could not be had. Raises OSError."""
    written = put(path, row, replacing=replacing)
    if written != path:
        warn("%s is in use; the row of run %s is in %s", path, row["run_id"], written)
