"""Basic auth: checks, their cache, and the event loop during checks."""

import base64
import logging
import sys
import threading
from concurrent.futures import ThreadPoolExecutor, as_completed
from itertools import islice

import bcrypt
import pytest

from exporter.errors import ConfigError
from exporter.expose.web_config import middleware as gate_module
from exporter.expose.web_config.basic_auth import (
    MAX_CACHED_FAILURES,
    Credentials,
    PasswordChecker,
    parse_credentials,
)
from exporter.expose.web_config.schema import RateLimit
from exporter.expose.web_config.store import TokenBucket
from tests.unit.expose.conftest import SOON

HASH = bcrypt.hashpw(b"opensesame", bcrypt.gensalt(4)).decode()
ADA = Credentials("ada", b"opensesame")


def header(user, password):
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


@pytest.mark.parametrize(
    "text",
    ["", "Bearer x", "Basic", "Basic !!!", "Basic YWRh", "Basic /zph", "Basic YQ==, Basic Yg=="],
)
def test_other_authorization_headers_have_no_credentials(text):
    assert parse_credentials(text) is None


def test_a_password_may_have_colons_and_any_letters():
    assert parse_credentials(header("ada", "a:ü")) == Credentials("ada", "a:ü".encode())
    assert parse_credentials(header("ada", "x").replace("Basic", "bAsIc")) == Credentials(
        "ada", b"x"
    )


def test_only_the_password_of_the_same_user_is_accepted():
    passwords = PasswordChecker({"ada": HASH})
    assert passwords.check(ADA)
    assert not passwords.check(ADA._replace(password=b"opensesam"))
    assert not passwords.check(ADA._replace(user="bob"))


@pytest.mark.parametrize("password", [b"x" * 73, b"open\0sesame", b""])
def test_a_password_that_bcrypt_would_truncate_is_rejected(password):
    assert not PasswordChecker({"ada": HASH}).check(ADA._replace(password=password))


def test_a_password_is_not_truncated_at_72_bytes():
    long = b"x" * 72
    passwords = PasswordChecker({"ada": bcrypt.hashpw(long, bcrypt.gensalt(4)).decode()})
    assert passwords.check(Credentials("ada", long))
    assert not passwords.check(Credentials("ada", long + b"y"))


def test_an_unknown_user_takes_as_long_as_the_slowest_check(monkeypatch):
    asked = []
    monkeypatch.setattr(bcrypt, "checkpw", lambda _, hashed: asked.append(hashed[:7]) or True)
    dear = bcrypt.hashpw(b"x", bcrypt.gensalt(6)).decode()
    passwords = PasswordChecker({"ada": HASH, "bob": dear})
    assert not passwords.check(Credentials("nobody", b"x"))
    assert asked == [b"$2b$06$"]


def test_the_latest_wrong_passwords_are_cached_as_digests():
    passwords = PasswordChecker({"ada": HASH})
    marks = [
        passwords.cache_key(Credentials("ada", str(i).encode()))
        for i in range(MAX_CACHED_FAILURES + 1)
    ]
    for mark in marks:
        passwords.cache_result(mark, right=False)
    assert (passwords.cached_result(marks[0]), passwords.cached_result(marks[-1])) == (None, False)
    assert {len(mark) for mark in marks} == {32}
    assert PasswordChecker({"ada": HASH}).cache_key(ADA) != passwords.cache_key(ADA)


def test_without_bcrypt_the_error_has_the_pip_command(monkeypatch):
    monkeypatch.setitem(sys.modules, "bcrypt", None)
    monkeypatch.setattr(sys, "executable", "/opt/venv/bin/python")
    with pytest.raises(ConfigError, match=r": /opt/venv/bin/python -m pip install 'bcrypt>=4'$"):
        PasswordChecker({"ada": HASH})


def test_a_bucket_gives_a_burst_and_then_one_per_interval(made):
    clock = made.FakeClock()
    bucket = TokenBucket(RateLimit(0.5, 3), clock)
    assert [bucket.take() for _ in range(4)] == [True, True, True, False]
    clock.now_ns += 500_000_000
    assert [bucket.take(), bucket.take()] == [True, False]
    clock.now_ns += 3_600_000_000_000
    assert [bucket.take() for _ in range(4)] == [True, True, True, False]


@pytest.fixture
def guarded(open_site, made, tmp_path):
    """A site with a password and further web config."""

    def start(more=""):
        path = tmp_path / "web.yml"
        path.write_text(f"basic_auth_users: {{ada: '{HASH}'}}\n{more}")
        site = open_site(path)
        site.web_config = path
        site.board.publish(made.gpu_node())
        return site

    return start


def test_without_a_password_the_response_is_a_challenge(guarded):
    site = guarded()
    for given in ({}, {"Authorization": header("ada", "wrong")}):
        refused = site.get("/metrics", **given)
        assert refused.status == 401
        assert refused.getheader("WWW-Authenticate").startswith('Basic realm="emissions-exporter"')
        assert b"emissions_" not in refused.content


@pytest.mark.parametrize("path", ["/", "/metrics", "/api/v1/runs", "/api/v1/snapshot", "/runs"])
def test_with_the_password_all_paths_are_accessible(guarded, path):
    assert guarded().get(path, Authorization=header("ada", "opensesame")).status == 200


def test_probes_need_no_password_and_no_rate_token(guarded):
    site = guarded("rate_limit: {interval: 1h, burst: 1}\n")
    for path in ("/-/healthy", "/-/ready") * 3:
        assert site.get(path).status == 200


def test_the_agent_socket_needs_no_password_and_answers_probes(guarded):
    site = guarded()
    assert site.ask("GET", "/v1/intensity", agent=True).status == 200
    assert site.ask("GET", "/-/healthy", agent=True).content == b"healthy\n"


def test_above_the_rate_the_response_has_retry_after(guarded):
    site = guarded("rate_limit: {interval: 1h, burst: 2}\n")
    good = {"Authorization": header("ada", "opensesame")}
    answers = [site.get("/metrics", **good) for _ in range(4)]
    assert [each.status for each in answers] == [200, 200, 200, 429]  # the first is to be verified
    assert answers[3].getheader("Retry-After")


def test_wrong_passwords_use_up_no_rate_of_verified_ones(guarded):
    site = guarded("rate_limit: {interval: 1h, burst: 2}\n")
    good, bad = ({"Authorization": header("ada", word)} for word in ("opensesame", "wrong"))
    answers = [site.get("/metrics", **each) for each in (good, bad, bad, good, {}, good)]
    assert [each.status for each in answers] == [200, 401, 429, 200, 429, 200]


def test_headers_are_added_to_every_response(guarded):
    site = guarded(
        "http_server_config:\n  headers:\n    X-Frame-Options: deny\n"
        "    Content-Security-Policy: default-src 'self'\n    X-Content-Type-Options: nosniff\n"
    )
    for answer in (site.get("/metrics"), site.get("/-/ready")):
        assert answer.getheader("X-Frame-Options") == "deny"
        assert answer.getheader("Content-Security-Policy") == "default-src 'self'"
        assert answer.getheader("X-Content-Type-Options") == "nosniff"


class Slow:
    """Replaces bcrypt: checks of wrong passwords block until released, and are counted."""

    def __init__(self):
        self.go = threading.Event()
        self.checks = []

    def check(self, given):
        self.checks.append(given.password)
        return given.password == b"opensesame" or not self.go.wait(SOON)


def test_a_flood_of_wrong_passwords_does_not_delay_cached_users(guarded, monkeypatch):
    slow = Slow()
    monkeypatch.setattr(PasswordChecker, "check", slow.check)
    monkeypatch.setattr(gate_module, "PASSWORD_TIMEOUT_SECONDS", SOON)
    site = guarded()
    good = {"Authorization": header("ada", "opensesame")}
    assert site.get("/metrics", **good).status == 200
    most = gate_module.MAX_PENDING_OF_CLIENT
    with ThreadPoolExecutor(most + 8) as crowd:
        flood = [
            crowd.submit(site.get, "/metrics", Authorization=header("ada", f"wrong{i}"))
            for i in range(most + 8)
        ]
        told = [each.result() for each in islice(as_completed(flood, SOON), 8)]
        assert [each.status for each in told] == [503] * 8
        assert all(each.getheader("Retry-After") for each in told)
        # They still wait, and nothing but this answer can come.
        assert site.get("/metrics", **good).status == 200
        slow.go.set()
        statuses = sorted(each.result(SOON).status for each in flood)
    assert statuses == [401] * most + [503] * 8
    assert slow.checks.count(b"opensesame") == 1


def test_a_flood_of_wrong_passwords_leaves_room_for_the_first_check_of_another_client(
    guarded, monkeypatch
):
    slow = Slow()
    monkeypatch.setattr(PasswordChecker, "check", slow.check)
    site = guarded()
    most = gate_module.MAX_PENDING_OF_CLIENT
    with ThreadPoolExecutor(most + 9) as crowd:
        flood = [
            crowd.submit(site.get, "/metrics", Authorization=header("ada", f"wrong{i}"))
            for i in range(most + 8)
        ]
        assert {each.result().status for each in islice(as_completed(flood, SOON), 8)} == {503}
        good = {"Authorization": header("ada", "opensesame")}
        scrape = crowd.submit(site.get, "/metrics", source="127.0.0.2", **good)
        while not len(site.web._gate._pending) > most:  # its check is waiting as well
            site.get("/-/ready")
        slow.go.set()
        assert scrape.result(SOON).status == 200


def test_the_same_credentials_at_once_are_checked_once(guarded, monkeypatch):
    slow = Slow()
    monkeypatch.setattr(PasswordChecker, "check", slow.check)
    site = guarded()
    with ThreadPoolExecutor(20) as crowd:
        wrong = [
            crowd.submit(site.get, "/metrics", Authorization=header("ada", "same"))
            for _ in range(20)
        ]
        slow.go.set()
        assert {each.result(SOON).status for each in wrong} == {401}
    assert slow.checks == [b"same"]


def test_no_password_reaches_the_log(guarded, caplog):
    caplog.set_level(logging.DEBUG)
    site = guarded()
    site.get("/metrics", Authorization=header("ada", "topsecret"))
    site.get("/metrics", Authorization=header("ada", "opensesame"))
    assert "topsecret" not in caplog.text
    assert HASH not in caplog.text
