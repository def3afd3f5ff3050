"""The probe of a daemon's health."""

import socket
import threading

from exporter.cli.healthcheck import probe_daemon


def test_a_port_that_closes_the_connection_may_require_tls():
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"

        def close_the_first():
            connection, _ = server.accept()
            connection.recv(4096)
            connection.close()

        thread = threading.Thread(target=close_the_first)
        thread.start()
        is_healthy, said = probe_daemon("/nowhere/agent.sock", address, may_be_encrypted=False)
        thread.join()
    assert not is_healthy
    assert said.startswith(f"{address} does not answer: ")
    assert said.endswith("; if it requires TLS, set expose.web_config_file")
