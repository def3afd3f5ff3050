"""Schema and validation of the web config file of Prometheus' exporter toolkit. Pure."""

import os
import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal, NamedTuple

from exporter import setting
from exporter.errors import ConfigError
from exporter.setting import check_known_keys, from_mapping

CIPHERS = {
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA": "ECDHE-ECDSA-AES128-SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA": "ECDHE-ECDSA-AES256-SHA",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA": "ECDHE-RSA-AES128-SHA",
    "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA": "ECDHE-RSA-AES256-SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256": "ECDHE-ECDSA-AES128-GCM-SHA256",
    "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384": "ECDHE-ECDSA-AES256-GCM-SHA384",
    "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256": "ECDHE-RSA-AES128-GCM-SHA256",
    "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384": "ECDHE-RSA-AES256-GCM-SHA384",
    "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256": "ECDHE-RSA-CHACHA20-POLY1305",
    "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256": "ECDHE-ECDSA-CHACHA20-POLY1305",
}
"""Ciphers up to TLS 1.2 that Go considers secure."""
TLS13_CIPHERS = (
    "TLS_AES_128_GCM_SHA256",
    "TLS_AES_256_GCM_SHA384",
    "TLS_CHACHA20_POLY1305_SHA256",
)
"""Ciphers of TLS 1.3, which cannot be configured."""
CURVES = {
    "CurveP256": "prime256v1",
    "CurveP384": "secp384r1",
    "CurveP521": "secp521r1",
    "X25519": "X25519",
}
TLS_VERSIONS = {
    "TLS10": ssl.TLSVersion.TLSv1,
    "TLS11": ssl.TLSVersion.TLSv1_1,
    "TLS12": ssl.TLSVersion.TLSv1_2,
    "TLS13": ssl.TLSVersion.TLSv1_3,
}


HEADERS: Mapping[str, tuple[str, ...]] = {
    "Content-Security-Policy": (),
    "X-Frame-Options": ("deny", "sameorigin"),
    "X-Content-Type-Options": ("nosniff",),
    "X-XSS-Protection": (),
    "Strict-Transport-Security": (),
}
"""Headers that may be set, with their permitted values; empty: any value."""
BCRYPT_HASH = re.compile(
    r"\$2[abxy]\$(0[4-9]|[12][0-9]|3[01])\$[./A-Za-z0-9]{21}[.Oeu][./A-Za-z0-9]{31}"
)
DURATION = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ns|us|µs|ms|s|m|h)")
SECONDS_OF = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
PEM_SETTINGS = ("cert", "key", "client_ca")
"""Each is given inline, or as a file by the key with the suffix `_file`."""
VERIFYING_CLIENT_AUTH = ("VerifyClientCertIfGiven", "RequireAndVerifyClientCert")
REQUIRING_CLIENT_AUTH = ("RequireAnyClientCert", "RequireClientCert", "RequireAndVerifyClientCert")


@dataclass(frozen=True)
class TlsServerConfig:
    """`tls_server_config`."""

    cert: str = setting.setting(
        "", "PEM", "Certificate of the server, with its intermediate certificates."
    )
    key: str = setting.setting("", "PEM", "Private key of the server.")
    client_ca: str = setting.setting("", "PEM", "CA certificates that sign client certificates.")
    cert_file: str = setting.setting("", "path", "File, instead of `cert`.")
    key_file: str = setting.setting("", "path", "File, instead of `key`.")
    client_ca_file: str = setting.setting("", "path", "File, instead of `client_ca`.")
    client_auth_type: Literal[
        "NoClientCert",
        "RequestClientCert",
        "RequireAnyClientCert",
        "RequireClientCert",
        "VerifyClientCertIfGiven",
        "RequireAndVerifyClientCert",
    ] = setting.setting("NoClientCert", "", "Whether clients must present a certificate.")
    client_allowed_sans: tuple[str, ...] = setting.setting(
        (), "", "Names, one of which the client's certificate must contain."
    )
    min_version: Literal["TLS10", "TLS11", "TLS12", "TLS13"] = setting.setting(
        "TLS12", "", "Minimum TLS version."
    )
    max_version: Literal["TLS10", "TLS11", "TLS12", "TLS13"] = setting.setting(
        "TLS13", "", "Maximum TLS version."
    )
    cipher_suites: tuple[str, ...] = setting.setting(
        (), "", "Ciphers up to TLS 1.2. Empty: the library's default."
    )
    prefer_server_cipher_suites: bool = setting.setting(
        True, "", "Whether the server's order of ciphers takes precedence."
    )
    curve_preferences: tuple[str, ...] = setting.setting(
        (), "", "Curves. Empty: the library's default."
    )


@dataclass(frozen=True)
class HttpServerConfig:
    """`http_server_config`, without its headers."""

    http2: bool = setting.setting(True, "", "Accepted and ignored: only HTTP/1.1 is supported.")


class RateLimit(NamedTuple):
    """`rate_limit`: one request per interval, with bursts."""

    interval_seconds: float
    burst: int


@dataclass(frozen=True)
class WebConfig:
    """A complete web config file."""

    tls: TlsServerConfig | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    users: Mapping[str, str] = field(default_factory=dict)
    """Bcrypt hashes of passwords by user name."""
    rate: RateLimit | None = None
    requests_http2: bool = False


SECTIONS = ("tls_server_config", "http_server_config", "basic_auth_users", "rate_limit")


def parse_web_config(document: Any, where: str) -> WebConfig:
    """Parse a document read from the file `where`, to which its paths are relative.

    Raises ConfigError, which never contains a secret.
    """
    document = _mapping(document, where)
    check_known_keys(document, dict.fromkeys(SECTIONS), where, "")
    given = {name: _mapping(document.get(name), f"{where}: {name}") for name in SECTIONS}
    http = given["http_server_config"]
    headers = _headers(http.pop("headers", None), f"{where}: http_server_config.headers")
    place = f"{where}: http_server_config"
    check_known_keys(http, dict.fromkeys(("http2", "headers")), place, "")
    from_mapping(HttpServerConfig, http, place)
    return WebConfig(
        tls=_tls(given["tls_server_config"], where),
        headers=headers,
        # A user without a hash is an error and must not be dropped.
        users=_users(document.get("basic_auth_users") or {}, f"{where}: basic_auth_users"),
        rate=_rate(given["rate_limit"], f"{where}: rate_limit"),
        requests_http2=http.get("http2") is True,
    )


def _mapping(value: Any, where: str) -> dict[str, Any]:
    """Return a mapping without keys that have no value."""
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise ConfigError(f"{where}: expected keys with values")
    return {str(name): inner for name, inner in value.items() if inner is not None}


def _tls(given: dict[str, Any], file: str) -> TlsServerConfig | None:
    where = f"{file}: tls_server_config"
    if not given:
        return None
    check_known_keys(given, {item.name: None for item in fields(TlsServerConfig)}, where, "")
    for name in PEM_SETTINGS:
        if name in given and not isinstance(given[name], str):
            raise ConfigError(f"{where}.{name}: expected PEM as text, as a block after `|`")
        if given.get(name) and given.get(f"{name}_file"):
            raise ConfigError(f"{where}: set {name} or {name}_file, not both")
    tls = from_mapping(TlsServerConfig, given, where)
    for name in ("cert", "key"):
        if not (given.get(name) or given.get(f"{name}_file")):
            raise ConfigError(f"{where}: TLS requires {name}_file (or {name}), which is missing")
    _check_clients(tls, where)
    _check_choices(tls, where)
    directory = os.path.dirname(file)
    paths: dict[str, Any] = {
        f"{name}_file": os.path.join(directory, path)
        for name in PEM_SETTINGS
        if (path := getattr(tls, f"{name}_file"))
    }
    return replace(tls, **paths)


def _check_clients(tls: TlsServerConfig, where: str) -> None:
    kind = tls.client_auth_type
    has_ca = bool(tls.client_ca or tls.client_ca_file)
    if has_ca and kind == "NoClientCert":
        raise ConfigError(
            f"{where}: client_ca_file is set, but no client certificate is requested; add "
            "client_auth_type: RequireAndVerifyClientCert"
        )
    if not has_ca and kind in (*REQUIRING_CLIENT_AUTH, *VERIFYING_CLIENT_AUTH):
        raise ConfigError(
            f"{where}: client_auth_type {kind} requires client_ca_file, the CA that signs "
            "certificates of clients"
        )
    if tls.client_allowed_sans and kind not in REQUIRING_CLIENT_AUTH:
        raise ConfigError(
            f"{where}: client_allowed_sans requires client_auth_type RequireAndVerifyClientCert; "
            f"with {kind} a client without a certificate is accepted"
        )


def _check_choices(tls: TlsServerConfig, where: str) -> None:
    suites = dict.fromkeys((*CIPHERS, *TLS13_CIPHERS))
    check_known_keys(dict.fromkeys(tls.cipher_suites), suites, f"{where}.cipher_suites", "")
    curves = dict.fromkeys(tls.curve_preferences)
    check_known_keys(curves, CURVES, f"{where}.curve_preferences", "")
    if TLS_VERSIONS[tls.max_version] < TLS_VERSIONS["TLS12"]:
        raise ConfigError(
            f"{where}.max_version: {tls.max_version} is insecure and not supported; use TLS12 or "
            "TLS13"
        )
    if TLS_VERSIONS[tls.min_version] > TLS_VERSIONS[tls.max_version]:
        raise ConfigError(
            f"{where}: min_version {tls.min_version} is above max_version {tls.max_version}"
        )
    only_new = tls.cipher_suites and not set(tls.cipher_suites) & set(CIPHERS)
    if only_new and tls.max_version == "TLS12":
        raise ConfigError(f"{where}.cipher_suites: none of them is a cipher of TLS 1.2")


def _headers(given: Any, where: str) -> dict[str, str]:
    headers = _mapping(given, where)
    check_known_keys(headers, HEADERS, where, "")
    for name, value in headers.items():
        if not isinstance(value, str) or not value.isascii() or not value.isprintable():
            raise ConfigError(f"{where}.{name}: expected one line of ASCII text, in quotes")
        if value and HEADERS[name] and value not in HEADERS[name]:
            raise ConfigError(f"{where}.{name}: expected {' or '.join(HEADERS[name])}")
    return {name: value for name, value in headers.items() if value}


def _users(document: dict[Any, Any], where: str) -> dict[str, str]:
    given = {str(name): hashed for name, hashed in document.items()}
    for name, hashed in given.items():
        if ":" in name:
            raise ConfigError(
                f"{where}: {name!r}: basic auth does not support user names with a colon"
            )
        if (
            isinstance(hashed, str)
            and BCRYPT_HASH.fullmatch(hashed.lstrip(":").strip())
            and (hashed.startswith(":"))
        ):
            raise ConfigError(
                f"{where}.{name}: begins with the colon that htpasswd prints between user and "
                "hash; remove it, or make the hash with `htpasswd -nBC 10 '' | tr -d ':\\n'`"
            )
        if not isinstance(hashed, str) or not BCRYPT_HASH.fullmatch(hashed):
            raise ConfigError(
                f"{where}.{name}: is not a bcrypt hash ($2y$10$ and 53 characters); make one with "
                "`htpasswd -nBC 10 '' | tr -d ':\\n'`"
            )
    return given


def _rate(given: dict[str, Any], where: str) -> RateLimit | None:
    check_known_keys(given, dict.fromkeys(("interval", "burst")), where, "")
    interval_seconds = _seconds(given.get("interval", 0), f"{where}.interval")
    burst = given.get("burst", 0)
    if isinstance(burst, bool) or not isinstance(burst, int) or burst < 0:
        raise ConfigError(f"{where}.burst: expected a whole number of requests")
    if not interval_seconds:
        return None
    if not burst:
        raise ConfigError(f"{where}.burst: is missing or 0, so that no request would be accepted")
    return RateLimit(interval_seconds, burst)


def _seconds(value: Any, where: str) -> float:
    """Parse a duration in Go's notation, `1m30s` or `500ms`; 0 needs no unit."""
    text = str(value)
    if text == "0":
        return 0.0
    if not re.fullmatch(f"(?:{DURATION.pattern})+", text):
        raise ConfigError(f"{where}: expected a duration as 500ms, 1s or 1m30s, found {text!r:.40}")
    return sum(float(number) * SECONDS_OF[unit] for number, unit in DURATION.findall(text))
