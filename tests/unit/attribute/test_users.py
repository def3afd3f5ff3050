"""Names of users are found in the background."""

import os
import pwd

from exporter.attribute.sources.users import UserNames


def test_a_name_is_the_number_until_it_was_looked_up():
    users = UserNames()
    uid = os.getuid()
    assert users.name(uid) == str(uid)
    users.look_up()
    assert users.name(uid) == pwd.getpwuid(uid).pw_name


def test_an_unknown_user_stays_a_number_and_is_asked_for_once():
    users = UserNames()
    woken = []
    users.wake = lambda: woken.append(1)
    for _ in range(3):
        assert users.name(4_000_000_000) == "4000000000"
        users.look_up()
    assert woken == [1]
