"""Certificates of a cluster, made by the openssl command."""

import json
from pathlib import Path

from tests.real.namespaces import run


class Authority:
    """The CA of the cluster, with the certificates and kubeconfigs that it signs."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir()
        self.directory = directory
        self.make_ca()
        self._openssl("genrsa", "-out", "sa.key", "2048")
        self._openssl("rsa", "-in", "sa.key", "-pubout", "-out", "sa.pub")

    def make_ca(self) -> None:
        """Make a new CA; certificates of the previous one are no longer valid."""
        usage = "keyUsage=critical,keyCertSign,cRLSign"
        self._openssl(
            *("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=ca"),
            *("-keyout", "ca.key", "-out", "ca.crt", "-addext", usage),
        )

    def path(self, name: str) -> str:
        return str(self.directory / name)

    def sign(self, name: str, subject: str, *alternatives: str) -> None:
        """Write NAME.crt and NAME.key."""
        extensions = self.directory / f"{name}.extensions"
        lines = ["basicConstraints=CA:FALSE", "keyUsage=digitalSignature,keyEncipherment"]
        if alternatives:
            lines.append(f"subjectAltName={','.join(alternatives)}")
        extensions.write_text("\n".join(lines))
        self._openssl(
            *("req", "-newkey", "rsa:2048", "-nodes", "-subj", subject),
            *("-keyout", f"{name}.key", "-out", f"{name}.csr"),
        )
        self._openssl(
            *("x509", "-req", "-in", f"{name}.csr", "-CA", "ca.crt", "-CAkey", "ca.key"),
            *("-CAcreateserial", "-days", "2", "-out", f"{name}.crt", "-extfile", extensions.name),
        )

    def kubeconfig(self, name: str, subject: str, *alternatives: str) -> str:
        """Sign a client certificate; return the path of a kubeconfig with it."""
        self.sign(name, subject, *alternatives)
        path = self.directory / f"{name}.kubeconfig"
        cluster = {
            "server": "https://127.0.0.1",
            "certificate-authority": self.path("ca.crt"),
        }
        user = {
            "client-certificate": self.path(f"{name}.crt"),
            "client-key": self.path(f"{name}.key"),
        }
        path.write_text(
            json.dumps(
                {
                    "apiVersion": "v1",
                    "kind": "Config",
                    "clusters": [{"name": "node", "cluster": cluster}],
                    "users": [{"name": name, "user": user}],
                    "contexts": [{"name": "node", "context": {"cluster": "node", "user": name}}],
                    "current-context": "node",
                }
            )
        )
        return str(path)

    def _openssl(self, *arguments: str) -> None:
        run("env", "-C", str(self.directory), "openssl", *arguments)
