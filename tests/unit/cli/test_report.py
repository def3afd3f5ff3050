"""`report --prometheus`: options, and errors as one line."""

import base64

import pytest

from exporter.cli.main import main
from tests.grid.server import GridServer, document

TOKEN = "s3cr3t+token/with=signs"


@pytest.fixture
def server():
    server = GridServer(lambda asked: document({"error": f"{asked.headers}"}, 401))
    yield server
    server.stop()


@pytest.fixture
def said(server, capsys):
    """The one line in which `report` ends."""

    def call(*arguments, code=1):
        assert main(["report", *arguments]) == code
        (line,) = capsys.readouterr().err.splitlines()
        assert TOKEN not in line
        return line

    return call


def test_a_refusal_of_the_server_is_one_line_without_the_token(said, server, tmp_path):
    path = tmp_path / "token"
    path.write_text(TOKEN + "\n")
    line = said("bert", f"--prometheus={server.url}", f"--prometheus.token-file={path}")
    assert "answered with status 401" in line
    assert server.asked[0].headers["authorization"] == f"Bearer {TOKEN}"


def test_the_token_may_be_in_the_environment(said, server, monkeypatch):
    monkeypatch.setenv("EMISSIONS_EXPORTER_PROMETHEUS_TOKEN", TOKEN)
    said("bert", "--prometheus", server.url)
    assert server.asked[0].headers["authorization"] == f"Bearer {TOKEN}"


def test_a_token_file_that_is_not_there_is_an_error(said, server):
    line = said("bert", "--prometheus", server.url, "--prometheus.token-file=/nope")
    assert "token file /nope cannot be read" in line


def test_a_password_in_the_address_is_refused(said):
    assert "must not contain a user, a password" in said(
        "bert", "--prometheus", f"http://u:{TOKEN}@host"
    )


def test_groups_are_not_known_to_prometheus(said, server):
    assert "--group cannot be used with --prometheus" in said(
        "--group=g", "--prometheus", server.url
    )


def test_something_must_be_named(said, server):
    assert "name a RUN, or give --job-id, --user, --namespace or --account" in said(
        "--prometheus", server.url
    )


@pytest.mark.parametrize("text", ["", "30", "0d", "-1d", "d", "1.5h", "forever"])
def test_a_look_back_that_is_none_is_refused(text, server, capsys):
    with pytest.raises(SystemExit):
        main(["report", "bert", "--prometheus", server.url, f"--since={text}"])
    assert "expected a duration such as 12h or 30d" in capsys.readouterr().err


def test_a_final_run_without_a_group_is_refused(said):
    assert said("bert", "--final", "bert-2").endswith(
        "--final requires --group: it selects the final run of a group"
    )


def test_a_password_is_read_from_a_file_or_the_environment(said, server, tmp_path, monkeypatch):
    path = tmp_path / "password"
    path.write_text(f"{TOKEN}\n")
    login = base64.b64encode(f"ada:{TOKEN}".encode()).decode()
    flags = ["bert", f"--prometheus={server.url}", "--prometheus.user=ada"]
    said(*flags, f"--prometheus.password-file={path}")
    monkeypatch.setenv("EMISSIONS_EXPORTER_PROMETHEUS_PASSWORD", TOKEN)
    said(*flags)
    assert [asked.headers["authorization"] for asked in server.asked] == [f"Basic {login}"] * 2


@pytest.mark.parametrize(
    ("flags", "complaint"),
    [
        (["--prometheus.user=ada"], "--prometheus.user requires a password: give its file"),
        (
            ["--prometheus.password-file=/p"],
            "--prometheus.password-file requires --prometheus.user",
        ),
        (
            ["--prometheus.user=ada", "--prometheus.token-file=/t"],
            "--prometheus.user and --prometheus.token-file exclude each other",
        ),
    ],
)
def test_a_login_that_is_not_whole_is_refused(said, server, flags, complaint):
    assert complaint in said("bert", f"--prometheus={server.url}", *flags)
