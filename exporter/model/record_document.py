"""The JSON document of a record: each field is declared once, with its type, value and description.

`docs/record.schema.json` and the table in `docs/record.md` are generated from the declarations.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from exporter import units
from exporter.model.forecast import Forecast, ForecastOutcome, forecast
from exporter.model.ledger import FactorUse, sum_amounts
from exporter.model.readings import Device
from exporter.model.record import VERSION, RecordPart, RunRecord, RunTotals
from exporter.model.record_schema import (
    AMOUNT,
    BOOLEAN,
    BOUNDARY,
    COUNT,
    FORECAST,
    GROUP,
    INNER,
    INTENSITY,
    MARK,
    NUMBER,
    PART,
    SUMS_OF_RUNS,
    TEXT,
    WHOLE_AMOUNT,
    Schema,
    list_of,
    map_of,
    object_of,
    or_null,
)
from exporter.model.runs import RunInfo


class RecordField(NamedTuple):
    """A field of the document."""

    name: str
    schema: Schema
    description: str
    value: Callable[[RunRecord], object] | None = None
    """None: the field is only in the records that the description names."""
    is_required: bool = False
    """Whether every record has it, also those of several runs and of several nodes."""


FIELDS = (
    RecordField(
        "version",
        {"const": VERSION},
        "version of the format: 1",
        lambda it: it.version,
        is_required=True,
    ),
    RecordField(
        "run_id",
        TEXT,
        "the id of the run, as on the page",
        lambda it: it.run.shown_id,
        is_required=True,
    ),
    RecordField(
        "job_id",
        TEXT,
        "the id of its job, or empty",
        lambda it: it.run.key.job_id,
        is_required=True,
    ),
    RecordField(
        "uid",
        or_null({"type": "integer"}),
        "uid of the owner; -3 for [imported history](integrations/codecarbon.md#the-history)",
        lambda it: it.run.key.uid,
    ),
    RecordField("name", TEXT, "name that people gave the run", lambda it: it.run.name),
    RecordField(
        "user",
        TEXT,
        "name of the owner. It is empty until the user database has responded, and is the uid if "
        "the uid has no name or the lookup takes longer than two minutes. The owner's counter and "
        "`emissions_run_info` begin when `user` is known",
        lambda it: it.run.user,
    ),
    RecordField(
        "namespace",
        TEXT,
        "the namespace of the run's pods, on Kubernetes; otherwise empty",
        lambda it: it.run.namespace,
    ),
    RecordField("account", TEXT, "account of the scheduler, or empty", lambda it: it.run.account),
    RecordField(
        "origin",
        TEXT,
        "how the run was detected: `registered`, `environment`, the name of a scheduler, "
        "`machine`, `replay`; `codecarbon`: imported",
        lambda it: it.run.origin,
    ),
    RecordField(
        "scope",
        {"enum": ["tree", "cgroup", "machine", ""]},
        "what belongs to the run: `tree` (the process and its descendants), `cgroup`, `machine`",
        lambda it: it.run.scope,
    ),
    RecordField(
        "inside",
        or_null(TEXT),
        "id of the enclosing run, or null. The energy of this run is not included in any other run",
        lambda it: it.inside or None,
    ),
    RecordField("labels", map_of(TEXT), "labels of the run", lambda it: dict(it.run.labels)),
    RecordField("node", TEXT, "the node of this record", lambda it: it.node, is_required=True),
    RecordField(
        "started",
        NUMBER,
        "seconds since the Unix epoch",
        lambda it: it.run.started,
        is_required=True,
    ),
    RecordField(
        "ended",
        or_null(NUMBER),
        "seconds since the Unix epoch; null while the run is active",
        lambda it: it.run.ended,
        is_required=True,
    ),
    RecordField(
        "end_reason",
        or_null(TEXT),
        "why the run ended: `ended`, by its program or its scheduler; `exited`, with its last "
        "process; `merged`, as a part of another run. The exit code of a command is not known",
        lambda it: it.run.end_reason,
    ),
    RecordField(
        "at", NUMBER, "time of the record, in seconds since the Unix epoch", lambda it: it.at
    ),
    RecordField(
        "duration_seconds",
        AMOUNT,
        "from the first start to the end, or to `at`",
        lambda it: it.duration_seconds,
        is_required=True,
    ),
    RecordField(
        "budget_grams",
        or_null(AMOUNT),
        "the configured budget, or null",
        lambda it: it.run.budget_grams,
    ),
    RecordField(
        "budget_exceeded",
        or_null(BOOLEAN),
        "whether the run emitted more than its budget; null without a budget, and if the known "
        "emissions are within the budget but incomplete, because those of other nodes or the "
        "intensity of some energy are unknown",
        lambda it: it.is_over_budget,
    ),
    RecordField(
        "nodes",
        or_null(COUNT),
        "the number of nodes according to the launcher, or null",
        lambda it: it.run.nodes or None,
    ),
    RecordField(
        "units",
        map_of(AMOUNT),
        "the run's own counters, by unit",
        lambda it: {unit.name: unit.amount for unit in it.run.units},
        is_required=True,
    ),
    RecordField(
        "logged",
        map_of({"type": ["number", "string"]}),
        "the last value of each result that the run logged",
        lambda it: dict(it.run.logged),
    ),
    RecordField(
        "progress",
        or_null(MARK),
        "the completed work, or null",
        lambda it: _progress_to_json(it.run),
    ),
    RecordField(
        "forecast",
        or_null(FORECAST),
        "[the forecast](#the-forecast), or null",
        lambda it: _forecast_to_json(it.run),
    ),
    RecordField(
        "energy_uj",
        WHOLE_AMOUNT,
        "energy in microjoules",
        lambda it: it.energy_uj,
        is_required=True,
    ),
    RecordField(
        "held_uj",
        WHOLE_AMOUNT,
        "the part of `energy_uj` that is idle energy of the devices that the run held",
        lambda it: it.held_uj,
        is_required=True,
    ),
    RecordField(
        "carbon_ng",
        WHOLE_AMOUNT,
        "nanograms of CO2 equivalent",
        lambda it: it.carbon_ng,
        is_required=True,
    ),
    RecordField(
        "energy_joules",
        AMOUNT,
        "`energy_uj` in joules",
        lambda it: units.joules(it.energy_uj),
        is_required=True,
    ),
    RecordField(
        "carbon_grams",
        AMOUNT,
        "`carbon_ng` in grams",
        lambda it: units.grams(it.carbon_ng),
        is_required=True,
    ),
    RecordField(
        "parts",
        list_of(PART),
        "the energy by `device`, `id`, `method` and `split`; the parts add up exactly. `model` is "
        'the model of the device, or "" if the node does not know it currently',
        lambda it: _parts_to_json(it.parts, it.models),
        is_required=True,
    ),
    RecordField(
        "intensity",
        list_of(INTENSITY),
        "the intensities used: zone, source, grams per kWh, PUE, and the energy converted with "
        "each",
        lambda it: [_factor_use_to_json(use) for use in it.factors],
        is_required=True,
    ),
    RecordField(
        "power_watts",
        or_null(AMOUNT),
        "in responses for a single run: current power; null if unknown",
    ),
    RecordField(
        "inner",
        INNER,
        "with `report RUN` and `run --output`, if other runs began inside this run or inside "
        "those: their number (`runs`), and the sums of their `energy_uj`, `held_uj`, `carbon_ng`, "
        "`parts` and `intensity`, which are not included in this record. `tasks` are the sums of "
        "the tasks of a [CodeCarbon tracker](integrations/codecarbon.md), which are among them",
    ),
    RecordField(
        "other_tasks",
        object_of(
            {**SUMS_OF_RUNS, "duration_seconds": AMOUNT, "ended": or_null(NUMBER)}, ("ended",)
        ),
        "with `report RUN`, if the run is the first task of a CodeCarbon tracker that was not "
        "started: the same sums of its later tasks and of their durations, and their end",
    ),
    RecordField("runs", COUNT, "in a record of several runs: their number"),
    RecordField(
        "unseen_runs",
        WHOLE_AMOUNT,
        "in a record of several runs: the number of Slurm jobs without a visible cgroup or "
        "process, whose energy of processors and memory is unknown and not included",
    ),
    RecordField(
        "run_seconds",
        AMOUNT,
        "in a record of several runs: the sum of their durations, without runs inside other runs "
        "of the record",
    ),
    RecordField(
        "over_budget",
        list_of(TEXT),
        "in a record of several runs, some of which have a budget: the ids of the runs that "
        "exceeded it",
    ),
    RecordField("group", GROUP, "in a [record of a group](#records-of-a-group)"),
    RecordField("boundary", or_null(BOUNDARY), "in a [record of many nodes](#over-many-nodes)"),
)
RECORD_SCHEMA: Schema = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "title": "RunRecord",
    "description": "What a run used, of one node or of several. Fields may be added; none changes "
    "its meaning.",
    "type": "object",
    "required": [field.name for field in FIELDS if field.is_required],
    "properties": {
        field.name: {**field.schema, "description": field.description} for field in FIELDS
    },
}


def record_to_json(record: RunRecord) -> dict[str, object]:
    """Convert a record to JSON-serializable values; integers stay exact."""
    return {field.name: field.value(record) for field in FIELDS if field.value is not None}


def totals_to_json(totals: RunTotals, models: Mapping[Device, str]) -> dict[str, object]:
    """Convert totals to JSON-serializable values.

    Fields have the names of a record, and its meanings except `nodes`, the names of the nodes.
    """
    total = sum_amounts(part.amount for part in totals.parts)
    return {
        "version": VERSION,
        "name": totals.name,
        "runs": totals.runs,
        "users": list(totals.users),
        "nodes": list(totals.nodes),
        "started": totals.started,
        "ended": totals.ended,
        "at": totals.at,
        "units": {unit.name: unit.amount for unit in totals.units},
        "run_seconds": totals.run_seconds,
        "unseen_runs": totals.unseen_runs,
        "energy_uj": total.energy_uj,
        "held_uj": total.held_uj,
        "carbon_ng": total.carbon_ng,
        "parts": _parts_to_json(totals.parts, models),
        "intensity": [_factor_use_to_json(use) for use in totals.factors],
    }


def _parts_to_json(
    parts: Iterable[RecordPart], models: Mapping[Device, str]
) -> list[dict[str, object]]:
    return [
        {
            "device": part.device.kind,
            "id": part.device.id,
            "model": models.get(part.device, ""),
            "method": part.method,
            "split": part.split,
            "energy_uj": part.amount.energy_uj,
            "held_uj": part.amount.held_uj,
            "carbon_ng": part.amount.carbon_ng,
        }
        for part in parts
    ]


def _progress_to_json(run: RunInfo) -> dict[str, float] | None:
    """Return the last progress that the run reported."""
    if run.progress is None:
        return None
    last = run.progress.last
    return {"done": last.done, "total": run.progress.total, "at": last.at}


def _forecast_to_json(run: RunInfo) -> dict[str, object] | None:
    """Return the forecast of an open run on this node with its prediction interval."""
    expected = forecast(run.progress) if run.ended is None else None
    if expected is None:
        return None
    return {
        **_outcome_to_json(expected),
        "low": _outcome_to_json(expected.low) if expected.low else None,
        "high": _outcome_to_json(expected.high) if expected.high else None,
    }


def _outcome_to_json(outcome: ForecastOutcome | Forecast) -> dict[str, float]:
    return {
        "energy_joules": units.joules(outcome.energy_uj),
        "carbon_grams": units.grams(outcome.carbon_ng),
        "end": outcome.ends,
    }


def _factor_use_to_json(use: FactorUse) -> dict[str, object]:
    """Return one carbon intensity of a run with the energy converted by it."""
    factor = use.factor
    amounts: dict[str, object] = {"energy_uj": use.energy_uj, "carbon_ng": use.carbon_ng}
    if factor is None:
        return {"zone": None, **amounts}
    return {
        "zone": factor.zone,
        "source": factor.source,
        "grams_per_kwh": factor.grams_per_kwh,
        "pue": factor.pue,
        "signal": factor.signal,
        "basis": factor.basis,
        "accounting": factor.accounting,
        "estimated": factor.estimated,
        "fallback_step": factor.step,
        **amounts,
    }
