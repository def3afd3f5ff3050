"""HTTP for the sources: limits in time and size, and errors that give no secret away.

Proxies and certificates come from the environment, as everywhere: `HTTPS_PROXY`, `NO_PROXY`,
`REQUESTS_CA_BUNDLE`.
"""

import json
from base64 import b64encode
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit

import requests
from urllib3.exceptions import HTTPError, ReadTimeoutError

from exporter import __version__
from exporter.convert.live.source import Answer, LiveSource
from exporter.convert.live.trust import new_session
from exporter.errors import FetchFailed
from exporter.redaction import Redaction, reason

CONNECT_SECONDS, READ_SECONDS = 5.0, 10.0
LARGEST_BYTES = 4 << 20
SHOWN_CHARACTERS = 200
OUTCOMES = {
    400: "refused",
    401: "unauthorized",
    403: "unauthorized",
    404: "not_found",
    429: "rate_limited",
}
EXPLANATIONS = ("error", "message", "detail")
"""Where the sources say why they refuse."""
REMEDIES = {
    "unauthorized": "check the token, and that it may read this zone",
    "rate_limited": "it is asked more slowly now; does something else use the same key?",
    "not_found": "check the zone and the address",
}


def answer(source: LiveSource, now: float, since: float) -> Answer:
    """What the source answers. Raises FetchFailed without secrets, wherever it was raised."""
    session = Session(now)
    try:
        return source.fetch(session, now, since)
    except FetchFailed as failure:
        text = session.without_secrets(str(failure))
        raise FetchFailed(failure.outcome, text, failure.retry_after_seconds) from None


class Session:
    """Asks one source; `now` is the wall clock, for a `Retry-After` that is a date."""

    def __init__(self, now: float) -> None:
        self._now = now
        self._redaction = Redaction()
        self._session = new_session()
        self._session.headers["User-Agent"] = f"emissions-exporter/{__version__}"

    def hide(self, secret: str) -> str:
        """The secret; it is left out of every text of an error from now on."""
        return self._redaction.hide(secret)

    def without_secrets(self, text: str) -> str:
        """The text without what is hidden."""
        return self._redaction.clean(text)

    def get(
        self,
        url: str,
        query: Mapping[str, str] | None = None,
        *,
        headers: Mapping[str, str] | None = None,
        login: tuple[str, str] | None = None,
    ) -> Any:
        """The JSON document at `url`. Raises FetchFailed.

        A redirect is an error: a token is for the host that it was given for.
        """
        who = _shown(url)
        if login:
            self.hide(b64encode(":".join(login).encode()).decode())
        try:
            with self._session.get(
                url,
                params=query,
                headers=headers,
                # Else a ~/.netrc replaces the token.
                auth=login or (_unchanged if headers else None),
                timeout=(CONNECT_SECONDS, READ_SECONDS),
                allow_redirects=False,
                stream=True,
            ) as response:
                if response.status_code != requests.codes.ok:
                    raise self._refusal(response, who)
                body = self._body(response, who)
        except requests.Timeout:
            raise FetchFailed("timeout", f"{who} did not answer in time") from None
        except requests.exceptions.SSLError as error:
            raise FetchFailed(
                "tls",
                f"{who}: its certificate is not trusted; behind a proxy that has one of its own, "
                f"set REQUESTS_CA_BUNDLE ({self._clean(error)})",
            ) from None
        except requests.exceptions.ProxyError as error:
            raise FetchFailed("unreachable", f"{who}: the proxy: {self._clean(error)}") from None
        # A bundle of certificates that is missing is a plain OSError, as RequestException is.
        except (OSError, HTTPError, ValueError) as error:
            if isinstance(next(iter(error.args), None), ReadTimeoutError):
                raise FetchFailed("timeout", f"{who} stopped in its answer") from None
            said = self._clean(reason(error))
            raise FetchFailed("unreachable", f"{who} cannot be reached: {said}") from None
        try:
            return json.loads(body)
        except (ValueError, RecursionError):
            raise FetchFailed(
                "bad_answer", f"{who} answered with something else than JSON"
            ) from None

    def _body(self, response: requests.Response, who: str) -> bytes:
        body = bytearray()
        for piece in response.iter_content(1 << 16):
            body += piece
            if len(body) > LARGEST_BYTES:
                raise FetchFailed("bad_answer", f"{who} answered with more than 4 MiB")
        return bytes(body)

    def _refusal(self, response: requests.Response, who: str) -> FetchFailed:
        status = response.status_code
        outcome = OUTCOMES.get(status, "server_error" if status >= 500 else "refused")
        detail = self._detail(response, who)
        said = f": {detail}" if detail else ""
        remedy = f"; {REMEDIES[outcome]}" if outcome in REMEDIES else ""
        wait = _seconds(response.headers.get("Retry-After", ""), self._now)
        return FetchFailed(outcome, f"{who} answered {status}{said}{remedy}", wait)

    def _detail(self, response: requests.Response, who: str) -> str:
        if response.is_redirect:
            there = self._clean(_shown(response.headers.get("Location", "")))
            return f"it has moved to {there}"
        try:
            document = json.loads(self._body(response, who))
            found = next(filter(None, map(document.get, EXPLANATIONS)), "")
            found = found.get("message", "") if isinstance(found, dict) else found
        except (ValueError, RecursionError, AttributeError, FetchFailed, requests.RequestException):
            return ""
        return self._clean(found) if isinstance(found, str) else ""

    def _clean(self, said: object) -> str:
        """One short line without secrets; what a query holds is left out."""
        words = [word.partition("?")[0] for word in self._redaction.line(said).split()]
        return " ".join(words)[:SHOWN_CHARACTERS]


def _shown(url: str) -> str:
    """Host and path; the query may hold a secret, and the host a password."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return "an address that is none"
    return f"{parts.hostname or ''}{parts.path}"


def _unchanged(request: requests.PreparedRequest) -> requests.PreparedRequest:
    return request


def _seconds(retry_after: str, now: float) -> float:
    """A `Retry-After`, which is a number of seconds or a date; 0 where it is neither."""
    if retry_after.isdecimal():
        return float(retry_after[:9])
    try:
        return max(0.0, parsedate_to_datetime(retry_after).timestamp() - now)
    except (TypeError, ValueError, OverflowError):
        return 0.0
