"""An agent socket that keeps runs as a daemon does, for tests of the tracker."""

from typing import Any
from urllib.parse import unquote

from exporter.model.ledger import Amount
from exporter.model.readings import Device, DeviceKind, Method
from exporter.model.record import RecordPart, RunRecord
from exporter.model.record_document import record_to_json
from exporter.model.runs import RunInfo, RunKey
from exporter.model.workload import SplitMethod
from tests.agents import Answer, Answers

CPU = Device(DeviceKind.CPU, "package-0")


def as_daemon(known: dict[str, Any], energy_uj: int, carbon_ng: int) -> dict[str, Any]:
    """The record that a daemon makes of a run, and what else is known of it."""
    key = RunKey(1000, known["run_id"], known["job_id"])
    run = RunInfo(key, "", "ada", "registered", 990.0, ended=known["ended"], scope="tree")
    part = RecordPart(CPU, Method.COUNTER, SplitMethod.CPU_TIME, Amount(energy_uj, 0, carbon_ng))
    record = RunRecord(run._replace(shown_id=key.run_id), (part,), (), at=1000.0, node="n1")
    return {**record_to_json(record), **known}


class Runs(Answers):
    """Runs are begun, told things, and ended; what is refused, a test sets."""

    def __init__(self) -> None:
        super().__init__()
        self.known: dict[str, dict[str, Any]] = {}
        self.grams = 2.0
        self.uses: list[dict[str, Any]] = []
        """Intensities that runs were converted with."""
        self.refusals: dict[str, list[Answer]] = {}
        """By the last part of the path (runs, log, end): what is answered first."""
        self.decide = self._decide

    def told(self, verb: str) -> list[dict[str, Any]]:
        """Documents of what was asked of that verb: runs, log or end."""
        return [
            document
            for method, path, document in self.asked
            if method == "POST" and path.rpartition("/")[2] == verb
        ]

    def _decide(self, method: str, path: str, document: Any) -> Answer:
        parts = path.partition("?")[0].split("/")[2:]
        if method == "POST" and (waiting := self.refusals.get(parts[-1])):
            return waiting.pop(0)
        if parts == ["runs"]:
            run_id = document.get("run_id") or f"made-{len(self.known) + 1}"
            known = self.known.setdefault(run_id, {"units": {}, "logged": {}})
            known.update(run_id=run_id, job_id=document.get("job_id", ""), node="n1", ended=None)
            return 201, self._record(known)
        if (found := self.known.get(unquote(parts[1]))) is None:
            return 404, {"error": "no such run"}
        if parts[-1] == "end":
            found["ended"] = 1000.0
        for unit, amount in (document or {}).get("count", {}).items():
            found["units"][unit] = found["units"].get(unit, 0) + amount
        found["logged"].update((document or {}).get("values", {}))
        return 200, self._record(found)

    def _record(self, known: dict[str, Any]) -> dict[str, Any]:
        record = as_daemon(known, 3_600_000_000, round(self.grams * 1e9))
        return {**record, "intensity": self.uses}
