"""Detection of the cloud region."""

import pytest

from exporter.convert.live import http
from exporter.convert.live.http import detect_cloud_region
from exporter.errors import FetchError
from tests.grid import shapes


@pytest.mark.parametrize(
    "region", [("aws", "eu-west-1"), ("gcp", "europe-west1"), ("azure", "westeurope")]
)
def test_each_cloud_is_detected_by_its_header(grid, region):
    assert detect_cloud_region(grid(shapes.metadata(*region)).url) == ":".join(region)


def test_aws_is_requested_with_a_token_only(grid):
    server = grid(shapes.metadata("aws", "eu-west-1"))
    detect_cloud_region(server.url)
    *_, token, region = server.asked
    assert (token.method, token.path) == ("PUT", "/latest/api/token")
    assert "x-aws-ec2-metadata-token" in region.headers


def test_no_proxy_is_used(grid, monkeypatch):
    proxy = grid(lambda _: (200, {}, b"westeurope"))
    monkeypatch.setenv("HTTP_PROXY", proxy.url)
    server = grid(shapes.metadata("azure", "westeurope"))
    assert detect_cloud_region(server.url) == "azure:westeurope"
    assert proxy.asked == []


@pytest.mark.parametrize(
    "answer",
    [
        (404, {}, b""),
        (500, {}, b"eu-west-1"),
        (200, {}, b""),
        (200, {}, b"<html>Please log in</html>"),
        (200, {}, "\u00e4\u00f6\u4e2d".encode()),
        (200, {}, b"two\nlines"),
        (200, {}, b"x" * 100),
        (204, {}, b""),
        (302, {"Location": "http://127.0.0.1:1/"}, b""),
        (200, {"Content-Length": "99"}, b"x"),
    ],
)
def test_what_is_no_metadata_service_is_none(grid, answer):
    with pytest.raises(FetchError) as raised:
        detect_cloud_region(grid(lambda _: answer).url)
    assert raised.value.outcome == "not_found"


def test_a_redirect_is_not_followed(grid):
    there = grid(shapes.metadata("aws", "eu-west-1"))
    here = grid(lambda asked: (307, {"Location": there.url + asked.path}, b""))
    with pytest.raises(FetchError):
        detect_cloud_region(here.url)
    assert there.asked == []


def test_without_a_listener_no_region_is_found(grid):
    server = grid(lambda _: (200, {}, b""))
    server.stop()
    with pytest.raises(FetchError, match="no cloud metadata service responds at"):
        detect_cloud_region(server.url)


def test_one_that_hangs_is_given_up(grid, monkeypatch):
    monkeypatch.setattr(http, "METADATA_TIMEOUT_SECONDS", 0.05)
    server = grid(shapes.metadata("aws", "eu-west-1"))
    server.hang_seconds = 60.0
    with pytest.raises(FetchError):
        detect_cloud_region(server.url)
