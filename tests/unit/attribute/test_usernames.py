"""User names are looked up in the background."""

import os
import pwd

import pytest

from exporter.attribute.sources import usernames as source
from exporter.attribute.sources.usernames import (
    LOOKUP_TIMEOUT_SECONDS,
    RETRY_SECONDS,
    UsernameCache,
)

NOBODY_HAS = 4_000_000_000


class Directory:
    """Users by uid like getpwuid(3); KeyError for unknown ones."""

    def __init__(self):
        self.names = {}

    def getpwuid(self, uid):
        return pwd.struct_passwd((self.names[uid], "x", uid, uid, "", "/", "/bin/sh"))


@pytest.fixture
def directory(monkeypatch):
    made = Directory()
    monkeypatch.setattr(source, "pwd", made)
    return made


class Clock:
    seconds = 1_000.0

    def __call__(self):
        return self.seconds


def test_a_name_is_empty_until_it_is_looked_up():
    users = UsernameCache()
    uid = os.getuid()
    assert users.name(uid) == ""
    users.look_up()
    assert users.name(uid) == pwd.getpwuid(uid).pw_name


def test_an_unknown_user_is_a_number_and_is_looked_up_once():
    users = UsernameCache()
    woken = []
    users.wake = lambda: woken.append(1)
    assert users.name(NOBODY_HAS) == ""
    for _ in range(3):
        users.look_up()
        assert users.name(NOBODY_HAS) == str(NOBODY_HAS)
    assert woken == [1]


def test_a_user_added_later_is_found(directory):
    clock = Clock()
    users = UsernameCache(clock)
    users.name(1003)
    users.look_up()
    assert users.name(1003) == "1003"
    directory.names[1003] = "ada"
    clock.seconds += RETRY_SECONDS
    assert users.name(1003) == "1003"
    users.look_up()
    assert users.name(1003) == "ada"


def test_a_lookup_that_times_out_returns_the_number(directory):
    clock = Clock()
    users = UsernameCache(clock)
    for seconds, name in (
        (0, ""),
        (LOOKUP_TIMEOUT_SECONDS - 1, ""),
        (1, "1003"),
        (LOOKUP_TIMEOUT_SECONDS, "1003"),
    ):
        clock.seconds += seconds
        assert users.name(1003) == name
    directory.names[1003] = "ada"
    users.look_up()
    assert users.name(1003) == "ada"


def test_a_non_utf8_name_is_sanitized(directory):
    directory.names[1003] = "ada\udcff\n"
    users = UsernameCache()
    users.name(1003)
    users.look_up()
    assert users.name(1003) == "ada"
