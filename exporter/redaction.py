"""What may be said of an address, an answer or an error: no password, and no secret."""

import re
from urllib.parse import quote, quote_plus

REDACTED = "***"
URL_CREDENTIALS = re.compile(r"//[^/@\s]*@")
"""User and password in an address."""
MIN_REDACTED_PREFIX = 8
"""From so many on, the beginning of a secret is as good as hidden: quotations are cut."""


def without_passwords(text: str) -> str:
    """A text whose addresses say no user and no password."""
    return URL_CREDENTIALS.sub("//", text)


def request_error_text(error: Exception) -> str:
    """Why a request of `requests` failed, without the names that urllib3 has for its own parts."""
    within = getattr(next(iter(error.args), None), "reason", None) or error
    return str(within).rpartition("): ")[2]


class Redaction:
    """Secrets that are left out of texts, in every spelling that an address may give them."""

    def __init__(self, *hidden_environments: str) -> None:
        self._secrets: list[str] = []
        for secret in hidden_environments:
            self.hide(secret)

    def hide(self, secret: str) -> str:
        """The secret; it is left out of every text from now on. "" is none."""
        spelled = {secret, " ".join(secret.split()), quote(secret, safe=""), quote_plus(secret)}
        self._secrets = sorted({*self._secrets, *spelled} - {""}, key=len, reverse=True)
        return secret

    def clean(self, text: str) -> str:
        """The text without what is hidden, and without the beginnings of it."""
        for secret in self._secrets:
            text = text.replace(secret, REDACTED)
        for secret in self._secrets:
            for length in range(len(secret) - 1, MIN_REDACTED_PREFIX - 1, -1):
                text = text.replace(secret[:length], REDACTED)
        return text

    def line(self, said: object) -> str:
        """One line of it, without passwords as well."""
        return without_passwords(self.clean(" ".join(str(said).split())))
