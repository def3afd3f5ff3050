"""Runs of a simulated host, with counts and progress."""

import json
from itertools import pairwise

import pytest

from exporter.attribute.sources.replay import recorded_runs
from exporter.config import AccountConfig, Config, SampleConfig
from exporter.daemon import Daemon
from exporter.data import DIRECTORY
from exporter.model.recorded_host import Curve, HostFields
from tests.fakes import FakeClock

PERIOD = 100
RUN = {
    "run_id": "train",
    "user": "ada",
    "account": "nlp",
    "namespace": "lab",
    "budget_grams": 5,
    "members": [{"pod": "train-0", "container": "main"}],
    "counts": {"tokens": [[0, 10], [50, 30]]},
    "steps": 40,
    "starts": 0,
    "ends": 80,
    "cpu": [[0, 1]],
}
HOST = {
    "period_seconds": PERIOD,
    "threads": 8,
    "memory_total_bytes": 1000,
    "devices": [
        {
            "kind": "cpu",
            "id": "package-0",
            "model": "",
            "vendor": "",
            "power_cap_watts": 400,
            "watts": [[0, 100]],
        }
    ],
}
SHIPPED = sorted((DIRECTORY / "replay").glob("*.json"))


def recorded(**changes):
    (run,) = recorded_runs(HostFields({**HOST, "workload": [{**RUN, **changes}]}))
    return run


def test_it_counts_whole_units_and_loses_none():
    run = recorded()
    times = [0.0, 0.3, 7.77, 31.4, 99.9, 100.0, 412.5]
    parts = [run.counted(*pair)[0][1] for pair in pairwise(times)]
    assert all(part == int(part) for part in parts)
    assert sum(parts) == int(Curve(RUN["counts"]["tokens"], PERIOD).integral(0, 412.5))


def test_its_work_is_done_evenly_from_start_to_end():
    run = recorded(starts=20, ends=60)
    assert [run.done(phase) for phase in (10, 20, 30, 60)] == [0, 0, 10, 40]


def test_a_run_without_steps_has_no_progress():
    assert recorded(steps=0).done(30) is None


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"budget_grams": -1}, r"workload\[0\]\.budget_grams: expected a number above 0"),
        ({"members": [{"pod": "a"}]}, r"workload\[0\]\.members\[0\]\.container: expected text"),
        ({"counts": {"tokens": 3}}, r"workload\[0\]\.counts\.tokens: expected a list"),
        ({"steps": 1.5}, r"workload\[0\]\.steps: expected a whole number"),
    ],
)
def test_an_error_has_its_location(changes, said):
    with pytest.raises(ValueError, match=said):
        recorded(**changes)


def test_all_recorded_values_are_on_the_page(tmp_path):
    path, clock = tmp_path / "host.json", FakeClock()
    clock.now_ns = 1000 * 10**9
    path.write_text(json.dumps({**HOST, "workload": [RUN]}))
    account = AccountConfig(state_directory=str(tmp_path / "state"))
    app = Daemon(Config(SampleConfig(replay=str(path)), account=account), {}, clock)
    for _ in range(11):
        app.pipeline.tick()
        clock.advance(1)
    lines = app.publisher.current.metrics_page.text().decode().splitlines()
    app.close()
    page = dict(line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
    key = 'job_id="",run_id="train"'
    assert page[f"emissions_run_budget_grams{{{key}}}"] == "5.0"
    tokens = int(Curve(RUN["counts"]["tokens"], PERIOD).integral(0, 10))
    assert page[f'emissions_run_units_total{{{key},unit="tokens"}}'] == f"{tokens}.0"
    member = f'{key},workload_container="main",workload_pod="train-0"'
    assert page[f"emissions_run_member_info{{{member}}}"] == "1.0"
    (info,) = (name for name in page if name.startswith("emissions_run_info"))
    assert 'account="nlp"' in info
    assert 'workload_namespace="lab"' in info
    used = float(page[f"emissions_run_cumulative_carbon_grams{{{key}}}"])
    # 10 of the 80 seconds of its work are over.
    ahead = float(page[f"emissions_run_forecast_grams{{{key}}}"])
    assert ahead == pytest.approx(used * 80 / 10, rel=0.15)


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_a_shipped_host_can_be_played_and_is_never_busier_than_it_has_threads(path):
    host = HostFields(json.loads(path.read_text()))
    runs = recorded_runs(host)
    period = host.positive("period_seconds")
    other = host.curve("other_cpu", period, [[0, 0]])
    for second in range(0, int(period), 5):
        busy = sum(run.cpu.at(second) for run in runs if run.starts <= second < run.ends)
        assert busy + other.at(second) <= host.count("threads")
    assert sum(run.memory_bytes for run in runs) < host.count("memory_total_bytes")


def test_a_recorded_run_without_a_user_waits_for_no_name():
    assert recorded(user="").info.is_user_known
