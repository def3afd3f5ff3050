"""Data returned by trackers: rows of emissions.csv with their columns as attributes."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, field, make_dataclass
from typing import Any, NamedTuple

from exporter.report.forms.codecarbon import COLUMNS, Row
from exporter.units import JOULES_PER_KWH

ADDITIVE_COLUMNS = (
    *("duration", "emissions", "cpu_energy", "gpu_energy", "ram_energy", "energy_consumed"),
    "water_consumed",
)
POWER_COLUMNS = {"cpu_power": "cpu_energy", "gpu_power": "gpu_energy", "ram_power": "ram_energy"}
UNMEASURED_COLUMNS = (
    *("cpu_utilization_percent", "gpu_utilization_percent", "ram_utilization_percent"),
    "ram_used_gb",
)
"""Numbers that CodeCarbon has always; nan, so that they can be formatted."""
ABSENT = ("country_name", "country_iso_code", "region", "cpu_model", "longitude", "latitude")
"""Columns whose unknown value is None in CodeCarbon's data; of other texts it is ""."""
TASK_COLUMNS = (
    "task_name",
    *(name for name in COLUMNS if name not in ("experiment_id", "pue", "wue")),
)


DEFAULTS: dict[str, Any] = {
    **dict.fromkeys(UNMEASURED_COLUMNS, 0.0),
    "on_cloud": "N",
    "pue": 1,
    "wue": 0,
}
"""Of columns that later versions of CodeCarbon added, as in its `EmissionsData`."""


class _Columns:
    """What both kinds of data have in common."""

    @property
    def values(self) -> dict[str, Any]:
        """The columns in their order."""
        return dict(self.__dict__)

    def toJSON(self) -> str:  # noqa: N802  the name that is looked for
        """The columns as JSON, with null for a number that is not known."""
        return json.dumps(known(self.values), sort_keys=True, indent=4)


_Row = make_dataclass(
    "_Row",
    [(name, Any, field(default=DEFAULTS.get(name, MISSING))) for name in COLUMNS],
)


class EmissionsData(_Row, _Columns):  # type: ignore[misc, valid-type]
    """The columns of a row: kilograms, kilowatt hours, watts, seconds."""

    def compute_delta_emission(self, previous_emission: "EmissionsData") -> None:
        """Keep what was used since an earlier row of the same run."""
        self.__dict__.update(subtract_rows(self.values, previous_emission.values))


class TaskEmissionsData(make_dataclass("_TaskColumns", TASK_COLUMNS), _Columns):  # type: ignore[misc]
    """The columns of a task's row."""


class Energy(NamedTuple):
    """An amount of energy, as programs read it from a tracker of CodeCarbon."""

    kWh: float  # noqa: N815  the name that is looked for


class Task(NamedTuple):
    """A task that has ended, as programs read it from a tracker of CodeCarbon."""

    task_name: str
    emissions_data: EmissionsData


def known(columns: Mapping[str, Any]) -> dict[str, Any]:
    """Return the columns with None instead of nan, which JSON does not have."""
    return {
        name: None if isinstance(value, float) and math.isnan(value) else value
        for name, value in columns.items()
    }


def emissions_data(row: Mapping[str, Any]) -> EmissionsData:
    """Return a row as data; nan for unknown numbers that CodeCarbon requires, None for `ABSENT`."""
    unknown = {**dict.fromkeys(UNMEASURED_COLUMNS, math.nan), **dict.fromkeys(ABSENT)}
    return EmissionsData(
        **{name: unknown.get(name, "") if cell == "" else cell for name, cell in row.items()}
    )


def unmeasured() -> EmissionsData:
    """Return the data of a tracker that did not measure: numbers are nan."""
    numbers = (*ADDITIVE_COLUMNS, *POWER_COLUMNS, "emissions_rate")
    return emissions_data({**dict.fromkeys(COLUMNS, ""), **dict.fromkeys(numbers, math.nan)})


def sum_rows(rows: Sequence[Row], like: Row, duration_seconds: float | None = None) -> Row:
    """Sum rows; other columns are taken from `like`.

    `duration_seconds` replaces the sum of the durations, for rows of the same time. Mean powers and
    rates are those over the duration of the sum.
    """
    sums = {name: sum(float(row[name]) for row in rows) for name in ADDITIVE_COLUMNS}
    if duration_seconds is not None:
        sums["duration"] = duration_seconds
    return _with_rates({**like, **sums})


def subtract_rows(later: Row, earlier: Row) -> Row:
    """Return the difference between two rows of a run."""
    return _with_rates(
        {**later, **{name: float(later[name]) - float(earlier[name]) for name in ADDITIVE_COLUMNS}}
    )


def task_data(name: str, row: Row) -> TaskEmissionsData:
    """Return a task's row as data."""
    return TaskEmissionsData(**task_row(name, emissions_data(row).values))


def task_row(name: str, row: Row) -> Row:
    """Return a row for the file of tasks."""
    return {"task_name": name, **{column: row[column] for column in TASK_COLUMNS[1:]}}


def _with_rates(row: Row) -> Row:
    seconds = float(row["duration"])
    rates = {
        power: float(row[energy]) * JOULES_PER_KWH / seconds if seconds > 0 else 0.0
        for power, energy in POWER_COLUMNS.items()
    }
    rate = float(row["emissions"]) / seconds if seconds > 0 else 0.0
    return {**row, **rates, "emissions_rate": rate}
