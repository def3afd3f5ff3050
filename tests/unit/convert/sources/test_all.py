"""Behavior that all live sources share, for any response."""

import json
import math
import socket
from email.utils import formatdate

import pytest

from exporter.convert.live import http
from exporter.errors import FetchError
from tests.grid.server import document
from tests.unit.convert.sources.conftest import CASES, NOW, TOKEN


def all_but(*names):
    return pytest.mark.parametrize("each", [n for n in CASES if n not in names], indirect=True)


every = all_but()


def failure(each, **asked):
    with pytest.raises(FetchError) as raised:
        each.request(**asked)
    assert TOKEN not in str(raised.value)
    return raised.value


def refusal(each, *answer):
    each.server.serve = lambda _: answer
    return failure(each)


@every
def test_values_come_in_order_each_until_the_next(each):
    first = each.last - 2 * each.step
    each.serve([(first, 300), (first + each.step, 200), (each.last, 100)])
    answer = each.request()
    assert [value.start for value in answer.values] == [first, first + each.step, each.last]
    assert [value.end for value in answer.values][:2] == [first + each.step, each.last]
    assert answer.values[-1].end > NOW
    assert each.numbers() == each.grams(300, 200, 100)
    assert answer.rejected_count == 0


@every
def test_zero_is_a_value(each):
    each.serve([(each.last, 0)])
    assert each.numbers() == [0]


@every
def test_numbers_that_are_spelled_as_text_are_numbers(each):
    each.serve([(each.last, "123.5")])
    assert each.numbers() == each.grams(123.5)


@every
def test_null_is_no_value(each):
    each.serve([(each.last - each.step, None), (each.last, 100)])
    assert each.numbers() == each.grams(100)


@every
def test_nothing_but_null_is_no_value_and_no_zero(each):
    each.serve([(each.last, None)])
    assert failure(each).outcome == "no_value"


@all_but("electricity_maps")
def test_an_empty_list_is_no_value(each):
    each.serve([])
    assert failure(each).outcome == "no_value"


@every
@pytest.mark.parametrize("number", [-1, 4_500, 1e300])
def test_implausible_values_are_rejected_and_counted(each, number):
    each.serve([(each.last - each.step, number), (each.last, 100)])
    assert each.numbers() == each.grams(100)
    assert each.request().rejected_count == 1


@every
def test_nothing_but_what_cannot_be_true_is_a_bad_answer(each):
    each.serve([(each.last, -1)])
    wrong = failure(each)
    assert wrong.outcome == "bad_answer"
    assert "only implausible values" in str(wrong)


@every
@pytest.mark.parametrize("number", [True, "many", "nan", "", [], {}, math.nan, math.inf])
def test_what_is_no_number_makes_a_bad_answer(each, number):
    each.serve([(each.last, json.loads(json.dumps(number)))])
    if each.case is CASES["prometheus"]:
        each.serve([(each.last, number if isinstance(number, bool) else f"x{number}")])
    assert failure(each).outcome == "bad_answer"


@all_but("uk", "energy_charts")
def test_what_begins_in_the_future_is_rejected_and_counted(each):
    each.serve([(each.last, 100), (NOW + 7200, 5)])
    if each.case is CASES["exporter"]:
        each.serve([(NOW + 7200, 5), (each.last, 100)])
    assert each.numbers() == each.grams(100)
    assert each.request().rejected_count == 1


@every
def test_values_of_long_ago_are_given_with_their_time(each):
    each.serve([(each.last - 864 * each.step, 100)])
    (value,) = each.request().values
    assert value.start == each.last - 864 * each.step


@every
def test_of_two_values_for_one_time_there_is_one(each):
    each.serve([(each.last, 100), (each.last, 100)])
    assert each.numbers() == each.grams(100)


@every
def test_a_value_before_a_gap_does_not_reach_over_it(each):
    each.serve([(each.last - 20 * each.step, 300), (each.last, 100)])
    first, _ = each.request().values
    assert first.end <= each.last


@every
@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        (400, "refused"),
        (401, "unauthorized"),
        (403, "unauthorized"),
        (404, "not_found"),
        (429, "rate_limited"),
        (500, "server_error"),
        (503, "server_error"),
        (204, "refused"),
    ],
)
def test_every_status_but_200_is_a_failure_with_a_name(each, status, outcome):
    wrong = refusal(each, status, {}, b"" if status == 204 else b'{"error": "because"}')
    assert wrong.outcome == outcome
    assert f"answered {status}" in str(wrong)
    assert ("because" in str(wrong)) is (status != 204)
    assert wrong.retry_after_seconds == 0


@every
@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize("spelled", ["120", formatdate(NOW + 120, usegmt=True)])
def test_how_long_the_server_wants_to_be_left_alone_is_understood(each, status, spelled):
    wrong = refusal(each, status, {"Retry-After": spelled}, b"")
    assert wrong.retry_after_seconds == 120


@every
def test_a_server_that_does_not_answer_in_time_is_given_up(each, monkeypatch):
    monkeypatch.setattr(http, "READ_SECONDS", 0.05)
    each.server.hang_seconds = 60.0
    wrong = failure(each)
    assert wrong.outcome == "timeout"
    assert "127.0.0.1" in str(wrong)


@every
@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xff\xfe\x00garbage",
        b"<html>Please log in</html>",
        b'{"data": [{"from": "2025-01',
        b"[" * 100_000,
        b"1" * 5_000,
        b"null",
        b"[]",
        b"{}",
        b'"text"',
        b'{"data": 1, "results": 1, "records": 1, "zone": 1, "factor": 1, "token": 1, "meta": 1}',
        b'{"data": [1], "results": [1], "records": [1], "status": "success", "token": ""}',
        b'{"unix_seconds": 1, "token": null, "data": {"result": [{"values": 1}]}}',
        b'{"data": {"result": [{"values": [1]}]}, "status": "success"}',
        b'{"data": {"result": [{"values": 1}]}, "status": "success"}',
    ],
)
def test_other_content_is_a_bad_answer_and_no_defect(each, body):
    assert refusal(each, 200, {}, body).outcome in ("bad_answer", "no_value")


@every
def test_an_answer_that_ends_too_early_is_a_failure(each):
    assert refusal(each, 200, {"Content-Length": "4000"}, b'{"data": []}').outcome == "unreachable"


@every
def test_a_huge_answer_is_not_read_to_its_end(each, monkeypatch):
    monkeypatch.setattr(http, "MAX_RESPONSE_BYTES", 1_000)
    wrong = refusal(each, 200, {}, b" " * 100_000)
    assert wrong.outcome == "bad_answer"
    assert "larger than" in str(wrong)


@every
def test_a_redirect_is_not_followed(each, grid):
    elsewhere = grid(lambda _: document({}))
    wrong = refusal(each, 302, {"Location": f"{elsewhere.url}/there?token={TOKEN}"}, b"")
    assert elsewhere.asked == []
    assert "redirects to 127.0.0.1/there" in str(wrong)


@every
def test_a_server_that_is_gone_is_unreachable(each):
    each.server.stop()
    wrong = failure(each)
    assert wrong.outcome == "unreachable"
    assert "127.0.0.1" in str(wrong)


@every
def test_an_unknown_host_is_unreachable(each, monkeypatch):
    def unknown(*_, **__):
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    assert failure(each).outcome == "unreachable"


@every
def test_the_newest_value_is_given_after_an_outage_of_a_moment(each):
    each.serve([(each.last, 100)])
    assert each.numbers(since=NOW - 60) == each.grams(100)


SECRETIVE = [name for name, case in CASES.items() if case.token]
ECHOES = [
    TOKEN,
    "s3cret%2Fwith%2Bsigns%3D",
    f"https://example.org/?auth-token={TOKEN}&zone=DE",
    f"bad token: '{TOKEN}'",
    "bad token s3cret/with...",
]


@pytest.mark.parametrize("each", SECRETIVE, indirect=True)
@pytest.mark.parametrize("said", ECHOES)
@pytest.mark.parametrize("status", [200, 302, 401, 500])
def test_no_error_shows_the_token_that_the_server_repeats(each, said, status):
    everywhere = dict.fromkeys(("error", "message", "zone", "status", "units", "token"), said)
    body = json.dumps({**everywhere, "data": [], "meta": {"region": said, "units": said}}).encode()
    text = str(refusal(each, status, {"Location": f"http://h/{said.replace(' ', '')}"}, body))
    assert "s3cret" not in text
    assert "signs" not in text
