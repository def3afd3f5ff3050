"""Redaction of secrets in addresses and errors."""

from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.redaction import Redaction, request_error_text, without_passwords

SECRET = "s3cr3t+token/with=signs"


@pytest.mark.parametrize("spelled", [SECRET, quote(SECRET, safe=""), quote_plus(SECRET)])
def test_a_secret_is_redacted_in_every_encoding(spelled):
    assert Redaction(SECRET).clean(f"not {spelled}!") == "not ***!"


@given(st.integers(8, len(SECRET) - 1))
def test_a_prefix_of_a_secret_is_redacted(length):
    assert SECRET[:8] not in Redaction(SECRET).clean(f"near {SECRET[:length]}")


def test_the_longer_of_two_secrets_is_redacted_first():
    assert Redaction("abcd", "abcdef").clean("abcdef abcd") == "*** ***"


def test_an_empty_secret_redacts_nothing():
    assert Redaction("").clean("as it is") == "as it is"


def test_a_line_has_no_credentials_and_no_line_break():
    assert Redaction().line("see\n  http://ada:pw@host/x") == "see http://host/x"
    assert without_passwords("http://ada:pw@host/x and mail@host") == "http://host/x and mail@host"


def test_an_error_text_has_no_names_of_urllib3_objects():
    within = ValueError("<Connection(host='h', port=1): Failed to do it: [Errno 111] refused")
    assert request_error_text(OSError(within)).endswith("Failed to do it: [Errno 111] refused")
    assert request_error_text(OSError("plain")) == "plain"
