"""The runs of a recorded or made-up host, as its description says."""

import math
from typing import NamedTuple

from exporter.model.curves import Curve
from exporter.model.fields import Fields
from exporter.model.host import Seat, layouts, seats, spell
from exporter.model.runs import REPLAY, RunInfo, RunKey

FIRST_UID = 1000


class RecordedRun(NamedTuple):
    """One row of `workload`."""

    info: RunInfo
    starts: float
    ends: float
    """Seconds within the period."""
    cpu: Curve
    """Hardware threads that are busy."""
    memory_bytes: int
    seats: tuple[Seat, ...]
    members: tuple[tuple[str, str], ...]
    """Its pods and their containers."""
    counts: tuple[tuple[str, Curve], ...]
    """Units that it counts, and how many a second."""
    steps: int
    """Its work, done evenly from start to end; 0: it says nothing of that."""

    def counted(self, begin_seconds: float, end_seconds: float) -> tuple[tuple[str, float], ...]:
        """What it counts between two times, in whole units."""
        return tuple(
            (unit, math.floor(rate.integral(0, end_seconds)) - math.floor(before))
            for unit, rate in self.counts
            for before in (rate.integral(0, begin_seconds),)
        )

    def done(self, phase: float) -> float | None:
        """Steps that are done so many seconds after the beginning of the period."""
        if not self.steps:
            return None
        return self.steps * max(0.0, phase - self.starts) / (self.ends - self.starts)


def recorded_runs(host: Fields) -> list[RecordedRun]:
    """All of them, with a number for each user name. Raises ValueError naming the place."""
    rows, gpus, period = host.rows("workload"), layouts(host), host.positive("period_seconds")
    users = sorted({row.text("user", "") for row in rows})
    return [
        RecordedRun(
            _info(row, FIRST_UID + users.index(row.text("user", ""))),
            *spell(row, period),
            row.curve("cpu", period),
            row.count("memory_bytes", 0),
            seats(row, period, gpus),
            tuple((each.text("pod"), each.text("container")) for each in row.rows("members")),
            _counts(row.part("counts"), period),
            row.count("steps", 0),
        )
        for row in rows
    ]


def _info(row: Fields, uid: int) -> RunInfo:
    return RunInfo(
        key=RunKey(uid, row.text("run_id"), row.text("job_id", "")),
        name=row.text("name", ""),
        user=row.text("user", ""),
        origin=REPLAY,
        started=0.0,
        account=row.text("account", ""),
        labels=tuple(sorted(row.texts("labels").items())),
        budget_grams=row.positive("budget_grams") if "budget_grams" in row else None,
        namespace=row.text("namespace", ""),
    )


def _counts(row: Fields, period: float) -> tuple[tuple[str, Curve], ...]:
    return tuple((unit, row.curve(unit, period)) for unit in row.names())
