"""The JSON document of a record: each field is declared once, with its type, value and description.

`docs/record.schema.json` and the table in `docs/record.md` are generated from the declarations.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from exporter import units
from exporter.model.forecast import Forecast, ForecastOutcome, forecast
from exporter.model.ledger import FactorUse, sum_amounts
from exporter.model.readings import Device, DeviceKind, Method
from exporter.model.record import VERSION, RecordPart, RunRecord, RunTotals
from exporter.model.runs import RunInfo
from exporter.model.workload import SplitMethod

Schema = dict[str, Any]
"""A JSON schema."""

TEXT: Schema = {"type": "string"}
NUMBER: Schema = {"type": "number"}
BOOLEAN: Schema = {"type": "boolean"}
AMOUNT: Schema = {"type": "number", "minimum": 0}
WHOLE_AMOUNT: Schema = {"type": "integer", "minimum": 0}
COUNT: Schema = {"type": "integer", "minimum": 1}


def _or_null(schema: Schema) -> Schema:
    return {**schema, "type": [schema["type"], "null"]}


def _list_of(items: Schema) -> Schema:
    return {"type": "array", "items": items}


def _map_of(values: Schema) -> Schema:
    return {"type": "object", "additionalProperties": values}


def _object(properties: Mapping[str, Schema], optional: Iterable[str] = ()) -> Schema:
    optional = set(optional)
    required = [name for name in properties if name not in optional]
    return {"type": "object", "required": required, "properties": dict(properties)}


PART = _object(
    {
        "device": {"enum": list(DeviceKind)},
        "id": TEXT,
        "model": TEXT,
        "node": TEXT,
        "method": {"enum": [*Method, None]},
        "split": {"enum": [*SplitMethod, None]},
        "energy_uj": WHOLE_AMOUNT,
        "held_uj": _or_null(WHOLE_AMOUNT),
        "carbon_ng": WHOLE_AMOUNT,
    },
    optional=("model", "node"),
)
INTENSITY = _object(
    {
        "zone": _or_null(TEXT),
        "source": TEXT,
        "grams_per_kwh": AMOUNT,
        "pue": {"type": "number", "minimum": 1},
        "signal": TEXT,
        "basis": TEXT,
        "accounting": TEXT,
        "estimated": BOOLEAN,
        "fallback_step": WHOLE_AMOUNT,
        "energy_uj": WHOLE_AMOUNT,
        "carbon_ng": WHOLE_AMOUNT,
    },
    optional=(
        "source",
        "grams_per_kwh",
        "pue",
        "signal",
        "basis",
        "accounting",
        "estimated",
        "fallback_step",
    ),
)
MARK = _object({"done": NUMBER, "total": NUMBER, "at": NUMBER})
OUTCOME = _object({"energy_joules": NUMBER, "carbon_grams": NUMBER, "end": NUMBER})
FORECAST = _object(
    {**OUTCOME["properties"], "low": _or_null(OUTCOME), "high": _or_null(OUTCOME)},
)
INNER = _object({"runs": COUNT, "energy_uj": WHOLE_AMOUNT, "carbon_ng": WHOLE_AMOUNT})
BOUNDARY = _object(
    {
        "source": TEXT,
        "since": NUMBER,
        "lower_bound": BOOLEAN,
        "from_rules": BOOLEAN,
        "nodes": _list_of(TEXT),
        "nodes_running": _list_of(TEXT),
        "nodes_lost": _list_of(TEXT),
        "devices": _list_of(TEXT),
        "grids": _list_of({"type": "object"}),
    },
    optional=("from_rules", "nodes_running", "nodes_lost", "devices", "grids"),
)
FINAL_RUN = _object(
    {
        "run_id": TEXT,
        "name": TEXT,
        "job_id": TEXT,
        "started": NUMBER,
        "ended": _or_null(NUMBER),
        "energy_uj": WHOLE_AMOUNT,
        "carbon_ng": WHOLE_AMOUNT,
        "chosen_by": TEXT,
    },
    optional=("name", "started", "ended"),
)
GROUP = _object(
    {
        "name": TEXT,
        "runs": COUNT,
        "ended": WHOLE_AMOUNT,
        "complete": BOOLEAN,
        "mean_energy_joules": _or_null(AMOUNT),
        "energy_standard_error_joules": _or_null(AMOUNT),
        "mean_carbon_grams": _or_null(AMOUNT),
        "carbon_standard_error_grams": _or_null(AMOUNT),
        "final": FINAL_RUN,
    }
)


class RecordField(NamedTuple):
    """A field of the document."""

    name: str
    schema: Schema
    description: str
    value: Callable[[RunRecord], object] | None = None
    """None: the field is only in the records that the description names."""
    is_required: bool = False
    """Whether every record has it, also those of several runs and of several nodes."""


def _field(
    name: str, schema: Schema, value: Callable[[RunRecord], object], description: str
) -> RecordField:
    return RecordField(name, schema, description, value)


def _required(
    name: str, schema: Schema, value: Callable[[RunRecord], object], description: str
) -> RecordField:
    return RecordField(name, schema, description, value, is_required=True)


FIELDS = (
    _required("version", {"const": VERSION}, lambda it: it.version, "1"),
    _required("run_id", TEXT, lambda it: it.run.shown_id, "the id of the run, as on the page"),
    _required("job_id", TEXT, lambda it: it.run.key.job_id, "the id of its job, or empty"),
    _field(
        "uid",
        _or_null({"type": "integer"}),
        lambda it: it.run.key.uid,
        "uid of the owner; -3 for [imported history](integrations/codecarbon.md#the-history)",
    ),
    _field("name", TEXT, lambda it: it.run.name, "name that people gave the run"),
    _field(
        "user",
        TEXT,
        lambda it: it.run.user,
        "name of the owner. It is empty until the user database has responded, and is the uid if "
        "the uid has no name or the lookup takes longer than two minutes. The owner's counter and "
        "`emissions_run_info` begin when `user` is known",
    ),
    _field(
        "namespace",
        TEXT,
        lambda it: it.run.namespace,
        "the namespace of the run's pods, on Kubernetes; otherwise empty",
    ),
    _field("account", TEXT, lambda it: it.run.account, "account of the scheduler, or empty"),
    _field(
        "origin",
        TEXT,
        lambda it: it.run.origin,
        "how the run was detected: `registered`, `environment`, the name of a scheduler, "
        "`machine`, `replay`; `codecarbon`: imported",
    ),
    _field(
        "scope",
        {"enum": ["tree", "cgroup", "machine", ""]},
        lambda it: it.run.scope,
        "what belongs to the run: `tree` (the process and its descendants), `cgroup`, `machine`",
    ),
    _field(
        "inside",
        _or_null(TEXT),
        lambda it: it.inside or None,
        "id of the enclosing run, or null. The energy of this run is not included in any other run",
    ),
    _field("labels", _map_of(TEXT), lambda it: dict(it.run.labels), "labels of the run"),
    _required("node", TEXT, lambda it: it.node, "the node of this record"),
    _required("started", NUMBER, lambda it: it.run.started, "seconds since the epoch"),
    _required(
        "ended",
        _or_null(NUMBER),
        lambda it: it.run.ended,
        "seconds since the epoch; null while the run is active",
    ),
    _field("end_reason", _or_null(TEXT), lambda it: it.run.end_reason, "why the run ended"),
    _field("at", NUMBER, lambda it: it.at, "time of the record, in seconds since the epoch"),
    _required(
        "duration_seconds",
        AMOUNT,
        lambda it: it.duration_seconds,
        "from the first start to the end, or to `at`",
    ),
    _field(
        "budget_grams",
        _or_null(AMOUNT),
        lambda it: it.run.budget_grams,
        "the configured budget, or null",
    ),
    _field(
        "budget_exceeded",
        _or_null(BOOLEAN),
        lambda it: it.is_over_budget,
        "whether the run emitted more than its budget; null without a budget, and if the known "
        "emissions are within the budget but incomplete, because those of other nodes or the "
        "intensity of some energy are unknown",
    ),
    _field(
        "nodes",
        _or_null(COUNT),
        lambda it: it.run.nodes or None,
        "the number of nodes according to the launcher, or null",
    ),
    _required(
        "units",
        _map_of(AMOUNT),
        lambda it: {unit.name: unit.amount for unit in it.run.units},
        "the run's own counters, by unit",
    ),
    _field(
        "logged",
        _map_of({"type": ["number", "string"]}),
        lambda it: dict(it.run.logged),
        "the last value of each result that the run logged",
    ),
    _field(
        "progress",
        _or_null(MARK),
        lambda it: _progress_to_json(it.run),
        "the completed work, or null",
    ),
    _field(
        "forecast",
        _or_null(FORECAST),
        lambda it: _forecast_to_json(it.run),
        "[the forecast](#the-forecast), or null",
    ),
    _required("energy_uj", WHOLE_AMOUNT, lambda it: it.energy_uj, "energy in microjoules"),
    _required(
        "held_uj",
        WHOLE_AMOUNT,
        lambda it: it.held_uj,
        "the part of `energy_uj` that held devices used while they were idle",
    ),
    _required("carbon_ng", WHOLE_AMOUNT, lambda it: it.carbon_ng, "nanograms of CO2 equivalent"),
    _required(
        "energy_joules", AMOUNT, lambda it: units.joules(it.energy_uj), "`energy_uj` in joules"
    ),
    _required("carbon_grams", AMOUNT, lambda it: units.grams(it.carbon_ng), "`carbon_ng` in grams"),
    _required(
        "parts",
        _list_of(PART),
        lambda it: _parts_to_json(it.parts, it.models),
        "the energy by `device`, `id`, `method` and `split`; the parts add up exactly. `model` is "
        'the model of the device, or "" if the node does not know it currently',
    ),
    _required(
        "intensity",
        _list_of(INTENSITY),
        lambda it: [_factor_use_to_json(use) for use in it.factors],
        "the intensities used: zone, source, grams per kWh, PUE, and the energy converted with "
        "each",
    ),
    RecordField(
        "power_watts",
        _or_null(AMOUNT),
        "in responses for a single run: current power; null if unknown",
    ),
    RecordField(
        "inner",
        INNER,
        "with `report RUN` and `run --output`, if other runs began inside this run or inside "
        "those: their number (`runs`), and the sums of their `energy_uj` and `carbon_ng`, which "
        "are not included in this record",
    ),
    RecordField("runs", COUNT, "in a record of several runs: their number"),
    RecordField(
        "run_seconds",
        AMOUNT,
        "in a record of several runs: the sum of their durations, without runs inside other runs "
        "of the record",
    ),
    RecordField(
        "over_budget",
        _list_of(TEXT),
        "in a record of several runs, some of which have a budget: the ids of the runs that "
        "exceeded it",
    ),
    RecordField("group", GROUP, "in a [record of a group](#records-of-a-group)"),
    RecordField("boundary", _or_null(BOUNDARY), "in a [record of many nodes](#over-many-nodes)"),
)
RECORD_SCHEMA: Schema = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "title": "RunRecord",
    "description": "What a run used, of one node or of several. Fields may be added; none changes "
    "its meaning. docs/record.md says what each is.",
    "type": "object",
    "required": [field.name for field in FIELDS if field.is_required],
    "properties": {field.name: field.schema for field in FIELDS},
}


def record_to_json(record: RunRecord) -> dict[str, object]:
    """Convert a record to JSON-serializable values; integers stay exact."""
    return {field.name: field.value(record) for field in FIELDS if field.value is not None}


def totals_to_json(totals: RunTotals, models: Mapping[Device, str]) -> dict[str, object]:
    """Convert totals to JSON-serializable values, with the field names of a record."""
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
