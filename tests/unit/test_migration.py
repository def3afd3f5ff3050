"""The migration page covers every argument of the other tool."""

import re
from pathlib import Path

import pytest

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "migration.md").read_text()
SECTIONS = dict(
    section.partition("\n")[::2] for section in re.split(r"^## ", PAGE, flags=re.MULTILINE)[1:]
)
ARGUMENTS = {
    "CodeCarbon": (
        "project_name measure_power_secs api_call_interval api_endpoint api_key output_dir "
        "output_file output_methods save_to_file save_to_api save_to_logger logging_logger "
        "save_to_prometheus save_to_logfire prometheus_url output_handlers gpu_ids "
        "emissions_endpoint experiment_id experiment_name electricitymaps_api_token "
        "co2_signal_api_token tracking_mode log_level on_csv_write logger_preamble "
        "force_cpu_power force_ram_power pue wue force_carbon_intensity_g_co2e_kwh "
        "force_mode_cpu_load allow_multiple_runs rapl_include_dram rapl_prefer_psys metadata "
        "country_iso_code region cloud_provider cloud_region country_2letter_iso_code offline"
    ),
    "mlflow-emissions-sdk": (
        "tracking_uri experiment_name run_name flavor start_training_job end_training_job "
        "evaluate_model_accuracy accuracy_per_emission emissions_per_10_inferences "
        "emission_per_10_inferences predict_image get_default_device to_device emissions "
        "accuracy_on_test_data emissions_per_10_predictions"
    ),
    "carbontracker": (
        "epochs epochs_before_pred monitor_epochs update_interval interpretable stop_and_confirm "
        "ignore_errors components devices_by_pid log_dir log_file_prefix verbose "
        "decimal_precision api_keys sim_cpu sim_cpu_tdp sim_cpu_util sim_gpu sim_gpu_watts "
        "sim_gpu_util"
    ),
    "Experiment Impact Tracker": (
        "launch_impact_monitor get_latest_info_and_check_for_errors kg_carbon total_power PUE "
        "exp_len_hours generate-carbon-impact-statement create-compute-appendix "
        "get-region-emissions-info lookup-cloud-region-info get-rough-emissions-estimate"
    ),
    "ML CO2 Impact": "--hardware --count --hours --region --intensity --pue --utilization --format",
}


@pytest.mark.parametrize("tool", ARGUMENTS)
def test_every_argument_has_its_place(tool):
    first_cells = " ".join(
        line.partition(" | ")[0 if tool != "ML CO2 Impact" else 2]
        for line in SECTIONS[tool].splitlines()
        if line.startswith("| ")
    )
    named = set(re.findall(r"[-\w]+", first_cells))
    assert set(ARGUMENTS[tool].split()) - named == set()


def test_what_it_links_to_is_there():
    anchors = {re.sub(r"[^\w -]", "", title).lower().replace(" ", "-") for title in SECTIONS}
    for target in re.findall(r"\]\(([^)]+)\)", PAGE):
        path, _, anchor = target.partition("#")
        place = Path(__file__).resolve().parents[2] / "docs" / path
        assert place.exists(), target
        assert path or anchor in anchors, target
