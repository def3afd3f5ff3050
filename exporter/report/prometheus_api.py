"""The HTTP interface of Prometheus, as VictoriaMetrics, Mimir and Thanos have it too.

Proxies and certificates come from the environment: `HTTPS_PROXY`, `NO_PROXY`, `REQUESTS_CA_BUNDLE`.
"""

import base64
import json
import math
import time
from collections.abc import Mapping
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import requests
from urllib3.exceptions import HTTPError, ReadTimeoutError

from exporter import __version__
from exporter.convert.live.trust import new_session
from exporter.errors import ConfigError, SourceError
from exporter.redaction import Redaction, reason

TOKEN_VARIABLE = "EMISSIONS_EXPORTER_PROMETHEUS_TOKEN"  # noqa: S105  a name
TOKEN_FLAG = "--prometheus.token-file"  # noqa: S105  a name
PASSWORD_VARIABLE = "EMISSIONS_EXPORTER_PROMETHEUS_PASSWORD"  # noqa: S105  a name
LOGIN_FLAGS = "--prometheus.user and --prometheus.password-file"
TIMEOUT_SECONDS = 60.0
CONNECT_SECONDS = 5.0
LARGEST_BYTES = 64 << 20
SHOWN_CHARACTERS = 200
WHOLE = {"partial_response": "false", "deny_partial_response": "1", "nocache": "1"}
"""Thanos, and VictoriaMetrics, must not leave parts out, nor the last half minute; the rest of
them do not know these words."""
REMEDIES = {
    **dict.fromkeys(
        (401, 403),
        f"; give a token that may read, with {TOKEN_FLAG} or {TOKEN_VARIABLE}, or a user that may, "
        f"with {LOGIN_FLAGS}",
    ),
    **dict.fromkeys((422, 503, 504), "; a shorter --since asks for less"),
    404: "; is a path missing, as /prometheus of Mimir or /select/0/prometheus?",
    429: "; ask again later",
}
Labels = Mapping[str, str]


class Sample(NamedTuple):
    """One series of an answer, and its value."""

    labels: Labels
    value: float


class Api:
    """One server, named by its address without `/api/v1`. Every call raises SourceError."""

    def __init__(
        self,
        url: str,
        secret: str = "",
        timeout_seconds: float = TIMEOUT_SECONDS,
        *,
        user: str = "",
    ) -> None:
        """`secret` is a bearer token, or with a `user` that user's password.

        Raises ConfigError for an address that is none, or that has a secret in it.
        """
        self._url = _checked(url)
        self.who = _shown(self._url)
        if ":" in user:
            raise ConfigError("--prometheus.user: basic auth has no user names with a colon")
        login = base64.b64encode(f"{user}:{secret}".encode()).decode()
        self._authorization = f"Basic {login}" if user else f"Bearer {secret}"
        self._redaction = Redaction(secret, login if user else "")
        self._timeout = timeout_seconds
        self._session = new_session()
        self._session.headers["User-Agent"] = f"emissions-exporter/{__version__}"
        if user or secret:
            self._session.auth = self._signed  # else a ~/.netrc would replace the token

    def query(self, text: str, at: float | None = None) -> list[Sample]:
        """The instant vector that a query is at a moment, or now."""
        moment = {} if at is None else {"time": f"{at:.3f}"}
        found = self._ask("query", {"query": text, **moment})
        kind = found.get("resultType") if isinstance(found, dict) else None
        if kind != "vector":
            raise SourceError(f"{self.who} answered with {kind!r:.30} in place of a vector")
        return [self._sample(row) for row in self._rows(found.get("result"))]

    def series(self, selector: str, since: float, until: float) -> list[Labels]:
        """The labels of each series that was there between two times, or somewhat around them."""
        rows = self._rows(self._ask("series", _range(selector, since, until)))
        return [self._labels(row) for row in rows]

    def has(self, selector: str, since: float, until: float) -> bool:
        """Whether there was any such series; costs little, however many there are."""
        names = self._ask("label/__name__/values", _range(selector, since, until))
        return bool(self._rows(names))

    def _rows(self, found: Any) -> list[Any]:
        if not isinstance(found, list):
            raise SourceError(f"{self.who} answered without the list that was asked for")
        return found

    def _sample(self, row: Any) -> Sample:
        try:
            labels, value = self._labels(row["metric"]), float(row["value"][1])
        except (LookupError, TypeError, ValueError):
            raise SourceError(f"{self.who} answered with a sample that is none") from None
        if not math.isfinite(value):
            raise SourceError(f"{self.who} answered with {value} where a number was asked for")
        return Sample(labels, value)

    def _labels(self, row: Any) -> Labels:
        if not isinstance(row, dict) or not all(isinstance(value, str) for value in row.values()):
            raise SourceError(f"{self.who} answered with a series that has no labels")
        return row

    def _ask(self, what: str, query: Mapping[str, str]) -> Any:
        """The data of a whole answer."""
        status, kind, body = self._get(f"{self._url}/api/v1/{what}", {**query, **WHOLE})
        try:
            document = json.loads(body)
        except (ValueError, RecursionError):
            document = None
        known = document if isinstance(document, dict) else {}
        said = self._clean(known.get("error") or "")
        if status != requests.codes.ok:
            why = f": {said}" if said else ""
            raise SourceError(f"{self.who} answered {status}{why}{REMEDIES.get(status, '')}")
        if document is None:
            page = "a web page" if "html" in kind or body[:1] == b"<" else "something else"
            raise SourceError(
                f"{self.who} answered with {page} where JSON was asked for; is this the address "
                "of Prometheus itself, and not of Grafana or a login?"
            )
        if known.get("status") != "success":
            raise SourceError(f"{self.who} did not answer with success{said and f': {said}'}")
        warnings = known.get("warnings")
        if warnings or known.get("isPartial"):
            said = self._clean("; ".join(map(str, warnings)) if isinstance(warnings, list) else "")
            raise SourceError(f"{self.who} gave a part of the answer only{said and f': {said}'}")
        return known.get("data")

    def _get(self, url: str, query: Mapping[str, str]) -> tuple[int, str, bytes]:
        late = f"{self.who} did not answer within {self._timeout:g} s; a shorter --since asks less"
        deadline = time.monotonic() + self._timeout
        body = bytearray()
        try:
            with self._session.get(
                url,
                params=query,
                timeout=(min(CONNECT_SECONDS, self._timeout), self._timeout),
                allow_redirects=False,  # a token is for the host that it was given for
                stream=True,
            ) as response:
                if response.is_redirect:
                    there = _shown(response.headers.get("Location", ""))
                    raise SourceError(f"{self.who} sends on to {self._clean(there)}; name that")
                for piece in response.iter_content(1 << 16):
                    body += piece
                    if len(body) > LARGEST_BYTES:
                        raise SourceError(f"{self.who} answered with more than 64 MiB")
                    if time.monotonic() > deadline:
                        raise SourceError(late)
                return response.status_code, response.headers.get("Content-Type", ""), bytes(body)
        except requests.Timeout:
            raise SourceError(late) from None
        # A bundle of certificates that is missing is a plain OSError, as RequestException is.
        except (OSError, HTTPError, ValueError) as error:
            if isinstance(next(iter(error.args), None), ReadTimeoutError):
                raise SourceError(late) from None
            said = self._clean(reason(error))
            raise SourceError(f"{self.who} cannot be reached: {said}") from None

    def _signed(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = self._authorization
        return request

    def _clean(self, said: object) -> str:
        """One short line without the token, and without the beginning of it."""
        return self._redaction.line(said)[:SHOWN_CHARACTERS]


def _range(selector: str, since: float, until: float) -> dict[str, str]:
    return {"match[]": selector, "start": f"{since:.3f}", "end": f"{until:.3f}"}


def _checked(url: str) -> str:
    if any(letter in url for letter in "@?#"):  # wherever: a password may have a / in it
        raise ConfigError(
            "--prometheus: the address may have no user, password or ?, which all who list "
            f"processes can read; put a bearer token into {TOKEN_FLAG} or {TOKEN_VARIABLE}, or "
            f"give {LOGIN_FLAGS}"
        )
    try:
        parts = urlsplit(url)
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        good = False
    if not good:
        raise ConfigError("--prometheus: expected an address as http://HOST:9090")
    return url.rstrip("/")


def _shown(url: str) -> str:
    """Host, port and path, where no secret can be in them."""
    if "@" in url:
        return "an address with a login in it"
    parts = urlsplit(url)
    return f"{parts.netloc}{parts.path}"
