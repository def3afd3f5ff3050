"""TLS with real certificates and real handshakes."""

import ssl
from contextlib import suppress
from pathlib import Path

import pytest

from exporter.errors import ConfigError
from exporter.expose.web_config.files import TrackedFiles
from exporter.expose.web_config.schema import parse_web_config
from exporter.expose.web_config.tls import open_tls_endpoint
from tests.certificates import Authority

YEARS = 3 * 365 * 86_400.0
V12, V13 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3


def entrance(now=None, **given):
    import time

    tls = parse_web_config({"tls_server_config": given}, "web.yml").tls
    return open_tls_endpoint(tls, "web.yml", TrackedFiles(), time.time() if now is None else now)


@pytest.mark.parametrize(("version", "name"), [(V12, "TLSv1.2"), (V13, "TLSv1.3")])
def test_tls_1_2_and_1_3_are_supported(secure, client, get, version, name):
    received, spoken = get(secure(), client(version=version))
    assert received.startswith(b"HTTP/1.1 200 ")
    assert spoken == name


def test_a_version_below_the_minimum_is_rejected(secure, client, get):
    with pytest.raises(OSError, match=r"(?i)version|eof|reset"):
        get(secure("min_version: TLS13"), client(version=V12))


def test_a_complete_page_is_received_over_tls(secure, client, get):
    received, _ = get(secure(), client(), "/metrics")
    head, _, body = received.partition(b"\r\n\r\n")
    assert f"Content-Length: {len(body)}".encode() in head


def test_plain_http_on_a_tls_port_is_disconnected_and_logged(secure, caplog):
    site = secure()
    with suppress(ConnectionError):
        assert site.talk(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n") == b""
    site.close()
    (record,) = [record for record in caplog.records if record.msg == "TLS handshake failed"]
    assert record.error == "plain HTTP request on a TLS port; use a URL with https"


KINDS = [
    # What is demanded, then who is let in: right name, wrong name, another authority, nobody.
    ("NoClientCert", False, (True, True, True, True)),
    ("RequestClientCert", False, (True, True, True, True)),
    ("VerifyClientCertIfGiven", False, (True, True, False, True)),
    ("RequireAnyClientCert", True, (True, False, False, False)),
    ("RequireAndVerifyClientCert", False, (True, True, False, False)),
    ("RequireAndVerifyClientCert", True, (True, False, False, False)),
]


@pytest.fixture(scope="session")
def clients(authority, tmp_path_factory):
    stranger = Authority(tmp_path_factory.mktemp("stranger"), "stranger")
    return (
        authority.sign("right", "DNS:prometheus.example", "IP:::1"),
        authority.sign("wrong", "DNS:other.example"),
        stranger.sign("else", "DNS:prometheus.example"),
        (),
    )


@pytest.mark.parametrize("version", [V12, V13])
@pytest.mark.parametrize(("kind", "named", "let_in"), KINDS)
def test_clients_are_accepted_by_their_certificates(
    secure, client, get, authority, clients, kind, named, let_in, version
):
    more = [f"client_auth_type: {kind}"]
    if kind not in ("NoClientCert", "RequestClientCert"):
        more.append(f"client_ca_file: {authority.path}")
    if named:
        more.append("client_allowed_sans: [prometheus.example]")
    site = secure(*more)
    seen = []
    for certificate in clients:
        received = b""
        with suppress(OSError):
            received, _ = get(site, client(*certificate, version=version))
        seen.append(received.startswith(b"HTTP/1.1 200 "))
    assert tuple(seen) == let_in


def test_ip_addresses_match_in_any_notation(secure, client, get, clients):
    authority = str(Path(clients[0][0]).parent / "ca.crt")
    site = secure(
        "client_auth_type: RequireAndVerifyClientCert",
        f"client_ca_file: {authority}",
        'client_allowed_sans: ["0:0:0:0:0:0:0:1"]',
    )
    assert get(site, client(*clients[0]))[0].startswith(b"HTTP/1.1 200 ")


def test_inline_certificates_work_like_files(pair):
    certificate, key = (Path(path).read_text() for path in pair)
    opened, notes = entrance(cert=certificate, key=key)
    assert notes == []
    assert opened.context.verify_mode is ssl.CERT_NONE


def test_ciphers_and_a_curve_are_set(pair):
    opened, notes = entrance(
        cert_file=pair[0],
        key_file=pair[1],
        cipher_suites=["TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384"],
        curve_preferences=["CurveP384"],
    )
    older = [each["name"] for each in opened.context.get_ciphers() if "1.3" not in each["protocol"]]
    assert (older, notes) == (["ECDHE-ECDSA-AES256-GCM-SHA384"], [])


def test_unsupported_options_are_warnings(pair):
    _, notes = entrance(
        cert_file=pair[0],
        key_file=pair[1],
        min_version="TLS10",
        curve_preferences=["X25519", "CurveP256"],
    )
    assert [note.partition(": ")[2][:20] for note in notes] == [
        "min_version TLS10 is",
        "several curve_prefer",
    ]


@pytest.mark.parametrize(("later", "said"), [(YEARS, "has expired"), (-YEARS, "not valid yet")])
def test_an_expired_or_future_certificate_is_a_warning(pair, later, said):
    import time

    _, (note,) = entrance(time.time() + later, cert_file=pair[0], key_file=pair[1])
    assert said in note
    assert pair[0] in note


def test_a_world_readable_key_is_a_warning(pair, tmp_path):
    import time

    loose = tmp_path / "key.pem"
    loose.write_text(Path(pair[1]).read_text())
    loose.chmod(0o644)
    tls = parse_web_config(
        {"tls_server_config": {"cert_file": pair[0], "key_file": str(loose)}}, "w"
    ).tls
    files = TrackedFiles()
    open_tls_endpoint(tls, "w", files, time.time())
    assert files.notes == [f"w: key_file {loose}: is world-readable; run chmod o-r {loose}"]


def written(tmp_path, text):
    path = tmp_path / "some.pem"
    path.write_text(text)
    path.chmod(0o600)
    return str(path)


def test_bad_key_pairs_are_rejected_with_location_and_remedy(authority, pair, tmp_path):
    other = authority.sign("another")
    good = Path(pair[0]).read_text()
    cut = good[:200] + "\n-----END CERTIFICATE-----\n"
    locked = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nx"
    missing = str(tmp_path / "missing")
    cases = {
        (pair[0], other[1]): "does not belong to the certificate",
        (pair[1], pair[1]): "has no certificate in PEM",
        (pair[0], pair[0]): "has no private key in PEM",
        (missing, pair[1]): "check that it exists and that the exporter's user may read it",
        (str(tmp_path), pair[1]): "is a directory",
        (pair[0], written(tmp_path, locked)): "openssl pkey -in OLD -out NEW",
    }
    for (certificate, key), said in cases.items():
        with pytest.raises(ConfigError) as refused:
            entrance(cert_file=certificate, key_file=key)
        assert said in str(refused.value)
        assert "_file /" in str(refused.value)
    with pytest.raises(ConfigError, match="cannot be read"):
        entrance(cert_file=written(tmp_path, cut), key_file=pair[1])


def test_an_invalid_client_ca_is_rejected(pair):
    with pytest.raises(ConfigError, match=r"client_ca_file .* has no certificate in PEM"):
        entrance(
            cert_file=pair[0],
            key_file=pair[1],
            client_ca_file=pair[1],
            client_auth_type="RequireAndVerifyClientCert",
        )
