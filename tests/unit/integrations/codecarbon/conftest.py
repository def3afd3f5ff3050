"""A daemon whose runs use a kilowatt hour in each of its seconds, which a test lets pass."""

import pytest

from exporter.model.intensity import Factor
from exporter.model.ledger import Amount, FactorUse
from exporter.model.readings import Device, DeviceKind, Method
from exporter.model.record import RecordPart, RunRecord
from exporter.model.record_document import record_to_json
from exporter.model.runs import RunInfo, RunKey
from exporter.model.workload import SplitMethod
from exporter.units import MICROJOULES_PER_KWH
from tests.agents import serving
from tests.unit.client.conftest import nobody  # noqa: F401  a fixture
from tests.unit.client.kept import Runs

GRAMS_PER_KWH = 100.0
FACTOR = Factor("DE", "a table", GRAMS_PER_KWH, 1.0, 0.0, float("inf"), 0.0)


class Seconds(Runs):
    """The innermost open run uses all."""

    def __init__(self):
        super().__init__()
        self.zone = "DE"
        self.device = Device(DeviceKind.CPU, "package-0")

    def pass_seconds(self, count):
        inner = [run for run in self.known.values() if run["ended"] is None]
        if inner:
            inner[-1]["used"] = inner[-1].get("used", 0) + count

    def _record(self, known):
        seconds = known.get("used", 0)
        amount = Amount(seconds * MICROJOULES_PER_KWH, 0, round(seconds * GRAMS_PER_KWH * 1e9))
        run_id, ended = known["run_id"], known["ended"]
        info = RunInfo(
            RunKey(1000, run_id, ""),
            known.get("name", ""),
            "ada",
            "registered",
            1000.0 - seconds,
            ended=ended,
            scope=known.get("scope", "tree"),
            labels=tuple(known.get("labels", {}).items()),
            shown_id=run_id,
        )
        part = RecordPart(self.device, Method.COUNTER, SplitMethod.EXCLUSIVE, amount)
        use = FactorUse(FACTOR._replace(zone=self.zone), amount.energy_uj, amount.carbon_ng)
        return record_to_json(RunRecord(info, (part,), (use,), at=1000.0, node="n1"))

    def _decide(self, method, path, document):
        status, record = super()._decide(method, path, document)
        if path == "/v1/runs" and method == "POST" and status == 201:
            self.known[record["run_id"]].update(document)
            self.known[record["run_id"]].setdefault("run_id", record["run_id"])
        return status, record


@pytest.fixture
def seconds(nobody, tmp_path, monkeypatch):  # noqa: F811
    path = str(tmp_path / "agent.sock")
    monkeypatch.setenv("EMISSIONS_EXPORTER_EXPOSE_SOCKET", path)
    with serving(path, Seconds()) as answers:
        yield answers
