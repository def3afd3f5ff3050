"""The agent API, with a loop that gives the test's responses."""

import json
import os
import pwd

import pytest

from exporter.clock import SystemClock
from exporter.errors import LedgerError, RequestRefused
from exporter.expose.api import agent_api
from exporter.expose.api.agent_api import AgentApi, UserRateLimiter
from exporter.expose.api.request_bodies import parse_end, parse_start
from exporter.expose.http.http1 import HttpRequest, PeerCredentials
from exporter.model.commands import EndRun, LogRun
from exporter.model.runs import RunKey
from tests.agents import start_run


def post(site, target, body=None):
    response = site.ask("POST", target, body, agent=True)
    return response.status, json.loads(response.content)


@pytest.fixture
def answering(site, made):
    site.reply = made.record(RunKey(os.getuid(), "mine", ""))
    return site


class TestStart:
    def test_names_its_caller_by_what_the_kernel_says(self, answering):
        post(answering, "/v1/runs", {"run_id": "mine"})
        (command,) = answering.requests
        me = pwd.getpwuid(os.getuid()).pw_name
        run = command.run
        assert (run.key.uid, command.pid, run.user) == (os.getuid(), os.getpid(), me)

    def test_carries_what_was_asked_for(self, answering):
        body = {
            "run_id": "mine",
            "job_id": "7",
            "name": "BERT",
            "labels": {"team": "nlp"},
            "scope": "cgroup",
            "budget_grams": 500,
        }
        post(answering, "/v1/runs", body)
        (command,) = answering.requests
        me = pwd.getpwuid(os.getuid()).pw_name
        assert command == start_run(
            os.getuid(),
            me,
            os.getpid(),
            "mine",
            "7",
            name="BERT",
            scope="cgroup",
            labels=(("team", "nlp"),),
            budget_grams=500.0,
        )

    def test_is_answered_with_the_record(self, answering):
        status, answer = post(answering, "/v1/runs", {})
        assert (status, answer["run_id"], answer["energy_uj"]) == (201, "mine", 1_000_000)

    def test_that_the_loop_declines_is_refused_with_its_words(self, site):
        site.reply = RequestRefused(409, "it is yours already; end it first")
        assert post(site, "/v1/runs", {}) == (409, {"error": "it is yours already; end it first"})

    def test_that_the_loop_does_not_answer_is_given_up(self, site, monkeypatch):
        monkeypatch.setattr(agent_api, "ANSWER_TIMEOUT_SECONDS", 0.05)
        status, answer = post(site, "/v1/runs", {})
        assert status == 503
        assert "did not respond within 0.05 s" in answer["error"]

    def test_of_a_user_without_a_name_has_the_number(self, answering, monkeypatch):
        monkeypatch.setattr(agent_api.pwd, "getpwuid", {}.__getitem__)
        post(answering, "/v1/runs", {})
        assert answering.requests[0].run.user == str(os.getuid())

    def test_that_is_not_understood_never_reaches_the_loop(self, answering):
        assert post(answering, "/v1/runs", {"pid": 1})[0] == 400
        assert not answering.requests

    def test_too_often_is_refused_for_that_second(self, answering):
        for _ in range(50):
            assert post(answering, "/v1/runs", {})[0] == 201
        response = answering.ask("POST", "/v1/runs", {}, agent=True)
        assert (response.status, response.getheader("Retry-After")) == (429, "1")
        answering.clock.now_ns += 1_000_000_000
        assert post(answering, "/v1/runs", {})[0] == 201


class TestEnd:
    def test_names_the_run_and_its_user(self, answering):
        status, answer = post(answering, "/v1/runs/a%2Fb/end", {"job_id": "7"})
        assert (status, answer["run_id"]) == (200, "mine")
        assert answering.requests == [EndRun(os.getuid(), "a/b", "7", os.getpid())]

    @pytest.mark.parametrize("run_id", ["a%00b", "a" * 1025])
    def test_of_what_can_be_no_id_never_reaches_the_loop(self, answering, run_id):
        assert post(answering, f"/v1/runs/{run_id}/end")[0] == 400
        assert not answering.requests

    @pytest.mark.parametrize("body", [None, {}, {"job_id": None}])
    def test_may_leave_the_job_open(self, answering, body):
        assert post(answering, "/v1/runs/a/end", body)[0] == 200
        assert answering.requests == [EndRun(os.getuid(), "a", None, os.getpid())]


class TestLog:
    def test_names_the_run_its_user_and_what_is_to_be_added(self, answering):
        body = {
            "job_id": "7",
            "values": {"loss": 0.5, "of": "dev"},
            "count": {"tokens": 9},
            "progress": {"done": 1, "total": 4},
        }
        status, answer = post(answering, "/v1/runs/a%2Fb/log", body)
        assert (status, answer["run_id"]) == (200, "mine")
        assert answering.requests == [
            LogRun(
                os.getuid(),
                "a/b",
                "7",
                os.getpid(),
                (("loss", 0.5), ("of", "dev")),
                (("tokens", 9.0),),
                1.0,
                4.0,
            )
        ]

    @pytest.mark.parametrize(
        ("body", "message"),
        [
            ({"pid": 1}, "unknown key; expected job_id, values, count, progress"),
            ({"values": []}, "values: expected an object, found []"),
            ({"values": {"loss": None}}, "values.loss: expected a number, found None"),
            ({"values": {" ": 1}}, "values: has an empty name; set one"),
            ({"values": {str(n): 1 for n in range(65)}}, "values: has 65 entries, the limit is 64"),
            ({"count": {"tokens": -1}}, "count.tokens: expected a number of at least 0, found -1"),
            ({"count": {"tokens": 1e300}}, "count.tokens: number too large"),
            ({"count": {"tokens": "9"}}, "count.tokens: expected a number, found '9'"),
            ({"progress": 0.5}, "progress: expected an object with done and total, found 0.5"),
            ({"progress": {"done": 1}}, "progress: expected an object with done and total"),
            (
                {"progress": {"done": -1, "total": 2}},
                "progress.done: expected a number of at least 0",
            ),
        ],
    )
    def test_that_makes_no_sense_is_refused_with_what_is_wrong(self, answering, body, message):
        status, answer = post(answering, "/v1/runs/a/log", body)
        assert status == 400
        assert message in answer["error"]
        assert not answering.requests

    def test_is_only_posted(self, site):
        assert site.ask("GET", "/v1/runs/a/log", agent=True).status == 405


class TestReading:
    def test_lists_runs_as_the_world_sees_them(self, site):
        response = site.ask("GET", "/v1/runs?limit=1", agent=True)
        assert response.content == site.get("/api/v1/runs?limit=1").content

    def test_shows_a_run_as_the_world_sees_it(self, site):
        response = site.ask("GET", "/v1/runs/bert?job_id=42", agent=True)
        assert response.content == site.get("/api/v1/runs/bert").content

    def test_names_the_ledger_that_the_runs_are_kept_in(self, site):
        response = site.ask("GET", "/v1/ledger", agent=True)
        assert json.loads(response.content) == {"ledger_id": "the ledger"}

    def test_of_a_ledger_that_cannot_be_read_says_so(self, site):
        site.archive.error = LedgerError("the disk is full")
        assert site.ask("GET", "/v1/ledger", agent=True).status == 503


@pytest.mark.parametrize(
    ("method", "path", "status", "allow"),
    [
        ("DELETE", "/v1/runs", 405, "GET, HEAD, POST"),
        ("POST", "/v1/runs/a", 405, "GET, HEAD"),
        ("POST", "/v1/ledger", 405, "GET, HEAD"),
        ("GET", "/v1/runs/a/end", 405, "POST"),
        ("GET", "/metrics", 404, None),
        ("POST", "/v1/runs/a/b/end", 404, None),
    ],
)
def test_other_requests_are_refused(site, method, path, status, allow):
    response = site.ask(method, path, agent=True)
    assert (response.status, response.getheader("Allow")) == (status, allow)


def test_an_invisible_caller_gets_the_remedy(made):
    import asyncio

    door = AgentApi(None, lambda request: None, None, SystemClock())
    request = HttpRequest(
        "POST", "/v1/runs", {}, {}, keep_alive=True, body=b"{}", peer=PeerCredentials(1000, 0)
    )
    with pytest.raises(RequestRefused, match=r"hostPID.*EMISSIONS_RUN_ID") as refused:
        asyncio.run(door.answer(request))
    assert refused.value.status == 409


def test_each_user_has_an_allowance_of_their_own(made):
    allowance = UserRateLimiter(made.FakeClock(), 1)
    allowance.take(1)
    allowance.take(2)
    with pytest.raises(RequestRefused):
        allowance.take(1)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("", "is not JSON"),
        ("{", "is not JSON"),
        ("[" * 60_000, "is not JSON"),
        (b"\xff", "is not JSON"),
        ('{"budget_grams": 1' + "0" * 5000 + "}", "is not JSON"),
        ("[]", "is not a JSON object"),
        ('{"pid": 1}', "'pid': unknown key; expected run_id"),
        ('{"run_id": 1}', "run_id: expected a string, found 1"),
        ('{"name": null}', "name: expected a string, found None"),
        (
            '{"run_id": "%s"}' % ("é" * 513),
            "run_id: has 1026 bytes, the limit is 1024; shorten it",
        ),
        ('{"run_id": "\\ud800"}', "run_id: is not valid Unicode"),
        ('{"run_id": "a\\u0000b"}', "run_id: contains a NUL character"),
        ('{"scope": "all"}', "scope: expected tree, cgroup, machine, found 'all'"),
        ('{"labels": []}', "labels: expected an object of strings"),
        ('{"labels": {"a": 1}}', "labels.a: expected a string, found 1"),
        (
            json.dumps({"labels": {str(n): "" for n in range(33)}}),
            "labels: has 33 labels, the limit is 32",
        ),
        ('{"budget_grams": "5"}', "budget_grams: expected a number, found '5'"),
        ('{"budget_grams": true}', "budget_grams: expected a number, found True"),
        ('{"labels": {"a": "\\ud800"}}', "labels.a: is not valid Unicode"),
        ('{"labels": {"\\u0000": ""}}', "labels: contains a NUL character"),
        (
            json.dumps({"labels": {"a" * 1000: "b" * 1000, "c": "é" * 24}}),
            "labels: has 2049 bytes in total, the limit is 2048",
        ),
        ('{"budget_grams": -1}', "budget_grams: expected a number of at least 0, found -1"),
        ('{"budget_grams": NaN}', "budget_grams: expected a finite number, found nan"),
        ('{"budget_grams": Infinity}', "budget_grams: expected a finite number, found inf"),
        ('{"budget_grams": 1' + "0" * 400 + "}", "budget_grams: number too large"),
    ],
)
def test_invalid_bodies_are_rejected_with_the_reason(body, message):
    with pytest.raises(RequestRefused) as refused:
        parse_start(body.encode() if isinstance(body, str) else body)
    assert refused.value.status == 400
    assert message in str(refused.value)


def test_an_empty_object_is_a_run_without_wishes():
    assert parse_start(b"{}") == start_run(-1, "", 0, "").run


def test_the_job_of_an_end_is_a_text():
    with pytest.raises(RequestRefused, match="job_id: expected a string"):
        parse_end(b'{"job_id": 7}')
