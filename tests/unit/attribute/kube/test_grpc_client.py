"""Unary calls to a server of grpcio, and to servers that do not speak gRPC."""

import socket
import threading
from contextlib import contextmanager

import grpc
import pytest

from exporter.attribute.sources.kube.grpc_client import STATUS_NAMES, GrpcClient
from exporter.errors import SourceError
from tests.kube.kubelet import SERVICE

LIST = f"/{SERVICE}/List"
SECONDS = 20.0


@contextmanager
def answering(path, *chunks):
    """A server that answers the first connection with bytes, and closes it."""
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen()

        def serve():
            connection, _ = server.accept()
            with connection:
                connection.recv(65536)
                for chunk in chunks:
                    connection.sendall(chunk)

        thread = threading.Thread(target=serve)
        thread.start()
        yield GrpcClient(str(path))
        thread.join()


@pytest.mark.parametrize("size", [0, 1, 16_384, 5_000_000])
def test_a_message_of_any_size_arrives(fake_kubelet, size):
    fake_kubelet.junk = bytes(range(256)) * (size // 256) + bytes(size % 256)
    assert GrpcClient(str(fake_kubelet.path)).call(LIST, SECONDS) == fake_kubelet.junk


def test_the_names_of_statuses_are_those_of_grpcio():
    codes = {code.value[0]: code.value[1] for code in grpc.StatusCode}
    assert tuple(codes[number] for number in range(len(codes))) == STATUS_NAMES


def test_an_error_has_the_name_of_its_status_and_the_servers_text(fake_kubelet):
    client = GrpcClient(str(fake_kubelet.path))
    fake_kubelet.code = grpc.StatusCode.PERMISSION_DENIED
    fake_kubelet.details = "not for Zoë: 100 %"
    with pytest.raises(SourceError, match=r"^permission denied: not for Zoë: 100 %$"):
        client.call(LIST, SECONDS)
    with pytest.raises(SourceError, match=r"^unimplemented"):
        client.call(f"/{SERVICE}/Other", SECONDS)


@pytest.mark.parametrize(
    ("chunks", "reason"),
    [
        ((), "connection was closed"),
        ((b"HTTP/1.1 400 Bad Request\r\n\r\n",), "connection was closed"),
        ((b"\0\0\0\4\0\0\0\0\1",), "invalid HTTP/2"),
        ((b"\0\0\0\4\0\0\0\0\0", b"\0\0\10\7\0\0\0\0\0" + bytes(8)), "connection was closed"),
    ],
)
def test_a_server_that_does_not_answer_is_an_error(tmp_path, chunks, reason):
    with answering(tmp_path / "s", *chunks) as client, pytest.raises(SourceError, match=reason):
        client.call(LIST, SECONDS)


def test_a_socket_without_a_server_is_unavailable(tmp_path):
    with pytest.raises(SourceError, match=r"^unavailable: No such file or directory$"):
        GrpcClient(str(tmp_path / "none")).call(LIST, SECONDS)


def test_a_closed_client_refuses_calls(fake_kubelet):
    client = GrpcClient(str(fake_kubelet.path))
    client.close()
    with pytest.raises(SourceError, match="closed"):
        client.call(LIST, SECONDS)
    assert fake_kubelet.asked == 0
