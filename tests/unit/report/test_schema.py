"""The published schema of a record holds for every record that is made."""

import json
from pathlib import Path

import jsonschema
import pytest

from exporter.model.ledger import FactorUse
from exporter.model.record import RunRecord
from exporter.model.record_document import record_to_json
from exporter.model.runs import Progress, ProgressMark, UnitCount
from exporter.report.records import combine_records
from tests.unit.client.kept import Runs
from tests.unit.integrations.codecarbon.conftest import Seconds
from tests.unit.integrations.conftest import Measured
from tests.unit.report.test_fleet import record as of_prometheus
from tests.unit.report.test_fleet import there  # noqa: F401  a fixture
from tests.unit.report.test_text import FACTOR, PARTS, RUN

SCHEMA = json.loads(
    (Path(__file__).resolve().parents[3] / "docs" / "record.schema.json").read_text()
)
USES = (FactorUse(FACTOR, 3_500_000, 9 * 10**8), FactorUse(None, 1, 0))
FULL = RUN._replace(
    ended=None,
    units=(UnitCount("tokens", 5.0),),
    logged=(("accuracy", 0.9), ("stage", "final")),
    progress=Progress(
        10.0,
        ProgressMark(0.0, 100.0, 0, 0),
        ProgressMark(5.0, 200.0, 10, 10),
        (ProgressMark(1.0, 120.0, 3, 3), ProgressMark(3.0, 150.0, 5, 5)),
    ),
    budget_grams=3.5,
    nodes=2,
)


def made(run=RUN, parts=PARTS, uses=USES):
    return record_to_json(RunRecord(run, parts, uses, at=200.0, node="n1"))


def valid(record):
    document = json.loads(json.dumps(record, allow_nan=False))
    jsonschema.validate(document, SCHEMA, jsonschema.Draft202012Validator)


@pytest.mark.parametrize("record", [made(), made(FULL), made(RUN, (), ())])
def test_of_one_node(record):
    valid(record)


def test_of_several_runs():
    valid(combine_records([made(), made(FULL)], "both"))


def test_of_a_fleet(there):  # noqa: F811
    valid(of_prometheus(there))


def test_what_a_record_has_is_in_the_schema(there):  # noqa: F811
    assert made(FULL).keys() | of_prometheus(there).keys() <= SCHEMA["properties"].keys()


@pytest.mark.parametrize(
    "wrong", [{"energy_uj": -1}, {"version": 2}, {"ended": "today"}, {"parts": [{}]}]
)
def test_what_is_wrong_is_refused(wrong):
    with pytest.raises(jsonschema.ValidationError):
        valid({**made(), **wrong})


@pytest.mark.parametrize("made", [Runs, Measured, Seconds])
@pytest.mark.parametrize("path", ["/v1/runs", "/v1/runs/a/end"])
def test_the_sockets_of_the_tests_send_what_a_daemon_sends(made, path):
    socket = made()
    for each in ("/v1/runs", path):
        status, record = socket.decide("POST", each, {"run_id": "a"})
    assert status < 300
    jsonschema.validate(record, SCHEMA)
