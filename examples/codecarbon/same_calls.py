"""A program that was written for CodeCarbon; only the import is another one.

`python examples/codecarbon/same_calls.py` writes emissions.csv, and its tasks in a file beside it.
"""

from exporter.integrations.codecarbon import EmissionsTracker, track_emissions


def work(size: int) -> float:
    """Something that uses the processor, in place of a training."""
    return sum(number**0.5 for number in range(size))


@track_emissions(project_name="decorated", tracking_mode="process")
def evaluate() -> float:
    """A function with a row of its own."""
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
