"""Certificates for tests, made by the openssl command."""

import shutil
import subprocess
from pathlib import Path

import pytest


class Authority:
    """One that signs whatever it is asked to, into a directory of its own."""

    def __init__(self, directory: Path, name: str = "ca") -> None:
        if shutil.which("openssl") is None:
            pytest.skip("no openssl on this machine: apt-get install openssl")
        directory.mkdir(parents=True, exist_ok=True)
        self.directory = directory
        self.path = str(directory / f"{name}.crt")
        self._key = str(directory / f"{name}.key")
        self._make(self._key, self.path, name)

    def sign(self, name: str, *sans: str, file: str = "") -> tuple[str, str]:
        """Paths of a certificate and its key; `sans` as `DNS:a` and `IP:127.0.0.1`."""
        certificate, key = (str(self.directory / f"{file or name}.{end}") for end in ("crt", "key"))
        more = ["-CA", self.path, "-CAkey", self._key]
        more += ["-addext", "basicConstraints=critical,CA:FALSE"]
        if sans:
            more += ["-addext", f"subjectAltName={','.join(sans)}"]
        self._make(key, certificate, name, *more)
        return certificate, key

    def _make(self, key: str, certificate: str, name: str, *more: str) -> None:
        subprocess.run(
            [
                *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt"),
                *("ec_paramgen_curve:prime256v1", "-nodes", "-days", "30"),
                *("-subj", f"/CN={name}", "-keyout", key, "-out", certificate, *more),
            ],
            check=True,
            capture_output=True,
        )
        Path(key).chmod(0o600)
