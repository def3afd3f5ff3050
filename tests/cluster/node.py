"""A cluster of one node: etcd, containerd and Kubernetes in namespaces of their own."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.cluster.authority import Authority
from tests.cluster.images import write_image
from tests.real.namespaces import Namespaces, child, run
from tests.real.parts import REPOSITORY, until

BUILT = REPOSITORY / "build" / "cluster"
PROGRAMS = BUILT / "cluster"
EXPORTER_IMAGE = BUILT / "image.tar"
EXPORTER = "docker.io/library/emissions-exporter:latest"
DEBIAN = REPOSITORY / "build" / "debian"
SHELL = "cluster.local/shell:1"
"""Image with the pause program and busybox."""
NAME = "node-1"
NODE_ADDRESS = "10.99.0.1"
SERVICES = "10.96.0.0/24"
KUBERNETES_SERVICE = "10.96.0.1"
PODS = "10.244.0.0/22"
MAX_PODS = 250
LONG_SECONDS = 120.0

CONTAINERD = """\
version = 2
root = "/var/lib/containerd"
state = "/run/containerd"
[grpc]
  address = "/run/containerd/containerd.sock"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{shell}"
  # Without CAP_SYS_RESOURCE no process may have a lower value than its parent.
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{plugins}"
    conf_dir = "/etc/cni/net.d"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
      SystemdCgroup = {systemd}
"""
PLUGINS = DEBIAN / "usr/lib/cni"
AUDIT = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived", "ResponseStarted"],
    "rules": [
        {"level": "None", "userGroups": ["system:serviceaccounts:kube-system"]},
        {"level": "Metadata", "userGroups": ["system:serviceaccounts"]},
        {"level": "None"},
    ],
}
"""Requests of pods; a watch is logged when it ends."""
POD_NETWORK = {
    "cniVersion": "0.4.0",
    "name": "pods",
    "plugins": [
        {
            "type": "bridge",
            "bridge": "cni0",
            "isGateway": True,
            "hairpinMode": True,
            "ipam": {
                "type": "host-local",
                "ranges": [[{"subnet": PODS}]],
                "routes": [{"dst": "0.0.0.0/0"}],
            },
        },
        {"type": "loopback"},
    ],
}
STATIC_PODS = "/etc/kubernetes/manifests"
DIRECTORIES = (
    *("/etc/cni/net.d", STATIC_PODS),
    *("/var/lib/containerd", "/var/lib/kubelet", "/var/log/pods"),
)


def missing() -> str:
    """What this machine lacks for a cluster; "" for nothing."""
    if os.geteuid() != 0:
        return "a cluster requires root"
    for path in (PROGRAMS, EXPORTER_IMAGE, PLUGINS):
        if not path.exists():
            return f"{path.relative_to(REPOSITORY)} is missing: .ci/setup cluster"
    for program in ("cc", "containerd", "ctr", "runc", "etcd", "ip", "helm", "nsenter", "openssl"):
        if shutil.which(program) is None:
            return f"{program} is missing: .ci/setup cluster"
    return ""


class Node(Namespaces):
    """The node; every program can be stopped and started again."""

    cgroup_driver = "cgroupfs"
    namespaces: tuple[str, ...] = ("mount", "net", "pid")

    def __init__(self, directory: Path) -> None:
        super().__init__(directory, f"cluster-{self.cgroup_driver}")
        self.programs: dict[str, subprocess.Popen[bytes]] = {}
        self._commands: dict[str, Sequence[str]] = {}

    # Life

    def start(self) -> "Node":
        pause = self.directory / "pause"
        run("cc", "-static", "-O2", "-o", str(pause), str(Path(__file__).with_name("pause.c")))
        write_image(
            self.directory / "shell.tar",
            SHELL,
            {"pause": pause, "bin/busybox": DEBIAN / "bin/busybox", "bin/sh": "busybox"},
            "/pause",
        )
        self.open()
        self._connect()
        self._configure()
        for name in ("etcd", "containerd", "kube-apiserver"):
            self.begin(name)
        until(lambda: self._ctr("version", check=False).count("Version") > 1, LONG_SECONDS)
        for image in (self.directory / "shell.tar", EXPORTER_IMAGE):
            self._ctr("images", "import", str(image))
        for name in ("kube-controller-manager", "kube-scheduler", "kubelet"):
            self.begin(name)
        until(self._is_ready, LONG_SECONDS, "the node is ready")
        return self

    def stop(self) -> None:
        self.close()
        for program in self.programs.values():
            program.wait()

    def begin(self, name: str) -> None:
        """Start one of the programs."""
        with (self.directory / f"{name}.log").open("ab") as log:
            self.programs[name] = subprocess.Popen(
                self.enter(*self.in_cgroup(*self._commands[name])),
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )

    def end(self, name: str, number: int = signal.SIGTERM) -> None:
        """Stop one of the programs; pods go on."""
        program = self.programs.pop(name)
        # The child of `nsenter`, which forks to enter a process namespace, and ends with it.
        os.kill(until(lambda: child(program.pid)), number)
        program.wait(LONG_SECONDS)

    @contextlib.contextmanager
    def without(self, name: str) -> Iterator[None]:
        """Stop one of the programs for a while."""
        self.end(name, signal.SIGKILL)
        yield
        self.begin(name)

    def rotate_ca(self) -> None:
        """Replace the CA and every certificate, and start what uses them again."""
        self.authority.make_ca()
        self._sign()
        for name in ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet"):
            self.end(name)
            self.begin(name)
        until(self._is_ready, LONG_SECONDS, "the node is ready")

    def log(self, name: str) -> str:
        return (self.directory / f"{name}.log").read_text(errors="replace")

    def requests(self, account: str) -> list[dict[str, Any]]:
        """Requests to the API server of a service account, NAMESPACE:NAME, that have ended."""
        log = self.directory / "audit.log"
        events = map(json.loads, log.read_text().splitlines() if log.exists() else ())
        user = f"system:serviceaccount:{account}"
        return [event for event in events if event["user"]["username"] == user]

    def cgroup_root(self) -> str:
        """The cgroup around those of pods, as the node sees it."""
        return f"/{self.cgroup}"

    # Use

    def kubectl(self, *arguments: str, text: str = "", check: bool = True) -> str:
        """What kubectl prints, as administrator; `text` is its standard input."""
        admin = f"--kubeconfig={self.directory / 'pki' / 'admin.kubeconfig'}"
        return self.inside(str(PROGRAMS), "kubectl", admin, *arguments, text=text, check=check)

    def apply(self, *objects: Mapping[str, Any]) -> None:
        items = {"apiVersion": "v1", "kind": "List", "items": list(objects)}
        self.kubectl("apply", "--filename=-", text=json.dumps(items))

    def get(self, kind: str, *arguments: str) -> dict[str, Any]:
        return dict(json.loads(self.kubectl("get", kind, "--output=json", *arguments)))

    def helm(self, *arguments: str, check: bool = True) -> str:
        admin = f"--kubeconfig={self.directory / 'pki' / 'admin.kubeconfig'}"
        home = f"HOME={self.directory}"
        program = shutil.which("helm") or "helm"
        return self.inside("env", home, program, admin, *arguments, check=check)

    def offer(self, inventory: Mapping[str, Any]) -> None:
        """Let a device plugin and DRA drivers of our own offer these devices, and no others."""
        if "devices" in self.programs:
            self.end("devices")
        (self.directory / "devices.json").write_text(json.dumps(inventory))
        self.begin("devices")
        offered = {name: str(len(ids)) for name, ids in inventory.get("resources", {}).items()}
        until(lambda: offered.items() <= self.allocatable().items(), LONG_SECONDS, str(offered))

    def allocatable(self) -> dict[str, str]:
        """How much of each resource the kubelet offers."""
        return dict(self.get("node", NAME)["status"]["allocatable"])

    def fetch(self, address: str, path: str = "/metrics") -> str:
        """What an HTTP server in the network of the node answers."""
        return self.inside(
            "curl", "--silent", "--fail", "--max-time", "10", f"http://{address}{path}"
        )

    # Parts

    def first_process(self) -> Sequence[str]:
        return (str(self.directory / "pause"),)

    def mount(self) -> None:
        super().mount()
        self.inside("mkdir", "-p", *DIRECTORIES)
        for path in ("/var/lib/containerd", "/var/lib/kubelet"):  # no overlay on an overlay
            directory = self.directory / "root" / Path(path).name
            directory.mkdir()
            self.inside("mount", "--bind", str(directory), path)
        self.inside("mount", "--make-rshared", "/")

    def _connect(self) -> None:
        for command in (
            "ip link set lo up",
            f"ip address add {KUBERNETES_SERVICE}/32 dev lo",
            "ip link add node0 type bridge",
            f"ip address add {NODE_ADDRESS}/24 dev node0",
            "ip link set node0 up",
            "ip route add default dev node0",
        ):
            self.inside(*command.split())
        self.inside("sh", "-c", "echo 1 >/proc/sys/net/ipv4/ip_forward")

    def _configure(self) -> None:
        self.authority = authority = Authority(self.directory / "pki")
        admin, kubelet = self._sign()
        (self.directory / "containerd.toml").write_text(
            CONTAINERD.format(
                shell=SHELL, plugins=PLUGINS, systemd=str(self.cgroup_driver == "systemd").lower()
            )
        )
        self.inside("tee", "/etc/cni/net.d/pods.conflist", text=json.dumps(POD_NETWORK))
        (self.directory / "audit.json").write_text(json.dumps(AUDIT))
        settings = self.directory / "kubelet.json"
        settings.write_text(json.dumps(self.kubelet_settings()))
        path = authority.path
        etcd = "http://127.0.0.1:2379"
        self._commands = {
            "etcd": (
                *("etcd", "--data-dir", str(self.directory / "etcd"), "--unsafe-no-fsync"),
                *("--listen-client-urls", etcd, "--advertise-client-urls", etcd),
                *("--listen-peer-urls", "http://127.0.0.1:2380"),
            ),
            "containerd": ("containerd", "--config", str(self.directory / "containerd.toml")),
            "kube-apiserver": (
                *(str(PROGRAMS), "kube-apiserver", f"--etcd-servers={etcd}"),
                # At the port of the service, so that no kube-proxy is needed.
                *("--secure-port=443", f"--advertise-address={NODE_ADDRESS}"),
                *(f"--service-cluster-ip-range={SERVICES}", "--authorization-mode=Node,RBAC"),
                *("--allow-privileged", "--enable-admission-plugins=NodeRestriction"),
                f"--client-ca-file={path('ca.crt')}",
                f"--tls-cert-file={path('apiserver.crt')}",
                f"--tls-private-key-file={path('apiserver.key')}",
                f"--service-account-key-file={path('sa.pub')}",
                f"--service-account-signing-key-file={path('sa.key')}",
                "--service-account-issuer=https://kubernetes.default.svc",
                f"--kubelet-client-certificate={path('kubelet-client.crt')}",
                f"--kubelet-client-key={path('kubelet-client.key')}",
                f"--kubelet-certificate-authority={path('ca.crt')}",
                "--kubelet-preferred-address-types=InternalIP",
                f"--audit-policy-file={self.directory / 'audit.json'}",
                f"--audit-log-path={self.directory / 'audit.log'}",
            ),
            "kube-controller-manager": (
                *(str(PROGRAMS), "kube-controller-manager", f"--kubeconfig={admin}"),
                f"--service-account-private-key-file={path('sa.key')}",
                f"--root-ca-file={path('ca.crt')}",
                *("--use-service-account-credentials", "--leader-elect=false"),
            ),
            "kube-scheduler": (
                *(str(PROGRAMS), "kube-scheduler", f"--kubeconfig={admin}"),
                "--leader-elect=false",
            ),
            "devices": (
                *(str(PROGRAMS), "devices", f"--file={self.directory / 'devices.json'}"),
                *(f"--kubeconfig={kubelet}", f"--node={NAME}"),
            ),
            "kubelet": (
                *(str(PROGRAMS), "kubelet", f"--config={settings}", f"--kubeconfig={kubelet}"),
                *(f"--hostname-override={NAME}", f"--node-ip={NODE_ADDRESS}"),
            ),
        }

    def _sign(self) -> tuple[str, str]:
        """Write all certificates; the kubeconfigs of the administrator and of the kubelet."""
        authority = self.authority
        own = (f"IP:{KUBERNETES_SERVICE}", "IP:127.0.0.1", f"IP:{NODE_ADDRESS}")
        authority.sign("apiserver", "/CN=kube-apiserver", "DNS:kubernetes.default.svc", *own)
        authority.sign("kubelet-client", "/O=system:masters/CN=kubelet-client")
        admin = authority.kubeconfig("admin", "/O=system:masters/CN=admin")
        kubelet = authority.kubeconfig(
            *("kubelet", f"/O=system:nodes/CN=system:node:{NAME}"),
            *(f"DNS:{NAME}", f"IP:{NODE_ADDRESS}"),
        )
        return admin, kubelet

    def kubelet_settings(self) -> dict[str, Any]:
        path = self.authority.path
        return {
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "cgroupDriver": self.cgroup_driver,
            "cgroupRoot": self.cgroup_root(),
            "failCgroupV1": False,
            "failSwapOn": False,
            "containerRuntimeEndpoint": "unix:///run/containerd/containerd.sock",
            "authentication": {
                "anonymous": {"enabled": False},
                "webhook": {"enabled": True},
                "x509": {"clientCAFile": path("ca.crt")},
            },
            "authorization": {"mode": "Webhook"},
            "tlsCertFile": path("kubelet.crt"),
            "tlsPrivateKeyFile": path("kubelet.key"),
            "clusterDNS": [KUBERNETES_SERVICE],
            "clusterDomain": "cluster.local",
            "maxPods": MAX_PODS,
            "staticPodPath": STATIC_PODS,
            # A container that is killed often starts again at once.
            "featureGates": {"KubeletCrashLoopBackOffMax": True},
            "crashLoopBackOff": {"maxContainerRestartPeriod": "1s"},
            "imageGCHighThresholdPercent": 100,
            "evictionHard": {"memory.available": "100Mi"},
            "oomScoreAdj": 0,
            "syncFrequency": "5s",
            "nodeStatusUpdateFrequency": "5s",
        }

    def _is_ready(self) -> bool:
        nodes = self.kubectl("get", "nodes", "--no-headers", check=False).split()
        has_account = "default" in self.kubectl("get", "serviceaccounts", check=False)
        return nodes[:2] == [NAME, "Ready"] and has_account

    def _ctr(self, *arguments: str, check: bool = True) -> str:
        address = "--address=/run/containerd/containerd.sock"
        return self.inside("ctr", address, "--namespace=k8s.io", *arguments, check=check)
