"""Certificates for tests, made by the openssl command."""

import shutil
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path

import pytest

COMPLETE = (
    "basicConstraints=critical,CA:TRUE",
    "keyUsage=critical,keyCertSign,cRLSign",
    "subjectKeyIdentifier=hash",
    "authorityKeyIdentifier=keyid:always",
)
"""Extensions of a CA certificate as RFC 5280, section 4.2.1, requires them."""


def without(*names: str) -> tuple[str, ...]:
    """The extensions of a CA certificate that lacks some."""
    return tuple(each for each in COMPLETE if each.partition("=")[0] not in names)


INCOMPLETE = {
    "no keyUsage, as Amazon EKS and MicroK8s": without("keyUsage"),
    "no authorityKeyIdentifier": without("authorityKeyIdentifier"),
    "no subjectKeyIdentifier": without("subjectKeyIdentifier", "authorityKeyIdentifier"),
    "basicConstraints alone": COMPLETE[:1],
    "basicConstraints not critical": ("basicConstraints=CA:TRUE", *COMPLETE[1:]),
    "version 1, as openssl x509 -req -signkey made it before OpenSSL 3.2": (),
}
"""Extensions of CA certificates that Go trusts and that X509_V_FLAG_X509_STRICT rejects."""


class Authority:
    """One that signs whatever it is asked to, into a directory of its own."""

    def __init__(
        self,
        directory: Path,
        name: str = "ca",
        extensions: Sequence[str] = COMPLETE,
        root: "Authority | None" = None,
    ) -> None:
        """`root` has signed its certificate; None: it has signed that itself."""
        if shutil.which("openssl") is None:
            pytest.skip("no openssl on this machine: apt-get install openssl")
        directory.mkdir(parents=True, exist_ok=True)
        self.directory = directory
        self.path = str(directory / f"{name}.crt")
        self._key = str(directory / f"{name}.key")
        self._leaf_extensions = [
            each for each in extensions if each.startswith("authorityKeyIdentifier")
        ]
        signer = ("-CA", root.path, "-CAkey", root._key) if root is not None else ()
        self._make(self._key, self.path, name, extensions, *signer)

    def sign(self, name: str, *sans: str, file: str = "") -> tuple[str, str]:
        """Paths of a certificate and its key; `sans` as `DNS:a` and `IP:127.0.0.1`."""
        certificate, key = (str(self.directory / f"{file or name}.{end}") for end in ("crt", "key"))
        extensions = ["basicConstraints=critical,CA:FALSE", *self._leaf_extensions]
        if sans:
            extensions.append(f"subjectAltName={','.join(sans)}")
        signer = ("-CA", self.path, "-CAkey", self._key)
        self._make(key, certificate, name, extensions, *signer)
        return certificate, key

    def _make(
        self, key: str, certificate: str, name: str, extensions: Iterable[str], *more: str
    ) -> None:
        """A key and a certificate with these extensions and no other, whatever openssl.cnf adds.

        Without extensions it is of X.509 version 1: a CA of version 3 must have some, also in Go.
        """
        config = self.directory / "openssl.cnf"
        lines = ("[req]", "distinguished_name=dn", "[dn]", "[extensions]", *extensions)
        config.write_text("\n".join(lines))
        subprocess.run(
            [
                *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt"),
                *("ec_paramgen_curve:prime256v1", "-nodes", "-days", "30"),
                *("-config", str(config), "-extensions", "extensions"),
                *("-subj", f"/CN={name}", "-keyout", key, "-out", certificate, *more),
                *(() if list(extensions) else _version_1()),
            ],
            check=True,
            capture_output=True,
        )
        Path(key).chmod(0o600)


def _version_1() -> tuple[str, ...]:
    """The option for X.509 version 1; OpenSSL before 3.2 has none, and makes it by default."""
    usage = subprocess.run(["openssl", "req", "-help"], check=True, capture_output=True)
    return ("-x509v1",) if b"-x509v1" in usage.stderr + usage.stdout else ()
