"""CodeCarbon's own tests of its trackers, run with ours in their place.

They are taken from the source distribution of the release that is installed, and are not a part of
this repository. What they show beside what is known is a change in the interface.
"""

import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import codecarbon
import pytest

from tests.real.parts import REPOSITORY, Daemon

RELEASE = "3.3.2"
"""Whose outcomes are listed here."""
NAMES = ("EmissionsTracker", "track_emissions")
PASSED = 37
FAILED = {
    "reads a private attribute of the tracker's state": (
        "test_basic_functionality",
        "test_carbon_tracker_offline_region_error",
        "test_cpu_load_detection",
        "test_cuda_visible_devices_takes_precedence_over_rocr_visible_devices",
        "test_default_output_methods_is_csv",
        "test_force_carbon_intensity_constructor_overrides_config",
        "test_force_carbon_intensity_rejects_negative_parameter",
        "test_force_carbon_intensity_rejects_non_numeric_parameter",
        "test_full_hierarchy",
        "test_gpu_ids_from_env",
        "test_gpu_ids_from_rocr_visible_devices",
        "test_monitor_power_collects_gpu_utilization_lightweight",
        "test_monitor_power_handles_empty_gpu_utilization_list",
        "test_monitor_power_skips_gpu_not_in_monitored_ids",
        "test_monitor_power_skips_gpu_when_index_is_none",
        "test_monitor_power_skips_gpu_when_utilization_key_missing",
        "test_monitor_power_waits_while_utilization_history_is_read",
        "test_new_config_parameter_takes_precedence",
        "test_output_methods_parsed_from_config_string",
        "test_power_monitor_keeps_running_around_tasks",
        "test_scheduler_warning_shown_when_running",
        "test_scheduler_warning_suppressed_when_stopped",
        "test_stop_task_resumes_scheduler_only_if_start_task_paused_it",
        "test_too_much_gpu_ids_in_env",
    ),
    "expects the BoAmps output, which is not written here": (
        "test_output_methods_boamps_adds_boamps_output_handler",
        "test_output_methods_boamps_falls_back_on_invalid_metadata_file",
        "test_output_methods_boamps_metadata_back_compat_without_boamps_key",
        "test_output_methods_boamps_reads_metadata_from_json_file",
        "test_output_methods_boamps_uses_metadata_boamps_section",
    ),
    "expects the energy, the driver or the network that it made up to be used by the program": (
        "test_carbon_tracker_TWO_GPU_PRIVATE_INFRA_CANADA",
        "test_carbon_tracker_online_context_manager_TWO_GPU_PRIVATE_INFRA_CANADA",
        "test_carbon_tracker_timeout",
        "test_cumulative_emissions_with_varying_intensity",
        "test_task_energy_with_live_update_interference",
    ),
    "expects the forced power of the processor, where the daemon measures": (
        "test_carbon_tracker_offline_constant_force_cpu_power",
        "test_carbon_tracker_offline_constant_pue",
        "test_carbon_tracker_offline_load_force_cpu_power",
    ),
    "expects a message in the log of CodeCarbon": (
        "test_old_config_parameter_name",
        "test_resolve_offline_country_name_logs_on_invalid_iso",
        "test_start_task_returns_when_engine_initialization_fails",
        "test_tracker_co2_signal_api_token_deprecated",
        "test_tracker_init_warns_on_non_zero_local_rank",
        "test_tracker_new_parameter_takes_precedence",
    ),
    "expects a DeprecationWarning for `save_to_*`": (
        "test_output_methods_overrides_save_to_flags",
        "test_save_to_flags_map_to_output_methods_and_warn",
    ),
    "expects an exception where an offline tracker has no country": (
        "test_decorator_OFFLINE_NO_COUNTRY",
    ),
    "makes a tracker that is no context manager": ("test_decorator_online_passes_output_methods",),
    "opens a file that is not in the source distribution": (
        "test_offline_tracker_invalid_headers",
        "test_offline_tracker_valid_headers",
    ),
}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """The source distribution of the release; its tests that make no tracker are left out."""
    if codecarbon.__version__ != RELEASE:
        pytest.skip(f"the outcomes are those of {RELEASE}, not of {codecarbon.__version__}")
    fetched = subprocess.run(
        [
            *(sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"),
            *("--no-binary=codecarbon", f"--dest={tmp_path}", f"codecarbon=={RELEASE}"),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    if fetched.returncode:
        pytest.skip(f"no package index has the source of CodeCarbon: {fetched.stderr[-200:]}")
    with tarfile.open(tmp_path / f"codecarbon-{RELEASE}.tar.gz") as archive:
        safely = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}  # Python 3.11.4
        archive.extractall(tmp_path, **safely)
    directory = tmp_path / f"codecarbon-{RELEASE}"
    for path in (directory / "tests").glob("test_*.py"):
        if not any(name in path.read_text(encoding="utf-8") for name in NAMES):
            path.unlink()
    return directory


def test_codecarbons_own_tests_fail_for_known_reasons_only(daemon: Daemon, source: Path) -> None:
    plugin = Path(__file__).with_name("substitution.py")
    (source / plugin.name).symlink_to(plugin)
    (source / "exporter").symlink_to(REPOSITORY / "exporter")
    outcomes = source / "outcomes"
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-p", plugin.stem, "-p", "no:cacheprovider"),
            *("-p", "no:rerunfailures", "-c", os.devnull, f"--rootdir={source}", "tests"),
        ],
        cwd=source,
        env={
            **os.environ,
            "PYTHONPATH": str(source),
            "HOME": str(source),
            "OUTCOMES": str(outcomes),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert outcomes.exists(), done.stdout + done.stderr
    found = [json.loads(line) for line in outcomes.read_text(encoding="utf-8").splitlines()]
    failed = {name: reason for name, outcome, reason in found if outcome == "failed"}
    known = {name for names in FAILED.values() for name in names}
    assert {name: reason for name, reason in failed.items() if name not in known} == {}
    assert known - failed.keys() == set()
    assert len(found) - len(failed) == PASSED
