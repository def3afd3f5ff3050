"""What a tracker's thread does at each look, without the thread."""

import json
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from exporter.client.errors import AgentRefusal, AgentUnreachable
from exporter.client.reporter import Reporter, status_line
from exporter.client.run import Run

RECORD = {
    "run_id": "bert",
    "job_id": "7",
    "node": "n1",
    "at": 1000.0,
    "energy_joules": 7200.0,
    "carbon_grams": 0.8,
}


class Desk:
    """A reporter, what it sent, and what it is answered."""

    def __init__(self, receipts):
        self.run = Run("bert", "7")
        self.answer = RECORD
        self.sent = []
        self.begun = 0
        self.looked = 0
        self.reporter = Reporter(
            self.run,
            send=self.say,
            register_again=self.begin,
            on_record=self.look,
            receipts=receipts,
            interval_seconds=5,
            title="bert",
            shows_status=False,
        )

    def say(self, said):
        self.sent.append(said)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    def begin(self):
        self.begun += 1

    def look(self):
        self.looked += 1


@pytest.fixture
def desk(tmp_path):
    return Desk(str(tmp_path / "receipts"))


def test_what_the_daemon_says_becomes_the_record(desk):
    desk.run.count(tokens=1)
    desk.reporter.stop()
    desk.reporter.report_once()
    assert desk.sent == [{"count": {"tokens": 1.0}}]
    assert desk.run.record == RECORD
    assert desk.looked == 1


def test_a_daemon_that_is_away_loses_nothing_and_is_said_once(desk, caplog):
    desk.answer = AgentUnreachable("gone")
    desk.run.count(tokens=1)
    for _ in range(3):
        desk.reporter.report_once()
    assert caplog.text.count("does not answer") == 1
    desk.answer = RECORD
    desk.reporter.report_once()
    assert desk.sent[-1] == {"count": {"tokens": 1.0}}


def test_a_run_that_the_daemon_does_not_know_is_begun_again(desk):
    desk.answer = AgentRefusal(404, "no such run")
    desk.run.count(tokens=1)
    desk.reporter.report_once()
    assert desk.begun == 1
    assert desk.run.take_pending() == {"count": {"tokens": 1.0}}


def test_a_refusal_is_said_in_the_daemons_words(desk, caplog):
    desk.answer = AgentRefusal(400, "values: has 99 entries, the limit is 64")
    desk.reporter.report_once()
    assert "the limit is 64" in caplog.text


def test_values_that_are_refused_take_no_count_with_them(desk):
    desk.answer = AgentRefusal(400, "values: has 99 entries, the limit is 64")
    desk.run.log(accuracy=1)
    desk.run.count(tokens=1)
    assert not desk.reporter.report_once()
    desk.answer = RECORD
    assert desk.reporter.report_once()
    assert desk.sent[-1] == {"count": {"tokens": 1.0}}


def test_a_count_that_is_refused_is_not_sent_for_ever(desk):
    desk.answer = AgentRefusal(400, "count: the limit is 64")
    desk.run.log(accuracy=1)
    desk.run.count(tokens=1)
    assert [desk.reporter.report_once() for _ in range(2)] == [False, True]
    assert desk.run.take_pending() == {}


def test_the_receipt_is_the_record_in_a_file_of_its_own(desk, tmp_path):
    desk.reporter.report_once()
    desk.reporter.write_receipt()
    (path,) = (tmp_path / "receipts").iterdir()
    assert path.name == "bert-7-n1.json"
    assert json.loads(path.read_text()) == RECORD


def test_no_id_leads_a_receipt_out_of_its_directory(desk, tmp_path):
    desk.run.record = {**RECORD, "run_id": "../../etc/x y"}
    desk.reporter.write_receipt()
    (path,) = (tmp_path / "receipts").iterdir()
    assert path.name == "_.._etc_x_y-7-n1-e94ab979.json"


def test_a_receipt_that_cannot_be_written_is_said_once(desk, tmp_path, caplog):
    (tmp_path / "receipts").write_text("a file")
    desk.run.record = RECORD
    desk.reporter.write_receipt()
    desk.reporter.write_receipt()
    assert caplog.text.count("receipt in ") == 1


def test_a_receipt_is_written_by_one_thread_at_a_time(desk):
    may_another = []

    def keep_only(_):
        with ThreadPoolExecutor(1) as another:
            asked = another.submit(desk.reporter._receipt_lock.acquire, blocking=False)
            may_another.append(asked.result())

    desk.run.record, desk.reporter._keep = RECORD, keep_only
    desk.reporter.write_receipt()
    desk.reporter.write_receipt()
    assert may_another == [False, False]


def test_a_line_says_what_was_used_and_what_it_will_come_to():
    ahead = {"carbon_grams": 1.6, "end": 1065.0}
    said = status_line("be\x1b[2Jrt", 61.0, {**RECORD, "power_watts": 120.04, "forecast": ahead})
    assert said == "be?[2Jrt  1:01  120 W  2 Wh  0.8 g CO2eq  in 1:05: 1.6 g"
    ends = {"low": {"carbon_grams": 1.2}, "high": {"carbon_grams": 2.0}}
    assert status_line("bert", 119.6, RECORD).startswith("bert  2:00  ")
    said = status_line("bert", 61.0, {**RECORD, "forecast": {**ahead, **ends}})
    assert said.endswith("in 1:05: 1.6 g (1.2 to 2)")


def test_the_line_keeps_the_power_where_an_answer_has_none(desk, capsys):
    desk.reporter._has_line = True
    desk.answer = {**RECORD, "power_watts": 120.0}
    desk.reporter.report_once()
    desk.answer = RECORD
    desk.reporter.report_once()
    assert capsys.readouterr().err.count("120 W") == 2


def test_progress_is_told_at_once_and_not_too_often(desk):
    seen = threading.Event()
    desk.reporter._on_record = seen.set
    desk.run.on_pending, desk.run.on_progress = desk.reporter.start, desk.reporter.request_report
    desk.reporter._interval = 3600.0
    desk.run.progress(0, 10)
    assert seen.wait(20)
    for done in range(1, 4):
        desk.run.progress(done, 10)
    desk.reporter.stop()
    assert desk.sent == [{"progress": {"done": 0.0, "total": 10.0}}]
    assert desk.run.take_pending() == {"progress": {"done": 3.0, "total": 10.0}}
