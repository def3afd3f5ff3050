"""Before every answer over TCP: the rate, the password; behind it, the headers that are wanted."""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TypeAlias

from exporter.errors import Refused
from exporter.expose.http.desk import Desk
from exporter.expose.http.gate.passwords import Credentials, Passwords, credentials
from exporter.expose.http.gate.store import Rules, Store
from exporter.expose.http.gate.tls import Entrance
from exporter.expose.http.http1 import Request, Response, refusal

PROBES = ("/-/healthy", "/-/ready")
"""Answered without a password and at any rate: they tell nothing, and a refusal kills a pod."""
WAITING = 4
"""Passwords that may wait for their check, which takes a processor 50 to 300 ms each."""
PATIENCE_SECONDS = 5.0
CHALLENGE = ("WWW-Authenticate", 'Basic realm="emissions-exporter", charset="UTF-8"')
WHO = "a user name and a password are asked for, by basic auth"
WRONG = "the user name or the password is wrong"

Handler: TypeAlias = Callable[[Request], Awaitable[Response]]


class Gate:
    """Lets requests through to `handler` by the rules in force. It lives in the event loop."""

    def __init__(self, store: Store, handler: Handler) -> None:
        self._store = store
        self._handler = handler
        self._looks = Desk("looks at the web config file", threads=1, most=1)
        self._checks = Desk("password checks", threads=1, most=WAITING)
        self._checked: dict[bytes, asyncio.Future[bool]] = {}

    def entrance(self) -> Entrance | None:
        """Where a new connection comes in; None where it is not encrypted."""
        self._look()
        return self._store.rules.entrance

    async def answer(self, request: Request) -> Response:
        """The answer to any request."""
        self._look()
        rules = self._store.rules
        try:
            if request.path not in PROBES:
                await self._admit(rules, request)
            response = await self._handler(request)
        except Unknown as error:
            response = refusal(error, CHALLENGE)
        except Refused as error:
            response = refusal(error)
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
            self._looks.leave(self._store.look)

    async def _admit(self, rules: Rules, request: Request) -> None:
        """Raises Refused."""
        if rules.bucket is not None and not rules.bucket.take():
            raise Refused(429, "more requests than rate_limit of the web config allows")
        if rules.passwords is None:
            return
        given = credentials(request.headers.get("authorization", ""))
        if given is None:
            raise Unknown(WHO)
        if not await self._is_right(rules.passwords, given):
            raise Unknown(WRONG)

    async def _is_right(self, passwords: Passwords, given: Credentials) -> bool:
        """Whether the password is right. Raises Refused(503) where too many wait for that."""
        mark = passwords.mark(given)
        known = passwords.known(mark)
        if known is not None:
            return known
        check = self._checked.get(mark)
        if check is None:
            check = self._checks.begin(partial(passwords.check, given))
            self._checked[mark] = check
            check.add_done_callback(partial(self._note, passwords, mark))
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                return await asyncio.shield(check)
        except TimeoutError:
            raise Refused(503, "the check of the password takes too long; try again") from None

    def _note(self, passwords: Passwords, mark: bytes, check: "asyncio.Future[bool]") -> None:
        del self._checked[mark]
        if not check.cancelled() and check.exception() is None:
            passwords.remember(mark, right=check.result())


class Unknown(Refused):
    """Who asks has not said who it is, or not proven it."""

    def __init__(self, text: str) -> None:
        super().__init__(401, text)
