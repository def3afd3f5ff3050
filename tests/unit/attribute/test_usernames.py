"""Names of users are found in the background."""

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
    """Users by number as getpwuid(3) gives them; a KeyError for those that are not there."""

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


def test_there_is_no_name_until_it_was_looked_up():
    users = UsernameCache()
    uid = os.getuid()
    assert users.name(uid) == ""
    users.look_up()
    assert users.name(uid) == pwd.getpwuid(uid).pw_name


def test_a_user_whom_the_directory_does_not_know_is_a_number_and_is_asked_for_once():
    users = UsernameCache()
    woken = []
    users.wake = lambda: woken.append(1)
    assert users.name(NOBODY_HAS) == ""
    for _ in range(3):
        users.look_up()
        assert users.name(NOBODY_HAS) == str(NOBODY_HAS)
    assert woken == [1]


def test_a_user_who_comes_to_the_directory_later_is_found(directory):
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


def test_a_directory_that_does_not_answer_is_waited_for_and_then_the_number_counts(directory):
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


def test_a_name_of_other_bytes_than_text_is_fit_for_a_label(directory):
    directory.names[1003] = "ada\udcff\n"
    users = UsernameCache()
    users.name(1003)
    users.look_up()
    assert users.name(1003) == "ada"
