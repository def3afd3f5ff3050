"""Imported runs are stored once and in no sum of this machine."""

from contextlib import closing

import pytest

from exporter.account.archive import LedgerArchive
from exporter.model.commands import ImportResult
from exporter.model.ledger import Amount, FactorUse
from exporter.model.readings import Device, DeviceKind, Method
from exporter.model.record import RecordPart, RunFilter, RunRecord
from exporter.model.runs import IMPORTED_UID, RunKey
from exporter.model.workload import SplitMethod
from tests.unit.account.making import GERMANY, WALL, backfill, batch, opened, path_in, run, used_by

DEVICE = Device(DeviceKind.CPU, "codecarbon")


def told(name="old", energy_uj=5_000_000, ended=WALL, **changes):
    key = RunKey(IMPORTED_UID, name, "")
    info = run(name, **changes)._replace(key=key, ended=ended, owner=None, origin="codecarbon")
    amount = Amount(energy_uj, 0, energy_uj * 3)
    part = RecordPart(DEVICE, Method.ESTIMATED, SplitMethod.EXCLUSIVE, amount)
    use = FactorUse(GERMANY, amount.energy_uj, amount.carbon_ng)
    return RunRecord(info, (part,), (use,), at=ended, node="")


@pytest.fixture
def ledger(tmp_path):
    with closing(opened(tmp_path)) as ledger:
        yield ledger


def known(tmp_path, name="old"):
    return LedgerArchive(path_in(tmp_path), "node-1").runs(9, RunFilter(name))


def test_a_run_is_found_with_all_its_fields(ledger, tmp_path):
    assert ledger.import_runs([told()]) == ImportResult(1, 0, 0)
    (record,) = known(tmp_path)
    assert (record.parts, record.factors) == (told().parts, told().factors)
    assert (record.run.origin, record.run.user, record.run.ended) == ("codecarbon", "ada", WALL)


def test_it_ran_on_its_own_node(ledger, tmp_path):
    ledger.import_runs([told(), told("there", labels=(("node", "gpu-7"),))])
    assert known(tmp_path)[0].node == "unknown"
    assert known(tmp_path, "there")[0].node == "gpu-7"


def test_a_second_time_changes_nothing(ledger, tmp_path):
    ledger.import_runs([told()])
    before = known(tmp_path)
    assert ledger.import_runs([told(energy_uj=9_000_000)]) == ImportResult(0, 0, 1)
    assert known(tmp_path) == before


def test_a_longer_row_of_the_same_run_takes_the_place_of_the_shorter(ledger, tmp_path):
    ledger.import_runs([told()])
    assert ledger.import_runs([told(energy_uj=9_000_000, ended=WALL + 60)]) == ImportResult(0, 1, 0)
    (record,) = known(tmp_path)
    assert (record.energy_uj, record.run.ended) == (9_000_000, WALL + 60)
    assert sum(use.energy_uj for use in record.factors) == 9_000_000


def test_another_user_cannot_change_it(ledger, tmp_path):
    ledger.import_runs([told()])
    assert ledger.import_runs([told(ended=WALL + 60, user="eve")]) == ImportResult(0, 0, 1)
    assert known(tmp_path)[0].run.user == "ada"


def test_what_is_restored_after_it_is_what_was_there_before(ledger):
    made = used_by("bert")
    backfill(made, names=("bert",))
    ledger.commit(batch(made))
    before = ledger.restore()
    ledger.import_runs([told()])
    assert ledger.restore() == before


def test_a_run_of_this_machine_with_the_same_id_is_another_one(ledger):
    ledger.import_runs([told("bert")])
    assert ledger.stored_run(run("bert").key).info is None
    made = used_by("bert")
    backfill(made, names=("bert",))
    ledger.commit(batch(made))
    restored = ledger.restore().restored
    assert DEVICE not in {line.device for line in restored.lines}
