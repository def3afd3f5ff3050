"""Which socket is used, and which is not trusted."""

import os

import pytest

from exporter.client import sockets
from exporter.client.sockets import distrust, named_socket, usual_sockets

SOMEBODY = 4_000_000


@pytest.fixture
def place(tmp_path):
    """A path in a directory of ours, with something there."""
    path = tmp_path / "agent.sock"
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
    assert not distrust(str(place))


def test_roots_is_trusted(place, owners):
    owners.update({str(place): 0, str(place.parent): 0})
    assert not distrust(str(place))


def test_a_socket_of_somebody_else_is_not_trusted(place, owners):
    owners[str(place)] = SOMEBODY
    assert f"{place} belongs to user {SOMEBODY}" in distrust(str(place))


def test_a_directory_of_somebody_else_is_not_trusted(place, owners):
    owners[str(place.parent)] = SOMEBODY
    assert f"{place.parent} belongs to user {SOMEBODY}" in distrust(str(place))


def test_a_link_of_somebody_else_to_a_directory_of_ours_is_not_trusted(place, owners, tmp_path):
    link = tmp_path / "link"
    link.symlink_to(place.parent)
    owners[str(link)] = SOMEBODY
    assert distrust(str(link / "agent.sock"))


def test_where_there_is_nothing_there_is_nothing_to_distrust(tmp_path):
    assert not distrust(str(tmp_path / "nothing" / "agent.sock"))


def test_the_named_socket_goes_before_that_of_the_environment(monkeypatch):
    monkeypatch.setenv("EMISSIONS_EXPORTER_EXPOSE_SOCKET", "/env")
    assert (named_socket("/given"), named_socket()) == ("/given", "/env")


def test_a_user_has_a_socket_in_the_runtime_directory(monkeypatch):
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/run/user/7")
    assert usual_sockets()[1] == "/run/user/7/emissions-exporter/agent.sock"


def test_without_a_runtime_directory_it_is_named_for_the_user(monkeypatch):
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    assert usual_sockets()[1].endswith(f"/emissions-exporter-{os.geteuid()}/agent.sock")
