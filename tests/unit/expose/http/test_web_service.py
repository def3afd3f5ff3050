"""Start and shutdown of the web thread."""

import errno
import logging
import os
import socket
import threading

import pytest

from exporter.errors import ConfigError
from exporter.expose.exposition import SnapshotPublisher
from exporter.expose.http import web_service as web_module
from exporter.expose.http.web_service import WebService
from exporter.expose.metrics import metric_families


def make(address="", path=""):
    from exporter.clock import SystemClock

    return WebService(
        publisher=SnapshotPublisher(metric_families()),
        archive=None,
        submit=lambda request: None,
        forms={},
        clock=SystemClock(),
        listen_address=address,
        socket_path=path,
    )


def test_the_socket_file_is_removed_at_shutdown(open_site):
    site = open_site()
    assert os.path.exists(site.socket_path)
    site.close()
    assert not os.path.exists(site.socket_path)


def test_stop_before_run_makes_run_return(tmp_path):
    web = make("127.0.0.1:0", str(tmp_path / "s"))
    web.bind()
    web.stop()
    web.run()


def test_stop_may_be_called_again_after_the_end(open_site):
    site = open_site()
    site.close()
    site.web.stop()


def test_without_an_address_there_is_no_tcp(tmp_path):
    web = make("", str(tmp_path / "s"))
    assert web.bind() == []
    web.stop()
    web.run()


def test_a_port_in_use_is_reported_with_its_flag():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(ConfigError, match=f"--web.listen-address={address}: address in use"):
            make(address).bind()


def test_a_bad_socket_path_frees_the_port_again(tmp_path):
    (tmp_path / "file").write_text("")
    web = make("127.0.0.1:0", str(tmp_path / "file"))
    with pytest.raises(ConfigError, match="a file that is not a socket exists there"):
        web.bind()
    assert [listener.fileno() for listener in web._tcp] == [-1]


def test_the_board_may_be_written_while_it_is_read(site, made):
    writer = threading.Thread(
        target=lambda: [site.board.publish(made.gpu_node()) for _ in range(50)]
    )
    writer.start()
    answers = [site.get("/metrics") for _ in range(20)]
    writer.join()
    assert {answer.status for answer in answers} == {200}


def limit_files(monkeypatch, files):
    monkeypatch.setattr(web_module.resource, "getrlimit", lambda _: (files, files))


def test_a_low_file_limit_reduces_connections_and_is_logged(monkeypatch, caplog):
    limit_files(monkeypatch, 64)
    assert make()._limits.connections == 32
    (record,) = caplog.records
    assert (record.open_files, record.connections) == (64, 32)
    assert "LimitNOFILE" in record.msg


def test_a_sufficient_file_limit_is_not_logged(monkeypatch, caplog):
    limit_files(monkeypatch, 1024)
    assert make()._limits.connections == 512
    assert caplog.messages == []


class Loop:
    """Records calls of the event loop's default exception handler."""

    def __init__(self):
        self.left = []

    def default_exception_handler(self, context):
        self.left.append(context)


def test_a_lack_of_file_descriptors_is_logged_once_with_the_remedy(caplog):
    web, loop = make(), Loop()
    for _ in range(1000):
        web._log_loop_error(loop, {"exception": OSError(errno.EMFILE, "Too many open files")})
    (record,) = caplog.records
    assert record.levelno == logging.ERROR
    assert "raise the limit" in record.msg
    assert record.error == "Too many open files"
    assert loop.left == []


def test_other_errors_of_the_event_loop_use_its_default_handler():
    loop, trouble = Loop(), {"exception": ValueError("a defect")}
    make()._log_loop_error(loop, trouble)
    assert loop.left == [trouble]
