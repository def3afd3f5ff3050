"""`run`: a command as a run of a daemon whose answers a test sets."""

import argparse
import json
import os
import subprocess
import sys
from urllib.parse import parse_qsl

import pytest

from exporter.cli import run
from exporter.cli.main import main
from exporter.cli.run import add
from exporter.client import agent_client, private_daemon, sockets
from exporter.client.environment import detect_launch
from exporter.client.errors import AgentUnreachable
from tests.agents import Answers, serving

RECORD = {
    "uid": 1000,
    "run_id": "bert",
    "job_id": "7",
    "node": "n1",
    "origin": "registered",
    "ended": None,
    "duration_seconds": 2.0,
    "energy_uj": 3_000_000,
    "held_uj": 0,
    "carbon_ng": 9 * 10**8,
    "parts": [],
    "intensity": [],
}
ENDED = {**RECORD, "ended": 5.0}
UNKNOWN = 404, {"error": "user 0 has no open run 'bert'"}
BUSY = 503, {"error": "too busy"}


@pytest.fixture
def daemon(tmp_path):
    """A daemon that opens and ends `bert`; `ends` are its answers to ends, the last for ever."""
    answers = Answers()
    answers.ends = [(200, ENDED)]
    answers.inside = []
    answers.now = 200, RECORD

    def decide(method, path, document):
        if path == "/v1/runs":
            return 201, answers.opened
        if path.startswith("/v1/runs?"):
            answers.asked.pop()  # not what most tests are about
            wanted = dict(parse_qsl(path.partition("?")[2]))["inside"]
            return 200, {"runs": [run for run in answers.inside if run["inside"] == wanted]}
        if path.endswith("/end"):
            return answers.ends.pop(0) if len(answers.ends) > 1 else answers.ends[0]
        return answers.now

    answers.opened = RECORD
    answers.decide = decide
    with serving(str(tmp_path / "agent.sock"), answers):
        yield answers


@pytest.fixture
def started(monkeypatch):
    """Commands that were started, with their environments; each ends at once with `code`."""
    begun = argparse.Namespace(commands=[], environments=[], code=0)

    def start(command, environment, meanwhile=None):
        begun.commands.append(command)
        begun.environments.append(environment)
        return begun.code

    monkeypatch.setattr(run, "run_child", start)
    monkeypatch.setattr(agent_client, "RETRY_INTERVAL_SECONDS", 0)
    return begun


def call(daemon, *arguments):
    parser = argparse.ArgumentParser()
    add(parser.add_subparsers())
    options = parser.parse_args(["run", f"--socket.path={daemon.path}", *arguments, "--", "true"])
    return options.main(options)


def test_a_run_is_opened_and_ended_around_the_command(daemon, started, capsys):
    assert call(daemon, "--run-id=bert", "--job-id=7", "--label=team=nlp", "--budget-grams=5") == 0
    wishes = {"run_id": "bert", "job_id": "7", "labels": {"team": "nlp"}, "scope": "tree"}
    assert daemon.asked == [
        ("POST", "/v1/runs", {**wishes, "budget_grams": 5.0}),
        ("POST", "/v1/runs/bert/end", {"job_id": "7"}),
    ]
    assert capsys.readouterr().err.startswith("Run bert (job 7)\n")


def test_the_command_knows_its_run(daemon, started):
    call(daemon)
    (environment,) = started.environments
    assert (environment["EMISSIONS_RUN_ID"], environment["EMISSIONS_JOB_ID"]) == ("bert", "7")


@pytest.mark.parametrize(("around", "expected"), [("", "bert"), ("outer,m", "bert,outer,m")])
def test_a_tracker_in_the_command_knows_that_its_run_is_inside(
    daemon, started, monkeypatch, around, expected
):
    monkeypatch.setenv("EMISSIONS_TRACKED", around)
    call(daemon)
    (environment,) = started.environments
    assert environment["EMISSIONS_TRACKED"] == expected
    assert detect_launch(environment, "").run_id == ""


@pytest.mark.parametrize(
    ("flags", "labels"),
    [
        (["--group=sweep"], {"group": "sweep"}),
        (["--group=sweep", "--label=team=nlp"], {"team": "nlp", "group": "sweep"}),
        (["--group=new", "--label=group=old"], {"group": "new"}),
    ],
)
def test_a_group_is_a_label(daemon, started, flags, labels):
    call(daemon, *flags)
    assert daemon.asked[0][2]["labels"] == labels


@pytest.mark.parametrize(("grams", "warnings"), [(5, 1), (0.8, 1), (0.9, 0), (20, 0), (None, 0)])
def test_a_budget_that_is_exceeded_while_the_command_runs_is_said_once(
    daemon, monkeypatch, capsys, grams, warnings
):
    daemon.now = 200, {**RECORD, "carbon_ng": 6 * 10**9 if grams == 5 else 9 * 10**8}

    def command(_command, _environment, meanwhile=None):
        for _ in range(3 if meanwhile else 0):
            meanwhile()
        return 0

    monkeypatch.setattr(run, "run_child", command)
    call(daemon, *([f"--budget-grams={grams}"] if grams is not None else []))
    err = capsys.readouterr().err
    assert err.count(f"exceeded its budget of {grams} g: it has emitted ") == warnings


def test_a_run_that_continues_says_what_this_command_used_of_it(daemon, started, capsys):
    daemon.ends = [(200, {**ENDED, "energy_uj": 6_600_000, "carbon_ng": 2 * 10**9})]
    call(daemon)
    said = "This command used 3.60 J and emitted 1.10 g CO2eq"
    assert capsys.readouterr().err.count(said) == 1


def test_runs_inside_the_command_are_named_beside_its_own_energy(daemon, started, capsys, tmp_path):
    daemon.inside = [
        {**RECORD, "run_id": run_id, "inside": inside, "energy_uj": 1_000_000, "carbon_ng": 10**8}
        for run_id, inside in (("lr-1", "bert"), ("lr-2", "bert"), ("another", "other"))
    ]
    call(daemon, f"--output={tmp_path / 'record.json'}")
    assert "with inner  5.00 J, 1.10 g CO2eq; 2 runs inside it, counted separately" in (
        capsys.readouterr().err
    )
    inner = json.loads((tmp_path / "record.json").read_text())["inner"]
    assert (inner["runs"], inner["energy_uj"], inner["carbon_ng"]) == (2, 2_000_000, 2 * 10**8)


def test_a_run_that_begins_is_not_called_continued(daemon, started, capsys):
    daemon.opened = {**RECORD, "energy_uj": 0, "carbon_ng": 0}
    call(daemon)
    assert "continued" not in capsys.readouterr().err


@pytest.mark.parametrize(("code", "exit_code"), [(3, 3), (-15, 143)])
def test_the_exit_code_is_that_of_a_shell(daemon, started, code, exit_code):
    started.code = code
    assert call(daemon) == exit_code


@pytest.mark.parametrize("zone", ["FR", "DE"])
def test_a_setting_that_the_daemon_does_not_use_is_a_warning(
    daemon, started, capsys, monkeypatch, zone
):
    use = {"zone": "DE", "grams_per_kwh": 344.0, "pue": 1.0, "energy_uj": 1, "carbon_ng": 1}
    use |= {"basis": "lifecycle", "source": "a table"}
    daemon.ends = [(200, {**ENDED, "intensity": [use]})]
    monkeypatch.setenv("EMISSIONS_EXPORTER_CONVERT_ZONE", zone)
    assert call(daemon) == 0
    said = "EMISSIONS_EXPORTER_CONVERT_ZONE=FR has no effect" in capsys.readouterr().err
    assert said == (zone == "FR")


@pytest.mark.parametrize(
    ("error", "exit_code"), [(FileNotFoundError(2, "No such file"), 127), (OSError(13, "No"), 126)]
)
def test_a_command_that_cannot_be_started_ends_its_run_without_a_receipt(
    daemon, started, monkeypatch, capsys, error, exit_code
):
    def fail(*_):
        raise error

    monkeypatch.setattr(run, "run_child", fail)
    assert call(daemon) == exit_code
    assert "/v1/runs/bert/end" in [path for _, path, *_ in daemon.asked]
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith(error.strerror)


def test_the_record_is_written_where_it_is_wanted(daemon, started, tmp_path):
    call(daemon, f"--output={tmp_path / 'record.json'}")
    assert json.loads((tmp_path / "record.json").read_text()) == ENDED


def test_metrics_of_dvc_are_written_where_they_are_wanted(daemon, started, tmp_path):
    call(daemon, f"--dvc={tmp_path / 'emissions.json'}")
    assert json.loads((tmp_path / "emissions.json").read_text())["emissions_grams"] == 0.9


def test_a_stage_that_nobody_measures_has_its_file_all_the_same(started, tmp_path):
    nobody = Answers()
    nobody.path = str(tmp_path / "nothing")
    assert call(nobody, f"--dvc={tmp_path / 'emissions.json'}") == 0
    assert json.loads((tmp_path / "emissions.json").read_text()) == {}


def test_metrics_that_cannot_be_written_are_no_failure(daemon, started, tmp_path, capsys):
    assert call(daemon, f"--dvc={tmp_path}") == 0
    assert f"{tmp_path}: Is a directory" in capsys.readouterr().err


def test_a_command_runs_without_a_daemon(started, tmp_path, capsys):
    nobody = Answers()
    nobody.path = str(tmp_path / "nothing")
    assert call(nobody) == 0
    assert started.commands == [["true"]]
    assert "not measured: " in capsys.readouterr().err


class TestWithoutADaemon:
    @pytest.fixture
    def alone(self, daemon, monkeypatch, tmp_path):
        """A machine where `daemon` listens as soon as it is started; how often that was."""
        monkeypatch.delenv(sockets.SOCKET_VARIABLE, raising=False)
        monkeypatch.setattr(sockets, "SYSTEM_SOCKET", str(tmp_path / "system.sock"))
        monkeypatch.setattr(sockets, "user_socket", lambda: str(tmp_path / "user.sock"))
        starts = []

        def start(environment):
            starts.append(dict(environment))
            os.rename(daemon.path, tmp_path / "user.sock")

        monkeypatch.setattr(private_daemon, "start_private_daemon", start)
        yield starts
        if not os.path.exists(daemon.path):
            os.rename(tmp_path / "user.sock", daemon.path)

    def begin(self, *flags):
        return main(["run", *flags, "--", "sh", "-c", "exit 3"])

    def test_one_is_started_and_the_run_is_measured(self, alone, started, capsys):
        started.code = 3
        assert self.begin("--name=hello") == 3
        assert len(alone) == 1
        note, receipt = capsys.readouterr().err.split("\n", 1)
        assert note.endswith("a private daemon measures this run and exits 30 s after its last run")
        assert receipt.startswith("Run bert (job 7)")

    @pytest.mark.parametrize("way", ["flag", "socket", "variable"])
    def test_none_is_started_where_that_is_not_wanted(
        self, alone, started, capsys, monkeypatch, way
    ):
        if way == "variable":
            monkeypatch.setenv(sockets.SOCKET_VARIABLE, "/nowhere")
        flags = {"flag": ["--no-private"], "socket": ["--socket.path=/nowhere"], "variable": []}
        started.code = 3
        assert self.begin(*flags[way]) == 3
        assert alone == []
        assert "not measured: no daemon answered" in capsys.readouterr().err

    def test_that_can_be_started_the_command_runs_and_is_told_why(
        self, alone, started, capsys, monkeypatch
    ):
        def fail(environment):
            raise AgentUnreachable("private daemon cannot be started: no sh")

        monkeypatch.setattr(private_daemon, "start_private_daemon", fail)
        started.code = 3
        assert self.begin() == 3
        assert started.commands == [["sh", "-c", "exit 3"]]
        assert capsys.readouterr().err == (
            "emissions-exporter: not measured: private daemon cannot be started: no sh\n"
        )

    def test_none_is_started_for_a_run_that_a_daemon_refuses(
        self, alone, daemon, started, monkeypatch, tmp_path
    ):
        os.symlink(daemon.path, tmp_path / "system.sock")
        daemon.decide = lambda *_: (400, {"error": "run_id: is too long"})
        self.begin()
        assert alone == []


def test_one_of_many_that_begin_at_once_waits_for_its_turn(daemon, started, capsys):
    beginnings = [(429, {"error": "at most 50 requests a second"}), (201, RECORD)]
    others = daemon.decide
    daemon.decide = lambda *asked: beginnings.pop(0) if beginnings else others(*asked)
    call(daemon)
    assert "Run bert" in capsys.readouterr().err


def test_a_command_that_is_refused_runs_and_is_told_why_and_nothing_else(daemon, started, capsys):
    daemon.decide = lambda *_: (400, {"error": "run_id: is too long"})
    assert call(daemon) == 0
    assert started.commands == [["true"]]
    assert capsys.readouterr().err == "emissions-exporter: not measured: run_id: is too long\n"


class TestFolded:
    @pytest.fixture(autouse=True)
    def full(self, daemon, monkeypatch):
        monkeypatch.delenv("EMISSIONS_RUN_ID", raising=False)
        daemon.opened = {**RECORD, "run_id": "other", "job_id": "", "origin": "folded"}

    def test_is_said_instead_of_a_receipt_of_many_runs(self, daemon, started, capsys):
        assert call(daemon, "--run-id=bert") == 0
        said = capsys.readouterr().err
        assert "counted in run `other`, and no receipt" in said
        assert "Run other" not in said

    def test_does_not_end_what_others_share(self, daemon, started):
        call(daemon)
        assert [path for _, path, _ in daemon.asked] == ["/v1/runs"]

    def test_does_not_claim_to_be_the_shared_run(self, daemon, started):
        call(daemon)
        assert "EMISSIONS_RUN_ID" not in started.environments[0]


class TestTheEnd:
    def test_is_tried_again_while_the_daemon_is_busy(self, daemon, started, capsys):
        daemon.ends = [BUSY, BUSY, (200, ENDED)]
        call(daemon)
        assert "Run bert" in capsys.readouterr().err

    def test_is_tried_again_while_the_daemon_restarts(self, daemon, started, monkeypatch, capsys):
        """The socket is away when the command ends, and back at the third try."""
        away = daemon.path + ".away"
        tries = []

        def sleep(seconds):
            tries.append(seconds)
            if len(tries) == 2:
                os.rename(away, daemon.path)

        monkeypatch.setattr(agent_client.time, "sleep", sleep)
        monkeypatch.setattr(run, "run_child", lambda *_: os.rename(daemon.path, away) or 0)
        assert call(daemon) == 0
        assert len(tries) == 2
        assert "Run bert" in capsys.readouterr().err

    def test_is_given_up_after_a_while_and_how_to_see_it_later_is_said(
        self, daemon, started, monkeypatch, capsys
    ):
        monkeypatch.setattr(agent_client, "RETRY_TIMEOUT_SECONDS", -1)
        monkeypatch.setattr(run, "run_child", lambda *_: os.unlink(daemon.path) or 0)
        assert call(daemon) == 0
        said = capsys.readouterr().err
        assert "no receipt: the daemon does not answer" in said
        assert "emissions-exporter report bert" in said
        open(daemon.path, "x").close()

    def test_whose_answer_was_lost_still_gives_a_receipt(self, daemon, started, capsys):
        daemon.ends = [BUSY, UNKNOWN]
        daemon.now = 200, ENDED
        call(daemon)
        assert "Run bert" in capsys.readouterr().err
        assert daemon.asked[-1][:2] == ("GET", "/v1/runs/bert?job_id=7")

    def test_of_a_run_that_is_not_ours_to_end_gives_no_receipt(self, daemon, started, capsys):
        daemon.ends = [UNKNOWN]
        call(daemon)
        assert "no receipt: user 0 has no open run" in capsys.readouterr().err

    def test_that_is_refused_is_not_tried_again(self, daemon, started, capsys):
        daemon.ends = [(409, {"error": "this run owns the machine"})]
        call(daemon)
        assert "no receipt: this run owns the machine" in capsys.readouterr().err
        assert len(daemon.asked) == 2


IMPATIENT = """
import sys
from exporter.cli import main, run
run.POLL_INTERVAL_SECONDS, run.STATUS_SECONDS = 0.01, 60.0
sys.exit(main.main(sys.argv[1:]))
"""


def command_line(daemon, script):
    return ["run", f"--socket.path={daemon.path}", "--", "sh", "-c", script]


def test_the_whole_command_line_runs_a_real_command(daemon):
    arguments = command_line(daemon, "echo $EMISSIONS_RUN_ID; exit 3")
    done = subprocess.run(
        [sys.executable, "-m", "exporter", *arguments], check=False, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (3, "bert\n")
    assert "Run bert (job 7)" in done.stderr


@pytest.fixture
def until_looked(daemon, tmp_path):
    """A command that ends when the daemon has been asked how the run fares."""
    looked, answer = tmp_path / "looked", daemon.decide

    def decide(method, path, document):
        if method == "GET":
            looked.touch()
        return answer(method, path, document)

    daemon.decide = decide
    return command_line(daemon, f"while [ ! -e {looked} ]; do sleep 0.01; done")


def test_on_a_terminal_a_status_line_comes_and_goes(until_looked, on_terminal):
    shown = on_terminal(IMPATIENT, *until_looked).read().split("\r\x1b[K")
    assert shown[1].startswith("bert  2.0 s")
    assert shown[-1].startswith("Run bert (job 7)")


def test_a_status_line_is_no_longer_than_the_terminal_is_wide(until_looked, on_terminal):
    narrow = "import termios; termios.tcsetwinsize(2, (24, 8))\n" + IMPATIENT
    shown = on_terminal(narrow, *until_looked).read().split("\r\x1b[K")
    assert shown[1] == "bert  2"


@pytest.mark.parametrize("grams", ["-1", "nan", "inf", "much"])
def test_a_budget_that_is_no_amount_is_refused_before_the_command_runs(capsys, tmp_path, grams):
    with pytest.raises(SystemExit):
        main(["run", f"--budget-grams={grams}", "--", "touch", str(tmp_path / "begun")])
    assert f"expected grams of 0 or more, such as 12.5, found '{grams}'" in capsys.readouterr().err
    assert not (tmp_path / "begun").exists()
