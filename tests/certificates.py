"""Certificates for tests, made by the openssl command.

They have what RFC 5280 asks for (4.2.1.1 to 4.2.1.3 and 4.2.1.9), which is what OpenSSL verifies
with X509_V_FLAG_X509_STRICT, a default of Python's since 3.13: see openssl-verification-options(1).
"""

import shutil
import subprocess
from pathlib import Path

import pytest

CA_EXTENSIONS = (
    "subjectKeyIdentifier=hash",
    "basicConstraints=critical,CA:TRUE",
    "keyUsage=critical,keyCertSign,cRLSign",
)
LEAF_EXTENSIONS = (
    "subjectKeyIdentifier=hash",
    "authorityKeyIdentifier=keyid:always",
    "basicConstraints=critical,CA:FALSE",
    "keyUsage=critical,digitalSignature",
)
NO_DEFAULTS = "[req]\ndistinguished_name=dn\n[dn]\n"
"""Configuration in place of the machine's, which adds extensions of its own."""


class Authority:
    """One that signs whatever it is asked to, into a directory of its own."""

    def __init__(self, directory: Path, name: str = "ca") -> None:
        if shutil.which("openssl") is None:
            pytest.skip("no openssl on this machine: apt-get install openssl")
        directory.mkdir(parents=True, exist_ok=True)
        self.directory = directory
        self.path = str(directory / f"{name}.crt")
        self._key = str(directory / f"{name}.key")
        self._make(self._key, self.path, name, CA_EXTENSIONS)

    def sign(self, name: str, *sans: str, file: str = "") -> tuple[str, str]:
        """Paths of a certificate and its key; `sans` as `DNS:a` and `IP:127.0.0.1`."""
        certificate, key = (str(self.directory / f"{file or name}.{end}") for end in ("crt", "key"))
        names = (f"subjectAltName={','.join(sans)}",) if sans else ()
        signed = ("-CA", self.path, "-CAkey", self._key)
        self._make(key, certificate, name, (*LEAF_EXTENSIONS, *names), *signed)
        return certificate, key

    def _make(
        self, key: str, certificate: str, name: str, extensions: tuple[str, ...], *more: str
    ) -> None:
        config = self.directory / "openssl.cnf"
        config.write_text(NO_DEFAULTS)
        subprocess.run(
            [
                *("openssl", "req", "-x509", "-config", config, "-newkey", "ec", "-pkeyopt"),
                *("ec_paramgen_curve:prime256v1", "-nodes", "-days", "30"),
                *("-subj", f"/CN={name}", "-keyout", key, "-out", certificate, *more),
                *(part for extension in extensions for part in ("-addext", extension)),
            ],
            check=True,
            capture_output=True,
        )
        Path(key).chmod(0o600)
