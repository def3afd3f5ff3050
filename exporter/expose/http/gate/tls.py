"""From the settings of TLS to what connections are opened with."""

import ipaddress
import os
import re
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from exporter.errors import ConfigError
from exporter.expose.http.gate.certificate import validity
from exporter.expose.http.gate.files import Files
from exporter.expose.http.gate.names import CIPHERS, CURVES, VERSIONS
from exporter.expose.http.gate.schema import REQUIRING, VERIFYING, Tls

CERTIFICATE = re.compile(r"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)
KEY = re.compile(r"-----BEGIN ([A-Z ]*)PRIVATE KEY-----")


class Entrance:
    """Where TLS clients come in: a context, and the names of which a client has to have one."""

    def __init__(self, context: ssl.SSLContext, allowed_sans: tuple[str, ...]) -> None:
        self.context = context
        self._allowed = {_canonical(name) for name in allowed_sans}

    def refuses(self, certificate: Any) -> str:
        """Why a client with this certificate, as `getpeercert` gives it, is refused; "" if not."""
        if not self._allowed:
            return ""
        names = [name for _, name in (certificate or {}).get("subjectAltName", ())]
        if self._allowed & {_canonical(name) for name in names}:
            return ""
        shown = ", ".join(names) or "none"
        return f"client_allowed_sans has none of the names in its certificate ({shown:.200})"


def open_entrance(tls: Tls, where: str, files: Files, now: float) -> tuple[Entrance, list[str]]:
    """What connections are opened with, and what a person should know about it.

    `where` is the web config file, `now` the wall clock in seconds. Raises ConfigError.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_alpn_protocols(["http/1.1"])
    notes = _choose(context, tls, where)
    notes += _load_pair(context, tls, where, files, now)
    notes += _ask_clients(context, tls, where, files)
    return Entrance(context, tls.client_allowed_sans), notes


def _choose(context: ssl.SSLContext, tls: Tls, where: str) -> list[str]:
    notes = []
    least = max(VERSIONS[tls.min_version], ssl.TLSVersion.TLSv1_2)
    if least != VERSIONS[tls.min_version]:
        notes.append(f"{where}: min_version {tls.min_version} is not spoken; TLS12 is the least")
    if tls.cipher_suites:
        older = [CIPHERS[name] for name in tls.cipher_suites if name in CIPHERS]
        if older:
            context.set_ciphers(":".join(older))
        else:
            least = ssl.TLSVersion.TLSv1_3
    context.minimum_version, context.maximum_version = least, VERSIONS[tls.max_version]
    if tls.prefer_server_cipher_suites:
        context.options |= ssl.OP_CIPHER_SERVER_PREFERENCE
    else:
        context.options &= ~ssl.OP_CIPHER_SERVER_PREFERENCE
    curves = [CURVES[name] for name in tls.curve_preferences]
    if len(curves) == 1:
        context.set_ecdh_curve(curves[0])
    elif curves:
        notes.append(
            f"{where}: of several curve_preferences none is set, since Python can set only one; "
            "the TLS library chooses"
        )
    return notes


def _load_pair(
    context: ssl.SSLContext, tls: Tls, where: str, files: Files, now: float
) -> list[str]:
    certificate, certificate_place = _pem(tls, "cert", where, files)
    key, key_place = _pem(tls, "key", where, files)
    found = CERTIFICATE.search(certificate)
    if found is None:
        raise ConfigError(f"{certificate_place}: has no certificate in PEM (BEGIN CERTIFICATE)")
    kind = KEY.search(key)
    if kind is None:
        raise ConfigError(f"{key_place}: has no private key in PEM (BEGIN PRIVATE KEY)")
    if "ENCRYPTED" in kind[1] or "Proc-Type: 4,ENCRYPTED" in key:
        raise ConfigError(
            f"{key_place}: is encrypted, and nobody is there to be asked for its passphrase; "
            "write it without one: openssl pkey -in OLD -out NEW"
        )
    try:
        first, last = validity(ssl.PEM_cert_to_DER_cert(found[0]))
    except ValueError as error:
        raise ConfigError(f"{certificate_place}: cannot be read: {error}") from None
    try:
        with _in_memory(certificate) as certificates, _in_memory(key) as keys:
            context.load_cert_chain(certificates, keys)
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise ConfigError(
                f"{key_place}: does not belong to the certificate, {certificate_place}"
            ) from None
        raise ConfigError(
            f"{certificate_place}, or {key_place}: is not taken by the TLS library: {_words(error)}"
        ) from None
    if now > last:
        return [f"{certificate_place}: the certificate has expired; clients will refuse it"]
    if now < first:
        return [f"{certificate_place}: the certificate is not valid yet; clients will refuse it"]
    return []


def _ask_clients(context: ssl.SSLContext, tls: Tls, where: str, files: Files) -> list[str]:
    kind = tls.client_auth_type
    if kind == "RequestClientCert":
        said = "keeps nobody out; no certificate is asked for"
        return [f"{where}: client_auth_type {kind} {said}"]
    if kind not in (*VERIFYING, *REQUIRING):
        return []
    authorities, place = _pem(tls, "client_ca", where, files)
    found = CERTIFICATE.findall(authorities)
    if not found:
        raise ConfigError(f"{place}: has no certificate in PEM (BEGIN CERTIFICATE)")
    try:
        context.load_verify_locations(cadata="\n".join(found))
    except ssl.SSLError as error:
        raise ConfigError(f"{place}: is not taken by the TLS library: {_words(error)}") from None
    context.verify_mode = ssl.CERT_REQUIRED if kind in REQUIRING else ssl.CERT_OPTIONAL
    if kind in VERIFYING:
        return []
    return [f"{where}: client_auth_type {kind}: certificates of clients are verified all the same"]


def _pem(tls: Tls, name: str, where: str, files: Files) -> tuple[str, str]:
    """The text that is given inline or as a file, and the place where it stands."""
    if path := getattr(tls, f"{name}_file"):
        what = f"{where}: {name}_file"
        return files.read(path, what, secret=name == "key"), f"{what} {path}"
    return getattr(tls, name), f"{where}: tls_server_config.{name}"


@contextmanager
def _in_memory(text: str, descriptors: str = "/proc/self/fd") -> Iterator[str]:
    """A path of the text, for a library that reads files only; no key is written to a disk."""
    handle = os.memfd_create("pem")
    try:
        os.write(handle, text.encode())
        yield f"{descriptors}/{handle}"
    finally:
        os.close(handle)


def _canonical(name: str) -> str:
    """A name as it is compared; addresses can be spelled in several ways."""
    try:
        return str(ipaddress.ip_address(name))
    except ValueError:
        return name


def _words(error: ssl.SSLError) -> str:
    return (error.reason or "unknown reason").replace("_", " ").lower()
