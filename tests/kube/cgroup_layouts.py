"""Where runtimes and kubelets put the containers of pods, as their users have published it.

Paths are copied from the source named in each entry, but for ids that it abbreviates.
"""

from typing import NamedTuple

ID = "f" * 64
NODE = "d6701ec289c56e4391acb11d07474b3139466857a305490575508a8b7a9fcf22"


class Layout(NamedTuple):
    """One container of one pod."""

    name: str
    source: str
    uid: str
    container: str
    """Path of its cgroup."""
    pod: str
    """Path of the pod's own cgroup; it may be elsewhere, and empty."""


def _inside(name: str, source: str, uid: str, pod: str, scope: str = ID) -> Layout:
    return Layout(name, source, uid, f"{pod}/{scope}", pod)


MATCHING = (
    _inside(
        "containerd, both systemd",
        "kubernetes/kubernetes issue 106514",
        "2fc932ce-fdcc-454b-97bd-aadfdeb4c340",
        "/kubepods.slice/kubepods-burstable.slice/"
        "kubepods-burstable-pod2fc932ce_fdcc_454b_97bd_aadfdeb4c340.slice",
        f"cri-containerd-{ID}.scope",
    ),
    _inside(
        "docker, both systemd",
        "cri-o/cri-o issue 842",
        "90d81341-92de-11e7-8cf2-507b9d4141fa",
        "/kubepods.slice/kubepods-burstable.slice/"
        "kubepods-burstable-pod90d81341_92de_11e7_8cf2_507b9d4141fa.slice",
        f"docker-{ID}.scope",
    ),
    _inside(
        "docker, both cgroupfs",
        "cri-o/cri-o issue 842",
        "941dc160-92df-11e7-b27e-507b9d4141fa",
        "/kubepods/burstable/pod941dc160-92df-11e7-b27e-507b9d4141fa",
    ),
    _inside(
        "cgroupfs, guaranteed",
        "coroot/coroot-node-agent cgroup/cgroup_test.go",
        "a38c12e8-255a-11e9-8cd9-0007cb0b2cc8",
        "/kubepods/poda38c12e8-255a-11e9-8cd9-0007cb0b2cc8",
    ),
    _inside(
        "cgroupfs, a static pod",
        "coroot/coroot-node-agent cgroup/cgroup_test.go",
        "9729a196c4723b60ab401eaff722982d",
        "/kubepods/burstable/pod9729a196c4723b60ab401eaff722982d",
    ),
    _inside(
        "systemd, guaranteed, CRI-O with a cgroup inside its scope",
        "cilium/cilium pkg/cgroups/manager/provider_test.go; crun makes `container`",
        "1858680e-b044-4fd5-9dd4-f137e30e2180",
        "/kubepods.slice/kubepods-pod1858680e_b044_4fd5_9dd4_f137e30e2180.slice",
        f"crio-{ID}.scope/container",
    ),
    _inside(
        "systemd, a static pod, CRI-O",
        "cri-o/cri-o issue 3259",
        "0fb386ed7a9f3e4462d5182de8ccaa2b",
        "/kubepods.slice/kubepods-besteffort.slice/"
        "kubepods-besteffort-pod0fb386ed7a9f3e4462d5182de8ccaa2b.slice",
        f"crio-{ID}.scope",
    ),
    _inside(
        "kind from inside, systemd",
        "cilium/cilium pkg/cgroups/manager/provider_test.go",
        "1858680e-b044-4fd5-9dd4-f137e30e2180",
        "/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-burstable.slice/"
        "kubelet-kubepods-burstable-pod1858680e_b044_4fd5_9dd4_f137e30e2180.slice",
        f"cri-containerd-{ID}.scope",
    ),
    _inside(
        "kind from inside, cgroupfs",
        "cilium/cilium pkg/cgroups/manager/provider_test.go",
        "1858680e-b044-4fd5-9dd4-f137e30e2180",
        "/kubelet/kubepods/burstable/pod1858680e-b044-4fd5-9dd4-f137e30e2180",
    ),
)
"""The kubelet and the runtime use one driver: containers are inside the pod's cgroup."""

NESTED = (
    _inside(
        "kind in Docker, both systemd",
        "coroot/coroot-node-agent cgroup/cgroup_test.go",
        "12fdc709-933e-41d0-917f-cd84de9afa94",
        f"/system.slice/docker-{NODE}.scope/kubelet.slice/kubelet-kubepods.slice/"
        "kubelet-kubepods-burstable.slice/"
        "kubelet-kubepods-burstable-pod12fdc709_933e_41d0_917f_cd84de9afa94.slice",
        f"cri-containerd-{ID}.scope",
    ),
    _inside(
        "kind in Docker, both cgroupfs",
        "DataDog/datadog-agent pkg/util/cgroups, dindProcCgroup; kubernetes-sigs/kind issue 2175",
        "a5ea884f-9e60-4912-bd62-fef9a31db47a",
        f"/docker/{NODE}/kubelet/kubepods/burstable/poda5ea884f-9e60-4912-bd62-fef9a31db47a",
    ),
    _inside(
        "kind in Docker of systemd, node of cgroupfs",
        "cilium/cilium, comment on socket load balancing in kind",
        "a5ea884f-9e60-4912-bd62-fef9a31db47a",
        f"/system.slice/docker-{NODE}.scope/kubelet/kubepods/burstable/"
        "poda5ea884f-9e60-4912-bd62-fef9a31db47a",
    ),
    _inside(
        "kind in Podman",
        "a recorded path in a public eBPF agent's tests, 'KinD on podman'",
        "6eab3b7b-f0a6-4bb8-bff2-d5bc9017c04b",
        f"/machine.slice/libpod-{NODE}.scope/container/kubelet.slice/kubelet-kubepods.slice/"
        "kubelet-kubepods-besteffort.slice/"
        "kubelet-kubepods-besteffort-pod6eab3b7b_f0a6_4bb8_bff2_d5bc9017c04b.slice",
        f"cri-containerd-{ID}.scope",
    ),
    _inside(
        "minikube in Docker, containerd",
        "mountinfo of a minikube container in nginx/agent's tests",
        "0635783e-afc4-448c-b3c2-ed3c739eaf39",
        f"/docker/{NODE}/kubepods/besteffort/pod0635783e-afc4-448c-b3c2-ed3c739eaf39",
    ),
    _inside(
        "minikube in Docker, CRI-O",
        "kubernetes/minikube issue 11280",
        "2ca4a155-3599-498d-bb9d-4446693fa3ea",
        f"/docker/{NODE}/kubepods.slice/kubepods-besteffort.slice/"
        "kubepods-besteffort-pod2ca4a155_3599_498d_bb9d_4446693fa3ea.slice",
        f"crio-{ID}.scope",
    ),
    _inside(
        "kind in rootless Podman",
        "libpod's createUnitName for rootless containers (containers/podman PR 4639)",
        "6eab3b7b-f0a6-4bb8-bff2-d5bc9017c04b",
        f"/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-{NODE}.scope/container/"
        "kubelet.slice/kubelet-kubepods.slice/"
        "kubelet-kubepods-pod6eab3b7b_f0a6_4bb8_bff2_d5bc9017c04b.slice",
        f"cri-containerd-{ID}.scope",
    ),
    _inside(
        "a kubelet below its service",
        "system.slice/k3s.service, in a throttler's tests",
        "6eab3b7b-f0a6-4bb8-bff2-d5bc9017c04b",
        "/system.slice/k3s.service/kubepods.slice/kubepods-burstable.slice/"
        "kubepods-burstable-pod6eab3b7b_f0a6_4bb8_bff2_d5bc9017c04b.slice",
        f"cri-containerd-{ID}.scope",
    ),
)
"""The node is a container itself, or the root of pods is elsewhere, seen from the host."""

_UNDER_CONTAINERD = "/system.slice/containerd.service"


def _outside(
    name: str, source: str, uid: str, quality: str, above: str, runtime: str = "cri-containerd"
) -> Layout:
    own = f"kubepods{quality}-pod{uid.replace('-', '_')}.slice"
    pod = f"/kubepods.slice{quality and f'/kubepods{quality}.slice'}/{own}"
    return Layout(name, source, uid, f"{above}/{own}:{runtime}:{ID}", pod)


MISMATCHED = (
    _outside(
        "a static pod, containerd",
        "kubernetes/kubernetes issue 106514",
        "36b6d6be73b1065af369b3985edafa09",
        "-burstable",
        _UNDER_CONTAINERD,
    ),
    _outside(
        "burstable, containerd",
        "coroot/coroot-node-agent cgroup/cgroup_test.go",
        "4ed02c0b-0df8-4d14-a30e-fd589ee4143a",
        "-burstable",
        _UNDER_CONTAINERD,
    ),
    _outside(
        "best effort, containerd with controllers of its own",
        "mountinfo of a container (memory; cpu,cpuacct) in nginx/agent's tests",
        "214f3ba8-4b69-4bdb-a7d5-5ecc73f04ae9",
        "-besteffort",
        _UNDER_CONTAINERD,
    ),
    _outside(
        "best effort, containerd without controllers of its own",
        "mountinfo of the same container (cpuset, freezer)",
        "214f3ba8-4b69-4bdb-a7d5-5ecc73f04ae9",
        "-besteffort",
        "",
    ),
    _outside(
        "guaranteed, containerd 1.6.8, Kubernetes 1.24.0",
        "apache/skywalking-java, test of the container id",
        "87a18a64-b74a-454a-b10b-a4a36059d0a3",
        "",
        _UNDER_CONTAINERD,
    ),
    _outside(
        "containerd in a slice of the operator",
        "DataDog/datadog-agent pkg/util/cgroups, cgroupV1ProcCgroupWithColons",
        "5be537b8-3a4e-4607-af71-31598b3a4fd3",
        "-burstable",
        "/kuberuntime.slice/containerd.service",
    ),
    _outside(
        "k3s",
        "the identity parser of a public CRI client, 'k3s systemd cgroup identity'",
        "57e67067-89e4-4001-bdd4-8632d39ea02b",
        "-burstable",
        "/system.slice/k3s.service",
    ),
    _outside(
        "CRI-O",
        "cri-o/cri-o issue 2632",
        "9da3b2a14682e1fb23be3c2492753207",
        "-burstable",
        "",
        "crio",
    ),
    Layout(
        "docker",
        "kubernetes/kubernetes issue 36807, with today's names of classes",
        "0d33f94b-ab1a-11e6-9e1a-68f7281d8004",
        "/system.slice/docker.service/kubepods.slice/kubepods-besteffort.slice/"
        f"kubepods-besteffort-pod0d33f94b_ab1a_11e6_9e1a_68f7281d8004.slice/{ID}",
        "/kubepods.slice/kubepods-besteffort.slice/"
        "kubepods-besteffort-pod0d33f94b_ab1a_11e6_9e1a_68f7281d8004.slice",
    ),
    Layout(
        "the reverse: the kubelet of cgroupfs, the runtime of systemd",
        "derived: the names that each driver gives (kubernetes pkg/kubelet/cm); current containerd "
        "and CRI-O fail with it",
        "0d33f94b-ab1a-11e6-9e1a-68f7281d8004",
        "/kubepods.slice/kubepods-besteffort.slice/"
        "kubepods-besteffort-pod0d33f94b_ab1a_11e6_9e1a_68f7281d8004.slice/"
        f"cri-containerd-{ID}.scope",
        "/kubepods/besteffort/pod0d33f94b-ab1a-11e6-9e1a-68f7281d8004",
    ),
    _outside(
        "kind whose containerd uses cgroupfs",
        "derived: the first of these below the node's container",
        "36b6d6be73b1065af369b3985edafa09",
        "-burstable",
        f"/docker/{NODE}/system.slice/containerd.service",
    )._replace(
        pod=f"/docker/{NODE}/kubelet.slice/kubelet-kubepods.slice/"
        "kubelet-kubepods-burstable.slice/"
        "kubelet-kubepods-burstable-pod36b6d6be73b1065af369b3985edafa09.slice"
    ),
)
"""The drivers differ: the pod's own cgroup stays empty, and its containers are elsewhere."""

ALL = (*MATCHING, *NESTED, *MISMATCHED)

_HERE = f"kubepods-burstable-pod5be537b8_3a4e_4607_af71_31598b3a4fd3.slice:cri-containerd:{ID}"
HYBRID_UID = "5be537b8-3a4e-4607-af71-31598b3a4fd3"
HYBRID_CONTAINER = f"/kuberuntime.slice/containerd.service/{_HERE}"
HYBRID_PROC_CGROUP = f"""\
9:cpuset:/{_HERE}
8:memory:{HYBRID_CONTAINER}
2:cpu,cpuacct:{HYBRID_CONTAINER}
1:name=systemd:{HYBRID_CONTAINER}
0::/
"""
"""Lines of a process in a container on a host with both versions, in which version 2 knows nothing
of it. Source: DataDog/datadog-agent pkg/util/cgroups, cgroupV1ProcCgroupWithColons."""
