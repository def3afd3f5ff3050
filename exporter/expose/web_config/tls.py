"""The TLS context built from `tls_server_config`, and verification of client names."""

import calendar
import ipaddress
import os
import re
import ssl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from exporter.errors import ConfigError
from exporter.expose.web_config.files import TrackedFiles
from exporter.expose.web_config.schema import (
    CIPHERS,
    CURVES,
    REQUIRING_CLIENT_AUTH,
    TLS_VERSIONS,
    VERIFYING_CLIENT_AUTH,
    TlsServerConfig,
)

SEQUENCE, INTEGER, VERSION_TAG, UTC_TIME = 0x30, 0x02, 0xA0, 0x17
BEFORE_VALIDITY = 2
"""Fields between the serial number and the validity: signature algorithm and issuer, RFC 5280."""
DER_TIME = re.compile(r"([0-9]{4})([0-9]{2})([0-9]{2})([0-9]{2})([0-9]{2})([0-9]{2})Z")


def certificate_validity(der: bytes) -> tuple[float, float]:
    """Return start and end of the validity, seconds since the Unix epoch. Raises ValueError."""
    try:
        return _validity(der)
    except (IndexError, OverflowError):
        raise ValueError("the certificate is truncated") from None


def _validity(der: bytes) -> tuple[float, float]:
    certificate, _ = _read_element(der, SEQUENCE)
    part, _ = _read_element(certificate, SEQUENCE)
    if part[0] == VERSION_TAG:
        _, part = _read_element(part, VERSION_TAG)
    _, part = _read_element(part, INTEGER)
    for _ in range(BEFORE_VALIDITY):
        _, part = _read_element(part, SEQUENCE)
    times, _ = _read_element(part, SEQUENCE)
    first, rest = _read_element(times, times[0])
    last, _ = _read_element(rest, rest[0])
    return _parse_der_time(first, times[0]), _parse_der_time(last, rest[0])


def _read_element(data: bytes, tag: int) -> tuple[bytes, bytes]:
    """Return the content of the first DER element, and the data after it."""
    if data[0] != tag:
        raise ValueError("this is not a certificate")
    start, length = 2, data[1]
    if length & 0x80:
        start += length & 0x7F
        length = int.from_bytes(data[2:start])
    return data[start : start + length], data[start + length :]


def _parse_der_time(text: bytes, tag: int) -> float:
    digits = text.decode("latin-1")
    if tag == UTC_TIME:  # two digits for the year: from 1950 until 2049
        digits = ("19" if digits >= "5" else "20") + digits
    match = DER_TIME.fullmatch(digits)
    if match is None:
        raise ValueError("the certificate has an invalid time")
    return float(calendar.timegm(time.struct_time((*map(int, match.groups()), 0, 0, 0))))


CERTIFICATE = re.compile(r"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)
PRIVATE_KEY = re.compile(r"-----BEGIN ([A-Z ]*)PRIVATE KEY-----")


class TlsEndpoint:
    """A TLS context, and the names of which a client certificate must contain one."""

    def __init__(self, context: ssl.SSLContext, allowed_sans: tuple[str, ...]) -> None:
        self.context = context
        self._allowed = {_canonical(name) for name in allowed_sans}

    def rejection_reason(self, certificate: Any) -> str:
        """Return why a client is rejected; empty if it is accepted.

        `certificate` is the client's certificate as returned by `getpeercert`.
        """
        if not self._allowed:
            return ""
        names = [name for _, name in (certificate or {}).get("subjectAltName", ())]
        if self._allowed & {_canonical(name) for name in names}:
            return ""
        shown = ", ".join(names) or "none"
        return f"client_allowed_sans has none of the names in its certificate ({shown:.200})"


def open_tls_endpoint(
    tls: TlsServerConfig, where: str, files: TrackedFiles, now: float
) -> tuple[TlsEndpoint, list[str]]:
    """Build the TLS endpoint; returns it with warnings.

    `where` is the web config file, `now` the wall clock in seconds. Raises ConfigError.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_alpn_protocols(["http/1.1"])
    notes = _set_protocol_options(context, tls, where)
    notes += _load_pair(context, tls, where, files, now)
    notes += _set_client_verification(context, tls, where, files)
    return TlsEndpoint(context, tls.client_allowed_sans), notes


def _set_protocol_options(context: ssl.SSLContext, tls: TlsServerConfig, where: str) -> list[str]:
    notes = []
    minimum = max(TLS_VERSIONS[tls.min_version], ssl.TLSVersion.TLSv1_2)
    if minimum != TLS_VERSIONS[tls.min_version]:
        notes.append(f"{where}: min_version {tls.min_version} is not supported; TLS12 is used")
    if tls.cipher_suites:
        older = [CIPHERS[name] for name in tls.cipher_suites if name in CIPHERS]
        if older:
            context.set_ciphers(":".join(older))
        else:
            minimum = ssl.TLSVersion.TLSv1_3
    context.minimum_version, context.maximum_version = minimum, TLS_VERSIONS[tls.max_version]
    if tls.prefer_server_cipher_suites:
        context.options |= ssl.OP_CIPHER_SERVER_PREFERENCE
    else:
        context.options &= ~ssl.OP_CIPHER_SERVER_PREFERENCE
    curves = [CURVES[name] for name in tls.curve_preferences]
    if len(curves) == 1:
        context.set_ecdh_curve(curves[0])
    elif curves:
        notes.append(
            f"{where}: several curve_preferences are ignored, since Python can set only one; "
            "the TLS library chooses"
        )
    return notes


def _load_pair(
    context: ssl.SSLContext, tls: TlsServerConfig, where: str, files: TrackedFiles, now: float
) -> list[str]:
    certificate, certificate_place = _pem(tls, "cert", where, files)
    key, key_place = _pem(tls, "key", where, files)
    match = CERTIFICATE.search(certificate)
    if match is None:
        raise ConfigError(f"{certificate_place}: has no certificate in PEM (BEGIN CERTIFICATE)")
    kind = PRIVATE_KEY.search(key)
    if kind is None:
        raise ConfigError(f"{key_place}: has no private key in PEM (BEGIN PRIVATE KEY)")
    if "ENCRYPTED" in kind[1] or "Proc-Type: 4,ENCRYPTED" in key:
        raise ConfigError(
            f"{key_place}: is encrypted, and a passphrase cannot be entered; "
            "decrypt it: openssl pkey -in OLD -out NEW"
        )
    try:
        first, last = certificate_validity(ssl.PEM_cert_to_DER_cert(match[0]))
    except ValueError as error:
        raise ConfigError(f"{certificate_place}: cannot be read: {error}") from None
    try:
        with _memory_file(certificate) as certificates, _memory_file(key) as keys:
            context.load_cert_chain(certificates, keys)
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise ConfigError(
                f"{key_place}: does not belong to the certificate, {certificate_place}"
            ) from None
        raise ConfigError(
            f"{certificate_place}, or {key_place}: was rejected by the TLS library: "
            f"{_ssl_reason(error)}"
        ) from None
    if now > last:
        return [f"{certificate_place}: the certificate has expired; clients will reject it"]
    if now < first:
        return [f"{certificate_place}: the certificate is not valid yet; clients will reject it"]
    return []


def _set_client_verification(
    context: ssl.SSLContext, tls: TlsServerConfig, where: str, files: TrackedFiles
) -> list[str]:
    kind = tls.client_auth_type
    if kind == "RequestClientCert":
        effect = "has no effect; no certificate is requested"
        return [f"{where}: client_auth_type {kind} {effect}"]
    if kind not in (*VERIFYING_CLIENT_AUTH, *REQUIRING_CLIENT_AUTH):
        return []
    authorities, place = _pem(tls, "client_ca", where, files)
    blocks = CERTIFICATE.findall(authorities)
    if not blocks:
        raise ConfigError(f"{place}: has no certificate in PEM (BEGIN CERTIFICATE)")
    try:
        context.load_verify_locations(cadata="\n".join(blocks))
    except ssl.SSLError as error:
        raise ConfigError(
            f"{place}: was rejected by the TLS library: {_ssl_reason(error)}"
        ) from None
    context.verify_mode = ssl.CERT_REQUIRED if kind in REQUIRING_CLIENT_AUTH else ssl.CERT_OPTIONAL
    if kind in VERIFYING_CLIENT_AUTH:
        return []
    return [f"{where}: client_auth_type {kind}: client certificates are verified as well"]


def _pem(tls: TlsServerConfig, name: str, where: str, files: TrackedFiles) -> tuple[str, str]:
    """Return the text given inline or as a file, and its location."""
    if path := getattr(tls, f"{name}_file"):
        what = f"{where}: {name}_file"
        return files.read(path, what, secret=name == "key"), f"{what} {path}"
    return getattr(tls, name), f"{where}: tls_server_config.{name}"


@contextmanager
def _memory_file(text: str, descriptors: str = "/proc/self/fd") -> Iterator[str]:
    """Provide text as a path, for a library that reads only files; no key is written to disk."""
    handle = os.memfd_create("pem")
    try:
        os.write(handle, text.encode())
        yield f"{descriptors}/{handle}"
    finally:
        os.close(handle)


def _canonical(name: str) -> str:
    """Normalize a name for comparison; IP addresses have several notations."""
    try:
        return str(ipaddress.ip_address(name))
    except ValueError:
        return name


def _ssl_reason(error: ssl.SSLError) -> str:
    return (error.reason or "unknown reason").replace("_", " ").lower()
