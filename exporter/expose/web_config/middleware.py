"""Middleware for requests over TCP: rate limit, authentication and configured headers."""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING, TypeAlias

from exporter.errors import RequestRefused
from exporter.expose.http.bounded_executor import BoundedExecutor
from exporter.expose.http.http1 import HttpRequest, HttpResponse, error_response
from exporter.expose.web_config.basic_auth import Credentials, PasswordChecker, parse_credentials
from exporter.expose.web_config.store import ActiveWebConfig, WebConfigStore

if TYPE_CHECKING:
    from exporter.expose.web_config.tls import TlsEndpoint

PROBE_PATHS = ("/-/healthy", "/-/ready")
"""Exempt from authentication and rate limit: a rejected probe would restart the pod.

The responses reveal nothing.
"""
MAX_PENDING_CHECKS, MAX_PENDING_OF_CLIENT = 16, 2
"""Limits of waiting password checks, in all and of one client.

Each takes 50 to 300 ms of CPU time, so that all of them take less than PASSWORD_TIMEOUT_SECONDS.
"""
PASSWORD_TIMEOUT_SECONDS = 5.0
CHALLENGE = ("WWW-Authenticate", 'Basic realm="emissions-exporter", charset="UTF-8"')
CREDENTIALS_REQUIRED = "user name and password required (basic auth)"
CREDENTIALS_WRONG = "wrong user name or password"

Handler: TypeAlias = Callable[[HttpRequest], Awaitable[HttpResponse]]


class WebConfigMiddleware:
    """Applies the active web config before `handler`. Used in the event loop only."""

    def __init__(self, store: WebConfigStore, handler: Handler) -> None:
        self._store = store
        self._handler = handler
        self._reloads = BoundedExecutor("web config reloads", threads=1, most=1)
        self._checks = BoundedExecutor(
            "password checks",
            threads=1,
            most=MAX_PENDING_CHECKS,
            most_of_client=MAX_PENDING_OF_CLIENT,
        )
        self._pending: dict[bytes, asyncio.Future[bool]] = {}

    def tls_endpoint(self) -> "TlsEndpoint | None":
        """Return the TLS endpoint for a new connection; None without TLS."""
        self._reload_if_due()
        return self._store.active.tls_endpoint

    async def answer(self, request: HttpRequest) -> HttpResponse:
        """Handle any request."""
        self._reload_if_due()
        rules = self._store.active
        try:
            if request.path not in PROBE_PATHS:
                await self._admit(rules, request)
            response = await self._handler(request)
        except Unauthorized as error:
            response = error_response(error, CHALLENGE)
        except RequestRefused as error:
            response = error_response(error)
        return response._replace(
            headers=(*response.headers, *rules.headers), policy=rules.policy or response.policy
        )

    def close(self) -> None:
        """Stop reloads and password checks."""
        self._reloads.close()
        self._checks.close()

    def _reload_if_due(self) -> None:
        """Start a reload in the background, if it is due."""
        if self._store.is_due() and not self._reloads.is_full:
            self._reloads.submit_detached(self._store.reload_if_changed)

    async def _admit(self, rules: ActiveWebConfig, request: HttpRequest) -> None:
        """Raises RequestRefused."""
        passwords = rules.passwords
        credentials = parse_credentials(request.headers.get("authorization", ""))
        is_verified = (
            passwords is not None
            and credentials is not None
            and passwords.cached_result(passwords.cache_key(credentials)) is True
        )
        bucket = rules.verified_bucket if is_verified else rules.bucket
        if bucket is not None and not bucket.take():
            raise RequestRefused(429, "rate_limit of the web config exceeded")
        if passwords is None or is_verified:
            return
        if credentials is None:
            raise Unauthorized(CREDENTIALS_REQUIRED)
        if not await self._is_right(passwords, credentials):
            raise Unauthorized(CREDENTIALS_WRONG)

    async def _is_right(self, passwords: PasswordChecker, credentials: Credentials) -> bool:
        """Check a password. Raises RequestRefused(503) if too many checks are waiting."""
        key = passwords.cache_key(credentials)
        cached = passwords.cached_result(key)
        if cached is not None:
            return cached
        check = self._pending.get(key)
        if check is None:
            check = self._checks.submit(partial(passwords.check, credentials))
            self._pending[key] = check
            check.add_done_callback(partial(self._note, passwords, key))
        try:
            async with asyncio.timeout(PASSWORD_TIMEOUT_SECONDS):
                return await asyncio.shield(check)
        except TimeoutError:
            raise RequestRefused(503, "the password check timed out; try again") from None

    def _note(self, passwords: PasswordChecker, key: bytes, check: "asyncio.Future[bool]") -> None:
        del self._pending[key]
        if not check.cancelled() and check.exception() is None:
            passwords.cache_result(key, right=check.result())


class Unauthorized(RequestRefused):
    """The client sent no credentials, or wrong ones."""

    def __init__(self, text: str) -> None:
        super().__init__(401, text)
