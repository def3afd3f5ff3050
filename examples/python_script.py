"""Measure a program: `python examples/python_script.py`, with or without a running daemon."""

from exporter.client import track

STEPS = 20


def step() -> float:
    """Use the CPU, as a training step would."""
    return sum(number**0.5 for number in range(300_000))


with track("example", labels={"team": "demo"}, budget_grams=100) as run:
    for done in range(STEPS):
        step()
        run.count(samples=32)
        run.progress(done + 1, STEPS)
    run.log(accuracy=0.93)

print(f"{run.run_id}: {run.energy_joules:.1f} J, {run.emissions_grams:.6f} g CO2eq")
