"""Runs that a socket knows everything of, and an MLflow that notes what it is told."""

import sys
import types
from contextlib import nullcontext
from types import SimpleNamespace
from typing import NamedTuple

import pytest

from tests.agents import serving
from tests.unit.client.conftest import nobody  # noqa: F401  a fixture
from tests.unit.client.kept import Runs, as_daemon

INTENSITY = {"zone": "DE", "source": "table", "grams_per_kwh": 400.0, "pue": 1.0, "basis": "direct"}


class Measured(Runs):
    """Whenever a run ends, it has used a kilojoule and emitted 0.5 g more."""

    def _record(self, known):
        if known["ended"]:
            known["energy_uj"] = known.get("energy_uj", 0) + 1_000_000_000
            known["ended"] = None
            return {**self._record(known), "ended": 1000.0}
        energy_uj = known.get("energy_uj", 0)
        amounts = {"energy_uj": energy_uj, "carbon_ng": energy_uj // 2}
        record = as_daemon({**known, **amounts}, *amounts.values())
        return {**record, "power_watts": None, "intensity": [{**INTENSITY, **amounts}]}


@pytest.fixture
def runs(nobody, tmp_path, monkeypatch):  # noqa: F811  the fixture
    path = str(tmp_path / "agent.sock")
    monkeypatch.setenv("EMISSIONS_EXPORTER_EXPOSE_SOCKET", path)
    with serving(path, Measured()) as answers:
        yield answers


class Metric(NamedTuple):
    key: str
    value: float
    timestamp: int
    step: int


class RunTag(NamedTuple):
    key: str
    value: str


class Mlflow(types.ModuleType):
    """The few functions of MLflow that are called; `broken` is what logging raises."""

    def __init__(self):
        super().__init__("mlflow")
        self.uri, self.broken, self.batches, self.artifacts = "sqlite:///x", None, [], []
        self.active, self.status, self.began_at = None, "", []
        self.entities = types.ModuleType("mlflow.entities")
        self.entities.Metric, self.entities.RunTag = Metric, RunTag

    @property
    def metrics(self):
        """The last value of each."""
        return {m.key: m.value for batch in self.batches for m in batch[1]}

    @property
    def tags(self):
        return {t.key: t.value for batch in self.batches for t in batch[2]}

    def get_tracking_uri(self):
        return self.uri

    def set_tracking_uri(self, uri):
        self.uri = uri

    def set_experiment(self, _):
        return SimpleNamespace(experiment_id="1")

    def active_run(self):
        return self.active

    def start_run(self, run_name=None):
        self.began_at.append(self.uri)
        self.active = SimpleNamespace(info=SimpleNamespace(run_id=f"of {run_name}"))
        return self.active

    def end_run(self, status="FINISHED"):
        self.active, self.status = None, status

    def MlflowClient(self, tracking_uri):  # noqa: N802  the name that is called
        return SimpleNamespace(
            log_batch=self._log_batch, log_dict=self._log_dict, get_run=self._get_run
        )

    def _get_run(self, run_id):
        mine = [batch for batch in self.batches if batch[0] == run_id]
        metrics = {m.key: m.value for batch in mine for m in batch[1]}
        tags = {t.key: t.value for batch in mine for t in batch[2]}
        return SimpleNamespace(data=SimpleNamespace(metrics=metrics, tags=tags))

    def _log_batch(self, run_id, metrics, tags):
        if self.broken:
            raise self.broken
        self.batches.append((run_id, metrics, tags))

    def _log_dict(self, run_id, record, name):
        self.artifacts.append((run_id, record, name))


@pytest.fixture
def mlflow(monkeypatch):
    """In place of MLflow, which need not be there."""
    made, flavor = Mlflow(), types.ModuleType("mlflow.sklearn")
    flavor.autolog = lambda: None
    utils = types.ModuleType("mlflow.utils")
    autologging = types.ModuleType("mlflow.utils.autologging_utils")
    autologging.disable_autologging = nullcontext
    for module in (made, made.entities, flavor, utils, autologging):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    return made
