"""`runs` and `report`: what the daemon knows, printed."""

import csv
import io
import json
import re
from urllib.parse import parse_qs, urlsplit

import pytest

from exporter import formatting
from exporter.cli.main import main
from exporter.report import records
from tests.agents import Answers, serving

HOSTILE = "bert\x1b[2J\u202e"


def run_of(name, grams, started):
    return {
        "version": 1,
        "at": started + 60,
        "run_id": name,
        "job_id": "",
        "user": "ada",
        "origin": "registered",
        "node": "n1",
        "started": started,
        "ended": started + 60,
        "end_reason": "exited",
        "duration_seconds": 60.0,
        "energy_uj": 7_200_000_000,
        "held_uj": 0,
        "carbon_ng": grams * 10**9,
        "energy_joules": 7200.0,
        "carbon_grams": float(grams),
        "parts": [],
        "intensity": [],
    }


RUNS = [run_of(HOSTILE, 5, 2_000_000_000.0), run_of("small", 1, 1_000_000_000.0)]


@pytest.fixture
def show(tmp_path, capsys):
    """Prints what a daemon that knows `RUNS` says; the text."""

    def decide(method, path, document):
        return 200, {"runs": RUNS} if path.startswith("/v1/runs?") else RUNS[0]

    answers = Answers()
    answers.decide = decide
    with serving(str(tmp_path / "agent.sock"), answers):

        def call(command, *arguments):
            assert main([command, f"--socket.path={answers.path}", *arguments]) == 0
            return capsys.readouterr().out

        yield call


def test_runs_are_a_table(show):
    head, *lines = show("runs").splitlines()
    assert head.split()[:5] == ["RUN", "NAME", "JOB", "USER", "STARTED"]
    assert head.split()[5:] == ["TOOK", "ENERGY", "CO2EQ", "STATE"]
    assert lines[1].startswith("small ")
    assert lines[1].endswith("1 min 0 s  2.00 Wh  1.00 g  ended")


def test_a_column_has_one_unit(show, monkeypatch):
    monkeypatch.setitem(RUNS[0], "energy_uj", 7_200_000_000_000)
    monkeypatch.setitem(RUNS[0], "carbon_ng", 50_000_000_000)
    monkeypatch.setitem(RUNS[1], "carbon_ng", 50_000_000)
    cells = [re.split(" {2,}", line)[-3:-1] for line in show("runs").splitlines()[1:]]
    assert cells == [
        ["2.00 kWh", "50.0 g"],
        ["0.002 kWh", "0.05 g"],
    ]


UNSEEN_PART = {
    "device": "cpu",
    "id": "p",
    "method": "counter",
    "split": "cpu_time",
    "energy_uj": 0,
    "held_uj": 0,
    "carbon_ng": 0,
}
UNSEEN_JOB = {
    "origin": "slurm",
    "duration_seconds": 3600.0,
    "energy_uj": 0,
    "carbon_ng": 0,
    "parts": [UNSEEN_PART],
}


@pytest.fixture
def with_unseen_job(monkeypatch):
    """Make the first of `RUNS` a Slurm job that was not visible."""
    for name, value in UNSEEN_JOB.items():
        monkeypatch.setitem(RUNS[0], name, value)


@pytest.mark.usefixtures("with_unseen_job")
def test_a_sum_with_a_job_that_was_not_visible_is_a_lower_bound(show, monkeypatch):
    cells = re.split(" {2,}", show("runs", "--by=user").splitlines()[1])
    assert cells[-3:-1] == ["> 2.00 Wh", "> 1.00 g"]
    (row,) = csv.DictReader(io.StringIO(show("runs", "--by=user", "--format=csv")))
    assert (row["runs"], row["unseen_runs"], row["grams_incomplete"]) == ("2", "1", "True")
    (total,) = json.loads(show("runs", "--by=user", "--format=json"))
    assert (total["runs"], total["unseen_runs"]) == (2, 1)
    text = show("report", "--user=ada")
    assert re.search(r"energy +> 7.200 J \(2.00 Wh\)\n +emitted +> 1.00 g CO2eq", text)
    assert "processors and memory of 1 of the 2 runs: no cgroup and no visible process" in text
    for name, value in UNSEEN_JOB.items():
        monkeypatch.setitem(RUNS[1], name, value)
    cells = re.split(" {2,}", show("runs", "--by=user").splitlines()[1])
    assert cells[-3:-1] == ["\u2013", "\u2013"]


@pytest.mark.usefixtures("with_unseen_job")
def test_a_job_that_was_not_visible_has_unknown_energy(show):
    cells = re.split(" {2,}", show("runs").splitlines()[1])
    assert cells[-3:-1] == ["\u2013", "\u2013"]
    row = next(csv.DictReader(io.StringIO(show("runs", "--format=csv"))))
    assert (row["energy_joules"], row["carbon_grams"]) == ("", "")
    assert row["grams_incomplete"] == "True"


def test_a_run_is_told_with_the_name_that_people_gave_it(show, monkeypatch):
    monkeypatch.setitem(RUNS[0], "name", "hello")
    assert show("runs").splitlines()[1].split()[1] == "hello"
    assert show("report", "bert").splitlines()[0].endswith(", hello")


def test_a_name_that_is_the_id_is_told_once(show, monkeypatch):
    monkeypatch.setitem(RUNS[0], "name", HOSTILE)
    assert show("report", "bert").count("bert") == 1


def test_a_table_cannot_fool_a_terminal(show):
    assert show("runs").splitlines()[1].startswith("bert\ufffd[2J\ufffd  ")


def test_a_report_cannot_fool_a_terminal(show):
    assert show("report", "bert").startswith("Run bert\ufffd[2J\ufffd\n")


@pytest.mark.parametrize(
    ("wish", "found"),
    [
        ("--max-grams=2", ["small"]),
        ("--min-grams=2", [HOSTILE]),
        ("--since=2020-01-01", [HOSTILE]),
    ],
)
def test_runs_are_chosen(show, wish, found):
    assert [run["run_id"] for run in json.loads(show("runs", "--format=json", wish))] == found


def test_csv_has_ids_as_they_are(show):
    rows = list(csv.DictReader(io.StringIO(show("runs", "--format=csv"))))
    assert [(row["run_id"], row["carbon_grams"]) for row in rows] == [
        (HOSTILE, "5.0"),
        ("small", "1.0"),
    ]


def test_csv_has_no_formulas(show, monkeypatch):
    monkeypatch.setitem(RUNS[0], "run_id", "=1+1")
    assert show("runs", "--format=csv").splitlines()[1].startswith("'=1+1,")


@pytest.mark.parametrize("option", ["--job-id=7", "--group=sweep", "--user=ada"])
def test_a_report_of_several_runs_is_their_sum(show, option):
    first, *_ = show("report", option).splitlines()
    assert first == f"Runs: all 2 of {option[2:].replace('-id', '').replace('=', ' ')}"


def test_a_report_of_a_group_has_its_mean_and_the_run_that_is_named_as_final(show):
    text = show("report", "--group=sweep", "--final=small")
    assert "  mean run   2.00 Wh \u00b1 0 Wh, 3.00 g \u00b1 2.00 g CO2eq" in text
    assert "  final run  small (as it was named): 2.00 Wh, 1.00 g CO2eq; 50 %" in text


@pytest.mark.parametrize(("final", "run_id"), [("r1", "r1"), ("bert", "r2"), ("r3", "r3")])
def test_the_final_run_is_named_by_its_id_or_its_name(capsys, tmp_path, final, run_id):
    names = {"r1": "bert", "r2": "bert", "r3": "gpt"}
    runs = [{**run_of(r, 1, 1e9 + int(r[1])), "name": name} for r, name in names.items()]
    with serving(str(tmp_path / "agent.sock"), Answers({"runs": runs})) as answers:
        socket = f"--socket.path={answers.path}"
        assert main(["report", "--group=g", "--final", final, socket, "--format=json"]) == 0
    assert json.loads(capsys.readouterr().out)["group"]["final"]["run_id"] == run_id


@pytest.mark.parametrize("asked", [["--group=g"], ["--user=ada"], ["--job-id="]])
def test_a_report_of_several_runs_is_a_record_that_other_commands_read(
    capsys, tmp_path, asked, show
):
    path = tmp_path / "record.json"
    path.write_text(show("report", *asked, "--format=json"))
    (record,) = records.read_records(str(path))
    assert record["at"] == RUNS[0]["at"]
    assert main(["card", "write", str(tmp_path / "README.md"), "--record", str(path)]) == 0
    assert "emissions: 6\n" in (tmp_path / "README.md").read_text()


def test_labels_that_no_report_shows_are_named(capsys, tmp_path):
    answers = Answers()
    answers.decide = lambda _, path, __: (200, {"runs": []} if "?" in path else RUNS[1])
    with serving(str(tmp_path / "agent.sock"), answers):
        arguments = ["report", "small", f"--socket.path={answers.path}"]
        labels = ["--label=location=Bonn", "--label=hardware_used=1 laptop"]
        assert main([*arguments, *labels]) == 0
        err = capsys.readouterr().err
        assert (
            "--label location: shown only in JSON; labels of other formats: training_type," in err
        )
        assert main([*arguments, *labels, "--format=json"]) == 0
        assert main([*arguments, labels[1]]) == 0
        assert capsys.readouterr().err == ""


def test_the_newest_runs_are_listed_up_to_a_limit(show, capsys):
    assert [run["run_id"] for run in json.loads(show("runs", "--limit=1", "--format=json"))] == [
        RUNS[0]["run_id"]
    ]
    some = json.loads(show("runs", "--limit=1", "--max-grams=2", "--format=json"))
    assert [run["run_id"] for run in some] == ["small"]
    assert len(json.loads(show("runs", "--limit=9", "--format=json"))) == 2
    for limit in ("0", "-1", "x"):
        with pytest.raises(SystemExit):
            main(["runs", f"--limit={limit}"])
    assert "expected a number of at least 1" in capsys.readouterr().err


def test_a_final_run_of_another_group_is_refused(capsys, tmp_path):
    answers = Answers()
    answers.decide = lambda *_: (200, {"runs": RUNS})
    with serving(str(tmp_path / "agent.sock"), answers):
        arguments = ["--group=sweep", "--final=x", f"--socket.path={answers.path}"]
        assert main(["report", *arguments]) == 1
    assert "no run of group sweep has this id or name" in capsys.readouterr().err


def test_what_a_run_did_not_say_is_said_afterwards(show):
    label = "--label=training_type=fine-tuning"
    text = show("report", "bert", "--format=markdown", label)
    assert "- **training type**: fine-tuning" in text
    assert json.loads(show("report", "bert", "--format=json", label))["labels"] == {
        "training_type": "fine-tuning"
    }


def test_a_label_without_a_value_is_refused(capsys):
    for command in (["report", "bert", "--label=x"], ["run", "--label==x", "--", "true"]):
        with pytest.raises(SystemExit) as ended:
            main(command)
        assert ended.value.code == 2
        assert "--label: expected NAME=VALUE, such as team=nlp" in capsys.readouterr().err


def test_a_report_needs_to_know_of_what(capsys):
    assert main(["report"]) == 1
    assert "name a RUN, or give --job-id" in capsys.readouterr().err


@pytest.fixture
def of_pods(tmp_path, capsys):
    """Prints what a daemon of a node says: the runs of pods of two namespaces."""
    runs = [
        {**run_of("a", 5, 2_000_000_000.0), "user": "", "namespace": "nlp"},
        {**run_of("b", 1, 1_000_000_000.0), "user": "", "namespace": "vision"},
        {**run_of("c", 2, 1_500_000_000.0), "user": "", "namespace": "nlp"},
    ]

    def decide(method, path, document):
        asked = parse_qs(urlsplit(path).query).get("namespace", [""])[0]
        found = [run for run in runs if asked in ("", run["namespace"])]
        return 200, {"runs": found, "next": None, **({"namespace": asked} if asked else {})}

    answers = Answers()
    answers.decide = decide
    with serving(str(tmp_path / "agent.sock"), answers):

        def call(command, *arguments):
            assert main([command, f"--socket.path={answers.path}", *arguments]) == 0
            return capsys.readouterr().out

        yield call


def test_runs_of_pods_are_shown_and_chosen_by_namespace(of_pods):
    head, *lines = of_pods("runs").splitlines()
    assert head.split()[:5] == ["RUN", "NAME", "NAMESPACE", "JOB", "USER"]
    assert ["nlp" in line for line in lines] == [True, False, True]
    found = json.loads(of_pods("runs", "--namespace=nlp", "--format=json"))
    assert [run["run_id"] for run in found] == ["a", "c"]


def test_runs_of_pods_are_added_up_by_namespace(of_pods):
    lines = of_pods("runs", "--by=namespace").splitlines()
    assert lines[0].split()[0] == "NAMESPACE"
    assert [(line.split()[0], "4.00 Wh" in line) for line in lines[1:]] == [
        ("nlp", True),
        ("vision", False),
    ]


def test_a_report_of_a_namespace_is_the_sum_of_its_runs(of_pods):
    first, *rest = of_pods("report", "--namespace=nlp").splitlines()
    assert first == "Runs: all 2 of namespace nlp"
    assert "7.00 g" in "".join(rest)


def test_a_daemon_that_does_not_know_namespaces_is_named(show, capsys, tmp_path):
    answers = Answers()
    answers.decide = lambda *_: (200, {"runs": RUNS, "next": None})
    with serving(str(tmp_path / "old.sock"), answers):
        assert main(["runs", "--namespace=nlp", f"--socket.path={answers.path}"]) == 1
    assert (
        "older than this program and does not filter runs by namespace" in capsys.readouterr().err
    )


def test_runs_are_added_up_by_user(show):
    head, *lines = show("runs", "--by=user").splitlines()
    assert head.split() == ["USER", "STARTED", "TOOK", "ENERGY", "CO2EQ", "STATE"]
    assert len(lines) == 1
    assert lines[0].startswith("ada ")
    assert "4.00 Wh" in lines[0]


def sum_of(name, runs, energy_uj, **changes):
    """What a daemon says of runs that have left the page."""
    return {
        **run_of(name, 3, 1_500_000_000.0),
        "name": name,
        "runs": runs,
        "users": ["ada"],
        "nodes": ["n1"],
        "energy_uj": energy_uj,
        "units": {},
        **changes,
    }


@pytest.fixture
def asked(tmp_path, capsys):
    """What a daemon with sums is asked, and what is printed then."""
    answers = Answers()
    users = ["ada", "bob"]
    answers.say(
        {
            "sums": [sum_of("ada", 6_000, 10**15), sum_of("", 2, 5, users=users)],
            "runs": RUNS,
            "next": None,
        }
    )
    with serving(str(tmp_path / "agent.sock"), answers):

        def call(*arguments):
            assert main(["runs", f"--socket.path={answers.path}", *arguments]) == 0
            (_, path, _) = answers.asked[-1]
            return path, json.loads(capsys.readouterr().out)

        yield call


def test_sums_are_those_of_the_ledger_and_of_the_runs_beside_it(asked):
    path, sums = asked("--by=user", "--format=json")
    assert path == "/v1/runs?limit=1000&by=user&since=0.0"
    assert [(each["run_id"], each["runs"], each["energy_uj"]) for each in sums] == [
        (formatting.UNKNOWN, 2, 5),
        ("ada", 6_002, 10**15 + 14_400_000_000),
    ]
    assert [each["user"] for each in sums] == ["several", "ada"]
    assert (sums[1]["started"], sums[1]["ended"]) == (1_000_000_000.0, 2_000_000_060.0)


def test_since_chooses_runs_before_they_are_added_up(asked):
    path, sums = asked("--by=group", "--format=json", "--since=2020-01-01T00:00+00:00")
    assert path.endswith("&by=group&since=1577836800.0")
    assert "ada" in [each["run_id"] for each in sums]


def test_grams_choose_sums_not_runs(asked):
    _, sums = asked("--by=user", "--format=json", "--min-grams=8")
    assert [each["run_id"] for each in sums] == ["ada"]


def test_a_daemon_too_old_to_add_up_all_runs_is_named(capsys, tmp_path):
    answers = Answers({"runs": [run_of(str(n), 1, 1.0) for n in range(1_000)]})
    with serving(str(tmp_path / "agent.sock"), answers):
        assert main(["runs", "--by=user", f"--socket.path={answers.path}"]) == 1
    assert "lists only 1000 runs" in capsys.readouterr().err


@pytest.fixture
def report(tmp_path, capsys):
    """`report` beside a daemon with runs of these ids and names; exit code and both streams."""

    def call(asked, names):
        runs = [{**run_of(run_id, 1, 1e9), "name": name} for run_id, name in names.items()]

        def decide(method, path, document):
            if path.startswith("/v1/runs?"):
                return 200, {"runs": runs}
            found = [run for run in runs if path == f"/v1/runs/{run['run_id']}"]
            return (200, found[0]) if found else (404, {"error": "no run of that id is known"})

        answers = Answers()
        answers.decide = decide
        with serving(str(tmp_path / "agent.sock"), answers):
            arguments = (f"--socket.path={answers.path}", "--format=json")
            return main(["report", asked, *arguments]), *capsys.readouterr()

    return call


def test_a_report_finds_a_run_by_a_name_that_only_it_has(report):
    code, out, _ = report("bert", {"r1": "bert", "r2": "gpt"})
    assert (code, json.loads(out)["run_id"]) == (0, "r1")


def test_an_id_takes_precedence_over_a_name(report):
    code, out, _ = report("r2", {"r1": "r2", "r2": "gpt"})
    assert (code, json.loads(out)["run_id"]) == (0, "r2")


def test_of_several_runs_with_one_name_the_newest_is_reported_and_the_others_are_named(report):
    code, out, err = report("bert", {"other": "gpt", **{f"r{n}": "bert" for n in range(8)}})
    assert (code, json.loads(out)["run_id"]) == (0, "r0")
    assert "8 runs are named 'bert'; showing the newest, r0. " in err
    assert "Ids of the others: r1, r2, r3, r4, r5, ...\n" in err


def test_a_name_of_one_run_is_no_reason_for_a_note(report):
    assert report("bert", {"r1": "bert", "r2": "gpt"})[2] == ""


def test_a_name_that_no_run_has_is_the_daemons_refusal(report):
    code, _, err = report("nobody", {"r1": "bert", "r2": ""})
    assert code == 1
    assert "no run of that id is known" in err


def test_the_csv_has_the_names(tmp_path, capsys):
    answers = Answers({"runs": [{**RUNS[1], "name": "bert"}, RUNS[0]]})
    with serving(str(tmp_path / "agent.sock"), answers):
        main(["runs", f"--socket.path={answers.path}", "--format=csv"])
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [row["name"] for row in rows] == ["bert", ""]


def test_csv_of_sums_says_by_what_and_of_whom_in_columns_of_their_own(show):
    (row,) = csv.DictReader(io.StringIO(show("runs", "--by=user", "--format=csv")))
    assert (row["by"], row["by_name"], row["runs"], row["user"]) == ("user", "ada", "2", "ada")
    assert row["run_id"] == "ada"
    (row,) = csv.DictReader(io.StringIO(show("runs", "--by=group", "--format=csv")))
    assert (row["by"], row["by_name"], row["runs"]) == ("group", "", "2")
    rows = csv.DictReader(io.StringIO(show("runs", "--format=csv")))
    assert "by" not in next(rows)


def test_jobs_are_added_up_by_account_and_those_without_one_apart(show, monkeypatch):
    monkeypatch.setitem(RUNS[0], "account", "nlp")
    rows = csv.DictReader(io.StringIO(show("runs", "--by=account", "--format=csv")))
    assert [(row["by"], row["by_name"], row["runs"], row["carbon_grams"]) for row in rows] == [
        ("account", "nlp", "1", "5.0"),
        ("account", "", "1", "1.0"),
    ]
    head, first, _ = show("runs", "--by=account").splitlines()
    assert (head.split()[:2], first.split()[:2]) == (["ACCOUNT", "USER"], ["nlp", "ada"])


@pytest.fixture
def unknown(monkeypatch):
    """The first of `RUNS`, with energy that has no carbon intensity."""
    waiting = [{"zone": None, "energy_uj": RUNS[0]["energy_uj"], "carbon_ng": 0}]
    for name, value in (("carbon_ng", 0), ("carbon_grams", 0.0), ("intensity", waiting)):
        monkeypatch.setitem(RUNS[0], name, value)


def test_unknown_grams_are_not_zero(show, unknown):
    assert " \u2013 " in show("runs").splitlines()[1]
    assert "emitted    \u2013, unknown: the energy has no carbon" in show("report", "bert")
    first, second = csv.DictReader(io.StringIO(show("runs", "--format=csv")))
    assert (first["carbon_grams"], first["grams_incomplete"]) == ("", "True")
    assert (second["carbon_grams"], second["grams_incomplete"]) == ("1.0", "False")


def test_a_sum_with_unknown_grams_is_a_lower_bound(show, unknown):
    assert "> 1.00 g CO2eq" in show("report", "--user=ada")


@pytest.mark.parametrize("limit", ["--min-grams=0", "--max-grams=9"])
def test_unknown_grams_match_no_limit(show, unknown, limit):
    assert [run["run_id"] for run in json.loads(show("runs", "--format=json", limit))] == ["small"]


def test_csv_ends_with_the_group_of_the_run(show, monkeypatch):
    monkeypatch.setitem(RUNS[0], "labels", {"group": "sweep-1"})
    text = show("runs", "--format=csv")
    assert text.splitlines()[0].endswith(",name,namespace,group,grams_incomplete")
    assert [row["group"] for row in csv.DictReader(io.StringIO(text))] == ["sweep-1", ""]


@pytest.mark.parametrize(
    ("flags", "texts"),
    [
        (["--group=nosuch"], "--group nosuch"),
        (["--by=user", "--since=30d", "--user=eve"], "--since 30 d ago, --user eve"),
        (["--min-grams=5000"], "--min-grams 5000"),
    ],
)
def test_filters_that_no_run_matches_are_named(capsys, tmp_path, flags, texts):
    with serving(str(tmp_path / "agent.sock"), Answers({"runs": [], "sums": []})) as answers:
        assert main(["runs", f"--socket.path={answers.path}", *flags]) == 0
        assert capsys.readouterr().err == f"emissions-exporter: no run matches {texts}\n"
        assert main(["runs", f"--socket.path={answers.path}"]) == 0
        assert capsys.readouterr().err == ""
