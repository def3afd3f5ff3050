"""JSON schemas of the values in a record, from which `record_document.py` declares its fields."""

from collections.abc import Iterable, Mapping
from typing import Any

from exporter.model.readings import PART_KINDS, Method
from exporter.model.workload import SplitMethod

Schema = dict[str, Any]
"""A JSON schema."""

TEXT: Schema = {"type": "string"}
NUMBER: Schema = {"type": "number"}
BOOLEAN: Schema = {"type": "boolean"}
AMOUNT: Schema = {"type": "number", "minimum": 0}
WHOLE_AMOUNT: Schema = {"type": "integer", "minimum": 0}
COUNT: Schema = {"type": "integer", "minimum": 1}


def or_null(schema: Schema) -> Schema:
    """Return the schema of a value that may be null."""
    return {**schema, "type": [schema["type"], "null"]}


def list_of(items: Schema) -> Schema:
    """Return the schema of a list."""
    return {"type": "array", "items": items}


def map_of(values: Schema) -> Schema:
    """Return the schema of an object with any names."""
    return {"type": "object", "additionalProperties": values}


def object_of(properties: Mapping[str, Schema], optional: Iterable[str] = ()) -> Schema:
    """Return the schema of an object; properties that are not `optional` are required."""
    optional = set(optional)
    required = [name for name in properties if name not in optional]
    return {"type": "object", "required": required, "properties": dict(properties)}


PART = object_of(
    {
        "device": {"enum": list(PART_KINDS)},
        "id": TEXT,
        "model": TEXT,
        "node": TEXT,
        "method": {"enum": [*Method, None]},
        "split": {"enum": [*SplitMethod, None]},
        "energy_uj": WHOLE_AMOUNT,
        "held_uj": or_null(WHOLE_AMOUNT),
        "carbon_ng": WHOLE_AMOUNT,
    },
    optional=("model", "node"),
)
INTENSITY = object_of(
    {
        "zone": or_null(TEXT),
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
MARK = object_of({"done": NUMBER, "total": NUMBER, "at": NUMBER})
OUTCOME = object_of({"energy_joules": NUMBER, "carbon_grams": NUMBER, "end": NUMBER})
FORECAST = object_of(
    {**OUTCOME["properties"], "low": or_null(OUTCOME), "high": or_null(OUTCOME)},
)
SUMS_OF_RUNS = {
    "runs": COUNT,
    "energy_uj": WHOLE_AMOUNT,
    "held_uj": WHOLE_AMOUNT,
    "carbon_ng": WHOLE_AMOUNT,
    "parts": list_of(PART),
    "intensity": list_of(INTENSITY),
}
INNER = object_of(
    {**SUMS_OF_RUNS, "tasks": object_of(SUMS_OF_RUNS)},
    optional=("held_uj", "parts", "intensity", "tasks"),
)
BOUNDARY = object_of(
    {
        "source": TEXT,
        "since": NUMBER,
        "lower_bound": BOOLEAN,
        "from_rules": BOOLEAN,
        "nodes": list_of(TEXT),
        "nodes_running": list_of(TEXT),
        "nodes_lost": list_of(TEXT),
        "devices": list_of(TEXT),
        "grids": list_of({"type": "object"}),
    },
    optional=("from_rules", "nodes_running", "nodes_lost", "devices", "grids"),
)
FINAL_RUN = object_of(
    {
        "run_id": TEXT,
        "name": TEXT,
        "job_id": TEXT,
        "started": NUMBER,
        "ended": or_null(NUMBER),
        "energy_uj": WHOLE_AMOUNT,
        "carbon_ng": WHOLE_AMOUNT,
        "intensity": list_of(INTENSITY),
        "unseen_runs": WHOLE_AMOUNT,
        "chosen_by": TEXT,
    },
    optional=("name", "started", "ended", "intensity", "unseen_runs"),
)
GROUP = object_of(
    {
        "name": TEXT,
        "runs": COUNT,
        "ended": WHOLE_AMOUNT,
        "with_grams": WHOLE_AMOUNT,
        "complete": BOOLEAN,
        "mean_energy_joules": or_null(AMOUNT),
        "energy_standard_error_joules": or_null(AMOUNT),
        "mean_carbon_grams": or_null(AMOUNT),
        "carbon_standard_error_grams": or_null(AMOUNT),
        "final": FINAL_RUN,
    },
    optional=("with_grams",),
)
