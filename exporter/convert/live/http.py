"""HTTP client for intensity sources, with timeouts, a size limit and errors without secrets.

Proxies and CA certificates are configured by the usual environment variables: `HTTPS_PROXY`,
`NO_PROXY`, `REQUESTS_CA_BUNDLE`.
"""

import json
import ssl
from base64 import b64encode
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit

import requests
from requests import Session
from requests.adapters import HTTPAdapter
from urllib3.exceptions import HTTPError, ReadTimeoutError
from urllib3.util.ssl_ import create_urllib3_context

from exporter import __version__
from exporter.convert.sources.base import FetchResult, LiveSource
from exporter.errors import FetchError
from exporter.redaction import Redaction, request_error_text


class LenientAdapter(HTTPAdapter):
    """HTTPS adapter without VERIFY_X509_STRICT, which urllib3 2.4 sets from Python 3.13 on.

    That flag rejects a CA without keyUsage or authorityKeyIdentifier. Companies' own CAs in
    REQUESTS_CA_BUNDLE often lack them; curl, Go and older Pythons accept those. All other checks
    are unchanged.
    """

    def init_poolmanager(self, *args: Any, **more: Any) -> None:
        """Create the pool of connections without a proxy."""
        super().init_poolmanager(*args, ssl_context=_context(), **more)

    def proxy_manager_for(self, proxy: str, **more: Any) -> Any:
        """Create the pool of connections through a proxy."""
        return super().proxy_manager_for(proxy, ssl_context=_context(), **more)


def new_https_session() -> Session:
    """Return a `requests` session that uses LenientAdapter for HTTPS."""
    session = Session()
    session.mount("https://", LenientAdapter())
    return session


def _context() -> ssl.SSLContext:
    context = create_urllib3_context()
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    return context


CONNECT_SECONDS, READ_SECONDS = 5.0, 10.0
MAX_RESPONSE_BYTES = 4 << 20
MAX_ERROR_CHARACTERS = 200
OUTCOMES = {
    400: "refused",
    401: "unauthorized",
    403: "unauthorized",
    404: "not_found",
    429: "rate_limited",
}
ERROR_KEYS = ("error", "message", "detail")
"""Members of error responses with the reason."""
REMEDIES = {
    "unauthorized": "check the token, and that it may read this zone",
    "rate_limited": "it is polled less often now; check whether another program uses the same key",
    "not_found": "check the zone and the URL",
}


def fetch_values(source: LiveSource, now: float, since: float) -> FetchResult:
    """Fetch a source's values. Raises FetchError, without secrets in its text."""
    session = HttpSession(now)
    try:
        return source.fetch(session, now, since)
    except FetchError as failure:
        text = session.redacted(str(failure))
        raise FetchError(failure.outcome, text, failure.retry_after_seconds) from None


class HttpSession:
    """HTTP session for one source; `now` (Unix seconds) is needed for a `Retry-After` date."""

    def __init__(self, now: float) -> None:
        self._now = now
        self._redaction = Redaction()
        self._session = new_https_session()
        self._session.headers["User-Agent"] = f"emissions-exporter/{__version__}"

    def redact(self, secret: str) -> str:
        """Return the secret, and remove it from all error texts from now on."""
        return self._redaction.hide(secret)

    def redacted(self, text: str) -> str:
        """Return the text without secrets."""
        return self._redaction.clean(text)

    def get(
        self,
        url: str,
        query: Mapping[str, str] | None = None,
        *,
        headers: Mapping[str, str] | None = None,
        login: tuple[str, str] | None = None,
    ) -> Any:
        """Return the JSON document at `url`. Raises FetchError.

        A redirect is an error, since a token must not be sent to another host.
        """
        endpoint = _printable_url(url)
        if login:
            self.redact(b64encode(":".join(login).encode()).decode())
        try:
            with self._session.get(
                url,
                params=query,
                headers=headers,
                # Otherwise a ~/.netrc would replace the token.
                auth=login or (_no_netrc_auth if headers else None),
                timeout=(CONNECT_SECONDS, READ_SECONDS),
                allow_redirects=False,
                stream=True,
            ) as response:
                if response.status_code != requests.codes.ok:
                    raise self._refusal(response, endpoint)
                body = self._body(response, endpoint)
        except requests.Timeout:
            raise FetchError("timeout", f"{endpoint} did not respond in time") from None
        except requests.exceptions.SSLError as error:
            raise FetchError(
                "tls",
                f"{endpoint}: its certificate is not trusted; if a proxy replaces certificates, "
                f"set REQUESTS_CA_BUNDLE ({self._clean(error)})",
            ) from None
        except requests.exceptions.ProxyError as error:
            reason = self._clean(error)
            raise FetchError("unreachable", f"{endpoint}: proxy error: {reason}") from None
        # RequestException is an OSError, and so is the error for a missing CA bundle.
        except (OSError, HTTPError, ValueError) as error:
            if isinstance(next(iter(error.args), None), ReadTimeoutError):
                raise FetchError("timeout", f"{endpoint} stopped responding") from None
            reason = self._clean(request_error_text(error))
            raise FetchError("unreachable", f"{endpoint} cannot be reached: {reason}") from None
        try:
            return json.loads(body)
        except (ValueError, RecursionError):
            raise FetchError("bad_answer", f"the response of {endpoint} is not JSON") from None

    def _body(self, response: requests.Response, endpoint: str) -> bytes:
        body = bytearray()
        for piece in response.iter_content(1 << 16):
            body += piece
            if len(body) > MAX_RESPONSE_BYTES:
                raise FetchError("bad_answer", f"the response of {endpoint} is larger than 4 MiB")
        return bytes(body)

    def _refusal(self, response: requests.Response, endpoint: str) -> FetchError:
        status = response.status_code
        outcome = OUTCOMES.get(status, "server_error" if status >= 500 else "refused")
        detail = self._detail(response, endpoint)
        reason = f": {detail}" if detail else ""
        remedy = f"; {REMEDIES[outcome]}" if outcome in REMEDIES else ""
        wait = _retry_after_seconds(response.headers.get("Retry-After", ""), self._now)
        return FetchError(outcome, f"{endpoint} answered {status}{reason}{remedy}", wait)

    def _detail(self, response: requests.Response, endpoint: str) -> str:
        if response.is_redirect:
            location = self._clean(_printable_url(response.headers.get("Location", "")))
            return f"it redirects to {location}"
        try:
            document = json.loads(self._body(response, endpoint))
            reason = next(filter(None, map(document.get, ERROR_KEYS)), "")
            reason = reason.get("message", "") if isinstance(reason, dict) else reason
        except (ValueError, RecursionError, AttributeError, FetchError, requests.RequestException):
            return ""
        return self._clean(reason) if isinstance(reason, str) else ""

    def _clean(self, text: object) -> str:
        """Return the text as one short line without secrets and without query strings."""
        words = [word.partition("?")[0] for word in self._redaction.line(text).split()]
        return " ".join(words)[:MAX_ERROR_CHARACTERS]


def _printable_url(url: str) -> str:
    """Return host and path of a URL; its query and user information may contain secrets."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return "an invalid URL"
    return f"{parts.hostname or ''}{parts.path}"


def _no_netrc_auth(request: requests.PreparedRequest) -> requests.PreparedRequest:
    return request


def _retry_after_seconds(retry_after: str, now: float) -> float:
    """Return the seconds of a `Retry-After`, a number or a date; 0 if it is neither."""
    if retry_after.isdecimal():
        return float(retry_after[:9])
    try:
        return max(0.0, parsedate_to_datetime(retry_after).timestamp() - now)
    except (TypeError, ValueError, OverflowError):
        return 0.0


METADATA_TIMEOUT_SECONDS = 2.0
MAX_REGION_CHARACTERS = 64


def detect_cloud_region(base_url: str) -> str:
    """Return the cloud region, such as `aws:eu-west-1`, from the metadata service at `base_url`.

    Tries Google Cloud, Azure and AWS (IMDSv2) in that order; they share an address, and each
    responds only to its own header. Proxies are not used, since the address is link-local. Raises
    FetchError.
    """
    session = requests.Session()
    session.trust_env = False
    for provider, query in (("gcp", _gcp), ("azure", _azure), ("aws", _aws)):
        try:
            region = query(session, base_url)
        except requests.ConnectionError:
            break
        except requests.RequestException:
            continue
        if region:
            return f"{provider}:{region}"
    raise FetchError("not_found", f"no cloud metadata service responds at {base_url}")


def _gcp(session: requests.Session, base_url: str) -> str:
    zone = _get_text(
        session, f"{base_url}/computeMetadata/v1/instance/zone", {"Metadata-Flavor": "Google"}
    )
    return zone.rpartition("/")[2].rpartition("-")[0]


def _azure(session: requests.Session, base_url: str) -> str:
    path = "/metadata/instance/compute/location?api-version=2021-02-01&format=text"
    return _get_text(session, base_url + path, {"Metadata": "true"})


def _aws(session: requests.Session, base_url: str) -> str:
    answer = session.put(
        f"{base_url}/latest/api/token",
        headers={"X-aws-ec2-metadata-token-ttl-seconds": "60"},
        timeout=METADATA_TIMEOUT_SECONDS,
        allow_redirects=False,
    )
    answer.raise_for_status()
    if not answer.text.isascii() or not answer.text.isprintable():
        return ""
    path = f"{base_url}/latest/meta-data/placement/region"
    return _get_text(session, path, {"X-aws-ec2-metadata-token": answer.text})


def _get_text(session: requests.Session, url: str, headers: dict[str, str]) -> str:
    """Return a short alphanumeric response; "" if it is anything else."""
    answer = session.get(
        url, headers=headers, timeout=METADATA_TIMEOUT_SECONDS, allow_redirects=False
    )
    answer.raise_for_status()
    text = answer.text.strip()
    is_short = len(text) <= MAX_REGION_CHARACTERS and text.isascii()
    is_plain = is_short and text.replace("/", "").replace("-", "").isalnum()
    return text if answer.status_code == requests.codes.ok and is_plain else ""
