"""What trackers hand out: a row of emissions.csv with its columns as attributes."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, field, make_dataclass
from enum import StrEnum
from typing import Any

from exporter.report.forms.codecarbon import COLUMNS, Row
from exporter.units import JOULES_PER_KWH

SUMS = (
    *("duration", "emissions", "cpu_energy", "gpu_energy", "ram_energy", "energy_consumed"),
    "water_consumed",
)
POWERS = {"cpu_power": "cpu_energy", "gpu_power": "gpu_energy", "ram_power": "ram_energy"}
NOT_KNOWN = (
    *("cpu_utilization_percent", "gpu_utilization_percent", "ram_utilization_percent"),
    "ram_used_gb",
)
"""Numbers that CodeCarbon has always; nan, so that they can be formatted."""
TASK_COLUMNS = (
    "task_name",
    *(name for name in COLUMNS if name not in ("experiment_id", "pue", "wue")),
)


DEFAULTS: dict[str, Any] = {**dict.fromkeys(NOT_KNOWN, 0.0), "on_cloud": "N", "pue": 1, "wue": 0}
"""Of columns that later versions of CodeCarbon added, as in its `EmissionsData`."""


class OutputMethod(StrEnum):
    """Where CodeCarbon sends its numbers; of these, a file alone is written here."""

    CSV = "csv"
    API = "api"
    LOGGER = "logger"
    PROMETHEUS = "prometheus"
    LOGFIRE = "logfire"
    BOAMPS = "boamps"


class _Columns:
    """What both kinds of data have in common."""

    @property
    def values(self) -> dict[str, Any]:
        """The columns in their order."""
        return dict(self.__dict__)

    def toJSON(self) -> str:  # noqa: N802  the name that is looked for
        """The columns as JSON."""
        return json.dumps(self.values, sort_keys=True, indent=4)


_Row = make_dataclass(
    "_Row",
    [(name, Any, field(default=DEFAULTS.get(name, MISSING))) for name in COLUMNS],
)


class EmissionsData(_Row, _Columns):  # type: ignore[misc, valid-type]
    """The columns of a row: kilograms, kilowatt hours, watts, seconds; "" for what is unknown."""

    def compute_delta_emission(self, previous_emission: "EmissionsData") -> None:
        """Keep what was used since an earlier row of the same run."""
        self.__dict__.update(difference(self.values, previous_emission.values))


class TaskEmissionsData(make_dataclass("_TaskColumns", TASK_COLUMNS), _Columns):  # type: ignore[misc]
    """The columns of a task's row."""


def emissions_data(row: Mapping[str, Any]) -> EmissionsData:
    """The data of a row, with nan for unknown numbers that CodeCarbon always has."""
    unknown = {name: math.nan for name in NOT_KNOWN if row.get(name) == ""}
    return EmissionsData(**{**row, **unknown})


def unmeasured() -> EmissionsData:
    """What a tracker hands out where nobody measured: texts are empty, and numbers nan."""
    numbers = (*SUMS, *POWERS, *NOT_KNOWN, "emissions_rate")
    return EmissionsData(**{**dict.fromkeys(COLUMNS, ""), **dict.fromkeys(numbers, math.nan)})


def total(rows: Sequence[Row], like: Row) -> Row:
    """The sums of rows, with all else of `like`."""
    sums = {name: sum(float(row[name]) for row in rows) for name in SUMS}
    return _with_rates({**like, **sums})


def difference(later: Row, earlier: Row) -> Row:
    """What was used between two rows of one run."""
    return _with_rates(
        {**later, **{name: float(later[name]) - float(earlier[name]) for name in SUMS}}
    )


def task_data(name: str, row: Row) -> TaskEmissionsData:
    """The data of a task's row."""
    return TaskEmissionsData(**task_row(name, emissions_data(row).values))


def task_row(name: str, row: Row) -> Row:
    """A row of the file of tasks."""
    return {"task_name": name, **{column: row[column] for column in TASK_COLUMNS[1:]}}


def _with_rates(row: Row) -> Row:
    seconds = float(row["duration"])
    rates = {
        power: float(row[energy]) * JOULES_PER_KWH / seconds if seconds > 0 else 0.0
        for power, energy in POWERS.items()
    }
    rate = float(row["emissions"]) / seconds if seconds > 0 else 0.0
    return {**row, **rates, "emissions_rate": rate}
