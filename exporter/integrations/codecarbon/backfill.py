"""History as OpenMetrics, for `promtool tsdb create-blocks-from openmetrics`.

Of each run there are its first moment, where it had used nothing, and its last: nobody knows what
was between them.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from exporter import units
from exporter.report.prometheus_runs import CARBON, END, ENERGY, INFO, START

Run = Mapping[str, Any]
TOTAL = "_total"
UNKNOWN = "unknown"
SHORTEST_SECONDS = 0.001
"""The resolution of a Prometheus."""


class Sample(NamedTuple):
    """One value of one series."""

    labels: Mapping[str, str]
    value: float
    at: float


def openmetrics(runs: Iterable[Run], origin: str) -> str:
    """The metrics that the runs would have had on the pages of their nodes."""
    found = {run["run_id"]: run for run in runs}.values()
    families = {
        ENERGY.raw: [each for run in found for each in _used(run, "energy_uj", units.joules)],
        CARBON.raw: [
            each
            for run in found
            if _has_grams(run)
            for each in _used(run, "carbon_ng", units.grams)
        ],
        INFO.raw: [each for run in found for each in _info(run, origin)],
        START.raw: [each for run in found for each in _both(_named(run), run["started"], run)],
        END: [Sample(_named(run), run["ended"], run["ended"]) for run in found],
    }
    lines = [line for name, samples in families.items() for line in _family(name, samples)]
    return "\n".join([*lines, "# EOF"])


def _family(name: str, samples: Iterable[Sample]) -> Iterator[str]:
    yield f"# TYPE {name.removesuffix(TOTAL)} {'counter' if name.endswith(TOTAL) else 'gauge'}"
    for sample in samples:
        pairs = ",".join(f"{label}={_quoted(text)}" for label, text in sample.labels.items())
        yield f"{name}{{{pairs}}} {sample.value!r} {sample.at:.3f}"


def _has_grams(run: Run) -> bool:
    return all(use["zone"] is not None for use in run["intensity"])


def _used(run: Run, amount: str, converted: Any) -> Iterator[Sample]:
    for part in run["parts"]:
        labels = {**_named(run), "device": str(part["device"]), "id": ""}
        yield Sample(labels, 0.0, _first(run))
        yield Sample(labels, converted(part[amount]), run["ended"])


def _info(run: Run, origin: str) -> Iterator[Sample]:
    labels = {**_named(run), "run_name": run["name"], "origin": origin}
    return _both({name: text for name, text in labels.items() if text}, 1.0, run)


def _both(labels: Mapping[str, str], value: float, run: Run) -> Iterator[Sample]:
    yield Sample(labels, value, _first(run))
    yield Sample(labels, value, run["ended"])


def _first(run: Run) -> float:
    """Its start; before its end also where it took no time."""
    return min(float(run["started"]), float(run["ended"]) - SHORTEST_SECONDS)


def _named(run: Run) -> dict[str, str]:
    return {"instance": run["labels"].get("node", UNKNOWN), "run_id": run["run_id"], "job_id": ""}


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'
