"""TLS and passwords of the chart, with the probes of a real kubelet."""

import shlex
from collections.abc import Iterator
from pathlib import Path

import bcrypt
import pytest
import yaml

from tests.certificates import Authority
from tests.cluster.conftest import IMAGE, Exporter
from tests.cluster.node import LONG_SECONDS, Node
from tests.deploy.chart.test_docs import example
from tests.real.parts import REPOSITORY, until

NAME = "emissions-exporter"
SECRET = "emissions-exporter-web"
PASSWORD = "correct horse"
WEB = example("kubernetes", "# web.yaml\ntls_server_config: {cert_file: tls.crt")
"""The documented file and the commands that create the Secrets."""


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("certificates"))


@pytest.fixture
def exporter(node: Node, certificates: Authority) -> Iterator[Exporter]:
    """The namespace of a release, with the documented Secrets."""
    manifest = REPOSITORY / "deploy" / "kubernetes" / "default" / "namespace.yaml"
    node.kubectl("apply", f"--filename={manifest}")
    directory = certificates.directory
    write_certificate(certificates)
    hashed = bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(4)).decode()
    text, commands, _ = WEB.split("\n\n")
    text = text.replace("$2y$10$...", hashed)
    (directory / "web.yaml").write_text(text)
    for line in commands.replace("\\\n", "").splitlines():
        words = shlex.split(line.replace("PASSWORD", shlex.quote(PASSWORD)))[1:]
        node.kubectl(*(within(directory, word) for word in words))
    yield Exporter(node, NAME, NAME)
    node.kubectl("delete", "namespace", NAME)


def within(directory: Path, word: str) -> str:
    option, is_file, name = word.rpartition("=")
    return f"{option}={directory / name}" if "--from-file" in option and is_file else word


def write_certificate(certificates: Authority) -> None:
    """Write tls.crt and tls.key, of the one name of all nodes."""
    certificates.sign(NAME, f"DNS:{NAME}", file="tls")


def status(exporter: Exporter, certificates: Authority, *options: str) -> str:
    """The HTTP status of a scrape as the documented monitor makes it; 000 for a failure of TLS."""
    address = exporter.address
    return exporter.node.inside(
        *("curl", "--silent", "--output", "/dev/null", "--write-out", "%{http_code}"),
        *("--cacert", certificates.path, "--connect-to", f"{NAME}::{address}"),
        *(*options, f"https://{NAME}/metrics"),
        check=False,
    )


def has_password(exporter: Exporter, certificates: Authority) -> bool:
    """Whether the page requires the documented password."""
    right = status(exporter, certificates, "--user", f"prometheus:{PASSWORD}")
    return (right, status(exporter, certificates)) == ("200", "401")


def shows_certificate(exporter: Exporter, certificates: Authority) -> bool:
    """Whether the exporter shows the certificate in tls.crt."""
    node = exporter.node
    shown = node.inside("openssl", "s_client", "-connect", exporter.address, check=False)
    expected = (certificates.directory / "tls.crt").read_text()
    of_file, of_exporter = (
        node.inside("openssl", "x509", "-noout", "-serial", text=text, check=False)
        for text in (expected, shown)
    )
    return of_file == of_exporter


def test_the_documented_secrets_protect_the_page_and_a_new_certificate_is_read(
    exporter: Exporter, certificates: Authority
) -> None:
    exporter.install({"webConfig": {"existingSecret": SECRET, "tls": True}})
    assert has_password(exporter, certificates)
    [pod] = exporter.pods()
    assert shows_certificate(exporter, certificates)
    write_certificate(certificates)
    assert not shows_certificate(exporter, certificates)
    data = [f"--from-file={certificates.directory / name}" for name in ("tls.crt", "tls.key")]
    data.append(f"--from-file={certificates.directory / 'web.yaml'}")
    where = f"--namespace={NAME}"
    create = ("create", "secret", "generic", SECRET, where, *data, "--dry-run=client")
    secret = exporter.node.kubectl(*create, "--output=json")
    exporter.node.kubectl("replace", "--filename=-", text=secret)
    until(lambda: shows_certificate(exporter, certificates), LONG_SECONDS, "a new certificate")
    assert has_password(exporter, certificates)
    [same] = exporter.pods()
    assert same["metadata"]["uid"] == pod["metadata"]["uid"]
    assert same["status"]["containerStatuses"][0]["restartCount"] == 0
    exporter.uninstall()


def test_with_client_certificates_the_pod_is_ready_and_its_probe_succeeds(
    exporter: Exporter, certificates: Authority
) -> None:
    node, where = exporter.node, f"--namespace={NAME}"
    tls = {
        "cert_file": "tls.crt",
        "key_file": "tls.key",
        "client_ca_file": "ca.crt",
        "client_auth_type": "RequireAndVerifyClientCert",
    }
    path = certificates.directory / "client.yaml"
    path.write_text(yaml.safe_dump({"tls_server_config": tls}))
    files = [f"--from-file={certificates.directory / name}" for name in ("tls.crt", "tls.key")]
    files += [f"--from-file={certificates.path}", f"--from-file=web.yaml={path}"]
    node.kubectl("create", "secret", "generic", "client", where, *files)
    web = {"existingSecret": "client", "tls": True, "clientCertificates": True}
    exporter.install({"webConfig": web})
    assert status(exporter, certificates) == "000"
    certificate, key = certificates.sign("prometheus", "DNS:prometheus")
    assert status(exporter, certificates, "--cert", certificate, "--key", key) == "200"
    [pod] = exporter.pods()
    probe = pod["spec"]["containers"][0]["livenessProbe"]["exec"]["command"]
    node.kubectl("exec", where, pod["metadata"]["name"], "--", *probe)
    exporter.uninstall()


def test_the_documented_patch_of_a_kustomization_protects_the_page(
    exporter: Exporter, certificates: Authority, tmp_path: Path
) -> None:
    (tmp_path / "deploy").symlink_to(REPOSITORY / "deploy")
    image = {"name": NAME, "newName": IMAGE["repository"], "newTag": IMAGE["tag"]}
    kustomization = {
        "resources": ["deploy/kubernetes/default"],
        "images": [image],
        "patches": yaml.safe_load(example("kubernetes", "# patches of kustomization.yaml")),
    }
    (tmp_path / "kustomization.yaml").write_text(yaml.safe_dump(kustomization))
    exporter.node.kubectl("apply", "--kustomize", str(tmp_path))
    until(exporter.is_ready, LONG_SECONDS, "the exporter's pod is ready")
    assert has_password(exporter, certificates)
    exporter.node.kubectl("delete", exporter.daemonset, f"--namespace={NAME}")
    until(lambda: not exporter.pods(), LONG_SECONDS, "the exporter's pod is gone")
