"""HTTP client: limits, and no secret in an error."""

import json
import socket
from email.utils import formatdate
from urllib.parse import quote, quote_plus

import pytest

from exporter import __version__
from exporter.convert.live import http
from exporter.convert.live.http import HttpSession
from exporter.errors import FetchError
from tests.grid.server import document
from tests.unit.convert.live.conftest import NOW

TOKEN = "s3cret/with+signs and=more"


@pytest.fixture
def session():
    made = HttpSession(NOW)
    made.redact(TOKEN)
    return made


def failure(session, url, *given, **more):
    with pytest.raises(FetchError) as raised:
        session.get(url, *given, **more)
    return raised.value


def test_the_document_is_given_with_query_and_headers_as_requested(session, grid):
    server = grid(lambda _: document({"a": [1, None]}))
    found = session.get(f"{server.url}/path", {"zone": "DE"}, headers={"auth-token": "t"})
    assert found == {"a": [1, None]}
    (asked,) = server.asked
    assert (asked.path, asked.query, asked.headers["auth-token"]) == ("/path", {"zone": "DE"}, "t")


def test_requests_have_a_user_agent(session, grid):
    server = grid(lambda _: document({}))
    session.get(server.url)
    assert server.asked[0].headers["user-agent"] == f"emissions-exporter/{__version__}"


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_no_token_follows_a_redirect(session, grid, status):
    there = grid(lambda _: document({}))
    here = grid(lambda _: (status, {"Location": f"{there.url}/new"}, b""))
    wrong = failure(session, here.url, headers={"auth-token": TOKEN})
    assert there.asked == []
    assert (wrong.outcome, str(wrong)) == (
        "refused",
        f"127.0.0.1 answered {status}: it redirects to 127.0.0.1/new",
    )


@pytest.mark.parametrize("location", ["http://[", "", "//", "\x7f", "/relative"])
def test_a_redirect_to_anything_is_no_defect(session, grid, location):
    server = grid(lambda _: (302, {"Location": location}, b""))
    assert failure(session, server.url).outcome in ("refused", "unreachable")


@pytest.mark.parametrize(
    ("spelled", "seconds"),
    [
        ("0", 0),
        ("3600", 3600),
        ("9" * 400, 999_999_999),
        (formatdate(NOW + 90, usegmt=True), 90),
        (formatdate(NOW - 90, usegmt=True), 0),
        ("soon", 0),
        ("-5", 0),
        ("1.5", 0),
        ("", 0),
        ("Fri, 99 Foo 2025 25:00:00 GMT", 0),
    ],
)
def test_how_long_to_wait_is_a_number_of_seconds_or_a_date(session, grid, spelled, seconds):
    server = grid(lambda _: (429, {"Retry-After": spelled}, b""))
    assert failure(session, server.url).retry_after_seconds == seconds


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ({"error": "because"}, ": because"),
        ({"message": "because"}, ": because"),
        ({"detail": "because"}, ": because"),
        ({"error": {"code": "400", "message": "because"}}, ": because"),
        ({"error": None, "message": "be\ncause"}, ": be cause"),
        ({"error": ["because"]}, ""),
        ({"error": {"message": 5}}, ""),
        (["because"], ""),
        ("because", ""),
        ({"error": "b" * 500}, ": " + "b" * 200),
    ],
)
def test_the_servers_error_is_shown_in_one_short_line(session, grid, said, shown):
    server = grid(lambda _: document(said, 400))
    assert str(failure(session, server.url)) == f"127.0.0.1 answered 400{shown}"


def test_a_refusal_with_a_huge_body_is_still_that_refusal(session, grid, monkeypatch):
    monkeypatch.setattr(http, "MAX_RESPONSE_BYTES", 100)
    server = grid(lambda _: (429, {"Retry-After": "7"}, b" " * 10_000))
    wrong = failure(session, server.url)
    assert (wrong.outcome, wrong.retry_after_seconds) == ("rate_limited", 7)


def test_an_answer_that_stops_in_the_middle_is_out_of_time(session, grid, monkeypatch):
    monkeypatch.setattr(http, "READ_SECONDS", 0.05)
    server = grid(lambda _: (200, {"Content-Length": "100"}, b"{"))
    server.linger_seconds = 60.0
    assert failure(session, server.url).outcome == "timeout"


def test_what_says_that_it_is_compressed_and_is_not_is_a_failure(session, grid):
    server = grid(lambda _: (200, {"Content-Encoding": "gzip"}, b"not at all"))
    assert failure(session, server.url).outcome == "unreachable"


def test_a_server_that_speaks_something_else_is_a_failure(session):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        listener.settimeout(5)
        client = socket.create_connection(("127.0.0.1", port))
        client.close()
        listener.accept()[0].close()
    assert failure(session, f"http://127.0.0.1:{port}/").outcome == "unreachable"


@pytest.mark.parametrize(
    "url", ["http://[", "nowhere", "ftp://host/", "http://", "http://a..b/", "http://h:99999/", ""]
)
def test_an_address_that_is_none_is_a_failure_and_no_defect(session, url):
    assert failure(session, url).outcome == "unreachable"


@pytest.mark.parametrize(
    "spelled",
    [
        TOKEN,
        quote(TOKEN, safe=""),
        quote_plus(TOKEN),
        TOKEN.replace(" ", "\n"),
        TOKEN[:12] + "...",
        f"https://h/?api_key={TOKEN.replace(' ', '+')}",
    ],
)
def test_a_secret_is_left_out_however_the_server_spells_it(session, grid, spelled):
    server = grid(lambda _: document({"error": f"the key {spelled} is bad"}, 401))
    text = str(failure(session, server.url))
    assert "s3cret" not in text
    assert "signs" not in text


def test_a_secret_in_the_query_is_in_no_error(session, grid):
    server = grid(lambda _: document({}, 500))
    url, query = server.url, {"securityToken": TOKEN}
    told = [failure(session, url, query)]
    server.stop()
    told += [failure(session, url, query), failure(session, f"{url}/x?api_key=s3cret")]
    assert all("s3cret" not in str(wrong) for wrong in told)


@pytest.mark.parametrize("url", ["http://ann:s3cret@", "http://ann:s3cret@127.0.0.1:1/"])
def test_a_password_in_the_address_is_in_no_error(session, url):
    assert "s3cret" not in str(failure(session, url))


def test_user_and_password_are_in_no_error_even_where_the_server_repeats_the_header(session, grid):
    def echo(asked):
        return document({"error": asked.headers["authorization"]}, 401)

    text = str(failure(session, grid(echo).url, login=("ann", "s3cret")))
    assert text.startswith("127.0.0.1 answered 401: Basic ***")


def test_a_secret_is_left_out_of_what_the_source_itself_finds_wrong(grid):
    class Source:
        def fetch(self, session, now, since):
            session.redact("s3cret-and-more")
            found = session.get(server.url)
            raise FetchError("wrong_zone", f"{found!s:.40} is not it", 7.0)

    server = grid(lambda _: document("padding that is long: s3cret-and-more"))
    with pytest.raises(FetchError) as raised:
        http.fetch_values(Source(), NOW, NOW)
    assert "s3cret" not in str(raised.value)
    assert (raised.value.outcome, raised.value.retry_after_seconds) == ("wrong_zone", 7)


def test_numbers_that_json_does_not_know_are_passed_on_to_be_rejected(session, grid):
    server = grid(lambda _: (200, {}, json.dumps([float("nan")]).encode()))
    assert session.get(server.url)[0] != 0
