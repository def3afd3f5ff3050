"""Fetch process: its results and how it ends."""

import json
import os
import ssl
import subprocess
import threading
from pathlib import Path

import pytest

import exporter
from exporter.convert.live import fetch_process
from exporter.convert.live.fetch_process import FetchProcess, parse_answer
from exporter.convert.sources.electricity_maps import TOKEN_VARIABLE
from exporter.errors import FetchError
from exporter.model.intensity import IntensityValue
from exporter.worker import wait_until
from tests.certificates import Authority
from tests.grid import shapes
from tests.unit.convert.live.conftest import NOW
from tests.unit.convert.live.proxy import Proxy

pytestmark = [pytest.mark.real, pytest.mark.beside]

HOUR = 3600.0
LAST = NOW - NOW % HOUR
TOKEN = "s3cret-t0ken"
SOON = 60.0
ROOT = str(Path(exporter.__file__).parents[1])


@pytest.fixture
def program(tmp_path, monkeypatch):
    """Puts another program in the place of the one that asks."""

    def make(source):
        (tmp_path / "instead.py").write_text(source)
        monkeypatch.setenv("PYTHONPATH", os.pathsep.join((str(tmp_path), ROOT)))
        monkeypatch.setattr(fetch_process, "FETCH_MODULE", "instead")
        return FetchProcess()

    return make


@pytest.fixture
def proxy():
    made = Proxy()
    yield made
    made.stop()


@pytest.fixture(autouse=True)
def _this_package(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", ROOT)


def job(name, **options):
    return {"name": name, "options": options, "now": NOW, "since": NOW - 60}


def failure(child, asked):
    with pytest.raises(FetchError) as raised:
        child.run_job(asked)
    return raised.value


def test_a_child_brings_the_answer_of_a_source(grid):
    server = grid(shapes.uk([(LAST, 263)], ahead=[(LAST + 1800, 266)]))
    answer = parse_answer(FetchProcess().run_job(job("uk", url=server.url)))
    assert answer.values == (IntensityValue(LAST, LAST + 1800, 263.0),)
    assert answer.forecast[1:] == (IntensityValue(LAST + 1800, LAST + HOUR, 266.0, estimated=True),)


def test_a_child_brings_the_failure_of_a_source_with_the_time_to_wait(grid):
    server = grid(lambda _: (429, {"Retry-After": "77"}, b""))
    wrong = failure(FetchProcess(), job("rte", url=server.url))
    assert (wrong.outcome, wrong.retry_after_seconds) == ("rate_limited", 77)


def test_a_missing_token_is_reported_by_the_fetch_process(grid, tmp_path):
    options = {"url": "http://127.0.0.1:1", "zone": "DE", "token_file": str(tmp_path / "gone")}
    wrong = failure(FetchProcess(), job("electricity_maps", **options))
    assert wrong.outcome == "settings"
    assert "cannot be read" in str(wrong)


def test_a_child_finds_the_cloud_region(grid):
    server = grid(shapes.metadata("aws", "eu-west-1"))
    assert FetchProcess().run_job({"locate": server.url}) == "aws:eu-west-1"


def test_a_token_is_in_no_argument_and_in_no_job(grid, monkeypatch, tmp_path):
    monkeypatch.setenv(TOKEN_VARIABLE, TOKEN)
    given = []
    real = subprocess.Popen

    class Popen(real):
        def __init__(self, arguments, **more):
            given.extend(arguments)
            super().__init__(arguments, **more)

        def communicate(self, sent=None, timeout=None):
            given.append(sent.decode())
            return super().communicate(sent, timeout)

    monkeypatch.setattr(fetch_process.subprocess, "Popen", Popen)
    server = grid(shapes.electricity_maps([(LAST, 322)]))
    FetchProcess().run_job(job("electricity_maps", url=server.url, zone="DE"))
    assert server.asked[0].headers["auth-token"] == TOKEN
    assert TOKEN not in "".join(given)


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("import os; os._exit(3)", "exited with status 3"),
        ("import os; os.kill(os.getpid(), 9)", "exited with status -9"),
        ("raise SystemExit('no')", "exited with status 1"),
        ("print('hello')", "exited with status 0"),
        ("print('{\"answer\": [')", "exited with status 0"),
    ],
)
def test_a_child_that_dies_is_a_failure(program, source, said):
    wrong = failure(program(source), {})
    assert (wrong.outcome, said in str(wrong)) == ("no_process", True)


def test_a_defect_of_a_source_is_reported_without_its_text(program):
    source = (
        "from exporter.convert.live import __main__ as it\n"
        "def broken(job): raise RuntimeError('s3cret')\n"
        "it._run_job = broken\n"
        "it.main()"
    )
    wrong = failure(program(source), {})
    assert wrong.outcome == "defect"
    assert "RuntimeError" in str(wrong)
    assert "s3cret" not in str(wrong)


def test_a_look_up_that_hangs_is_killed(program, monkeypatch, tmp_path):
    looking = tmp_path / "pid"
    source = (
        "import os, socket, time\n"
        "def hang(*_, **__):\n"
        f"    open({f'{looking}.new'!r}, 'w').write(str(os.getpid()))\n"
        f"    os.rename({f'{looking}.new'!r}, {str(looking)!r})\n"
        "    time.sleep(600)\n"
        "socket.getaddrinfo = hang\n"
        "from exporter.convert.live import __main__ as it\n"
        "it.main()"
    )

    class Popen(subprocess.Popen):
        def communicate(self, sent=None, timeout=None):
            """The time begins when the look-up does, however long this machine takes to it."""
            if sent is not None:
                with self.stdin as job:
                    job.write(sent)
                self.stdin = None
                assert wait_until(looking.exists, SOON)
            return super().communicate(None, timeout)

    monkeypatch.setattr(fetch_process.subprocess, "Popen", Popen)
    monkeypatch.setattr(fetch_process, "FETCH_TIMEOUT_SECONDS", 0.1)
    wrong = failure(program(source), job("uk", url="http://a-name-that-hangs/"))
    assert wrong.outcome == "timeout"
    assert "DNS" in str(wrong)
    with pytest.raises(ProcessLookupError):
        os.kill(int(looking.read_text()), 0)


def test_a_child_under_way_is_ended_by_stop_and_none_is_started_after_it(program, tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    child = program(f"open({str(pipe)!r}, 'w').close()\nimport time\ntime.sleep(600)")
    told = []
    thread = threading.Thread(target=lambda: told.append(failure(child, {})))
    thread.start()
    pipe.read_bytes()  # it runs
    child.stop()
    thread.join(SOON)
    told.append(failure(child, {}))
    assert [wrong.outcome for wrong in told] == ["stopped", "stopped"]


def test_a_child_that_is_being_started_while_all_stops_is_ended_at_once(program, monkeypatch):
    child = program("import time\ntime.sleep(600)")
    start = subprocess.Popen

    def stopped_meanwhile(*given, **options):
        child.stop()
        return start(*given, **options)

    monkeypatch.setattr(fetch_process.subprocess, "Popen", stopped_meanwhile)
    assert failure(child, {}).outcome == "stopped"


def test_a_process_that_cannot_be_started_is_reported(monkeypatch):
    def refuse(*_, **__):
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(fetch_process.subprocess, "Popen", refuse)
    wrong = failure(FetchProcess(), {})
    assert wrong.outcome == "no_process"
    assert "Resource temporarily unavailable" in str(wrong)


def test_a_proxy_is_used_and_not_for_those_that_are_excepted(grid, proxy, monkeypatch):
    server = grid(shapes.uk([(LAST, 263)]))
    elsewhere = server.url.replace("127.0.0.1", "grid.example")
    monkeypatch.setenv("HTTP_PROXY", proxy.url)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
    assert (
        parse_answer(FetchProcess().run_job(job("uk", url=elsewhere))).values[0].grams_per_kwh
        == 263
    )
    assert len(proxy.passed) == 1
    assert (
        parse_answer(FetchProcess().run_job(job("uk", url=server.url))).values[0].grams_per_kwh
        == 263
    )
    assert len(proxy.passed) == 1


def test_a_proxy_that_is_gone_is_named_without_its_password(monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", f"http://ann:{TOKEN}@127.0.0.1:1")
    wrong = failure(FetchProcess(), job("uk", url="http://grid.example"))
    assert wrong.outcome == "unreachable"
    assert "proxy" in str(wrong)
    assert TOKEN not in str(wrong)


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    """One that no bundle of the machine has."""
    return Authority(tmp_path_factory.mktemp("tls"))


@pytest.fixture
def secure(grid, authority):
    """A server with a certificate of it, by the name on it."""
    server = grid(shapes.uk([(LAST, 263)]))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*authority.sign("grid.example", "DNS:grid.example"))
    server._server.socket = context.wrap_socket(server._server.socket, server_side=True)
    port = server.url.rpartition(":")[2]
    return f"https://grid.example:{port}"


def test_a_certificate_that_is_trusted_by_setting_works_through_the_tunnel_of_a_proxy(
    secure, proxy, authority, monkeypatch
):
    monkeypatch.setenv("HTTPS_PROXY", proxy.url)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", authority.path)
    answer = parse_answer(FetchProcess().run_job(job("uk", url=secure)))
    assert answer.values[0].grams_per_kwh == 263
    assert proxy.passed == [secure.removeprefix("https://")]


def test_a_certificate_that_is_not_trusted_is_rejected_with_the_remedy(secure, proxy, monkeypatch):
    monkeypatch.setenv("HTTPS_PROXY", proxy.url)
    wrong = failure(FetchProcess(), job("uk", url=secure))
    assert wrong.outcome == "tls"
    assert "REQUESTS_CA_BUNDLE" in str(wrong)


def test_a_bundle_that_does_not_exist_is_a_failure_and_no_defect(secure, monkeypatch, tmp_path):
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "gone.pem"))
    wrong = failure(FetchProcess(), job("uk", url=secure))
    assert wrong.outcome == "unreachable"
    assert "gone.pem" in str(wrong)


def test_the_output_of_a_fetch_process_is_json(grid):
    server = grid(shapes.uk([(LAST, 263)]))
    said = FetchProcess().run_job(job("uk", url=server.url))
    assert json.loads(json.dumps(said)) == said
