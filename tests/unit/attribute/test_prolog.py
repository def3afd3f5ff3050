"""The prolog of Slurm: resolving the numbers in SLURM_JOB_GPUS to GPUs.

What the numbers count is read in Slurm's source (26.11.0-0rc1, commit 284c3b95f0): the prolog gets
`gres_device->index` (src/plugins/gres/common/gres_common.c, gres_common_prep_set_env), a place in a
list that is sorted by file name and, with AutoDetect=nvml, along the PCI bus after that
(src/plugins/gres/gpu/gres_gpu.c). With AutoDetect=rsmi and oneapi the list has the order of the
vendor's library, and the files are render nodes (src/plugins/gpu/rsmi/gpu_rsmi.c,
_get_system_gpu_list_rsmi; src/plugins/gpu/oneapi/gpu_oneapi.c). The form of `information` is that
of NVIDIA's open kernel module (kernel-open/nvidia/nv-procfs.c).
"""

import shutil
import subprocess
from pathlib import Path

import pytest

from exporter.attribute.sources.gpu_holdings import gpu_aliases, resolve_gpu_id
from exporter.attribute.sources.job_files import parse_job_file
from exporter.model.readings import Device, DeviceInfo, DeviceKind

pytestmark = [pytest.mark.real, pytest.mark.beside]

SCRIPTS = Path(__file__).parents[3] / "deploy" / "slurm"
PROLOG = SCRIPTS / "prolog.sh"
UUIDS = [f"GPU-{letter * 8}-0000-1111-2222-{letter * 12}" for letter in "abc"]
"""In PCI bus order, like NVML indices."""
MINORS = (2, 0, 1)
BUSES = ("01", "41", "c1")
MIG = "MIG-dddddddd-0000-5111-2222-dddddddddddd"
ASLEEP = "GPU-????????-????-????-????-????????????"
AUTO, FILES = "AutoDetect=nvml\n", "Name=gpu File=/dev/nvidia[0-2]\n"


class Site:
    """A node with three GPUs whose indices and minor numbers differ."""

    def __init__(self, root):
        self.root = root
        self.mig = "Disabled"
        for directory in ("bin", "etc"):
            (root / directory).mkdir()
        for bus, minor, uuid in zip(BUSES, MINORS, UUIDS, strict=True):
            self.information(bus, minor, uuid)
        self.answer(*UUIDS)

    def information(self, bus, minor, uuid):
        path = self.root / "driver" / "gpus" / f"0000:{bus}:00.0" / "information"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(
            f"Model: \t\t NVIDIA H200\nIRQ:   \t\t 300\nGPU UUID: \t {uuid}\n"
            f"Bus Location: \t 0000:{bus}:00.0\nDevice Minor: \t {minor}\n"
        )

    def answer(self, *uuids):
        """Output of nvidia-smi; without UUIDs it fails."""
        lines = [
            f"echo '00000000:{bus.upper()}:00.0, {uuid}, {index}, {self.mig}'\n"
            for index, (bus, uuid) in enumerate(zip(BUSES, uuids, strict=False))
        ]
        tool = self.root / "bin" / "nvidia-smi"
        tool.write_text("#!/bin/sh\n" + ("".join(lines) or "exit 9\n"))
        tool.chmod(0o755)

    def forget_files(self):
        for path in (self.root / "driver").rglob("information"):
            path.unlink()

    def run(self, numbers, gres="", shell="sh", **environment):
        (self.root / "etc" / "gres.conf").write_text(gres)
        made = subprocess.run(
            [shell, PROLOG],
            env={
                "PATH": f"{self.root / 'bin'}:/usr/bin:/bin",
                "EMISSIONS_JOBS_DIRECTORY": str(self.root / "jobs"),
                "EMISSIONS_DRIVER_DIRECTORY": str(self.root / "driver"),
                "EMISSIONS_PCI_DRIVERS_DIRECTORY": str(self.root / "pci"),
                "SLURM_CONF": str(self.root / "etc" / "slurm.conf"),
                "SLURM_JOB_ID": "17",
                "SLURM_JOB_UID": "7",
                "SLURM_JOB_GPUS": numbers,
                **environment,
            },
            capture_output=True,
            text=True,
            check=True,
        )
        self.stderr = made.stderr
        return list(parse_job_file((self.root / "jobs" / "17").read_bytes()).gpus)


@pytest.fixture
def site(tmp_path):
    return Site(tmp_path)


@pytest.mark.parametrize(
    ("gres", "variables", "order"),
    [
        (AUTO, {}, [0, 1, 2]),
        ("# x\nNodeName=n[1-9] autodetect=NVML\n", {}, [0, 1, 2]),
        ("\tAutoDetect = nvml\n", {}, [0, 1, 2]),
        (FILES, {}, [1, 2, 0]),
        ("Name=gpu File = /dev/nvidia[0-2] # AutoDetect=nvml\n", {}, [1, 2, 0]),
        ("AutoDetect=nvidia\n", {}, [1, 2, 0]),
        ("", {"EMISSIONS_GPU_NUMBERS": "index"}, [0, 1, 2]),
        ("", {"EMISSIONS_GPU_NUMBERS": "minor"}, [1, 2, 0]),
        (FILES, {"EMISSIONS_GPU_NUMBERS": "index"}, [0, 1, 2]),
    ],
)
def test_gres_conf_determines_index_or_minor_number(site, gres, variables, order):
    assert site.run("0,1,2", gres, **variables) == [UUIDS[place] for place in order]
    assert site.run("1-2", gres, **variables) == [UUIDS[place] for place in order[1:]]


@pytest.mark.parametrize(
    "gres", ["", "#AutoDetect=nvml\n", AUTO + FILES, "AutoDetect = nvml\n" + FILES]
)
def test_an_ambiguous_number_is_omitted_and_logged(site, gres):
    assert site.run("0", gres) == []
    assert f"GPU 0 is ambiguous: {UUIDS[0]} by index, {UUIDS[1]} by minor number" in site.stderr
    assert "EMISSIONS_GPU_NUMBERS" in site.stderr


def test_a_number_with_equal_index_and_minor_number_is_resolved(site):
    for minor, (bus, uuid) in enumerate(zip(BUSES, UUIDS, strict=True)):
        site.information(bus, minor, uuid)
    assert site.run("0") == [UUIDS[0]]


def test_without_nvidia_smi_an_index_is_a_position_on_the_bus(site):
    site.answer()
    assert site.run("0,2", AUTO) == [UUIDS[0], UUIDS[2]]
    assert site.run("0,2", FILES) == [UUIDS[1], UUIDS[0]]
    assert site.run("0") == []


def test_error_messages_of_nvidia_smi_are_ignored(site):
    (site.root / "bin" / "nvidia-smi").write_text(
        "#!/bin/sh\n"
        "echo 'NVIDIA-SMI has failed because it could not communicate with the NVIDIA driver.'\n"
        "echo 'Make sure that the latest NVIDIA driver is installed, and running, now.'\n"
        "echo\nexit 9\n"
    )
    assert site.run("0,2", AUTO) == [UUIDS[0], UUIDS[2]]


@pytest.mark.parametrize("shell", [each for each in ("dash", "bash") if shutil.which(each)])
def test_a_job_starts_although_nvidia_smi_hangs_and_ignores_signals(site, shell):
    """An nvidia-smi that SIGTERM does not end, as in uninterruptible sleep."""
    (site.root / "bin" / "nvidia-smi").write_text(
        "#!/bin/sh\ntrap '' TERM\necho $$ >\"$0.pid\"\nwhile :; do sleep 1; done\n"
    )
    found = site.run("0", FILES, shell=shell)
    pid = int((site.root / "bin" / "nvidia-smi.pid").read_text())
    assert found == [UUIDS[1]]
    assert "nvidia-smi did not answer within ten seconds" in site.stderr
    assert not Path(f"/proc/{pid}").exists()
    assert [path.name for path in (site.root / "jobs").iterdir()] == ["17"]


def test_a_suspended_gpu_is_identified_by_its_bus_position(site):
    site.information(BUSES[0], MINORS[0], ASLEEP)
    assert site.run("2", FILES) == [UUIDS[0]]


@pytest.mark.parametrize(("gres", "written"), [(AUTO, ["0", "2"]), (FILES, ["nvidia0", "nvidia2"])])
def test_a_number_without_a_uuid_is_left_to_the_daemon(site, gres, written):
    site.answer()
    site.forget_files()
    assert site.run("0,2", gres) == written
    infos = [
        DeviceInfo(
            *(Device(DeviceKind.GPU, uuid), "", "", "nvml", 1.0),
            ordinal=str(index),
            aliases=(f"nvidia{minor}",),
        )
        for index, (uuid, minor) in enumerate(zip(UUIDS, MINORS, strict=True))
    ]
    site.answer(*UUIDS)
    for number, (bus, minor) in enumerate(zip(BUSES, MINORS, strict=True)):
        site.information(bus, minor, UUIDS[number])
    found = [resolve_gpu_id(name, gpu_aliases(infos, {})) for name in written]
    assert found == site.run("0,2", gres)


@pytest.mark.parametrize(
    ("gres", "written"),
    [
        ("AutoDetect=rsmi\n", ["0", "2"]),
        ("AutoDetect=oneapi\n", ["0", "2"]),
        ("Name=gpu File=/dev/dri/renderD[128-131]\n", ["renderD128", "renderD130"]),
    ],
)
def test_a_number_of_another_vendor_is_left_to_the_daemon(site, gres, written):
    site.answer()
    site.forget_files()
    assert site.run("0,2", gres) == written
    infos = [
        DeviceInfo(
            *(Device(DeviceKind.GPU, uuid), "", "AMD", "amdgpu", 1.0),
            ordinal=str(index),
            aliases=(f"renderD{128 + index}",),
        )
        for index, uuid in enumerate(UUIDS)
    ]
    names = gpu_aliases(infos, {})
    assert [resolve_gpu_id(name, names) for name in written] == [UUIDS[0], UUIDS[2]]


HETEROGENEOUS = [
    AUTO + "AutoDetect=rsmi\n",
    AUTO + "AutoDetect=oneapi\n",
    AUTO + "Name=gpu File=/dev/dri/renderD128\n",
]
"""Files for nodes of two vendors."""


@pytest.mark.parametrize("gres", HETEROGENEOUS)
def test_lines_for_nodes_of_another_vendor_are_ignored(site, gres):
    assert site.run("0,1", gres) == UUIDS[:2]
    site.answer()
    site.forget_files()
    (site.root / "pci/amdgpu/0000:03:00.0").mkdir(parents=True)
    assert site.run("0", gres) == ["renderD128" if "render" in gres else "0"]


@pytest.mark.parametrize("gres", HETEROGENEOUS)
def test_a_number_on_a_node_with_gpus_of_two_vendors_is_omitted_and_logged(site, gres):
    (site.root / "pci/amdgpu/0000:03:00.0").mkdir(parents=True)
    assert site.run("0", gres) == []
    assert "GPU 0 is ambiguous: this node has GPUs of several vendors" in site.stderr


def test_without_any_source_and_numbering_there_is_no_gpu(site):
    site.answer()
    site.forget_files()
    assert site.run("0") == []
    assert "the UUID of GPU 0 is unknown" in site.stderr


def test_uuids_of_slurm_take_precedence_over_numbers(site):
    site.mig = "Enabled"
    site.answer(*UUIDS)
    assert site.run("0,1", AUTO, CUDA_VISIBLE_DEVICES=f"{UUIDS[2]},{MIG}") == [UUIDS[2], MIG]
    assert site.run("0,1", AUTO, CUDA_VISIBLE_DEVICES=f"0,{MIG}") == [MIG]
    assert "the number 0 cannot be resolved" in site.stderr


def test_a_number_without_a_uuid_of_slurm_is_resolved(site):
    assert site.run("0,1", AUTO, CUDA_VISIBLE_DEVICES=UUIDS[2]) == [UUIDS[2], UUIDS[1]]


def test_a_job_without_gpus_has_none(site):
    assert site.run("") == []


@pytest.mark.parametrize("path", [None, "", "/nowhere", "/usr/bin:/bin"])
@pytest.mark.parametrize("shell", [["sh"], ["bash"], ["bash", "--posix"]])
def test_nvidia_smi_in_usr_local_bin_is_found_without_a_path_of_slurm(site, path, shell):
    """A prolog runs without PATH: https://slurm.schedmd.com/prolog_epilog.html."""
    site.forget_files()
    script = site.root / "prolog.sh"
    script.write_text(PROLOG.read_text().replace("/usr/local/bin", str(site.root / "bin")))
    environment = {
        "EMISSIONS_JOBS_DIRECTORY": str(site.root / "jobs"),
        "EMISSIONS_DRIVER_DIRECTORY": str(site.root / "driver"),
        "EMISSIONS_GPU_NUMBERS": "index",
        "SLURM_JOB_ID": "17",
        "SLURM_JOB_UID": "7",
        "SLURM_JOB_GPUS": "0,2",
    }
    program = shutil.which(shell[0])
    assert program
    subprocess.run(
        [program, *shell[1:], script],
        env=environment if path is None else {**environment, "PATH": path},
        check=True,
    )
    assert parse_job_file((site.root / "jobs" / "17").read_bytes()).gpus == (UUIDS[0], UUIDS[2])


def test_the_epilog_removes_the_file_of_the_job_alone_without_a_path(tmp_path):
    for name in ("17", "18"):
        (tmp_path / name).touch()
    for job_id in ("17", "", "../18"):
        environment = {"EMISSIONS_JOBS_DIRECTORY": str(tmp_path), "SLURM_JOB_ID": job_id}
        subprocess.run(["/bin/sh", SCRIPTS / "epilog.sh"], env=environment, check=True)
    assert [path.name for path in tmp_path.iterdir()] == ["18"]


@pytest.mark.parametrize("value", ["foo", "Index", "0", "index,minor", "$(id)"])
def test_an_invalid_numbering_is_logged_and_gres_conf_is_used(site, value):
    assert site.run("0", AUTO, EMISSIONS_GPU_NUMBERS=value) == [UUIDS[0]]
    assert f"EMISSIONS_GPU_NUMBERS is '{value}', which is neither index nor minor" in site.stderr
    assert site.run("0", "", EMISSIONS_GPU_NUMBERS=value) == []
