"""Tokens from files and from the environment."""

import os

import pytest

from exporter.convert.live import credentials
from exporter.errors import ConfigError

VARIABLE = "EMISSIONS_EXPORTER_TEST_TOKEN"


@pytest.fixture
def file(tmp_path):
    def make(content, mode=0o600):
        path = tmp_path / "token"
        path.write_bytes(content)
        path.chmod(mode)
        return str(path)

    return make


@pytest.mark.parametrize("content", [b"t0k3n", b"t0k3n\n", b"  t0k3n\r\n\n"])
def test_a_token_is_the_content_of_its_file(file, content):
    assert credentials.read_credential(file(content), VARIABLE) == "t0k3n"


def test_without_a_file_it_is_what_the_environment_has(monkeypatch):
    monkeypatch.setenv(VARIABLE, " t0k3n ")
    assert credentials.read_credential("", VARIABLE) == "t0k3n"
    assert credentials.check_credential("", VARIABLE) == ()


def test_a_file_goes_before_the_environment(file, monkeypatch):
    monkeypatch.setenv(VARIABLE, "another")
    assert credentials.read_credential(file(b"t0k3n"), VARIABLE) == "t0k3n"


@pytest.mark.parametrize("value", [None, "", "  "])
def test_without_either_both_ways_are_named(monkeypatch, value):
    monkeypatch.delenv(VARIABLE, raising=False)
    if value is not None:
        monkeypatch.setenv(VARIABLE, value)
    with pytest.raises(
        ConfigError, match=f"token_file, or set {VARIABLE} in the exporter's environment"
    ):
        credentials.read_credential("", VARIABLE)
    assert not credentials.has_credential("", VARIABLE)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is empty"),
        (b" \n", "is empty"),
        (b"t0k3n\nt0k3n2", "one line of printable ASCII"),
        (b"t0k3n\x00", "one line of printable ASCII"),
        ("t0k3n\u00e4".encode(), "one line of printable ASCII"),
        (b"t0k3n\xff", "is not text"),
    ],
)
def test_what_is_no_token_is_rejected_by_its_file_and_never_shown(file, content, said):
    path = file(content)
    with pytest.raises(ConfigError, match=said) as raised:
        credentials.read_credential(path, VARIABLE)
    assert path in str(raised.value)
    assert "t0k3n" not in str(raised.value)


def test_two_lines_in_the_environment_are_rejected_and_never_shown(monkeypatch):
    monkeypatch.setenv(VARIABLE, "t0k3n\nt0k3n2")
    with pytest.raises(ConfigError, match=f"{VARIABLE} must be one line") as raised:
        credentials.read_credential("", VARIABLE)
    assert "t0k3n" not in str(raised.value)


def test_a_file_that_is_missing_or_a_directory_is_named_with_the_reason(tmp_path):
    with pytest.raises(
        ConfigError, match=r"gone cannot be read: No such file.*; check that it exists"
    ):
        credentials.read_credential(str(tmp_path / "gone"), VARIABLE)
    with pytest.raises(
        ConfigError, match="is a directory, and a regular file is required; give the path"
    ):
        credentials.read_credential(str(tmp_path), VARIABLE)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
def test_a_file_that_may_not_be_read_is_named_with_the_reason(file):
    with pytest.raises(ConfigError, match="Permission denied"):
        credentials.read_credential(file(b"t0k3n", 0o000), VARIABLE)


def test_a_file_that_the_system_rejects_is_named_with_the_reason(file, monkeypatch):
    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("builtins.open", refuse)
    with pytest.raises(ConfigError, match=r"Permission denied; .*may read it"):
        credentials.read_credential("token", VARIABLE)


@pytest.mark.parametrize(("mode", "notes"), [(0o600, 0), (0o640, 0), (0o644, 1)])
def test_a_file_that_everybody_may_read_makes_a_note(file, mode, notes):
    said = credentials.check_credential(file(b"t0k3n", mode), VARIABLE)
    assert len(said) == notes
    assert all("chmod o-r" in note for note in said)
