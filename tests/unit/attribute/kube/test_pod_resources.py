"""The kubelet client over gRPC, with its failures."""

import grpc
import pytest

from exporter.attribute.sources.kube.pod_resources import ALLOCATABLE_POLLS, KubeletClient
from exporter.errors import Unavailable
from exporter.worker import wait_until
from tests.fakes import FakeClock
from tests.kube.kubelet import (
    SERVICE,
    AllocatableResourcesResponse,
    ListPodResourcesResponse,
    container,
    message,
    pod,
)
from tests.unit.attribute.kube.conftest import SOON, ByHand

GPU = "nvidia.com/gpu"


@pytest.fixture
def running(fake_kubelet, kubelet):
    fake_kubelet.pods = [pod("ml", "train-0", container("main", {GPU: ["GPU-1"]}))]
    fake_kubelet.allocatable = {GPU: ["GPU-1", "GPU-2"]}
    kubelet._worker.work()
    return kubelet


def test_it_returns_allocations_and_allocatable_devices(running, clock):
    latest = running.latest
    assert [each.pod for each in latest.containers] == ["train-0"]
    assert latest.replicas == ((GPU, "GPU-1"), (GPU, "GPU-2"))
    assert (latest.at_ns, latest.why) == (clock.boottime_ns(), "")


@pytest.mark.parametrize("code", [grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED])
def test_the_last_answer_is_kept_after_an_error(running, fake_kubelet, code):
    before = running.latest
    fake_kubelet.code = code
    running._worker.work()
    assert running.latest.containers == before.containers
    assert running.latest.at_ns == before.at_ns
    assert f"does not answer: {code.name.lower().replace('_', ' ')}" in running.latest.why
    fake_kubelet.code = None
    running._worker.work()
    assert running.latest.why == ""


def test_an_undecodable_answer_changes_nothing(running, fake_kubelet):
    fake_kubelet.junk = b"\x0a\xff"
    running._worker.work()
    assert [each.pod for each in running.latest.containers] == ["train-0"]
    assert "answer cannot be decoded" in running.latest.why


def test_an_undecodable_entry_is_skipped_and_logged_once(running, fake_kubelet, caplog):
    fake_kubelet.pods = [
        pod("ml", "train-0", container("main", {GPU: ["GPU-1"]})),
        pod("ml", "odd", b"\x0a\x05ab"),
        pod("ml", "claiming", container("main", claims=[("dra.net", "node-1", "eth0")])),
    ]
    for _ in range(3):
        running._worker.work()
    assert [each.pod for each in running.latest.containers] == ["claiming", "train-0"]
    assert running.latest.why == ""
    (reason,) = running.latest.skipped
    assert "pod ml/odd" in reason
    (record,) = caplog.records
    assert (record.count, record.first) == (1, reason)
    fake_kubelet.pods = fake_kubelet.pods[:1]
    running._worker.work()
    assert running.latest.skipped == ()


def test_the_double_speaks_all_of_the_published_service(running, fake_kubelet):
    request = message("GetPodResourcesRequest")(pod_name="train-0", pod_namespace="ml")
    with grpc.insecure_channel(f"unix:{fake_kubelet.path}") as channel:
        answers = {
            name: channel.unary_unary(f"/{SERVICE}/{name}")(content, timeout=5)
            for name, content in (
                ("Get", request.SerializeToString()),
                ("List", b""),
                ("GetAllocatableResources", b""),
            )
        }
    got = message("GetPodResourcesResponse").FromString(answers["Get"]).pod_resources
    (one,) = ListPodResourcesResponse.FromString(answers["List"]).pod_resources
    assert got == one
    assert got.containers[0].devices[0].device_ids == ["GPU-1"]
    found = AllocatableResourcesResponse.FromString(answers["GetAllocatableResources"])
    assert found.devices[0].resource_name == GPU


def test_a_call_that_hangs_times_out(running, fake_kubelet, monkeypatch):
    monkeypatch.setattr("exporter.attribute.sources.kube.pod_resources.CALL_SECONDS", 0.1)
    fake_kubelet.go.clear()
    running._worker.work()
    assert "deadline exceeded" in running.latest.why
    assert running.latest.containers


def test_stop_does_not_wait_for_a_hanging_call(fake_kubelet, monkeypatch):
    monkeypatch.setattr("exporter.attribute.sources.kube.pod_resources.CALL_SECONDS", 2 * SOON)
    fake_kubelet.go.clear()
    kubelet = KubeletClient(str(fake_kubelet.path), FakeClock())
    kubelet.start()
    assert wait_until(lambda: fake_kubelet.asked == 1, SOON)
    assert kubelet.stop(20)  # that one answers after half a minute
    assert fake_kubelet.asked == 1


def test_a_restarted_kubelet_is_reconnected(running, fake_kubelet):
    fake_kubelet.stop()
    running._worker.work()
    assert "does not exist; is the kubelet running?" in running.latest.why
    fake_kubelet.pods = [pod("ml", "train-1", container("main"))]
    fake_kubelet.start()
    running._worker.work()
    assert [each.pod for each in running.latest.containers] == ["train-1"]


def test_allocatable_devices_are_requested_rarely(running, fake_kubelet):
    fake_kubelet.allocatable = {GPU: ["GPU-1"]}
    for _ in range(ALLOCATABLE_POLLS - 1):
        running._worker.work()
    assert len(running.latest.replicas) == 2
    running._worker.work()
    assert len(running.latest.replicas) == 1


def test_allocatable_devices_are_requested_again_after_a_change(running, fake_kubelet):
    replicas = ["GPU-1::0", "GPU-1::1"]
    fake_kubelet.allocatable = {GPU: replicas}
    fake_kubelet.pods = [pod("ml", "train-0", container("main", {GPU: replicas[:1]}))]
    running._worker.work()
    assert running.latest.replicas == ((GPU, "GPU-1::0"), (GPU, "GPU-1::1"))


def test_a_different_order_is_no_change(running, fake_kubelet):
    fake_kubelet.pods = [
        pod("ml", "train-0", container("main", {GPU: ["GPU-1", "GPU-2"]}, (2, 3))),
        pod("ml", "train-1", container("main")),
    ]
    running._worker.work()
    before = running.latest
    fake_kubelet.pods = [
        pod("ml", "train-1", container("main")),
        pod("ml", "train-0", container("main", {GPU: ["GPU-2", "GPU-1"]}, (3, 2))),
    ]
    fake_kubelet.allocatable = {GPU: ["GPU-2", "GPU-1"]}
    for _ in range(ALLOCATABLE_POLLS):
        running._worker.work()
    assert running.latest.containers is before.containers
    assert running.latest.replicas is before.replicas


def test_without_its_directory_the_kubelet_is_unavailable(tmp_path):
    with pytest.raises(Unavailable, match="does not exist"):
        KubeletClient(str(tmp_path / "none" / "kubelet.sock"), FakeClock())


def test_an_unexpected_kubelet_that_has_answered_is_reported_when_missing(fake_kubelet, clock):
    kubelet = KubeletClient(str(fake_kubelet.path), clock, ByHand, is_expected=False)
    kubelet._poll()
    assert kubelet.latest.requested_ns == clock.boottime_ns()
    fake_kubelet.stop()
    kubelet._poll()
    assert "does not exist; is the kubelet running?" in kubelet.latest.why
    kubelet.stop(1)
