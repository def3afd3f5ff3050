"""Removal of passwords and secrets from addresses, responses and error messages."""

import re
from urllib.parse import quote, quote_plus

REDACTED = "***"
URL_CREDENTIALS = re.compile(r"//[^/@\s]*@")
"""User and password in a URL."""
MIN_REDACTED_PREFIX = 8
"""Minimum length of a prefix of a secret that is redacted; quoted texts may be cut off."""


def without_passwords(text: str) -> str:
    """Return the text without user and password in its URLs."""
    return URL_CREDENTIALS.sub("//", text)


def request_error_text(error: Exception) -> str:
    """Return why a request of `requests` failed, without the names of urllib3's objects."""
    within = getattr(next(iter(error.args), None), "reason", None) or error
    return str(within).rpartition("): ")[2]


class Redaction:
    """Secrets to redact in texts, in every encoding that a URL may use."""

    def __init__(self, *secrets: str) -> None:
        self._secrets: list[str] = []
        for secret in secrets:
            self.hide(secret)

    def hide(self, secret: str) -> str:
        """Redact `secret` in all texts from now on, unless it is ""; return it."""
        spelled = {secret, " ".join(secret.split()), quote(secret, safe=""), quote_plus(secret)}
        self._secrets = sorted({*self._secrets, *spelled} - {""}, key=len, reverse=True)
        return secret

    def clean(self, text: str) -> str:
        """Return the text without the secrets and without prefixes of them."""
        for secret in self._secrets:
            text = text.replace(secret, REDACTED)
        for secret in self._secrets:
            for length in range(len(secret) - 1, MIN_REDACTED_PREFIX - 1, -1):
                text = text.replace(secret[:length], REDACTED)
        return text

    def line(self, value: object) -> str:
        """Return `str(value)` as one line, redacted and without passwords in URLs."""
        return without_passwords(self.clean(" ".join(str(value).split())))
