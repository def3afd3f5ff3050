"""Reload of the web config: valid changes are applied, invalid ones are not."""

import os
import shutil
import socket
import ssl
from contextlib import ExitStack, suppress

import pytest

from exporter.errors import ConfigError
from exporter.expose.web_config.store import WebConfigStore
from exporter.worker import wait_until
from tests.fakes import FakeClock
from tests.unit.expose.conftest import SOON

SECOND_NS = 1_000_000_000


def replaced(path, text):
    """Replace the file by another one, as editors and Kubernetes do."""
    new = f"{path}.new"
    with open(new, "w") as file:
        file.write(text)
    os.replace(new, path)


@pytest.fixture
def store(tmp_path):
    path = tmp_path / "web.yml"
    path.write_text("http_server_config: {headers: {X-Frame-Options: deny}}\n")
    return WebConfigStore(str(path), FakeClock())


def framed(store):
    return dict(store.active.headers).get("X-Frame-Options")


def test_a_changed_file_is_loaded(store):
    replaced(store.path, "http_server_config: {headers: {X-Frame-Options: sameorigin}}")
    store.reload_if_changed()
    assert framed(store) == "sameorigin"


def test_an_unchanged_file_is_not_read_again(store):
    rules = store.active
    store.reload_if_changed()
    assert store.active is rules


def test_an_invalid_file_keeps_the_previous_one_and_is_logged_once(store, caplog):
    replaced(store.path, "http_server_config: {headers: {X-Frame-Options: never}}")
    for _ in range(3):
        store.reload_if_changed()
    assert framed(store) == "deny"
    (state,) = store.states
    assert (state.name, state.ok) == ("web_config", False)
    assert "expected deny or sameorigin" in state.why
    assert len(caplog.records) == 1
    assert caplog.messages == ["web config not reloaded, previous one kept"]
    replaced(store.path, "rate_limit: {}")
    store.reload_if_changed()
    assert (store.states[0].ok, framed(store)) == (True, None)


def test_a_deleted_file_keeps_the_previous_one(store):
    os.unlink(store.path)
    store.reload_if_changed()
    assert framed(store) == "deny"
    assert "cannot be read" in store.why


def test_changes_are_checked_at_most_once_a_second(store):
    clock = store._clock
    assert not store.is_due()
    clock.advance(1.0)
    assert [store.is_due(), store.is_due()] == [True, False]


def test_without_a_file_nothing_is_checked():
    store = WebConfigStore("", FakeClock())
    assert (store.is_due(), store.states, store.active.tls_endpoint) == (False, (), None)


@pytest.mark.parametrize("text", ["", "tls_server_config: {}\nbasic_auth_users:\n"])
def test_a_file_without_access_control_is_a_warning(tmp_path, text):
    path = tmp_path / "web.yml"
    path.write_text(text)
    (note,) = WebConfigStore(str(path), FakeClock()).notes
    assert "neither tls_server_config nor basic_auth_users: anyone who can reach the port" in note


def test_an_invalid_file_prevents_the_start(tmp_path):
    with pytest.raises(ConfigError, match=r"web config file .* cannot be read"):
        WebConfigStore(str(tmp_path / "no.yml"), FakeClock())


def test_a_partially_written_file_does_not_disable_tls(tmp_path, pair):
    path = tmp_path / "web.yml"
    path.write_text(f"tls_server_config: {{cert_file: {pair[0]}, key_file: {pair[1]}}}")
    store = WebConfigStore(str(path), FakeClock())
    replaced(path, "")
    store.reload_if_changed()
    assert store.active.tls_endpoint is not None
    assert "which would disable TLS; if this is intended, send SIGHUP" in store.why
    store.reload_if_changed(allow_weaker=True)
    assert store.active.tls_endpoint is None


def look_now(site):
    """Move the clock until a reload is due, after the previous one has ended."""
    eventually(lambda: not site.web._gate._reloads.is_full)
    site.clock.now_ns += 2 * SECOND_NS


def serial(site, context):
    """Return the serial number of the site's certificate."""
    with (
        socket.create_connection(site.address, timeout=SOON) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as connection,
    ):
        return connection.getpeercert()["serialNumber"]


def eventually(condition):
    """Wait for another thread of the site."""
    assert wait_until(condition, SOON)


def test_a_certificate_is_renewed_without_a_restart(secure, client, authority, pair, tmp_path):
    site = secure()
    context, (certificate, key) = client(), (str(tmp_path / "c"), str(tmp_path / "k"))
    for old, new in zip(pair, (certificate, key), strict=True):
        shutil.copy(old, new)
    replaced(site.web_config, f"tls_server_config: {{cert_file: {certificate}, key_file: {key}}}")
    look_now(site)
    first = serial(site, context)
    eventually(lambda: str(key) in site.store._files._stamps)
    eventually(lambda: not site.web._gate._reloads.is_full)
    newer = authority.sign("server", "DNS:localhost", "IP:127.0.0.1", file="renewed")
    os.replace(newer[0], certificate)
    look_now(site)
    assert serial(site, context) == first  # the key is not there yet
    eventually(lambda: site.store.why)
    assert serial(site, context) == first
    os.replace(newer[1], key)
    look_now(site)
    serial(site, context)
    eventually(lambda: not site.store.why)
    assert serial(site, context) != first


def test_a_kept_connection_notices_that_a_user_was_removed(open_site, made, tmp_path):
    import http.client

    from tests.unit.expose.web_config.test_passwords import HASH, header

    path = tmp_path / "web.yml"
    path.write_text(f"basic_auth_users: {{ada: '{HASH}', bob: '{HASH}'}}")
    site = open_site(path)
    site.board.publish(made.gpu_node())
    connection = http.client.HTTPConnection(*site.address)

    def status():
        connection.request(
            "GET", "/metrics", headers={"Authorization": header("bob", "opensesame")}
        )
        response = connection.getresponse()
        response.read()
        return response.status

    assert status() == 200
    replaced(path, f"basic_auth_users: {{ada: '{HASH}'}}")
    look_now(site)
    eventually(lambda: status() == 401)
    connection.close()


def test_silent_tls_clients_do_not_delay_others(secure, client, get):
    site = secure(handshake_seconds=60.0, handshakes=40)
    context = client()
    with ExitStack() as silent:
        for _ in range(50):
            silent.enter_context(socket.create_connection(site.address, timeout=SOON))
        # Nothing ends their handshakes for a minute, so it is not waited for any of them.
        assert get(site, context, "/metrics")[0].startswith(b"HTTP/1.1 200 ")
        assert len(site.web._server._handshakes._open) <= 40


def test_a_silent_handshake_times_out(secure):
    site = secure(handshake_seconds=0.05)
    with (
        socket.create_connection(site.address, timeout=SOON) as silent,
        suppress(ConnectionResetError),
    ):
        assert silent.recv(1) == b""


def test_the_server_stops_during_silent_handshakes(secure):
    site = secure(handshake_seconds=60.0)
    with socket.create_connection(site.address, timeout=SOON):
        eventually(lambda: site.web._server._handshakes._open)
        site.close()


def test_a_tls_client_that_does_not_read_is_disconnected(secure, client):
    site = secure(read_seconds=0.2, linger_seconds=0.1)
    with socket.socket() as plain:
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        plain.settimeout(SOON)
        plain.connect(site.address)
        with client().wrap_socket(plain, server_hostname="localhost") as connection:
            connection.sendall(b"GET /metrics HTTP/1.1\r\nHost: h\r\n\r\n" * 200)
            eventually(lambda: not site.web._server._tasks)
            assert site.web._server._slow == {}


def test_a_rejected_tls_client_receives_the_error(secure, client, get):
    site = secure()
    with (
        socket.create_connection(site.address, timeout=SOON) as plain,
        client().wrap_socket(plain, server_hostname="localhost") as connection,
    ):
        connection.sendall(b"nonsense\r\n\r\n")
        received = b""
        with suppress(ssl.SSLError, ConnectionResetError):
            while chunk := connection.recv(65536):
                received += chunk
    assert received.startswith(b"HTTP/1.1 400 ")
