"""The client against a real socket whose answers a test sets."""

import socket
from urllib.parse import parse_qs, urlsplit

import pytest

from exporter.client import agent_client as client
from exporter.client.agent_client import AgentClient
from exporter.client.errors import AgentRefusal, AgentUnreachable
from tests.agents import Answers, serving

RECORD = {"run_id": "bert", "job_id": "", "ended": None}


@pytest.fixture
def daemon(tmp_path):
    with serving(str(tmp_path / "agent.sock"), Answers(RECORD)) as answers:
        yield answers


@pytest.fixture
def agent(daemon):
    return AgentClient(daemon.path)


def test_a_run_is_started_with_what_is_wished_and_nothing_else(agent, daemon):
    assert agent.start(run_id="bert", name="", labels={}, budget_grams=0.0, scope=None) == RECORD
    assert daemon.asked == [("POST", "/v1/runs", {"run_id": "bert", "budget_grams": 0.0})]


def test_a_run_is_ended_by_id_and_job(agent, daemon):
    agent.end("a/b \N{GREEK SMALL LETTER PI}", "7")
    assert daemon.asked == [("POST", "/v1/runs/a%2Fb%20%CF%80/end", {"job_id": "7"})]


@pytest.mark.parametrize(
    ("job_id", "query"), [(None, ""), ("", "?job_id="), ("1&2", "?job_id=1%262")]
)
def test_a_run_is_read_by_id_and_job(agent, daemon, job_id, query):
    agent.run("bert", job_id)
    assert daemon.asked == [("GET", f"/v1/runs/bert{query}", None)]


def test_an_id_that_is_no_utf8_is_sent_as_it_was_typed(agent, daemon):
    agent.run("bad\udcff")
    assert daemon.asked == [("GET", "/v1/runs/bad%FF", None)]


def test_runs_are_listed(agent, daemon):
    daemon.say({"runs": [RECORD]})
    assert agent.runs(user="ada") == [RECORD]
    assert daemon.asked == [("GET", "/v1/runs?limit=1000&user=ada", None)]


@pytest.mark.parametrize(
    ("wanted", "asked"),
    [
        ((), [1000, 1000, 1000]),
        ((0.0, 1500), [1000, 500]),
        ((0.0, 7), [7]),
        ((1500.0,), [1000, 1000]),
        ((2500.0,), [1000]),
    ],
)
def test_no_more_pages_of_runs_are_read_than_are_needed(agent, daemon, wanted, asked):
    """The double has 3,000 runs that began a second apart, and answers at most 1,000."""

    def decide(method, path, document):
        query = parse_qs(urlsplit(path).query)
        first = int(query.get("after", ["3000"])[0])
        last = max(first - min(int(query["limit"][0]), 1000), 0)
        runs = [{"started": float(number)} for number in range(first, last, -1)]
        return 200, {"runs": runs, "next": str(last) if last else None}

    daemon.decide = decide
    found = agent.runs(*wanted)
    pages = [parse_qs(urlsplit(path).query) for _, path, _ in daemon.asked]
    assert [int(page["limit"][0]) for page in pages] == asked
    assert [run["started"] for run in found] == list(range(3000, 3000 - sum(asked), -1))


def test_a_refusal_has_the_daemons_words_and_status(agent, daemon):
    daemon.say({"error": "it is yours already"}, status=409)
    with pytest.raises(AgentRefusal, match="it is yours already") as refusal:
        agent.start()
    assert refusal.value.status == 409


def test_a_refusal_without_words_has_its_status(agent, daemon):
    daemon.say({}, status=500)
    with pytest.raises(AgentRefusal, match="HTTP status 500"):
        agent.start()


@pytest.mark.parametrize("garbage", [b"", b"<html>", b"[]", b"null", b"\xff"])
def test_an_answer_of_something_else_is_no_daemon(agent, daemon, garbage):
    daemon.say(garbage)
    with pytest.raises(AgentUnreachable, match=r"agent\.sock: "):
        agent.runs()


def test_what_is_no_http_is_no_daemon(tmp_path):
    path = str(tmp_path / "s")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        with pytest.raises(AgentUnreachable, match="timed out"):
            AgentClient(path, timeout_seconds=0.05).runs()


def test_where_nobody_listens_the_path_and_the_reason_are_said(tmp_path):
    with pytest.raises(AgentUnreachable, match=r"nothing: No such file"):
        AgentClient(str(tmp_path / "nothing")).runs()


class TestWithoutAName:
    @pytest.fixture(autouse=True)
    def found(self, monkeypatch, tmp_path):
        monkeypatch.delenv("EMISSIONS_EXPORTER_EXPOSE_SOCKET", raising=False)
        paths = [str(tmp_path / "first.sock"), str(tmp_path / "second.sock")]
        monkeypatch.setattr(client, "default_sockets", lambda: paths)
        return paths

    def test_the_second_socket_is_used_where_the_first_is_not_there(self, found):
        with serving(found[1], Answers(RECORD)):
            assert AgentClient().run("bert") == RECORD

    def test_the_first_goes_before_the_second(self, found):
        with serving(found[0], Answers(RECORD)), serving(found[1], Answers({})) as second:
            assert AgentClient().run("bert") == RECORD
        assert not second.asked

    def test_a_refusal_of_the_first_is_final(self, found):
        with (
            serving(found[0], Answers({}, 409)),
            serving(found[1], Answers(RECORD)) as second,
            pytest.raises(AgentRefusal),
        ):
            AgentClient().run("bert")
        assert not second.asked

    def test_all_that_was_tried_is_said(self, found):
        with pytest.raises(AgentUnreachable, match=r"first.sock: .*; .*second.sock: "):
            AgentClient().runs()

    def test_a_socket_that_is_not_trusted_is_left_out_and_why_is_said(self, found, monkeypatch):
        monkeypatch.setattr(client, "untrusted_reason", lambda path: "of a stranger")
        said = r"first.sock: not used: of a stranger"
        with (
            serving(found[0], Answers(RECORD)) as stranger,
            pytest.raises(AgentUnreachable, match=said),
        ):
            AgentClient().runs()
        assert not stranger.asked

    def test_a_named_one_is_used_whoever_owns_it(self, found, monkeypatch):
        monkeypatch.setattr(client, "untrusted_reason", lambda path: "of a stranger")
        with serving(found[0], Answers(RECORD)):
            assert AgentClient(found[0]).run("bert") == RECORD
