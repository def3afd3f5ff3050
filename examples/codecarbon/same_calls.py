"""A program that was written for CodeCarbon; only the import is different.

`python examples/codecarbon/same_calls.py` writes emissions.csv, and its tasks to another file in
the same directory.
"""

from exporter.integrations.codecarbon import EmissionsTracker, track_emissions


def work(size: int) -> float:
    """Use the CPU, as a training would."""
    return sum(number**0.5 for number in range(size))


@track_emissions(project_name="decorated", tracking_mode="process")
def evaluate() -> float:
    """A function that is measured separately and has its own row."""
    return work(2_000_000)


with EmissionsTracker(project_name="example", tracking_mode="process") as tracker:
    tracker.start_task("load")
    work(1_000_000)
    tracker.stop_task()
    tracker.start_task("train")
    work(4_000_000)
    train = tracker.stop_task()
evaluate()

total = tracker.final_emissions_data
if train is not None and total is not None:
    print(f"training: {train.energy_consumed:.3g} of {total.energy_consumed:.3g} kWh")
    print(f"{tracker.final_emissions:.3g} kg CO2eq")
