"""The receipt and the status line, as a person reads them."""

import re

import pytest

from exporter.model.intensity import Factor
from exporter.model.ledger import Amount, FactorUse
from exporter.model.readings import Device, DeviceKind, Method
from exporter.model.record import RecordPart, RunRecord
from exporter.model.record_document import record_to_json
from exporter.model.runs import RunInfo, RunKey
from exporter.model.workload import SplitMethod
from exporter.report.forms.text import receipt, status_line

COUNTER = "read from a hardware counter"
FACTOR = Factor("DE", "a table, 2024", 344.0, 1.2, 0.0, float("inf"), 0.0)
RUN = RunInfo(
    RunKey(1000, "bert", "4711"), "", "ada", "registered", 100.0, ended=190.0, shown_id="bert"
)
PARTS = (
    RecordPart(
        Device(DeviceKind.CPU, "package-0"),
        Method.COUNTER,
        SplitMethod.CPU_TIME,
        Amount(2_000_000, 0, 9 * 10**8),
    ),
    RecordPart(
        Device(DeviceKind.CPU, "package-1"),
        Method.COUNTER,
        SplitMethod.CPU_TIME,
        Amount(1_000_000, 0, 0),
    ),
    RecordPart(
        Device(DeviceKind.DRAM, "package-0-dram"),
        Method.ESTIMATED,
        SplitMethod.MEMORY,
        Amount(500_000, 7, 0),
    ),
)


@pytest.fixture
def record() -> dict:
    uses = (FactorUse(FACTOR, 3_500_000, 9 * 10**8), FactorUse(None, 1, 0))
    return record_to_json(RunRecord(RUN, PARTS, uses, at=200.0, node="n1"))


def test_a_receipt_names_energy_grams_method_split_and_intensity(record):
    assert receipt(record).splitlines() == [
        "Run bert (job 4711)",
        "  took       1 min 30 s",
        "  energy     3.50 J (0.000972 Wh)",
        "  held idle  0.000007 J (<0.000001 Wh)",
        "  emitted    > 0.900 g CO2eq",
        "  cpu        3.00 J (0.000833 Wh), " + COUNTER + ", split by CPU time",
        "  dram       0.500 J (0.000139 Wh), estimated, split by memory held",
        "  intensity  344 g/kWh, DE, lifecycle, PUE 1.2; a table, 2024",
        "  no factor  0.000001 J (<0.000001 Wh) without a carbon intensity",
        "  counted    cpu, dram of the node; not network, disks, fans",
        "  seen on    node n1",
    ]


def test_what_it_will_come_to_is_said_with_its_range(record):
    ahead = {"end": 290.0, "carbon_grams": 2.0, "low": None, "high": None}
    assert "  at its end  in 1 min 30 s: 2.00 g CO2eq" in receipt({**record, "forecast": ahead})
    ends = {"low": {"carbon_grams": 1.5}, "high": {"carbon_grams": 2500.0}}
    said = status_line({**record, "forecast": {**ahead, **ends}})
    assert said.endswith("0.900 g CO2eq  in 1 min 30 s: 0.002 kg (0.0015 kg to 2.50 kg)")


def test_a_forecast_and_its_range_have_one_unit(record):
    ends = {"low": {"carbon_grams": 950.0}, "high": {"carbon_grams": 1020.0}}
    ahead = {"end": 290.0, "carbon_grams": 980.0, **ends}
    said = receipt({**record, "forecast": ahead})
    assert "  at its end  in 1 min 30 s: 0.980 kg (0.950 kg to 1.02 kg) CO2eq" in said


def test_energies_of_a_receipt_have_one_unit(record):
    kwh_uj = 3_600_000_000_000
    parts = [{**part, "energy_uj": kwh_uj // 2} for part in record["parts"]]
    lines = receipt(
        {**record, "energy_uj": 3 * kwh_uj // 2, "held_uj": kwh_uj // 4, "parts": parts}
    )
    assert "J (1.50 kWh)" in lines
    assert "J (0.250 kWh)" in lines
    assert " Wh)" not in lines


def test_a_receipt_of_one_node_of_many_says_so(record):
    assert receipt({**record, "nodes": 4}).endswith("seen on    node n1: 1 of the run's 4 nodes")


def test_a_receipt_says_what_the_run_counted_and_logged(record):
    lines = receipt({**record, "units": {"tokens": 900.0}, "logged": {"loss": 0.25, "of": "dev"}})
    assert "  tokens     900, > 1.00 mg CO2eq each" in lines
    assert "  loss       0.25" in lines
    assert "  of         dev" in lines


def test_the_average_of_the_world_is_called_that(record):
    (use, *_) = record["intensity"]
    world = receipt({**record, "intensity": [{**use, "zone": "WORLD"}]})
    assert "344 g/kWh, WORLD (world average), lifecycle" in world
    assert "average of the world" not in receipt(record)


def test_history_names_no_gpu_that_it_does_not_know(record):
    part = {**record["parts"][0], "device": "gpu", "id": "codecarbon"}
    assert " of codecarbon" not in receipt({**record, "parts": [part]})
    assert " of GPU-1" in receipt({**record, "parts": [{**part, "id": "GPU-1"}]})


def test_a_status_line_says_what_is_used_now(record):
    line = status_line({**record, "power_watts": 120.04})
    assert line == "bert  1 min 30 s  120 W  3.50 J (0.000972 Wh)  > 0.900 g CO2eq"


def test_a_status_line_calls_a_run_by_its_name(record):
    assert status_line({**record, "name": "warm up"}).startswith("warm up  1 min 30 s")


def test_a_receipt_says_that_a_run_is_still_running(record):
    assert "took       1 min 30 s, still running\n" in receipt({**record, "ended": None})
    lost = {"nodes": ["n1"], "nodes_running": [], "nodes_lost": ["n1"], "since": 0.0, "grids": []}
    assert "still running" not in receipt({**record, "ended": None, "boundary": lost})


def test_a_receipt_of_several_runs_is_not_called_one(record):
    several = {**record, "runs": 2, "run_id": "all 2 of user ada", "job_id": ""}
    assert receipt(several).splitlines()[0] == "Runs: all 2 of user ada"


def test_an_unknown_power_is_not_shown_as_zero(record):
    assert "0 W" not in status_line({**record, "power_watts": None})


HOSTILE = "bert\x1b[2J\u202eevil\n"


def test_a_receipt_cannot_fool_a_terminal(record):
    lines = receipt({**record, "run_id": HOSTILE, "node": HOSTILE}).splitlines()
    assert lines[0] == "Run bert\ufffd[2J\ufffdevil\ufffd (job 4711)"
    assert lines[-1] == "  seen on    node bert\ufffd[2J\ufffdevil\ufffd"


def test_a_status_line_cannot_fool_a_terminal(record):
    assert status_line({**record, "run_id": HOSTILE}).startswith("bert\ufffd[2J\ufffdevil\ufffd  ")


def test_a_replay_claims_no_measurement(record):
    text = receipt({**record, "origin": "replay"})
    assert "replayed from a recording, not measured, " in text
    assert COUNTER not in text


def part_of(device, energy_uj):
    return {
        "device": device,
        "id": f"{device}-0",
        "model": "",
        "method": "counter",
        "split": None,
        "energy_uj": energy_uj,
        "held_uj": 0,
        "carbon_ng": 0,
    }


def slurm_job(record, seconds, *parts):
    return {
        **record,
        "origin": "slurm",
        "duration_seconds": seconds,
        "parts": list(parts),
        "energy_uj": sum(part["energy_uj"] for part in parts),
        "held_uj": 0,
        "carbon_ng": 0,
    }


def test_a_slurm_job_of_which_nothing_is_seen_has_an_unknown_energy_and_no_zero(record):
    lines = receipt(slurm_job(record, 60.0, part_of("cpu", 0), part_of("dram", 0))).splitlines()
    assert "  energy     unknown" in lines
    assert any("unknown" in line and "no cgroup and no visible process" in line for line in lines)
    assert not any(" 0 J" in line or " 0 g" in line for line in lines)


def test_of_a_slurm_job_that_is_not_seen_the_gpus_that_it_held_are_known(record):
    job = slurm_job(record, 600.0, part_of("cpu", 0), part_of("gpu", 3_600_000_000))
    text = receipt(job)
    assert re.search(r"> 3.600 J \(1.00 Wh\)", text)
    assert "processors and memory: no cgroup and no visible process" in text
    assert " 0 J" not in text


@pytest.mark.parametrize(
    ("seconds", "parts"),
    [
        (59.0, [("cpu", 0), ("dram", 0)]),
        (600.0, [("cpu", 0), ("dram", 1)]),
        (600.0, [("cpu", 1)]),
        (600.0, [("gpu", 0)]),
    ],
)
def test_a_slurm_job_that_is_seen_or_young_is_shown_as_it_is(record, seconds, parts):
    text = receipt(slurm_job(record, seconds, *(part_of(*part) for part in parts)))
    assert "no visible process" not in text


def test_a_run_of_no_scheduler_without_energy_is_shown_as_it_is(record):
    job = {**slurm_job(record, 600.0, part_of("cpu", 0)), "origin": "registered"}
    assert "no visible process" not in receipt(job)


@pytest.mark.parametrize(
    ("origin", "account", "shown"),
    [
        ("slurm", "nlp", "  owner      ada, account nlp"),
        ("slurm", "", "  owner      ada"),
        ("registered", "nlp", "  owner      ada, account nlp"),
    ],
)
def test_a_receipt_of_a_job_says_whose_it_is(record, origin, account, shown):
    job = {**record, "origin": origin, "account": account, "user": "ada"}
    assert receipt(job).splitlines()[1] == shown


def test_a_receipt_of_a_run_without_an_account_does_not_repeat_who_asks(record):
    lines = receipt({**record, "origin": "registered", "account": ""}).splitlines()
    assert not any(line.startswith("  owner ") for line in lines)
