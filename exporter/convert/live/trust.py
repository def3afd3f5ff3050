"""Verification of HTTPS servers: the same on every Python."""

import ssl
from typing import Any

from requests import Session
from requests.adapters import HTTPAdapter
from urllib3.util.ssl_ import create_urllib3_context


class LenientAdapter(HTTPAdapter):
    """HTTPS without VERIFY_X509_STRICT, which urllib3 2.4 sets from Python 3.13 on.

    It rejects a CA without keyUsage or authorityKeyIdentifier. Companies' own CAs, which are named
    by REQUESTS_CA_BUNDLE, often lack them; curl, Go and older Pythons accept those. All other
    checks stay.
    """

    def init_poolmanager(self, *args: Any, **more: Any) -> None:
        """Connections without a proxy."""
        super().init_poolmanager(*args, ssl_context=_context(), **more)

    def proxy_manager_for(self, proxy: str, **more: Any) -> Any:
        """Connections through a proxy."""
        return super().proxy_manager_for(proxy, ssl_context=_context(), **more)


def new_session() -> Session:
    """A session of requests that verifies like that."""
    session = Session()
    session.mount("https://", LenientAdapter())
    return session


def _context() -> ssl.SSLContext:
    context = create_urllib3_context()
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    return context
