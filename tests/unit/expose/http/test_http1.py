"""Parsing and rendering of HTTP messages."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.errors import RequestRefused
from exporter.expose.http.http1 import (
    PLAIN_TYPE,
    HttpResponse,
    accepts_gzip,
    body_length,
    parse_head,
    path_child,
    prefers_openmetrics,
    render_head,
)


def head(*lines):
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


def test_a_request_is_parsed():
    request = parse_head(head("GET /a/b?x=1&x=2&y HTTP/1.1", "Host: h", "Accept:  text/plain "))
    assert (request.method, request.path) == ("GET", "/a/b")
    assert request.query == {"x": ["1", "2"], "y": [""]}
    assert request.headers["accept"] == "text/plain"
    assert request.keep_alive


def test_repeated_headers_are_joined():
    request = parse_head(head("GET / HTTP/1.1", "Host: h", "Accept: a", "accept: b"))
    assert request.headers["accept"] == "a, b"


@pytest.mark.parametrize(
    "lines",
    [
        ("GET / HTTP/1.0",),
        ("GET / HTTP/1.1", "Host: h", "Connection: close"),
        ("GET / HTTP/1.1", "Host: h", "Connection: x, Close"),
    ],
)
def test_the_connection_is_not_kept(lines):
    assert not parse_head(head(*lines)).keep_alive


@pytest.mark.parametrize(
    "lines",
    [
        ("GET /",),
        ("GET / HTTP/2.0",),
        ("get / HTTP/1.1", "Host: h"),
        ("GET  / HTTP/1.1", "Host: h"),
        ("GET http://h/ HTTP/1.1", "Host: h"),
        ("GET /\x01 HTTP/1.1", "Host: h"),
        ("GET / HTTP/1.1",),
        ("GET / HTTP/1.1", "Host : h"),
        ("GET / HTTP/1.1", "Host: h", " folded"),
        ("GET / HTTP/1.1", "Host: h", "no colon"),
        ("GET / HTTP/1.1", "Host: h", "X: a\x00b"),
        ("GET / HTTP/1.1", "Host: h", "X: a\rb"),
        ("GET / HTTP/1.1", "Host: h", "X: a\nContent-Length: 5"),
        ("",),
    ],
)
def test_an_invalid_request_is_rejected(lines):
    with pytest.raises(RequestRefused) as refused:
        parse_head(head(*lines))
    assert refused.value.status == 400


@given(st.binary())
def test_any_bytes_are_parsed_or_rejected(data):
    with suppress(RequestRefused):
        parse_head(data)


@pytest.mark.parametrize(
    ("lines", "length"),
    [((), 0), (("Content-Length: 7",), 7), (("Content-Length: 10",), 10)],
)
def test_the_body_length_is_parsed(lines, length):
    assert body_length(parse_head(head("POST / HTTP/1.1", "Host: h", *lines)), 10) == length


@pytest.mark.parametrize(
    ("line", "status"),
    [
        ("Content-Length: 11", 413),
        ("Content-Length: -1", 400),
        ("Content-Length: 1_0", 400),
        ("Content-Length: \xb2", 400),
        ("Content-Length: 5, 5", 400),
        ("Transfer-Encoding: chunked", 501),
    ],
)
def test_an_unsupported_body_is_rejected(line, status):
    with pytest.raises(RequestRefused) as refused:
        body_length(parse_head(head("POST / HTTP/1.1", "Host: h", line)), 10)
    assert refused.value.status == status


def test_a_response_is_rendered():
    response = HttpResponse(200, b"abc", PLAIN_TYPE, (("Vary", "Accept"),))
    lines = render_head(response, 1_790_000_000.0, keep_alive=True).decode().split("\r\n")
    assert lines[0] == "HTTP/1.1 200 OK"
    assert "Date: Mon, 21 Sep 2026 14:13:20 GMT" in lines
    assert "Content-Length: 3" in lines
    assert "Vary: Accept" in lines
    assert "X-Content-Type-Options: nosniff" in lines
    assert "Connection: close" not in lines
    assert lines[-2:] == ["", ""]


@pytest.mark.parametrize(("status", "there"), [(503, True), (429, True), (404, False)])
def test_retryable_errors_have_retry_after(status, there):
    text = render_head(HttpResponse(status, b"", PLAIN_TYPE), 0.0, keep_alive=False)
    assert (b"Retry-After: 1" in text) == there


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/runs/a", "a"),
        ("/runs/a%2Fb%20%C3%A9", "a/b é"),
        ("/runs", None),
        ("/runs/", None),
        ("/runs/a/b", None),
        ("/other/a", None),
    ],
)
def test_a_name_below_a_path_is_found(path, name):
    assert path_child(path, "/runs") == name


def test_a_name_that_is_not_utf8_is_rejected():
    with pytest.raises(RequestRefused):
        path_child("/runs/%ff", "/runs")


PROMETHEUS_2 = (
    "application/openmetrics-text;version=1.0.0;q=0.5,application/openmetrics-text;version=0.0.1;"
    "q=0.4,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.3,text/plain;version=0.0.4;q=0.2,"
    "*/*;q=0.1"
)
PROMETHEUS_TEXT_FIRST = "text/plain;version=0.0.4;q=0.6,application/openmetrics-text;q=0.5"
BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"


@pytest.mark.parametrize(
    ("accept", "wanted"),
    [
        (PROMETHEUS_2, True),
        (PROMETHEUS_TEXT_FIRST, False),
        (BROWSER, False),
        ("", False),
        ("*/*", False),
        ("application/openmetrics-text", True),
        ("application/openmetrics-text; version=0.0.1", False),
        ("application/openmetrics-text;q=0", False),
        ("text/plain, application/openmetrics-text", False),
    ],
)
def test_the_format_is_negotiated(accept, wanted):
    assert prefers_openmetrics(accept) == wanted


@pytest.mark.parametrize(
    ("header", "accepted"),
    [
        ("gzip", True),
        ("deflate, GZIP;q=0.5", True),
        ("gzip;q=0", False),
        ("", False),
        ("br", False),
    ],
)
def test_compression_is_negotiated(header, accepted):
    assert accepts_gzip(header) == accepted
