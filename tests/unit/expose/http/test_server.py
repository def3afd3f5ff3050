"""The HTTP server over real sockets: protocol and limits."""

import asyncio
import json
import socket
from contextlib import suppress
from functools import partial

import pytest

from exporter.expose.http.http1 import PLAIN_TYPE, HttpResponse
from exporter.expose.http.server import DEFAULT_LIMITS, HttpServer, _client_of_address
from tests.fakes import FakeClock
from tests.unit.expose.conftest import SOON

GET = b"GET /-/ready HTTP/1.1\r\nHost: h\r\n\r\n"
LAST = b"GET /-/ready HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"


def read_answer(connection):
    """Return head and body of one response on a kept connection."""
    received = b""
    while b"\r\n\r\n" not in received:
        received += some(connection, 1)
    length = next(
        int(line.split(b":")[1])
        for line in received.split(b"\r\n")
        if line.lower().startswith(b"content-length")
    )
    body = b""
    while len(body) < length:
        body += some(connection, length - len(body))
    return received, body


def some(connection, most):
    """Receive data. Raises ConnectionError at the end of the stream."""
    received = connection.recv(most)
    if not received:
        raise ConnectionError("it was closed in the middle of an answer")
    return received


def drain(connection):
    """Return how many bytes arrive until the server closes the connection."""
    received = 0
    with suppress(ConnectionResetError):
        while chunk := connection.recv(65536):
            received += len(chunk)
    return received


def test_a_connection_is_kept_alive(site):
    with site.connect() as connection:
        for _ in range(3):
            connection.sendall(GET)
            assert read_answer(connection)[1] == b"ready\n"


def test_requests_sent_at_once_are_answered_in_order(site):
    other = b"GET /nothing HTTP/1.1\r\nHost: h\r\n\r\n"
    received = site.talk(GET + other + LAST)
    statuses = [part[:3] for part in received.split(b"HTTP/1.1 ")[1:]]
    assert statuses == [b"200", b"404", b"200"]


def test_a_request_may_arrive_byte_by_byte(site):
    with site.connect() as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in LAST:
            connection.sendall(bytes([byte]))
        assert read_answer(connection)[1] == b"ready\n"


def test_the_server_closes_when_asked_to(site):
    assert site.talk(LAST).endswith(b"ready\n")


def test_an_http_1_0_client_gets_a_response_and_a_closed_connection(site):
    assert b"Connection: close" in site.talk(b"GET /-/ready HTTP/1.0\r\n\r\n")


def test_head_is_get_without_the_body(site):
    got = site.ask("GET", "/metrics")
    head = site.ask("HEAD", "/metrics")
    assert (head.status, head.content) == (200, b"")
    assert head.getheader("Content-Length") == str(len(got.content))


def test_a_body_of_a_get_is_not_taken_for_a_request(site):
    smuggled = b"GET /-/ready HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n" % len(GET)
    received = site.talk(smuggled + GET + LAST)
    assert received.count(b"HTTP/1.1 200") == 2


def test_a_bad_request_gets_an_error_and_is_closed(site):
    received = site.talk(b"nonsense\r\n\r\n" + GET)
    head, _, body = received.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 Bad Request")
    assert "the request line" in json.loads(body)["error"]


def test_a_head_that_is_too_long_is_rejected(open_site):
    site = open_site(head_bytes=500)
    received = site.talk(b"GET / HTTP/1.1\r\nX: " + b"a" * 5000)
    assert received.startswith(b"HTTP/1.1 431 ")


def test_a_body_that_is_too_long_is_rejected_before_it_is_read(open_site):
    site = open_site(body_bytes=10)
    received = site.talk(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 11\r\n\r\n" + b"a" * 11)
    assert received.startswith(b"HTTP/1.1 413 ")


def test_expect_100_continue_is_supported(site):
    with site.connect_agent() as connection:
        head = b"POST /v1/runs HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n"
        connection.sendall(head + b"Expect: 100-continue\r\n\r\n")
        leave = b"HTTP/1.1 100 Continue\r\n\r\n"
        assert connection.recv(len(leave), socket.MSG_WAITALL) == leave


def test_an_incomplete_head_times_out(open_site):
    site = open_site(request_seconds=0.25, linger_seconds=0.05)
    with site.held():
        connection = site.connect()
        connection.sendall(b"GET / HT")
    with connection:
        head, body = read_answer(connection)
    assert head.startswith(b"HTTP/1.1 408 ")
    assert "0.25 s" in json.loads(body)["error"]


def test_an_incomplete_body_times_out(open_site):
    site = open_site(request_seconds=0.25, linger_seconds=0.05)
    with site.held():
        connection = site.connect()
        connection.sendall(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\na")
    with connection:
        assert read_answer(connection)[0].startswith(b"HTTP/1.1 408 ")


def test_a_connection_without_a_request_is_closed(open_site):
    site = open_site(request_seconds=0.05)
    with site.connect() as connection:
        assert not drain(connection)


def test_an_idle_connection_is_closed(open_site):
    site = open_site(idle_seconds=0.05)
    with site.connect() as connection:
        connection.sendall(GET)
        read_answer(connection)
        assert not drain(connection)


def big_site(open_site, made, **limits):
    """A site whose metrics exceed the buffers of a socket."""
    site = open_site(**limits)
    runs = tuple(made.run(made.RunKey(1, f"{n}", "x" * 4000), name="y" * 4000) for n in range(500))
    site.board.publish(made.snapshot(runs=runs))
    return site


def connect_slow(site):
    connection = socket.socket()
    connection.settimeout(SOON)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.connect(site.address)
    connection.sendall(b"GET /metrics HTTP/1.1\r\nHost: h\r\n\r\n")
    return connection


def test_a_client_that_does_not_read_is_disconnected(open_site, made):
    site = big_site(open_site, made, read_seconds=0.05)
    size = len(site.board.current.metrics_page.text())
    with connect_slow(site) as connection:
        site.get("/-/ready")
        while site.web._server._tasks:  # until the server has given up
            site.get("/-/ready")
        assert drain(connection) < size


def test_the_oldest_of_too_many_slow_readers_is_disconnected(open_site, made):
    site = big_site(open_site, made, slow_readers=1)
    size = len(site.board.current.metrics_page.text())
    with connect_slow(site) as first:
        assert first.recv(4) == b"HTTP"
        with connect_slow(site) as second:
            assert second.recv(4) == b"HTTP"
            received = 4
            while received <= size:
                received += len(some(second, 65536))
        assert drain(first) < size


def test_slow_readers_do_not_delay_others(open_site, made):
    site = big_site(open_site, made)
    with connect_slow(site) as slow:
        assert slow.recv(4) == b"HTTP"
        assert site.get("/-/ready").status == 200


def connect_busy(site):
    """A connection whose response waits for the archive."""
    site.archive.go.clear()
    connection = site.connect()
    connection.sendall(b"GET /api/v1/runs HTTP/1.1\r\nHost: h\r\n\r\n")
    assert site.archive.asked.acquire(timeout=SOON)
    return connection


def full_site(open_site, made, **limits):
    """Yields the busy connection of a site with a limit of one, and the site."""
    site = open_site(connections=1, **limits)
    site.board.publish(made.snapshot())
    return connect_busy(site), site


def test_the_oldest_idle_connection_is_closed_for_a_new_one(open_site, made):
    site = open_site(connections=2)
    site.board.publish(made.snapshot())
    with site.connect() as oldest, site.connect() as older:
        for connection in (oldest, older, oldest):  # whoever spoke last has been idle least
            connection.sendall(GET)
            read_answer(connection)
        assert site.get("/-/ready").status == 200
        assert not drain(older)
        oldest.sendall(LAST)
        assert read_answer(oldest)[1] == b"ready\n"


def test_a_slowly_sent_request_times_out(open_site, made):
    site = open_site(connections=1)
    site.board.publish(made.snapshot())
    with site.connect() as connection:
        connection.sendall(b"GET / HT")
        assert site.get("/-/ready").status == 200
        assert not drain(connection)


def test_any_number_of_idle_connections_leaves_room_for_a_scrape(open_site, made):
    site = open_site(connections=20, refusals=0)
    site.board.publish(made.snapshot())
    idle = [site.connect() for _ in range(100)]
    try:
        for connection in idle:
            with suppress(ConnectionError):  # all but the last are given up
                connection.sendall(GET)
                read_answer(connection)
        assert site.get("/metrics").status == 200
    finally:
        for connection in idle:
            connection.close()


def test_a_connection_above_the_limit_is_rejected_if_all_are_busy(open_site, made):
    busy, site = full_site(open_site, made)
    with busy:
        refused = site.get("/-/ready")
    assert (refused.status, refused.getheader("Retry-After")) == (503, "1")
    assert "too many open connections" in json.loads(refused.content)["error"]


def test_tcp_and_agent_connections_share_one_limit(open_site, made):
    busy, site = full_site(open_site, made)
    with busy:
        assert site.ask("GET", "/v1/runs", agent=True).status == 503


def test_too_many_rejected_clients_are_disconnected(open_site, made):
    busy, site = full_site(open_site, made, refusals=1, linger_seconds=SOON)
    with busy, site.connect() as refused:
        assert refused.recv(12) == b"HTTP/1.1 503"
        with site.connect() as third:
            assert not drain(third)


def test_room_is_made_when_a_connection_ends(open_site):
    site = open_site(connections=1)
    for _ in range(5):
        assert site.talk(b"GET /-/healthy HTTP/1.0\r\n\r\n").startswith(b"HTTP/1.1 200")


def test_many_silent_clients_do_not_delay_a_scrape(site):
    silent = [site.connect() for _ in range(200)]
    try:
        assert site.get("/metrics").status == 200
    finally:
        for connection in silent:
            connection.close()


def test_an_internal_error_is_a_500_and_is_logged(site, caplog):
    site.archive.error = ValueError("broken")
    response = site.get("/api/v1/runs")
    assert response.status == 500
    assert b"see the daemon's log" in response.content
    assert "broken" in caplog.text


def test_stopping_completes_a_response(open_site, made):
    site = big_site(open_site, made)
    size = len(site.board.current.metrics_page.text())
    with connect_slow(site) as connection:
        assert connection.recv(4) == b"HTTP"
        site.web.stop()
        assert drain(connection) > size


def test_stopping_ends_idle_connections_at_once(site):
    with site.connect() as connection:
        connection.sendall(GET)
        read_answer(connection)
        site.close()
        assert not drain(connection)


def converse(path, play):
    """Return the requested paths in the order of their responses, while clients `play`."""
    answered = []

    async def handler(request):
        answered.append(request.path)
        return HttpResponse(200, b"", PLAIN_TYPE)

    async def main():
        server = HttpServer(FakeClock(), DEFAULT_LIMITS)
        listener = await asyncio.start_unix_server(
            partial(server.handle_connection, handler, lambda: None), path
        )
        clients = [await asyncio.open_unix_connection(path) for _ in range(2)]
        await play(*clients)
        listener.close()
        for _, writer in clients:
            writer.close()
        await server.close(1)

    asyncio.run(main())
    return answered


MANY = 100


def ask(path):
    return b"GET %s HTTP/1.1\r\nHost: h\r\n\r\n" % path


@pytest.mark.parametrize(
    ("host", "client"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "::ffff:192.0.2.1"),
        ("2001:db8:0:1::7", "20010db800000001"),
        ("2001:db8:0:1:ffff::8", "20010db800000001"),
        ("fe80::1%eth0", "fe80000000000000"),
    ],
)
def test_a_client_is_an_address_or_a_prefix_of_ipv6(host, client):
    assert _client_of_address(host) == client


def test_a_client_with_many_requests_does_not_block_others(tmp_path):
    async def play(greedy, modest):
        greedy[1].write(ask(b"/greedy") * MANY)
        modest[1].write(ask(b"/modest"))
        await modest[0].readuntil(b"\r\n\r\n")

    answered = converse(str(tmp_path / "s"), play)
    assert answered.index("/modest") < MANY / 2


def test_a_disconnected_client_gets_no_more_responses(tmp_path):
    async def play(gone, other):
        gone[1].write(ask(b"/gone") * MANY)
        await gone[0].readuntil(b"\r\n\r\n")
        gone[1].transport.abort()
        other[1].write(ask(b"/other"))
        await other[0].readuntil(b"\r\n\r\n")

    answered = converse(str(tmp_path / "s"), play)
    assert answered.count("/gone") < MANY / 2


def test_a_request_that_is_cancelled_at_the_end_is_disconnected_and_logs_nothing(tmp_path, caplog):
    async def handler(_):
        asked.set()
        await asyncio.Event().wait()

    async def main():
        server = HttpServer(FakeClock(), DEFAULT_LIMITS)
        serve = partial(server.handle_connection, handler, lambda: None)
        listener = await asyncio.start_unix_server(serve, str(tmp_path / "s"))
        reader, writer = await asyncio.open_unix_connection(str(tmp_path / "s"))
        writer.write(ask(b"/hangs"))
        await asked.wait()
        listener.close()
        await server.close(0)
        assert await reader.read() == b""
        writer.close()

    asked = asyncio.Event()
    asyncio.run(main())
    assert caplog.records == []
