"""Parsing of web config files, and errors of invalid ones."""

import pytest

from exporter.errors import ConfigError
from exporter.expose.web_config.schema import RateLimit, parse_web_config
from exporter.setting import read_yaml

HASH = "$2y$10$QOauhQNbBCuQDKes6eFzPeMqBSjb7Mr5DUmpZ/VcEd00UAV/LDeSi"
PAIR = "cert_file: c.pem, key_file: k.pem"
CA = "client_ca_file: ca.pem"


def read(text):
    return parse_web_config(read_yaml(text, "/etc/x/web.yml"), "/etc/x/web.yml")


def tls(more=""):
    return f"tls_server_config: {{{PAIR}{', ' if more else ''}{more}}}"


GOOD = {
    "nothing": "",
    "sections without keys": "tls_server_config: {}\nbasic_auth_users:\n",
    "a pair": tls(),
    "an inline pair": "tls_server_config: {cert: |x, key: y}".replace("|", ""),
    "mutual": tls(f"{CA}, client_auth_type: RequireAndVerifyClientCert"),
    "optional": tls(f"{CA}, client_auth_type: VerifyClientCertIfGiven"),
    "any": tls(f"{CA}, client_auth_type: RequireAnyClientCert"),
    "the old name of any": tls(f"{CA}, client_auth_type: RequireClientCert"),
    "asked only": tls("client_auth_type: RequestClientCert"),
    "names": tls(f"{CA}, client_auth_type: RequireAndVerifyClientCert, client_allowed_sans: [a]"),
    "versions": tls("min_version: TLS13, max_version: TLS13"),
    "ciphers": tls(
        "cipher_suites: [TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, TLS_AES_128_GCM_SHA256]"
    ),
    "curves": tls("curve_preferences: [CurveP256, X25519]"),
    "order": tls("prefer_server_cipher_suites: false"),
    "headers": "http_server_config: {http2: false, headers: {X-Frame-Options: deny}}",
    "users": f"basic_auth_users: {{ada: '{HASH}'}}",
    "a rate": "rate_limit: {interval: 1s, burst: 10}",
    "no rate": "rate_limit: {interval: 0}",
}

BAD = {
    "unknown": ("tls_server_konfig: {}", "tls_server_konfig: there is no such key; did you mean"),
    "below": (tls("cert_fil: x"), "cert_fil: there is no such key; did you mean cert_file?"),
    "no hash": ("basic_auth_users: {ada: }", "basic_auth_users.ada: is not a bcrypt hash"),
    "no key": (
        "tls_server_config: {cert_file: a}",
        "TLS requires key_file (or key), which is missing",
    ),
    "no cert": ("tls_server_config: {key_file: a}", "TLS requires cert_file (or cert)"),
    "both": (tls("cert: x"), "set cert or cert_file, not both"),
    "type": (tls("client_auth_type: Always"), "client_auth_type: expected one of NoClientCert,"),
    "ca for nothing": (tls(CA), "add client_auth_type: RequireAndVerifyClientCert"),
    "no ca": (tls("client_auth_type: RequireAndVerifyClientCert"), "requires client_ca_file"),
    "any without ca": (tls("client_auth_type: RequireAnyClientCert"), "requires client_ca_file"),
    "names for nothing": (tls("client_allowed_sans: [a]"), "client_allowed_sans requires"),
    "version": (tls("min_version: SSL30"), "min_version: expected one of TLS10, TLS11"),
    "old": (tls("max_version: TLS11"), "max_version: TLS11 is insecure and not supported"),
    "upside down": (tls("min_version: TLS13, max_version: TLS12"), "min_version TLS13 is above"),
    "cipher": (
        tls("cipher_suites: [TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA265]"),
        "did you mean TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256?",
    ),
    "no cipher": (
        tls("cipher_suites: [TLS_AES_128_GCM_SHA256], max_version: TLS12"),
        "cipher_suites: none of them is a cipher of TLS 1.2",
    ),
    "curve": (
        tls("curve_preferences: [P256]"),
        "P256: there is no such key; did you mean CurveP256",
    ),
    "header": (
        "http_server_config: {headers: {Server: x}}",
        "headers: Server: there is no such key",
    ),
    "frame": (
        "http_server_config: {headers: {X-Frame-Options: never}}",
        "expected deny or sameorig",
    ),
    "split": (
        'http_server_config: {headers: {X-XSS-Protection: "0\\r\\nSet-Cookie: a"}}',
        "X-XSS-Protection: expected one line of ASCII text",
    ),
    "http2": ("http_server_config: {http2: maybe}", "http2: expected true or false"),
    "colon of htpasswd": (
        f"basic_auth_users: {{ada: ':{HASH}'}}",
        "basic_auth_users.ada: begins with the colon that htpasswd prints between user and hash",
    ),
    "colon and line of htpasswd": (
        f'basic_auth_users: {{ada: ":{HASH}\\n"}}',
        r"begins with the colon",
    ),
    "colon without a hash": (
        "basic_auth_users: {ada: ':secret'}",
        "basic_auth_users.ada: is not a bcrypt hash",
    ),
    "hash": ("basic_auth_users: {ada: secret}", "basic_auth_users.ada: is not a bcrypt hash"),
    "colon": (f"basic_auth_users: {{'a:b': '{HASH}'}}", "does not support user names with a colon"),
    "no burst": ("rate_limit: {interval: 1s}", "burst: is missing or 0"),
    "no unit": ("rate_limit: {interval: 5, burst: 1}", "expected a duration as 500ms"),
    "half a burst": ("rate_limit: {interval: 1s, burst: 0.5}", "expected a whole number"),
    "a list": ("[1, 2]", "web.yml: expected keys with values"),
    "twice": (
        "rate_limit: {}\nrate_limit: {}",
        "line 2: is not valid YAML: duplicate key rate_limit",
    ),
    "no YAML": ("a: [", "line 1: is not valid YAML"),
}


@pytest.mark.parametrize("name", GOOD)
def test_a_valid_file_is_parsed(name):
    read(GOOD[name])


@pytest.mark.parametrize("name", BAD)
def test_an_invalid_file_is_rejected_with_location_and_reason(name):
    text, said = BAD[name]
    with pytest.raises(ConfigError) as refused:
        read(text)
    assert said in str(refused.value)
    assert str(refused.value).startswith("/etc/x/web.yml: ")
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "text",
    [
        "basic_auth_users: {ada: hunter2}",
        "basic_auth_users: hunter2",
        "tls_server_config: {cert: a, key: [hunter2]}",
        "tls_server_config:\n  key: 'hunter2\n",
        "basic_auth_users:\n  ada: hunter2: x\n",
    ],
)
def test_errors_contain_no_secret(text):
    with pytest.raises(ConfigError) as refused:
        read(text)
    assert "hunter2" not in str(refused.value)


def test_paths_are_relative_to_the_file():
    config = read("tls_server_config: {cert_file: c.pem, key_file: /k.pem}")
    assert (config.tls.cert_file, config.tls.key_file) == ("/etc/x/c.pem", "/k.pem")


@pytest.mark.parametrize(("text", "seconds"), [("1s", 1), ("500ms", 0.5), ("1m30s", 90)])
def test_durations_have_go_notation(text, seconds):
    assert read(f"rate_limit: {{interval: {text}, burst: 2}}").rate == RateLimit(seconds, 2)
