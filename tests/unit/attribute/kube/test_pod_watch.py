"""Lists and watches against a server with real HTTP and TLS."""

import shutil
import socket
import ssl

import kubernetes_validate
import pytest

from exporter.attribute.sources.kube.api_server import KEEPALIVE, ApiError, ApiServerClient
from exporter.attribute.sources.kube.pod_metadata import (
    JOB_ID_ANNOTATION,
    RUN_ID_ANNOTATION,
    ClaimedMigDevice,
    PodMetadata,
)
from exporter.attribute.sources.kube.pod_watch import MAX_PODS, PodWatch
from exporter.errors import Unavailable
from exporter.worker import wait_until
from tests.certificates import INCOMPLETE, Authority
from tests.fakes import FakeClock
from tests.kube.api_server import FakeApiServer, described
from tests.unit.attribute.kube.conftest import SOON, ByHand, server_of

pytestmark = [pytest.mark.real, pytest.mark.beside]
HOSTILE = 'a\n"\\{}\x1b[2J' + "x" * 500


SCHEMAS = {"v1": "1.34", "v1beta2": "1.33", "v1beta1": "1.32"}
"""A version of Kubernetes that serves each version of resource.k8s.io."""
UUIDS = [f"GPU-{letter * 8}-0000-1111-2222-{letter * 12}" for letter in "ab"]


def gpu(minor):
    """A GPU as described by NVIDIA's driver for dynamic resource allocation.

    From cmd/gpu-kubelet-plugin/{deviceinfo,mig,partitions}.go of NVIDIA/k8s-dra-driver-gpu, commit
    22407113 of 2026-05.
    """
    return {
        "name": f"gpu-{minor}",
        "attributes": {
            "type": {"string": "gpu"},
            "uuid": {"string": UUIDS[minor]},
            "productName": {"string": "NVIDIA H200"},
            "brand": {"string": "Nvidia"},
            "architecture": {"string": "Hopper"},
            "cudaComputeCapability": {"version": "9.0.0"},
            "driverVersion": {"version": "580.95.5"},
            "cudaDriverVersion": {"version": "13.0.0"},
            "resource.kubernetes.io/pciBusID": {"string": "0000:3b:00.0"},
        },
        "capacity": {"memory": {"value": "141Gi"}},
    }


def mig(minor, profile, profile_id, start, uuid=""):
    """A MIG device of the same driver; without a UUID if it is created when claimed."""
    parent = gpu(minor)["attributes"]
    own = {"type": {"string": "mig"}, "profile": {"string": profile}, "parentUUID": parent["uuid"]}
    attributes = {**parent, **own}
    attributes.pop("uuid")
    if uuid:
        attributes["uuid"] = {"string": uuid}
    named = profile.replace(".", "").replace("+", "-")
    return {
        "name": f"gpu-{minor}-mig-{named}-{profile_id}-{start}",
        "attributes": attributes,
        "capacity": {"multiprocessors": {"value": "16"}},
    }


def slice_of(version, *devices, generation=1):
    """A ResourceSlice; v1beta1 has all but the name of a device under `basic`."""
    if version == "v1beta1":
        devices = [
            {"name": each["name"], "basic": {k: v for k, v in each.items() if k != "name"}}
            for each in devices
        ]
    return {
        "apiVersion": f"resource.k8s.io/{version}",
        "kind": "ResourceSlice",
        "metadata": {"name": "node-1-gpu.nvidia.com-x"},
        "spec": {
            "driver": "gpu.nvidia.com",
            "nodeName": "node-1",
            "pool": {"name": "node-1", "generation": generation, "resourceSliceCount": 1},
            "devices": list(devices),
        },
    }


def names(known):
    return {facts.name for facts in known.pods.values()}


def test_pods_of_this_node_are_listed_with_their_metadata(api, watching):
    api.pods = [
        described(
            "u1",
            "train-0",
            "ml",
            labels={"team": "nlp", "secret": "x"},
            annotations={RUN_ID_ANNOTATION: "bert", JOB_ID_ANNOTATION: "j1"},
            owner=("Job", "train"),
            containers=("main", "side"),
        ),
        described("u2", "elsewhere", node="node-2"),
    ]
    known = watching.until(lambda known: known.pods)
    assert known.pods == {
        "u1": PodMetadata(
            "u1",
            "ml",
            "train-0",
            "bert",
            "j1",
            "Job",
            "train",
            (("team", "nlp"),),
            ("main", "side"),
            "2026-01-01T00:00:00Z",
        )
    }
    assert "fieldSelector=spec.nodeName%3Dnode-1" in api.requests[0]


@pytest.mark.parametrize(
    ("given", "ids"),
    [
        ({"annotations": {RUN_ID_ANNOTATION: "a", JOB_ID_ANNOTATION: "b"}}, ("a", "b")),
        ({"labels": {RUN_ID_ANNOTATION: "a"}}, ("a", "")),
        ({"env": {"EMISSIONS_RUN_ID": "e", "EMISSIONS_JOB_ID": "j"}}, ("e", "j")),
        ({"labels": {RUN_ID_ANNOTATION: "l"}, "annotations": {RUN_ID_ANNOTATION: "a"}}, ("a", "")),
        ({"annotations": {RUN_ID_ANNOTATION: "a"}, "env": {"EMISSIONS_RUN_ID": "e"}}, ("a", "")),
        ({"labels": {"batch.kubernetes.io/job-name": "nightly"}}, ("", "nightly")),
        ({}, ("", "")),
    ],
)
def test_ids_are_those_that_the_owner_gave(api, watching, given, ids):
    api.pods = [described("u1", "p", **given)]
    facts = watching.until(lambda known: known.pods).pods["u1"]
    assert (facts.run_id, facts.job_id) == ids


@pytest.mark.parametrize(("told", "uid"), [("a" * 32, "a" * 32), ("another-pod", "u1"), (7, "u1")])
def test_a_pod_of_a_file_on_the_node_has_the_uid_that_its_cgroup_has(api, watching, told, uid):
    api.pods = [described("u1", "etcd", annotations={"kubernetes.io/config.mirror": told})]
    assert list(watching.until(lambda known: known.pods).pods) == [uid]


@pytest.mark.parametrize(
    ("told", "ago_seconds"),
    [("2026-05-28T20:30:00Z", 800), ("", 0), ("yesterday", 0), ("1999-01-01T00:00:00Z", 0)],
)
def test_when_a_pod_began_is_known_if_it_was_since_the_boot(
    api, clock, watching, told, ago_seconds
):
    assert clock.wall() == 1_780_001_000.0
    api.pods = [described("u1", "p", started=told)]
    facts = watching.until(lambda known: known.pods).pods["u1"]
    began_ns = clock.boottime_ns() - ago_seconds * 1_000_000_000 if ago_seconds else 0
    assert facts.started_ns == began_ns


def test_hostile_text_becomes_one_bounded_line(api, watching):
    api.pods = [
        described("u1", HOSTILE, annotations={RUN_ID_ANNOTATION: HOSTILE}, labels={"team": HOSTILE})
    ]
    facts = watching.until(lambda known: known.pods).pods["u1"]
    for text in (facts.name, facts.run_id, *dict(facts.labels).values()):
        assert text.isprintable()
        assert len(text.encode()) <= 128


def test_pods_are_added_updated_and_removed(api, watching):
    watching.until_following()
    api.tell("ADDED", described("u1", "first"))
    watching.until(lambda known: names(known) == {"first"})
    api.tell("MODIFIED", described("u1", "first", annotations={RUN_ID_ANNOTATION: "bert"}))
    watching.until(lambda known: known.pods["u1"].run_id == "bert")
    api.tell("MODIFIED", described("u1", "first", phase="Succeeded"))
    watching.until(lambda known: known.pods["u1"].is_over)
    api.tell("DELETED", described("u1", "first"))
    watching.until(lambda known: not known.pods)


def test_a_pod_that_comes_back_under_its_name_is_another_one(api, watching):
    watching.until_following()
    api.tell("ADDED", described("u1", "db-0"))
    api.tell("DELETED", described("u1", "db-0"))
    api.tell("ADDED", described("u2", "db-0"))
    watching.until(lambda known: list(known.pods) == ["u2"])


def test_an_interrupted_watch_continues_at_its_resource_version(api, watching):
    watching.until_following()
    api.tell("ADDED", described("u1", "first") | {"x": 1})
    watching.until(lambda known: known.pods)
    lists = len([each for each in api.requests if "limit=" in each])
    api.cut()
    watching.until_following(2)
    api.tell("ADDED", described("u2", "second"))
    watching.until(lambda known: len(known.pods) == 2)
    assert len([each for each in api.requests if "limit=" in each]) == lists


def test_an_expired_resource_version_lists_again(api, watching):
    watching.until_following()
    api.pods = [described("u9", "now")]
    api.tell("ERROR", {"code": 410, "message": "too old resource version"})
    watching.until(lambda known: names(known) == {"now"})


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (401, "401 Unauthorized"),
        (403, "allow the service account to list and watch pods"),
        (429, "429 Too Many Requests"),
        (500, "500 Internal Server Error"),
    ],
)
def test_an_error_is_reported_and_the_last_state_is_kept(api, clock, watching, status, said):
    api.pods = [described("u1", "first")]
    watching.until(lambda known: known.pods)
    watching.until_following()
    api.status = status
    api.cut()
    known = watching.until(lambda known: known.why)
    assert said in known.why
    assert names(known) == {"first"}
    api.status = 0
    api.pods = [described("u1", "first"), described("u2", "second")]

    def is_well(known):
        clock.advance(1)
        return not known.why

    watching.until(is_well)


def test_without_permission_to_watch_each_try_lists(api, clock, watching):
    api.watch_status = 403
    api.pods = [described("u1", "first")]
    watching.until(lambda known: known.pods and "403" in known.why)
    api.pods = [described("u2", "second")]
    clock.advance(60)
    watching.until(lambda known: names(known) == {"second"} and "403" in known.why)


def test_a_stale_state_is_not_reported_as_current(api, clock, watching):
    watching.until_following()
    known = watching.until(lambda known: known.at_ns)
    api.watch_status = 500
    api.cut()
    watching.until(lambda known: "500" in known.why)
    asked = len(api.requests)

    def is_tried_again(_):
        clock.advance(60)
        return len(api.requests) > asked + 6

    watching.until(is_tried_again)
    assert watching.watch.latest.at_ns == known.at_ns


def test_retry_after_is_obeyed(api, clock):
    turns = []
    watch = PodWatch(
        server_of(api), "node-1", clock, (), lambda *given: turns.append(given[1]) or ByHand(*given)
    )
    (run_tick,) = turns
    api.status, api.retry_after = 429, "600"
    run_tick()
    assert "429" in watch.latest.why
    clock.advance(599)
    run_tick()
    assert len(api.requests) == 1
    clock.advance(1)
    run_tick()
    assert len(api.requests) == 2


class ByTurns:
    """A watch that is run by a test, against a server without a network."""

    def __init__(self, clock, watches):
        turns = []
        self.clock = clock
        self.watches = watches
        self.began_at = []
        self.latest = PodWatch(
            self, "node-1", clock, (), lambda *given: turns.append(given[1]) or ByHand(*given)
        )
        (self.run_tick,) = turns

    def get(self, _path, **_query):
        return {"metadata": {"resourceVersion": "7"}}

    def watch(self, _path, _seconds, **_query):
        self.began_at.append(self.clock.boottime_ns() // 1_000_000_000)
        return next(self.watches)()

    def waits(self, times):
        """Seconds between the starts of watches, if time passes only by waiting."""
        while len(self.began_at) <= times:
            self.run_tick()
            self.clock.advance(1)
        pairs = zip(self.began_at, self.began_at[1:], strict=False)
        return [later - earlier for earlier, later in pairs][:times]


def refused():
    raise ApiError(500, "as the test wants it")


def cut(*events):
    yield from events
    raise ApiError(0, "the watch was cut")


BOOKMARK = {"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": "8"}}}


def test_repeated_errors_back_off_exponentially(clock):
    watch = ByTurns(clock, iter([refused] * 9))
    assert watch.waits(8) == [1, 2, 4, 8, 16, 32, 60, 60]


@pytest.mark.parametrize(
    "event", [BOOKMARK, {"type": "ADDED", "object": described("u1", "p")}], ids=lambda e: e["type"]
)
def test_a_watch_interrupted_after_an_event_is_restarted_soon(clock, event):
    watch = ByTurns(clock, iter([*[refused] * 8, *[lambda: cut(event)] * 4]))
    assert watch.waits(11)[-4:] == [60, 1, 1, 1]


def test_a_quiet_watch_that_is_cut_after_minutes_is_begun_again_soon(clock):
    def quiet():
        clock.advance(240)
        yield from cut()

    watch = ByTurns(clock, iter([*[refused] * 8, quiet, refused]))
    assert watch.waits(9)[-1] == 240 + 1


def test_a_quiet_watch_that_is_cut_every_half_minute_is_no_failure(clock):
    def quiet():
        clock.advance(30)
        yield from cut()

    watch = ByTurns(clock, iter([*[refused] * 8, *[quiet] * 4]))
    assert watch.waits(11)[-3:] == [31, 31, 31]
    assert watch.latest.latest.why == ""


def test_tcp_keepalive_is_enabled_for_watches(api):
    server = server_of(api)
    events = server.watch("/api/v1/pods", 300)
    options = {option: server._active_watch.sock.getsockopt(*option) for option in KEEPALIVE}
    assert options == KEEPALIVE
    assert wait_until(lambda: api.watches, SOON)
    api.cut()
    assert list(events) == []


def test_a_watch_that_is_cut_at_once_each_time_is_tried_ever_less_often(clock):
    watch = ByTurns(clock, iter([cut] * 9))
    assert watch.waits(8) == [1, 2, 4, 8, 16, 32, 60, 60]


def test_a_watch_that_ended_by_itself_is_followed_by_the_next(clock):
    watch = ByTurns(clock, iter([lambda: iter(())] * 4))
    assert watch.waits(3) == [1, 1, 1]


def test_an_expired_token_is_read_again(api, clock, watching):
    watching.until_following()
    token = api.account / "token"
    good = token.read_text()
    token.write_text("expired")
    api.cut()
    watching.until(lambda known: "401" in known.why)
    token.write_text(good)

    def is_well(known):
        clock.advance(1)
        return not known.why

    watching.until(is_well)


def test_ten_thousand_pods_come_by_pages_and_are_bounded(api, watching):
    api.pods = [described(f"u{n}", f"p{n}") for n in range(10_000)]
    known = watching.until(lambda known: known.pods)
    assert len(known.pods) == MAX_PODS
    assert sum("continue=" in each for each in api.requests) >= 1


@pytest.mark.parametrize("version", ["v1", "v1beta2", "v1beta1"])
def test_devices_of_dynamic_allocation_are_known_by_their_uuid(api, watching, version):
    api.slices = {version: [slice_of(version, gpu(0), gpu(1))]}
    watching.until_following()
    api.cut()
    known = watching.until(lambda known: known.gpus)
    assert known.gpus == {
        ("gpu.nvidia.com", "node-1", "gpu-0"): UUIDS[0],
        ("gpu.nvidia.com", "node-1", "gpu-1"): UUIDS[1],
    }
    assert known.gpus_reason == ""
    tried = [each.split("/")[3] for each in api.requests if "resourceslices" in each]
    assert tried[: tried.index(version) + 1] == ["v1", "v1beta2", "v1beta1"][: len(set(tried))]


@pytest.mark.parametrize("version", ["v1", "v1beta2", "v1beta1"])
def test_mig_devices_that_exist_only_while_claimed_are_known_by_gpu_and_size(
    api, watching, version
):
    api.slices = {
        version: [
            slice_of(version, gpu(0), mig(0, "1g.18gb", 19, 2), mig(0, "4g.71gb", 5, 0)),
            slice_of(version, mig(1, "1g.6gb+me", 15, 0), mig(1, "2g.12gb", 14, 2)),
        ]
    }
    known = watching.until(lambda known: known.mig)
    assert known.gpus == {("gpu.nvidia.com", "node-1", "gpu-0"): UUIDS[0]}
    assert {key[2]: device for key, device in known.mig.items()} == {
        "gpu-0-mig-1g18gb-19-2": ClaimedMigDevice(UUIDS[0], 1, 4),
        "gpu-0-mig-4g71gb-5-0": ClaimedMigDevice(UUIDS[0], 4, 4),
        "gpu-1-mig-1g6gb-me-15-0": ClaimedMigDevice(UUIDS[1], 1, 2),
        "gpu-1-mig-2g12gb-14-2": ClaimedMigDevice(UUIDS[1], 2, 2),
    }


@pytest.mark.parametrize(("kind", "known_as"), [("amdgpu", "0000:03:00.0"), ("vfio", "")])
def test_a_gpu_whose_driver_publishes_no_uuid_is_known_by_its_address(
    api, watching, kind, known_as
):
    """As AMD's driver describes it: docs/driver-attributes.md of ROCm/k8s-gpu-dra-driver."""
    attributes = {
        "type": {"string": kind},
        "productName": {"string": "AMD_Instinct_MI300X_OAM"},
        "resource.kubernetes.io/pciBusID": {"string": "0000:03:00.0"},
    }
    offered = slice_of("v1", {"name": "gpu-1-128", "attributes": attributes})
    offered["spec"]["driver"] = "gpu.amd.com"
    api.slices = {"v1": [offered]}
    known = watching.until(lambda known: known.gpus)
    assert known.gpus == {("gpu.amd.com", "node-1", "gpu-1-128"): known_as}


def test_a_mig_device_that_is_there_for_good_is_known_by_its_uuid(api, watching):
    api.slices = {"v1": [slice_of("v1", mig(0, "3g.71gb", 9, 4, uuid="MIG-1"))]}
    known = watching.until(lambda known: known.gpus)
    assert (list(known.gpus.values()), known.mig) == (["MIG-1"], {})


@pytest.mark.parametrize("name", ["uuid", "gpu.nvidia.com/uuid"])
def test_attributes_may_be_named_with_their_domain(api, watching, name):
    device = gpu(0)
    device["attributes"][name] = device["attributes"].pop("uuid")
    device["attributes"]["elsewhere.example/uuid"] = {"string": "GPU-other"}
    api.slices = {"v1": [slice_of("v1", device)]}
    assert list(watching.until(lambda known: known.gpus).gpus.values()) == [UUIDS[0]]


def test_a_gpu_that_is_passed_through_has_no_uuid_here(api, watching):
    device = gpu(0)
    device["attributes"]["type"] = {"string": "vfio"}
    api.slices = {"v1": [slice_of("v1", device)]}
    assert list(watching.until(lambda known: known.gpus).gpus.values()) == [""]


def test_of_two_generations_of_a_pool_the_newer_one_counts(api, watching):
    old, new = gpu(0), gpu(1)
    new["name"] = old["name"]
    api.slices = {"v1": [slice_of("v1", new, generation=8), slice_of("v1", old, generation=7)]}
    assert list(watching.until(lambda known: known.gpus).gpus.values()) == [UUIDS[1]]


@pytest.mark.parametrize(
    "spec",
    [
        {},
        {"devices": 7},
        {"devices": [{"name": "x"}, {"basic": None}, {"attributes": {"uuid": "GPU-1"}}]},
        {"devices": [{"attributes": {"uuid": {"int": 7}, "profile": {"string": "x"}}}]},
        {"pool": {"generation": "x"}, "devices": [{"attributes": {"parentUUID": {"string": "G"}}}]},
    ],
)
def test_invalid_slices_are_ignored(api, watching, spec):
    api.slices = {"v1": [{"spec": spec}, {"spec": None}, slice_of("v1", gpu(0))]}
    assert list(watching.until(lambda known: known.gpus).gpus.values()) == [UUIDS[0]]


@pytest.mark.parametrize("version", ["v1", "v1beta2", "v1beta1"])
def test_the_slices_of_these_tests_are_valid_by_the_published_schema(version):
    made = slice_of(
        version, gpu(0), mig(0, "1g.18gb", 19, 2), mig(0, "3g.71gb", 9, 4, uuid="MIG-1")
    )
    kubernetes_validate.validate(made, SCHEMAS[version], strict=True)


@pytest.mark.parametrize(
    ("part", "claim"),
    [
        ("spec", {"resourceClaims": [{"name": "gpu"}]}),
        ("status", {"extendedResourceClaimStatus": {"resourceClaimName": "x"}}),
    ],
)
def test_devices_are_looked_up_again_when_a_new_pod_has_a_claim(api, watching, part, claim):
    watching.until_following()
    api.slices = {"v1": [slice_of("v1", gpu(0))]}
    claiming = described("u1", "first")
    claiming[part].update(claim)
    api.tell("ADDED", claiming)
    assert list(watching.until(lambda known: known.gpus).gpus.values()) == [UUIDS[0]]


GPU_0, GPU_1 = (("gpu.nvidia.com", "node-1", f"gpu-{minor}") for minor in range(2))


def claim(*devices, admin=None):
    """A ResourceClaim that was allocated these devices."""
    results = [
        {
            "request": "device",
            **dict(zip(("driver", "pool", "device"), device, strict=True)),
            **({} if admin is None else {"adminAccess": admin}),
        }
        for device in devices
    ]
    return {"status": {"allocation": {"devices": {"results": results}}}}


def monitor():
    """A pod with a claim that it names, and one that was made from a template."""
    pod = described("u1", "monitor", "ops")
    pod["spec"]["resourceClaims"] = [
        {"name": "every", "resourceClaimName": "every"},
        {"name": "own", "resourceClaimTemplateName": "each"},
    ]
    made = [{"name": "own", "resourceClaimName": "monitor-own-x7"}, {"name": "not made"}]
    pod["status"]["resourceClaimStatuses"] = made
    return pod


def test_devices_to_which_a_pod_has_only_admin_access_are_read_from_its_claims(api, watching):
    api.slices = {"v1": [slice_of("v1", gpu(0), gpu(1))]}
    api.claims = {
        "ops/every": claim(GPU_0, GPU_1, admin=True),
        "ops/monitor-own-x7": claim(GPU_1),
        "other/every": claim(),
    }
    watching.until_following()
    api.tell("ADDED", monitor())
    known = watching.until(lambda known: known.pods)
    # With the pod, so that no tick sees it as a holder. It holds the GPU of its other claim.
    assert known.admin_devices == {"u1": {GPU_0}}
    assert known.gpus_reason == ""
    second = monitor()
    second["metadata"]["uid"] = "u2"
    api.tell("ADDED", second)
    known = watching.until(lambda known: len(known.pods) == 2)
    assert known.admin_devices == {"u1": {GPU_0}, "u2": {GPU_0}}
    read = [path for path in api.requests if path.endswith("/ops/resourceclaims/every")]
    assert len(read) == 2  # once for each pod
    api.tell("DELETED", monitor())
    watching.until(lambda known: len(known.pods) == 1)
    api.tell("ADDED", {**monitor(), "metadata": {**monitor()["metadata"], "uid": "u3"}})
    known = watching.until(lambda known: "u3" in known.pods)
    assert sorted(known.admin_devices) == ["u2", "u3"]


@pytest.mark.parametrize("value", [claim(GPU_0), claim(GPU_0, admin=False), {}, {"status": []}])
def test_an_ordinary_claim_gives_no_admin_access(api, watching, value):
    api.slices = {"v1": [slice_of("v1", gpu(0))]}
    api.claims = {"ops/every": value}
    api.pods = [monitor()]
    known = watching.until(lambda known: known.admin_devices)
    assert known.admin_devices == {"u1": frozenset()}


def test_forbidden_claims_are_reported_and_stop_nothing(api, watching):
    api.slices = {"v1": [slice_of("v1", gpu(0))]}
    api.forbidden = "/resourceclaims/every"
    api.pods = [monitor()]
    known = watching.until(lambda known: known.gpus)
    assert (dict(known.admin_devices), known.why) == ({}, "")
    assert "403 Forbidden" in known.gpus_reason
    assert "resourceclaims" in known.gpus_reason


def test_a_pod_is_known_while_its_claims_cannot_be_read(api, watching, clock):
    api.slices = {"v1": [slice_of("v1", gpu(0))]}
    watching.until_following()
    api.status = 500
    api.tell("ADDED", monitor())
    known = watching.until(lambda known: known.pods)
    assert dict(known.admin_devices) == {}
    api.claims = {"ops/every": claim(GPU_0, admin=True)}
    api.status = 0
    clock.advance(120)
    known = watching.until(lambda known: known.admin_devices)
    assert known.admin_devices == {"u1": {GPU_0}}


def test_forbidden_resource_slices_are_reported_and_stop_nothing(api, watching):
    api.forbidden = "/resourceslices"
    api.pods = [described("u1", "first")]
    watching.until_following()
    known = watching.until(lambda known: known.pods)
    assert "403 Forbidden" in known.gpus_reason
    assert "rbac.dynamicResourceAllocation" in known.gpus_reason
    assert known.why == ""


def test_an_error_event_without_a_code_is_an_error(api, watching):
    watching.until_following()
    api.tell("ERROR", {"code": "E42", "message": "out of order"})
    assert watching.until(lambda known: known.why).why == "API server: out of order"


class _Closing:
    """A connection that its own thread closes right after the first access."""

    def __init__(self, plug):
        self._plugs = [plug]

    @property
    def sock(self):
        return self._plugs.pop() if self._plugs else None


def test_a_watch_that_ends_by_itself_meanwhile_can_be_interrupted(api):
    server = server_of(api)
    ours, other = socket.socketpair()
    with ours, other:
        server._active_watch = _Closing(ours)
        server.interrupt()
        assert other.recv(1) == b""


def test_invalid_pods_are_ignored(api, watching):
    api.pods = [{"metadata": None}, {"metadata": {"uid": 7}}, {}, described("u1", "first")]
    assert names(watching.until(lambda known: known.pods)) == {"first"}


def test_without_cluster_account_or_node_name_the_error_has_the_remedy(api, tmp_path):
    with pytest.raises(Unavailable, match="KUBERNETES_SERVICE_HOST"):
        ApiServerClient("", "443", str(api.account))
    with pytest.raises(Unavailable, match="automountServiceAccountToken"):
        ApiServerClient("localhost", "443", str(tmp_path / "none"))
    with pytest.raises(Unavailable, match=r"spec\.nodeName"):
        PodWatch(server_of(api), "", FakeClock(), ())


def test_a_server_with_an_untrusted_certificate_is_rejected(api, tmp_path, clock, watching):
    watching.until_following()
    other = type(api)(tmp_path / "other")
    try:
        server = ApiServerClient("localhost", other.port, str(api.account))
        with pytest.raises(Exception, match=r"does not answer.*CERTIFICATE_VERIFY_FAILED"):
            server.get("/api/v1/pods")
    finally:
        other.stop()


@pytest.mark.parametrize("extensions", INCOMPLETE.values(), ids=INCOMPLETE)
def test_an_authority_that_kubectl_trusts_is_trusted_on_every_python(tmp_path, extensions):
    api = FakeApiServer(tmp_path / "api", extensions)
    try:
        assert server_of(api).get("/api/v1/pods")["items"] == []
    finally:
        api.stop()


def test_of_the_checks_of_certificates_the_strict_one_alone_is_off(api):
    expected = ssl.create_default_context().verify_flags & ~ssl.VERIFY_X509_STRICT
    expected |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context = server_of(api)._context()
    assert context.verify_flags == expected
    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, True)


def test_a_certificate_with_another_name_is_rejected(api):
    server = ApiServerClient("127.0.0.1", api.port, str(api.account))
    with pytest.raises(ApiError, match="CERTIFICATE_VERIFY_FAILED"):
        server.get("/api/v1/pods")


def test_an_authority_that_another_one_has_signed_is_trusted_as_it_is(api, tmp_path):
    api.certify(root=Authority(tmp_path / "root", "company"))
    assert server_of(api).get("/api/v1/pods")["items"] == []


def test_an_authority_that_is_replaced_is_trusted_without_a_restart(api):
    server = server_of(api)
    server.get("/api/v1/pods")
    api.certify()
    assert server.get("/api/v1/pods")["items"] == []


def test_an_authority_that_was_replaced_is_no_longer_trusted(api, tmp_path):
    server = server_of(api)
    other = FakeApiServer(tmp_path / "other")
    try:
        for name in ("..version-1", "..data"):
            shutil.copytree(other.account / "..data", api.account / name, dirs_exist_ok=True)
        with pytest.raises(ApiError, match="CERTIFICATE_VERIFY_FAILED"):
            server.get("/api/v1/pods")
    finally:
        other.stop()


@pytest.mark.parametrize("spoilt", [None, b"", b"no certificate"])
def test_an_unreadable_ca_is_a_failure_until_it_can_be_read(api, spoilt):
    server = server_of(api)
    path = api.account / "ca.crt"
    good = path.read_bytes()
    path.unlink()
    if spoilt is not None:
        path.write_bytes(spoilt)
    with pytest.raises(ApiError, match=r"ca\.crt"):
        server.get("/api/v1/pods")
    path.write_bytes(good)
    assert server.get("/api/v1/pods")["items"] == []
