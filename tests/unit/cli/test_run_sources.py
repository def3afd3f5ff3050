"""Commands that read runs, where no daemon runs: they read the ledgers of this user."""

import csv
import json
import sqlite3
from contextlib import closing

import pytest

from exporter.account.ledger import Ledger
from exporter.cli import run_sources
from exporter.cli.main import main
from exporter.client import private_daemon, sockets
from exporter.model.runs import RunKey
from tests.agents import Answers, serving
from tests.unit.account.making import WALL, batch, books, known_run, opened, path_in, run
from tests.unit.account.test_reading import ended, written

OTHER = run("other", started=WALL + 40, ended=WALL + 49)


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A home without ledgers, on a machine without daemons."""
    for name in (
        private_daemon.STATE_DIRECTORY_VARIABLE,
        sockets.SOCKET_VARIABLE,
        "XDG_STATE_HOME",
        run_sources.NODE,
    ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "runtime"))
    monkeypatch.setattr(sockets, "SYSTEM_SOCKET", str(tmp_path / "system" / "agent.sock"))
    monkeypatch.setattr(run_sources, "SYSTEM_STATE_DIRECTORY", str(tmp_path / "system" / "state"))
    return tmp_path / "home" / ".local" / "state" / "emissions-exporter"


@pytest.fixture
def show(capsys):
    """What a command prints on its two streams."""

    def call(*arguments, code=0):
        assert main(arguments) == code
        return capsys.readouterr()

    return call


def runs_of(shown):
    return [each["run_id"] for each in json.loads(shown.out)]


def test_runs_of_a_daemon_that_has_ended_are_listed(home, show):
    written(home, ended("bert", 0, 9), ended("gpt", 10, 19))
    shown = show("runs", "--format=json")
    assert runs_of(shown) == ["gpt", "bert"]
    assert shown.err == (
        f"emissions-exporter: no daemon answered; reading runs from {path_in(home)}\n"
    )


@pytest.mark.parametrize(
    "arguments",
    [
        ("runs",),
        ("runs", "--by=user"),
        ("report", "bert"),
        ("report", "--job-id=job"),
        ("report", "bert", "--format=html"),
        ("leaderboard",),
        ("leaderboard", "bert", "--format=csv"),
    ],
)
def test_each_command_that_reads_runs_reads_the_ledger(home, show, arguments):
    written(home, ended("bert", 0, 9))
    shown = show(*arguments)
    assert "bert" in shown.out or "ada" in shown.out or "job" in shown.out
    assert shown.err.count(f"reading runs from {path_in(home)}\n") == 1


def test_a_card_is_written_from_the_ledger_with_the_models_of_the_devices(home, show, tmp_path):
    written(home, ended("bert", 0, 9), has_grams=True)
    show("card", "write", str(tmp_path / "README.md"), "bert")
    assert 'hardware_used: "1 \u00d7 model"' in (tmp_path / "README.md").read_text()


def test_a_run_is_found_by_its_name(home, show):
    written(home, ended("bert", 0, 9, name="tuning"))
    assert show("report", "tuning").out.startswith("Run bert, tuning")


def test_runs_inside_runs_of_two_users_with_one_id_stay_apart(home, show):
    """The second user's run is shown as `sweep@1001`."""
    made = books()
    for uid, shown_id in ((1000, "sweep"), (1001, "sweep@1001")):
        outer = RunKey(uid, "sweep", "job")
        known_run(made, run("sweep")._replace(key=outer, shown_id=shown_id))
        for number in range(uid - 999):
            inner = RunKey(uid, f"lr-{uid}-{number}", "job")
            known_run(made, run()._replace(key=inner, shown_id=inner.run_id, enclosing=outer))
    with closing(opened(home)) as ledger:
        ledger.commit(batch(made))
    found = [
        json.loads(show("report", shown_id, "--format=json").out)["inner"]["runs"]
        for shown_id in ("sweep", "sweep@1001")
    ]
    assert found == [1, 2]


def test_an_unknown_run_is_an_error_that_names_the_ledger(home, show):
    written(home, ended("bert", 0, 9))
    assert show("report", "gpt", code=1).err.endswith(
        f"no daemon answered; no run 'gpt' is in {path_in(home)}\n"
    )


def test_where_there_is_no_ledger_the_daemon_is_missed_and_the_places_are_named(home, show):
    said = show("runs", code=1).err
    assert "no daemon answered" in said
    assert f"no ledger found in {home}, " in said


@pytest.mark.parametrize("flag", ["--user=ada", "--account=nlp", "--job-id=job"])
@pytest.mark.parametrize("form", ["text", "json", "markdown", "latex", "html", "codecarbon"])
def test_several_runs_of_slurm_are_one_report_in_every_form(home, show, flag, form):
    job = {"origin": "slurm", "account": "nlp"}
    written(home, ended("7", 0, 9, **job), ended("8", 10, 19, **job), ended("9", 20, 29))
    shown = show("report", flag, f"--format={form}")
    if form == "text" and flag == "--account=nlp":
        assert "  owner      ada, account nlp\n" in shown.out
    if form == "json":
        runs = 2 if flag == "--account=nlp" else 3
        record = json.loads(shown.out)
        assert (record["runs"], record["user"]) == (runs, "ada")


@pytest.mark.parametrize("flag", ["--group=sweep", "--user=ada", "--job-id=job"])
def test_several_runs_are_one_codecarbon_row_each_under_one_header(home, show, flag):
    labels = (("group", "sweep"),)
    load = (*labels, ("task", "load"))
    fit = (*labels, ("task", "fit"), ("first_task", "bert"))
    written(
        home,
        ended("bert", 0, 9, labels=load, name="sweep: load"),
        ended("gpt", 20, 25, labels=labels),
        ended("fit", 30, 33, labels=fit, name="sweep: fit"),
        has_grams=True,
    )
    shown = show("report", flag, "--format=codecarbon", "--label=experiment_id=e1").out
    rows = list(csv.DictReader(shown.splitlines()))
    assert [row["run_id"] for row in rows] == ["bert", "gpt"]
    assert [row["project_name"] for row in rows] == ["sweep", "gpt"]
    assert [float(row["duration"]) for row in rows] == [12.0, 5.0]
    assert {row["experiment_id"] for row in rows} == {"e1"}
    energies = [float(row["energy_consumed"]) for row in rows]
    assert energies[0] == pytest.approx(2 * energies[1])


def test_a_group_of_one_run_is_the_codecarbon_row_of_the_run(home, show):
    written(home, ended("bert", 0, 9, labels=(("group", "sweep"),), name="large"))
    (row,) = csv.DictReader(show("report", "--group=sweep", "--format=codecarbon").out.splitlines())
    assert (row["run_id"], row["project_name"]) == ("bert", "large")


def test_a_run_that_is_not_in_the_group_is_named(home, show):
    written(home, ended("bert", 0, 9, labels=(("group", "sweep"),)), ended("gpt", 10, 19))
    said = show("report", "gpt", "--group=sweep", code=1).err
    assert "report: no run with the id 'gpt' of group sweep is known on this machine" in said
    said = show("report", "--group=other", code=1).err
    assert "report: no run of group other is known on this machine" in said


def test_runs_of_an_account_are_listed_and_summed(home, show):
    written(home, ended("7", 0, 9, account="nlp"), ended("8", 10, 19, account="vision"))
    assert runs_of(show("runs", "--account=nlp", "--format=json")) == ["7"]
    (total,) = json.loads(show("runs", "--account=nlp", "--by=user", "--format=json").out)
    assert total["runs"] == 1
    assert "no run matches --account nobody" in show("runs", "--account=nobody").err


@pytest.mark.parametrize("by_variable", [False, True])
def test_a_daemon_that_was_named_is_the_only_one_asked(home, show, monkeypatch, by_variable):
    written(home, ended("bert", 0, 9))
    if by_variable:
        monkeypatch.setenv(sockets.SOCKET_VARIABLE, "/nowhere/agent.sock")
    flags = () if by_variable else ("--socket.path=/nowhere/agent.sock",)
    said = show("runs", *flags, code=1).err
    assert said.startswith("emissions-exporter: no daemon answered (/nowhere/agent.sock: No such")


class TestSeveralLedgers:
    @pytest.fixture
    def places(self, home, tmp_path, monkeypatch):
        """All places where daemons of this user may keep a ledger."""
        monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "xdg"))
        monkeypatch.setenv(private_daemon.STATE_DIRECTORY_VARIABLE, str(tmp_path / "named"))
        return (
            home,
            tmp_path / "xdg" / "emissions-exporter",
            tmp_path / "named",
            tmp_path / "system" / "state",
        )

    def test_are_one_list(self, places, show):
        for number, place in enumerate(places):
            written(place, ended(f"run-{number}", number, number + 1))
        shown = show("runs", "--format=json")
        assert runs_of(shown) == ["run-3", "run-2", "run-1", "run-0"]
        assert all(path_in(place) in shown.err.splitlines()[0] for place in places)

    def test_that_are_one_directory_are_read_once(self, home, show, monkeypatch):
        monkeypatch.setenv("XDG_STATE_HOME", str(home.parent))
        monkeypatch.setenv(private_daemon.STATE_DIRECTORY_VARIABLE, str(home) + "/")
        written(home, ended("bert", 0, 9))
        assert runs_of(show("runs", "--format=json")) == ["bert"]

    @pytest.mark.parametrize("by", ["job", "group", "user"])
    @pytest.mark.parametrize("since", [(), ("--since=2023-11-14T22:13:25+00:00",)])
    def test_have_sums_of_all_their_runs(self, places, show, by, since):
        written(places[0], ended("bert", 0, 9), ended("gpt", 0, 9))
        written(places[1], ended("bert", 10, 19), ended("clip", 10, 19), seed=1)
        written(places[2], ended("gpt", 5, 14), ended("clip", 0, 5), seed=2)
        written(places[3], ended("vit", 6, 9), ended("bert", 20, 29), seed=3)
        listed = json.loads(show("runs", "--format=json", *since).out)
        summed = json.loads(show("runs", f"--by={by}", "--format=json", *since).out)
        assert sum(each["runs"] for each in summed) == len(listed)
        assert sum(e["energy_uj"] for e in summed) == sum(e["energy_uj"] for e in listed) > 0
        assert sum(e["carbon_ng"] for e in summed) == sum(e["carbon_ng"] for e in listed)

    def test_say_which_runs_were_continued_and_which_records_do_not_count(self, places, show):
        written(places[0], ended("bert", 0, 9), ended("gpt", 0, 9))
        written(places[1], ended("bert", 10, 19), ended("gpt", 5, 14))
        _, added, excluded = show("runs").err.splitlines()
        assert added.endswith("the records of run bert in several ledgers are added up")
        assert "several ledgers have records of run gpt for the same time" in excluded
        shown = show("report", "gpt")
        assert "run bert" not in shown.err

    def test_of_which_one_cannot_be_read_are_an_error_and_no_smaller_total(self, places, show):
        written(places[0], ended("bert", 0, 9))
        written(places[1], ended("gpt", 0, 9))
        with closing(sqlite3.connect(path_in(places[1]))) as newer:
            newer.execute("PRAGMA user_version = 99")
        shown = show("runs", "--by=user", code=1)
        assert shown.out == ""
        assert "upgrade the exporter" in shown.err
        assert (
            str(places[0]) in shown.err.partition("to read a single ledger, give --path.state: ")[2]
        )
        assert runs_of(show("runs", "--format=json", f"--path.state={places[0]}")) == ["bert"]

    def test_of_which_one_may_not_be_read_are_read_without_it_which_is_said(self, places, show):
        written(places[0], ended("bert", 0, 9))
        (places[3] / "ledger.sqlite").mkdir(parents=True)  # root may read every file
        shown = show("runs", "--format=json")
        assert runs_of(shown) == ["bert"]
        assert f"{path_in(places[3])} is skipped: cannot be read: Is a directory" in shown.err


def test_energy_that_only_the_journal_of_a_killed_daemon_has_is_said_to_be_missing(home, show):
    written(home, ended("bert", 0, 9), clean=False)
    said = show("report", "bert").err
    assert f"{path_in(home)} does not contain the energy used after 2023-11-14 22:13:21 UTC" in said


def test_a_ledger_is_read_by_its_directory_and_no_daemon_is_asked(home, show, tmp_path):
    written(home, ended("bert", 0, 9))
    written(tmp_path / "copy", ended("gpt", 0, 9))
    shown = show("runs", "--format=json", f"--path.state={tmp_path / 'copy'}")
    assert runs_of(shown) == ["gpt"]
    assert shown.err == f"emissions-exporter: reading runs from {path_in(tmp_path / 'copy')}\n"
    assert (
        "ledger.sqlite cannot be read: No such file"
        in show("runs", f"--path.state={tmp_path}", code=1).err
    )


class TestADaemonWithAnotherLedger:
    @pytest.fixture
    def daemon(self, home, tmp_path):
        """One that answers with `OTHER`, from the ledger of the system's directory."""
        system = written(tmp_path / "system" / "state", OTHER)
        with closing(Ledger(str(system), WALL)) as ledger:
            ledger_id = ledger._connection.execute("SELECT ledger_id FROM meta").fetchone()[0]
        answers = Answers()
        answers.ledger = 200, {"ledger_id": ledger_id}

        def decide(method, path, document):
            if path == "/v1/ledger":
                return answers.ledger
            if path.startswith("/v1/runs?"):
                return 200, {"runs": [], "sums": [], "next": None}
            return 404, {"error": "no run is known"}

        answers.decide = decide
        with serving(str(tmp_path / "system" / "agent.sock"), answers):
            yield answers

    def test_does_not_hide_a_run_that_another_one_measured(self, daemon, home, show):
        written(home, ended("bert", 0, 9))
        shown = show("report", "bert")
        assert shown.out.startswith("Run bert")
        assert shown.err == f"emissions-exporter: reading runs from {path_in(home)}\n"

    def test_shows_its_run_of_a_name_that_is_an_id_in_another_ledger(self, daemon, home, show):
        written(home, ended("bert", 0, 9), ended("bert-2", 10, 19))
        record = json.loads(show("report", "bert-2", "--format=json").out)
        decide = daemon.decide

        def decide_with_a_name(method, path, document):
            if path.startswith("/v1/runs?"):
                return 200, {"runs": [{**record, "name": "bert"}], "sums": [], "next": None}
            return decide(method, path, document)

        daemon.decide = decide_with_a_name
        shown = json.loads(show("report", "bert", "--format=json").out)
        assert shown["run_id"] == "bert-2"

    def test_answers_for_a_run_that_no_ledger_has(self, daemon, home, show):
        written(home, ended("bert", 0, 9))
        assert show("report", "gpt", code=1).err.endswith("exporter: no run is known\n")

    @pytest.mark.parametrize("arguments", [("runs",), ("runs", "--by=user"), ("leaderboard",)])
    def test_is_not_taken_for_all_that_there_is(self, daemon, home, show, arguments):
        written(home, ended("bert", 0, 9), ended("gpt", 0, 9))
        (line,) = show(*arguments).err.splitlines()
        assert f"not included: 2 runs in {path_in(home)}" in line
        assert line.endswith(f"--path.state={home} shows them")

    def test_has_no_complete_group_if_another_ledger_has_runs_of_it(self, daemon, home, show):
        label = (("group", "sweep"),)
        written(home, ended("bert", 0, 9, labels=label))
        record = json.loads(show("report", "bert", "--format=json").out)
        decide = daemon.decide

        def decide_with_a_group(method, path, document):
            if path.startswith("/v1/runs?"):
                return 200, {"runs": [{**record, "run_id": "gpt"}], "sums": [], "next": None}
            return decide(method, path, document)

        daemon.decide = decide_with_a_group
        shown = show("report", "--group=sweep", "--format=json")
        assert json.loads(shown.out)["group"]["complete"] is False
        assert "not included: 1 run in " in shown.err

    def test_only_runs_that_match_the_filter_are_named_as_missing(self, daemon, home, show):
        written(home, ended("bert", 0, 9), ended("gpt", 0, 9))
        expected = "emissions-exporter: no run matches --job-id nothere\n"
        assert show("runs", "--job-id=nothere").err == expected

    def test_is_not_said_to_lack_the_runs_of_its_own_ledger(self, daemon, home, show):
        assert show("runs").err == ""

    def test_may_have_one_that_this_user_cannot_read(self, daemon, home, show, tmp_path):
        (tmp_path / "system" / "state" / "ledger.sqlite").unlink()
        (tmp_path / "system" / "state" / "ledger.sqlite").mkdir()
        assert show("runs").err == ""

    def test_answers_although_another_ledger_is_broken(self, daemon, home, show):
        home.mkdir(parents=True)
        (home / "ledger.sqlite").write_text("no ledger at all" * 100)
        said = show("runs").err
        assert said.startswith(f"emissions-exporter: not included: ledger {path_in(home)}: ")
        assert show("report", "gpt", code=1).err.endswith("exporter: no run is known\n")

    def test_that_does_not_say_which_one_it_has_is_believed(self, daemon, home, show):
        daemon.ledger = 404, {"error": "there is nothing at /v1/ledger"}
        written(home, ended("bert", 0, 9))
        assert show("runs").err == ""
        assert show("report", "bert", code=1).err == "emissions-exporter: no run is known\n"


class TestBudgets:
    @pytest.fixture
    def two_runs(self, home):
        """Of one job and user; the first has emitted 3 g of 1 g."""
        infos = (ended("bert", 0, 9, budget_grams=1.0), ended("gpt", 0, 9, budget_grams=5.0))
        written(home, *infos, has_grams=True)

    @pytest.mark.parametrize("which", [("bert",), ("bert", "--job-id=job"), ("bert", "--user=ada")])
    def test_a_report_of_one_run_says_that_its_budget_was_exceeded(self, two_runs, show, which):
        assert (
            "budget     exceeded by 2.00 g: 3.00 g of 1.00 g emitted" in show("report", *which).out
        )

    def test_a_report_of_several_names_those_over_theirs(self, two_runs, show):
        assert "exceeded by 1 of 2 runs: bert" in show("report", "--job-id=job").out
        document = json.loads(show("report", "--user=ada", "--format=json").out)
        assert document["over_budget"] == ["bert"]

    def test_the_record_has_it(self, two_runs, show):
        found = {each["run_id"]: each for each in json.loads(show("runs", "--format=json").out)}
        assert [found[name]["budget_exceeded"] for name in ("bert", "gpt")] == [True, False]
