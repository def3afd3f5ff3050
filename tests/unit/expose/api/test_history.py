"""Import of runs over the agent socket."""

import json
import os
import pwd

import pytest

from exporter.errors import RequestRefused
from exporter.expose.api.agent_api import IMPORTS_PER_SECOND
from exporter.expose.api.request_bodies import parse_import
from exporter.integrations.codecarbon.csv_import import ORIGIN, read_history
from exporter.model.commands import ImportResult, ImportRuns
from exporter.model.ledger import FactorUse
from exporter.model.runs import IMPORTED_UID
from tests.unit.integrations.codecarbon.test_csv_import import SHIFTED


def run(**changes):
    (first, _) = read_history(SHIFTED).runs
    return {**first, **changes}


def body(*runs, origin=ORIGIN):
    return json.dumps({"origin": origin, "runs": runs}).encode()


def test_an_imported_run_belongs_to_the_caller():
    (record,) = parse_import(body(run()), "ada").records
    assert (record.run.key.uid, record.run.user, record.run.origin) == (IMPORTED_UID, "ada", ORIGIN)
    assert {part.device.id for part in record.parts} == {ORIGIN}
    assert record.energy_uj == sum(use.energy_uj for use in record.factors)


def part(**changes):
    return [{**run()["parts"][0], **changes}]


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        (body(origin="registered"), "origin: expected codecarbon"),
        (b'{"origin": "codecarbon", "runs": 5}', "runs: expected a list"),
        (b'{"origin": "codecarbon", "runs": [5]}', r"runs\[0\]: expected an object"),
        (b'{"origin": "codecarbon", "runs": [], "uid": 0}', "unknown key"),
        (body(*[run()] * 101), "at most 100"),
        (body(run(uid=0)), r"runs\[0\].uid: unknown key"),
        (body(run(run_id="")), "expected a run_id"),
        (body(run(scope="all")), "expected a run_id, a scope"),
        (body(run(started=-1)), "of at least 0"),
        (body(run(started=run()["ended"] + 1)), "an end after the start"),
        (body(run(ended=1e300)), "too large"),
        (body(run(parts=part(device="disk"))), "expected one of gpu, cpu, dram"),
        (body(run(parts=part(energy_uj=1.5))), "expected a whole number"),
        (body(run(parts=part(energy_uj=True))), "expected a whole number"),
        (body(run(parts=part(energy_uj=10**19))), "expected a whole number"),
        (body(run(parts=part(energy_uj=1))), "the sums of parts and intensity differ"),
    ],
)
def test_invalid_imports_are_rejected_with_the_location(wrong, why):
    with pytest.raises(RequestRefused, match=why):
        parse_import(wrong, "ada")


def test_the_response_has_the_import_result(site):
    site.reply = ImportResult(1, 0, 0)
    response = site.ask("POST", "/v1/history", body(run()), agent=True)
    assert (response.status, json.loads(response.content)["new"]) == (200, 1)
    (command,) = site.requests
    assert isinstance(command, ImportRuns)
    assert command.records[0].run.user == pwd.getpwuid(os.getuid()).pw_name


def test_imports_above_the_rate_limit_are_rejected(site):
    site.reply = ImportResult(1, 0, 0)
    asked = IMPORTS_PER_SECOND + 1
    answers = [site.ask("POST", "/v1/history", body(run()), agent=True) for _ in range(asked)]
    assert [each.status for each in answers] == [200] * IMPORTS_PER_SECOND + [429]


def test_energy_without_a_zone_has_no_grams():
    energy_uj = sum(part["energy_uj"] for part in run()["parts"])
    parts = [{**part, "carbon_ng": 0} for part in run()["parts"]]
    use = {"zone": None, "energy_uj": energy_uj, "carbon_ng": 0}
    (record,) = parse_import(body(run(parts=parts, intensity=[use])), "ada").records
    assert record.factors == (FactorUse(None, energy_uj, 0),)
    with pytest.raises(RequestRefused, match="expected a zone, or carbon_ng 0"):
        parse_import(body(run(intensity=[{**use, "carbon_ng": 1}])), "ada")


def test_the_import_path_accepts_only_post(site):
    assert site.ask("GET", "/v1/history", agent=True).status == 405


def test_runs_cannot_be_imported_over_tcp(site):
    assert site.ask("POST", "/v1/history", body(run())).status in (404, 405)
