"""Before every answer over TCP: the rate, the password; behind it, the headers that are wanted."""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TypeAlias

from exporter.errors import RequestRefused
from exporter.expose.http.bounded_executor import BoundedExecutor
from exporter.expose.http.http1 import HttpRequest, HttpResponse, error_response
from exporter.expose.web_config.basic_auth import Credentials, PasswordChecker, parse_credentials
from exporter.expose.web_config.store import ActiveWebConfig, WebConfigStore
from exporter.expose.web_config.tls import TlsEndpoint

PROBE_PATHS = ("/-/healthy", "/-/ready")
"""Answered without a password and at any rate: they tell nothing, and a refusal kills a pod."""
MAX_PENDING_CHECKS = 4
"""Passwords that may wait for their check, which takes a processor 50 to 300 ms each."""
PASSWORD_TIMEOUT_SECONDS = 5.0
CHALLENGE = ("WWW-Authenticate", 'Basic realm="emissions-exporter", charset="UTF-8"')
CREDENTIALS_REQUIRED = "a user name and a password are asked for, by basic auth"
CREDENTIALS_WRONG = "the user name or the password is wrong"

Handler: TypeAlias = Callable[[HttpRequest], Awaitable[HttpResponse]]


class WebConfigMiddleware:
    """Lets requests through to `handler` by the rules in force. It lives in the event loop."""

    def __init__(self, store: WebConfigStore, handler: Handler) -> None:
        self._store = store
        self._handler = handler
        self._looks = BoundedExecutor("looks at the web config file", threads=1, most=1)
        self._checks = BoundedExecutor("password checks", threads=1, most=MAX_PENDING_CHECKS)
        self._checked: dict[bytes, asyncio.Future[bool]] = {}

    def tls_endpoint(self) -> TlsEndpoint | None:
        """Where a new connection comes in; None where it is not encrypted."""
        self._look()
        return self._store.active.tls_endpoint

    async def answer(self, request: HttpRequest) -> HttpResponse:
        """The answer to any request."""
        self._look()
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
        """Look and check no more."""
        self._looks.close()
        self._checks.close()

    def _look(self) -> None:
        """Have a look begun, if it is time; nobody waits for it."""
        if self._store.is_due() and not self._looks.is_full:
            self._looks.submit_detached(self._store.reload_if_changed)

    async def _admit(self, rules: ActiveWebConfig, request: HttpRequest) -> None:
        """Raises Refused."""
        if rules.bucket is not None and not rules.bucket.take():
            raise RequestRefused(429, "more requests than rate_limit of the web config allows")
        if rules.passwords is None:
            return
        given = parse_credentials(request.headers.get("authorization", ""))
        if given is None:
            raise Unauthorized(CREDENTIALS_REQUIRED)
        if not await self._is_right(rules.passwords, given):
            raise Unauthorized(CREDENTIALS_WRONG)

    async def _is_right(self, passwords: PasswordChecker, given: Credentials) -> bool:
        """Whether the password is right. Raises Refused(503) where too many wait for that."""
        mark = passwords.cache_key(given)
        known = passwords.cached_result(mark)
        if known is not None:
            return known
        check = self._checked.get(mark)
        if check is None:
            check = self._checks.submit(partial(passwords.check, given))
            self._checked[mark] = check
            check.add_done_callback(partial(self._note, passwords, mark))
        try:
            async with asyncio.timeout(PASSWORD_TIMEOUT_SECONDS):
                return await asyncio.shield(check)
        except TimeoutError:
            raise RequestRefused(
                503, "the check of the password takes too long; try again"
            ) from None

    def _note(self, passwords: PasswordChecker, mark: bytes, check: "asyncio.Future[bool]") -> None:
        del self._checked[mark]
        if not check.cancelled() and check.exception() is None:
            passwords.cache_result(mark, right=check.result())


class Unauthorized(RequestRefused):
    """Who asks has not said who it is, or not proven it."""

    def __init__(self, text: str) -> None:
        super().__init__(401, text)
