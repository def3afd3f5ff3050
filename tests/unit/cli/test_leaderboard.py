"""`leaderboard`: where runs come from, which are chosen, and errors as one line."""

import json
from pathlib import Path

import pytest

from exporter.cli.main import main
from tests.agents import Answers, serving
from tests.grid.server import GridServer, document
from tests.unit.report.leaderboard.making import record

NAMES = ("small", "large", "sweep")
RUNS = [
    record("small", 1.0, started=1_000_000_000.0, logged={"accuracy": 0.5, "loss": 2.0}),
    record("large", 5.0, started=2_000_000_000.0, logged={"accuracy": 0.9}, user="grace"),
    record("sweep", 9.0, started=2_000_000_000.0, labels={"group": "g"}, job_id="7"),
]


@pytest.fixture
def daemon(tmp_path):
    answers = Answers({"runs": RUNS})
    with serving(str(tmp_path / "agent.sock"), answers):
        yield answers


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "runs.json"
    path.write_text(json.dumps(RUNS))
    return str(path)


@pytest.fixture
def show(capsys):
    """What the command prints."""

    def call(*arguments):
        assert main(["leaderboard", *arguments]) == 0
        return capsys.readouterr().out

    return call


@pytest.fixture
def said(capsys):
    """The one line in which it fails."""

    def call(*arguments):
        assert main(["leaderboard", *arguments]) == 1
        (line,) = capsys.readouterr().err.splitlines()
        return line

    return call


def test_a_run_is_chosen_by_its_id_or_its_name(show, said, tmp_path):
    path = tmp_path / "named.json"
    path.write_text(json.dumps([{**RUNS[0], "name": "warm up"}, {**RUNS[1], "name": ""}]))
    assert names(show("--from", str(path), "--format=json", "warm up")) == ["small"]
    assert names(show("--format=json", "large", "warm up", "--from", str(path))) == [
        "small",
        "large",
    ]
    assert "no run has the id or name ''" in said("", "--from", str(path))


def test_a_run_that_is_not_there_is_an_error(said, daemon):
    found = said(f"--socket.path={daemon.path}", "small", "nobody")
    assert "no run has the id or name 'nobody'; omit RUN to show all runs" in found


def test_a_run_that_serves_another_is_said_to_be_in_its_row(said, tmp_path):
    path = tmp_path / "runs.json"
    serving = record("s", 1.0, labels={"serves": "small"}, units={"requests": 1.0})
    path.write_text(json.dumps([RUNS[0], serving]))
    assert "'s' uses the result of another run" in said("s", "--from", str(path))


def names(text):
    return [run["run_id"] for run in json.loads(text)["runs"]]


def test_runs_of_the_daemon_are_compared(show, daemon):
    assert names(show(f"--socket.path={daemon.path}", "--format=json")) == list(NAMES)
    assert daemon.asked[0][1].startswith("/v1/runs?limit=1000")


def test_the_daemon_is_asked_for_those_that_are_wanted(show, daemon):
    show(f"--socket.path={daemon.path}", "--user=ada", "--group=g", "--job-id=7")
    assert daemon.asked[0][1] == "/v1/runs?limit=1000&job_id=7&group=g&user=ada"


@pytest.mark.parametrize(
    ("wish", "found"),
    [
        (["--max-grams=5"], ["small", "large"]),
        (["--min-grams=5"], ["large", "sweep"]),
        (["--since=2020-01-01"], ["large", "sweep"]),
        (["--since=1d"], ["large", "sweep"]),
        (["--user=grace"], ["large"]),
        (["--group=g"], ["sweep"]),
        (["--job-id=7"], ["sweep"]),
        (["--top=1"], ["small"]),
        (["--sort=result"], ["large", "small", "sweep"]),
        (["--reverse"], ["sweep", "large", "small"]),
        (["--reverse", "--top=1"], ["sweep"]),
        (["--sort=result", "--reverse"], ["small", "large", "sweep"]),
        (["--sort=result", "--lower-is-better"], ["small", "large", "sweep"]),
        (["--sort=result", "--metric=loss"], ["small", "large", "sweep"]),
    ],
)
def test_runs_of_a_file_are_chosen_and_sorted(show, file, wish, found):
    shown = names(show("--from", file, "--format=json", *wish))
    assert shown[:2] == found[:2]
    assert sorted(shown) == sorted(found)


def test_a_reversed_list_keeps_ranks_and_ends_with_runs_that_cannot_be_compared(show, file):
    runs = json.loads(show("--from", file, "--format=json", "--sort=result", "--reverse"))["runs"]
    assert [(run["run_id"], run["rank"]) for run in runs] == [
        ("small", 2),
        ("large", 1),
        ("sweep", None),
    ]


def test_running_runs_are_sorted_by_their_usage_so_far(show, file):
    path = Path(file)
    runs = json.loads(path.read_text())
    runs = runs["runs"] if isinstance(runs, dict) else runs
    for run in runs:
        if run["run_id"] != "small":
            run["ended"] = None
    path.write_text(json.dumps(runs))
    assert names(show("--from", file, "--format=json")) == ["small", "large", "sweep"]
    assert names(show("--from", file, "--format=json", "--reverse")) == ["small", "sweep", "large"]
    assert "3 runs, highest emissions first" in show("--from", file, "--reverse")


def test_runs_can_be_named(show, file):
    assert names(show("large", "small", "--from", file, "--format=json")) == ["small", "large"]


def test_the_same_file_twice_changes_nothing(show, file):
    assert show("--from", file, file) == show("--from", file)


@pytest.mark.parametrize(
    ("flags", "of"),
    [(["--group=g"], "group g"), (["--user=bob", "--job-id=7"], "job 7, user bob")],
)
def test_a_group_that_no_run_is_of_is_refused_as_by_report(said, tmp_path, flags, of):
    with serving(str(tmp_path / "agent.sock"), Answers({"runs": []})) as empty:
        line = said(f"--socket.path={empty.path}", *flags)
    assert line == f"emissions-exporter: leaderboard: no run of {of} is known on this machine"


def test_a_machine_without_runs_has_an_empty_leaderboard(show, tmp_path):
    with serving(str(tmp_path / "agent.sock"), Answers({"runs": []})) as empty:
        assert show(f"--socket.path={empty.path}") != ""


def test_a_choice_that_leaves_nothing_says_how_many_there_were(show, file):
    assert show("--from", file, "--user=nobody") == ("None of 3 runs matches the filters.\n")


def test_a_daemon_without_runs_says_what_makes_one(show, daemon):
    daemon.say({"runs": []})
    assert show(f"--socket.path={daemon.path}").startswith("No runs to compare.")


def test_a_list_longer_than_one_answer_is_whole(show, daemon):
    pages = {"": (0, 1_000, "more"), "more": (1_000, 1_200, None)}

    def decide(_method, path, _document):
        begin, end, place = pages[path.partition("&after=")[2]]
        return 200, {"runs": [record(f"run-{n}") for n in range(begin, end)], "next": place}

    daemon.decide = decide
    shown = show(f"--socket.path={daemon.path}", "--format=json")
    assert set(names(shown)) == {f"run-{n}" for n in range(1_200)}


def test_a_daemon_too_old_to_list_all_is_named(daemon, capsys):
    daemon.say({"runs": [record(f"run-{number}") for number in range(1_000)]})
    assert main(["leaderboard", f"--socket.path={daemon.path}"]) == 1
    assert "lists only 1000 runs" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("form", "begin"),
    [("html", "<!doctype html>"), ("markdown", "3 runs"), ("csv", "rank,run_id,"), ("json", "{")],
)
def test_a_file_is_written_and_nothing_printed(show, file, tmp_path, form, begin):
    path = tmp_path / "board"
    assert show("--from", file, f"--format={form}", f"--output={path}") == ""
    assert path.read_text().startswith(begin)


def test_an_id_that_is_no_text_is_spelled_out(show, tmp_path):
    path = tmp_path / "odd.json"
    path.write_text(json.dumps(record("\ud800")))
    assert ",\\ud800,," in show("--from", str(path), "--format=csv")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--metric=bleu"], "--metric bleu: no run logged this as a number"),
        (["--per=cats"], "--per cats: no run counted this unit"),
        (["--output=/nope/board"], "--output /nope/board: No such file"),
    ],
)
def test_what_cannot_be_done_is_one_line(said, file, arguments, words):
    assert words in said("--from", file, *arguments)


def test_a_file_that_is_none_is_one_line(said):
    assert "/nope: cannot be read" in said("--from", "/nope")


def test_without_a_daemon_the_remedy_is_named(said, tmp_path):
    line = said(f"--socket.path={tmp_path}/none")
    assert "no daemon answered" in line
    assert "emissions-exporter serve" in line


@pytest.mark.parametrize(
    "wish", ["--since=soon", "--top=0", "--sort=luck", "--format=png", "--min-grams=nan"]
)
def test_wishes_that_are_none_are_refused(wish, capsys):
    with pytest.raises(SystemExit):
        main(["leaderboard", wish])
    assert wish.partition("=")[0] in capsys.readouterr().err


@pytest.fixture
def prometheus():
    """Answers with two runs of one node, that ended."""

    def answer(asked):
        query = asked.query.get("query", "")
        if asked.path.endswith("/series"):
            return document({"status": "success", "data": []})
        if query == "vector(time())":
            rows = [({}, 2e9)]
        elif "energy_joules_total:max" in query and "held" not in query:
            rows = [(labels(name, device="cpu"), 100.0) for name in NAMES[:2]]
        elif "carbon_grams_total:max" in query:
            rows = [(labels(name, device="cpu"), grams) for name, grams in zip(NAMES, (2, 1))]  # noqa: B905  two of them
        elif "end_time" in query and "last_over_time" in query:
            rows = [(labels(name), 1e9 + 60) for name in NAMES[:2]]
        else:
            rows = []
        result = [{"metric": metric, "value": [2e9, str(value)]} for metric, value in rows]
        return document({"status": "success", "data": {"resultType": "vector", "result": result}})

    server = GridServer(answer)
    yield server.url
    server.stop()


def labels(name, **more):
    return {"instance": "n1", "run_id": name, "job_id": "", **more}


def test_runs_of_a_prometheus_are_compared(show, prometheus):
    found = show("--prometheus", prometheus, "--format=json")
    assert names(found) == ["large", "small"]
    assert json.loads(found)["metric"] is None


def test_results_of_its_runs_come_from_files(show, prometheus, file):
    found = show("--prometheus", prometheus, "--from", file, "--format=json", "--sort=result")
    assert names(found) == ["large", "small"]
    assert [run["result"] for run in json.loads(found)["runs"]] == [0.9, 0.5]


def test_a_group_is_known_to_prometheus_only_by_its_label(said, prometheus):
    assert "`exported_labels: [group]` under `attribute:`" in said(
        "--prometheus", prometheus, "--group=g"
    )
