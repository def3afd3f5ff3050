"""Every way in which a server may fail to answer, in one line that gives no secret away."""

import base64
import socket

import pytest

from exporter.errors import ConfigError, SourceError
from exporter.report.prometheus_queries import PrometheusApi
from tests.grid.server import GridServer, document

TOKEN = "s3cr3t+token/with=signs"
VECTOR = {"resultType": "vector", "result": [{"metric": {"a": "b"}, "value": [1.0, "2.5"]}]}


def success(data, **more):
    return document({"status": "success", "data": data, **more})


@pytest.fixture
def server():
    server = GridServer(lambda _: success(VECTOR))
    yield server
    server.stop()


def failure(server, answer=None, token=TOKEN, **options):
    """The text of the error that a query ends in."""
    if answer is not None:
        server.serve = lambda _: answer
    with pytest.raises(SourceError) as caught:
        PrometheusApi(server.url, token, **options).query("up")
    text = str(caught.value)
    assert "\n" not in text
    assert TOKEN[:8] not in text
    return text


def test_a_good_answer_is_labels_and_values(server):
    (sample,) = PrometheusApi(server.url + "/").query("up", at=5.0)
    assert (sample.labels, sample.value) == ({"a": "b"}, 2.5)
    (asked,) = server.asked
    assert (asked.path, asked.query["query"], asked.query["time"]) == (
        "/api/v1/query",
        "up",
        "5.000",
    )


def test_the_token_is_sent_as_bearer_and_a_netrc_does_not_replace_it(server, tmp_path, monkeypatch):
    netrc = tmp_path / "netrc"
    netrc.write_text("default login someone password else")
    monkeypatch.setenv("NETRC", str(netrc))
    PrometheusApi(server.url, TOKEN).query("up")
    assert server.asked[0].headers["authorization"] == f"Bearer {TOKEN}"


@pytest.mark.parametrize("user", ["ada", "müller", "with space"])
def test_a_user_and_a_password_are_sent_as_basic_auth_and_shown_nowhere(server, user):
    PrometheusApi(server.url, TOKEN, user=user).query("up")
    login = base64.b64encode(f"{user}:{TOKEN}".encode()).decode()
    assert server.asked[0].headers["authorization"] == f"Basic {login}"
    said = failure(server, document({"status": "error", "error": f"no {login}"}, 401), user=user)
    assert login not in said
    assert "--prometheus.user and --prometheus.password-file" in said


def test_a_user_name_with_a_colon_is_refused():
    with pytest.raises(ConfigError, match=r"--prometheus\.user: basic auth does not allow a colon"):
        PrometheusApi("http://host:9090", TOKEN, user="a:b")


def test_a_path_before_the_interface_is_kept(server):
    PrometheusApi(server.url + "/select/0/prometheus/").query("up")
    assert server.asked[0].path == "/select/0/prometheus/api/v1/query"


def test_thanos_and_victoriametrics_are_told_to_leave_nothing_out(server):
    PrometheusApi(server.url).query("up")
    asked = server.asked[0].query
    assert (asked["partial_response"], asked["deny_partial_response"]) == ("false", "1")


def test_a_server_that_is_down_cannot_be_reached(server):
    server.stop()
    assert "cannot be reached" in failure(server)


def test_a_name_that_nobody_knows_cannot_be_reached():
    with pytest.raises(SourceError, match=r"nowhere\.invalid:9090 cannot be reached"):
        PrometheusApi("http://nowhere.invalid:9090").query("up")


def test_a_server_that_hangs_did_not_answer_in_time(server):
    server.hang_seconds = 60.0
    assert "did not answer within 0.1 s; try a shorter --since" in failure(
        server, timeout_seconds=0.1
    )


def test_a_server_that_stops_in_its_answer_did_not_answer_in_time(server):
    server.linger_seconds = 60.0
    answer = (200, {"Content-Length": "1000"}, b"{")
    assert "did not answer within" in failure(server, answer, timeout_seconds=0.1)


def test_an_answer_that_is_cut_off_is_an_error(server):
    answer = (200, {"Content-Length": "1000"}, b'{"status":')
    assert "cannot be reached" in failure(server, answer)


def test_something_that_listens_and_speaks_no_http_is_an_error():
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        api = PrometheusApi(f"http://127.0.0.1:{deaf.getsockname()[1]}", timeout_seconds=0.1)
        with pytest.raises(SourceError, match="did not answer within"):
            api.query("up")


@pytest.mark.parametrize("status", [401, 403])
def test_who_may_not_read_is_told_where_a_token_goes(server, status):
    text = failure(server, document({"error": f"no, Bearer {TOKEN}"}, status))
    assert (
        f"answered with status {status}: no, Bearer ***; give a token with read permission" in text
    )


def test_the_beginning_of_a_token_that_was_quoted_is_hidden_too(server):
    assert "***" in failure(server, document({"error": f"bad {TOKEN[:12]}..."}, 401))


@pytest.mark.parametrize(
    ("status", "remedy"),
    [
        (404, "check the path of the URL"),
        (422, "a shorter --since"),
        (429, "later"),
        (503, "shorter"),
    ],
)
def test_other_refusals_say_what_to_do(server, status, remedy):
    text = failure(server, (status, {}, b"<html>"))
    assert f"answered with status {status}; " in text
    assert remedy in text


def test_prometheus_own_words_are_passed_on(server):
    said = {"status": "error", "errorType": "bad_data", "error": "parse error: unexpected end"}
    assert "answered with status 400: parse error: unexpected end" in failure(
        server, document(said, 400)
    )


@pytest.mark.parametrize(
    ("there", "shown"),
    [
        (f"http://sso/login?t={TOKEN}", "sso/login"),
        (f"http://user:{TOKEN}@sso/login", "a URL with credentials"),
        (f"/login?{TOKEN}", "/login"),
    ],
)
def test_a_redirect_is_not_followed_with_the_token(server, there, shown):
    text = failure(server, (302, {"Location": there}, b""))
    assert text.endswith(f"redirects to {shown}; give that address")
    assert len(server.asked) == 1


def test_a_web_page_is_not_an_answer(server):
    text = failure(server, (200, {"Content-Type": "text/html"}, b"<!doctype html>"))
    assert "returned a web page instead of JSON" in text


@pytest.mark.parametrize("body", [b"", b"OK", b"\xff\xfe", b"[" * 100_000])
def test_what_is_no_json_is_not_an_answer(server, body):
    assert "other data instead of JSON" in failure(server, (200, {}, body))


@pytest.mark.parametrize("value", [[], "text", None, {"status": "error", "error": "no"}])
def test_json_without_success_is_not_an_answer(server, value):
    text = failure(server, document(value))
    assert "returned an error" in text or "other data" in text


def test_warnings_mean_that_parts_are_missing(server):
    said = ["No StoreAPIs matched", f"store {TOKEN} gave up"]
    text = failure(server, success(VECTOR, warnings=said))
    assert "returned a partial result: No StoreAPIs matched; store *** gave up" in text


def test_victoriametrics_says_in_its_own_way_that_parts_are_missing(server):
    assert "returned a partial result" in failure(server, success(VECTOR, isPartial=True))


@pytest.mark.parametrize("kind", ["matrix", "scalar", "string", None])
def test_another_type_of_result_is_an_error(server, kind):
    assert "instead of a vector" in failure(server, success({"resultType": kind, "result": []}))


@pytest.mark.parametrize(
    "row",
    [
        {"metric": {}, "value": [1, "NaN"]},
        {"metric": {}, "value": [1, "+Inf"]},
        {"metric": {}, "value": [1]},
        {"metric": {}, "value": [1, None]},
        {"metric": {"a": 1}, "value": [1, "1"]},
        {"metric": None, "value": [1, "1"]},
        {},
        None,
        7,
    ],
)
def test_samples_that_are_none_are_an_error(server, row):
    assert " returned " in failure(server, success({"resultType": "vector", "result": [row]}))


@pytest.mark.parametrize("data", [None, {}, "x", {"resultType": "vector", "result": {}}])
def test_data_without_a_list_is_an_error(server, data):
    assert " returned " in failure(server, success(data))


@pytest.mark.parametrize(
    "url",
    [
        f"http://user:{TOKEN}@host:9090",
        f"http://{TOKEN}@host",
        f"http://host/?token={TOKEN}",
        f"http://host/#{TOKEN}",
    ],
)
def test_a_secret_in_the_address_is_refused_and_not_repeated(url):
    with pytest.raises(ConfigError, match="other users can list the command line") as caught:
        PrometheusApi(url)
    assert TOKEN not in str(caught.value)


@pytest.mark.parametrize(
    "url", ["", "host:9090", "ftp://host", "http://", "http://h:x", "http://["]
)
def test_what_is_no_address_is_refused(url):
    with pytest.raises(ConfigError, match="expected a URL such as http://HOST:9090"):
        PrometheusApi(url)
