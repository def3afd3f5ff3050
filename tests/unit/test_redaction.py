"""What is said of addresses and errors has no secret in it."""

from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.redaction import Redaction, request_error_text, without_passwords

SECRET = "s3cr3t+token/with=signs"


@pytest.mark.parametrize("spelled", [SECRET, quote(SECRET, safe=""), quote_plus(SECRET)])
def test_a_secret_is_hidden_however_it_is_spelled(spelled):
    assert Redaction(SECRET).clean(f"not {spelled}!") == "not ***!"


@given(st.integers(8, len(SECRET) - 1))
def test_the_beginning_of_a_secret_is_hidden_as_well(length):
    assert SECRET[:8] not in Redaction(SECRET).clean(f"near {SECRET[:length]}")


def test_of_two_secrets_the_longer_is_hidden_whole():
    assert Redaction("abcd", "abcdef").clean("abcdef abcd") == "*** ***"


def test_no_secret_hides_nothing():
    assert Redaction("").clean("as it is") == "as it is"


def test_a_line_has_no_login_and_no_break():
    assert Redaction().line("see\n  http://ada:pw@host/x") == "see http://host/x"
    assert without_passwords("http://ada:pw@host/x and mail@host") == "http://host/x and mail@host"


def test_a_reason_is_without_the_names_of_the_parts_below():
    within = ValueError("<Connection(host='h', port=1): Failed to do it: [Errno 111] refused")
    assert request_error_text(OSError(within)).endswith("Failed to do it: [Errno 111] refused")
    assert request_error_text(OSError("plain")) == "plain"
