"""Opening the Kubernetes sources of a node, and states of missing ones."""

import socket
import sys

import pytest

from exporter.attribute.sources.kube import is_kubernetes_node
from exporter.attribute.sources.kube.pod_resources import NO_KUBELET
from exporter.attribute.sources.kube.sources import KubernetesState, open_kubernetes

IN_A_POD = {"KUBERNETES_SERVICE_HOST": "10.0.0.1", "KUBERNETES_SERVICE_PORT": "443"}


@pytest.fixture
def opened(tmp_path, clock):
    """Opens the sources in a pod without a token, with a kubelet directory."""

    def build(environment=IN_A_POD, directory="pod-resources", account="no-token"):
        (tmp_path / "pod-resources").mkdir(exist_ok=True)
        return open_kubernetes(
            kubelet_socket=str(tmp_path / directory / "kubelet.sock"),
            node_name="node-1",
            environment=environment,
            exported_labels=(),
            clock=clock,
            service_account=account and str(tmp_path / account),
        )

    return build


@pytest.mark.parametrize(
    ("environment", "directory", "expected"),
    [({}, "elsewhere", False), ({}, "pod-resources", True), (IN_A_POD, "elsewhere", True)],
)
def test_a_node_of_kubernetes_has_a_kubelet_or_the_daemon_is_in_a_pod(
    tmp_path, environment, directory, expected
):
    (tmp_path / "pod-resources").mkdir()
    socket_path = str(tmp_path / directory / "kubelet.sock")
    assert is_kubernetes_node(socket_path, environment) is expected


def test_a_missing_token_is_reported_with_the_remedy(opened):
    sources = opened()
    assert sources.kubelet is not None
    assert sources.watch is None
    (state,) = sources.missing
    assert (state.name, state.ok) == ("pods", False)
    assert "no-token" in state.why


def test_a_disabled_api_server_is_no_failure(opened):
    sources = opened(account="")
    assert sources.kubelet is not None
    assert (sources.watch, sources.missing) == (None, ())


def test_outside_of_a_pod_the_api_server_is_not_used_and_nothing_fails(opened):
    sources = opened({})
    assert sources.kubelet is not None
    assert sources.watch is None
    (state,) = sources.missing
    assert (state.name, state.ok) == ("pods", True)
    assert "the API server is not used" in state.why


def test_outside_of_a_pod_without_a_service_account_there_is_no_note(opened):
    assert opened({}, account="").missing == ()


def test_a_kubelet_that_is_not_mounted_is_reported(opened):
    (state, _) = opened(directory="elsewhere").missing
    assert (state.name, state.ok) == ("kubelet", False)


@pytest.mark.parametrize("is_stale", [False, True], ids=["a directory", "a socket"])
def test_leftovers_of_an_uninstalled_kubelet_are_no_failure_outside_of_a_pod(
    opened, tmp_path, clock, is_stale
):
    sources = opened({})
    if is_stale:
        with socket.socket(socket.AF_UNIX) as left:
            left.bind(str(tmp_path / "pod-resources" / "kubelet.sock"))
    sources.kubelet._poll()
    (*_, state) = KubernetesState(sources, clock).states(has_pods=False, has_claims=False)
    assert (state.name, state.ok, state.why) == ("kubelet", True, NO_KUBELET)


def test_a_missing_kubelet_is_a_failure_in_a_pod(opened, clock):
    sources = opened()
    sources.kubelet._poll()
    states = KubernetesState(sources, clock).states(has_pods=False, has_claims=False)
    (state,) = [each for each in states if each.name == "kubelet"]
    assert not state.ok
    assert "does not exist; is the kubelet running?" in state.why


@pytest.mark.parametrize(("environment", "is_ok"), [({}, True), (IN_A_POD, False)])
def test_missing_h2_is_reported_only_if_there_may_be_a_kubelet(
    opened, monkeypatch, environment, is_ok
):
    monkeypatch.setitem(sys.modules, "exporter.attribute.sources.kube.grpc_client", None)
    (state, *_) = opened(environment).missing
    assert (state.name, state.ok) == ("kubelet", is_ok)
