"""Which socket is used, and which is not trusted."""

import os

import pytest

from exporter.client import sockets
from exporter.client.sockets import configured_socket, default_sockets, untrusted_reason

SOMEBODY = 4_000_000


@pytest.fixture
def place(tmp_path):
    """A path in a directory of ours, with something there."""
    path = tmp_path / "anybodys" / "agents" / "agent.sock"
    path.parent.mkdir(parents=True)
    path.parent.parent.chmod(0o1777)
    path.touch()
    return path


@pytest.fixture
def owners(monkeypatch):
    """Who owns which path; anything else is as it is."""
    owned, lstat = {}, os.lstat

    def owner(path):
        found = lstat(path)
        uid = owned.get(str(path), found.st_uid)
        return os.stat_result([*found[:4], uid, *found[5:10]])

    monkeypatch.setattr(sockets.os, "lstat", owner)
    return owned


def test_ours_is_trusted(place):
    assert not untrusted_reason(str(place))


def test_roots_is_trusted(place, owners):
    owners.update({str(place): 0, str(place.parent): 0})
    assert not untrusted_reason(str(place))


def test_a_socket_of_somebody_else_is_not_trusted(place, owners):
    owners[str(place)] = SOMEBODY
    assert f"{place} belongs to user {SOMEBODY}" in untrusted_reason(str(place))


def test_a_directory_of_somebody_else_is_not_trusted(place, owners):
    owners[str(place.parent)] = SOMEBODY
    assert f"{place.parent} belongs to user {SOMEBODY}" in untrusted_reason(str(place))


def test_what_only_root_could_have_put_there_is_trusted(place, owners):
    place.parent.parent.chmod(0o755)
    owners.update({str(place.parent.parent): 0, str(place.parent): SOMEBODY, str(place): SOMEBODY})
    assert not untrusted_reason(str(place))


@pytest.mark.parametrize("mode", [0o1777, 0o775])
def test_what_others_could_have_put_there_is_not_trusted(place, owners, mode):
    place.parent.parent.chmod(mode)
    owners.update({str(place.parent.parent): 0, str(place.parent): SOMEBODY})
    assert untrusted_reason(str(place))


def test_a_link_of_somebody_else_to_a_directory_of_ours_is_not_trusted(place, owners):
    link = place.parent.parent / "link"
    link.symlink_to(place.parent)
    owners[str(link)] = SOMEBODY
    assert untrusted_reason(str(link / "agent.sock"))


def test_where_there_is_nothing_there_is_nothing_to_distrust(tmp_path):
    assert not untrusted_reason(str(tmp_path / "nothing" / "agent.sock"))


def test_the_named_socket_goes_before_that_of_the_environment(monkeypatch):
    monkeypatch.setenv("EMISSIONS_EXPORTER_EXPOSE_SOCKET", "/env")
    assert (configured_socket("/given"), configured_socket()) == ("/given", "/env")


def test_a_user_has_a_socket_in_the_runtime_directory(monkeypatch):
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/run/user/7")
    assert default_sockets()[1] == "/run/user/7/emissions-exporter/agent.sock"


def test_without_a_runtime_directory_it_is_named_for_the_user(monkeypatch):
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    assert default_sockets()[1].endswith(f"/emissions-exporter-{os.geteuid()}/agent.sock")


def test_where_no_directory_may_be_written_there_is_a_path_all_the_same(monkeypatch):
    def none() -> str:
        raise FileNotFoundError

    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    monkeypatch.setattr("tempfile.gettempdir", none)
    assert sockets.user_socket().endswith("/agent.sock")
