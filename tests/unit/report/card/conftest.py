"""A record, and a card of somebody else."""

import pytest

CARD = """\
---
language: en  # of the corpus
license: mit
# what it was trained on
datasets: [imdb]
model-index:
- name: tiny
---
# Tiny

It is small.
"""


@pytest.fixture
def card():
    return CARD


@pytest.fixture
def record():
    """83.524 kg, of 3 GPUs in Germany, 439 hours."""
    return {
        "version": 1,
        "run_id": "bert",
        "job_id": "",
        "node": "n1",
        "nodes": None,
        "labels": {},
        "started": 0.0,
        "ended": 439 * 3600.0,
        "at": 439 * 3600.0,
        "duration_seconds": 439 * 3600.0,
        "energy_uj": 2_505_724_200_000_000,
        "held_uj": 0,
        "carbon_ng": 83_524 * 10**9,
        "parts": [
            {"device": "gpu", "id": f"GPU-{n}", "method": "counter", "energy_uj": 835 * 10**12}
            for n in range(3)
        ],
        "intensity": [
            {
                "zone": "DE",
                "source": "a table, 2024",
                "grams_per_kwh": 120.0,
                "pue": 1.51,
                "basis": "lifecycle",
                "energy_uj": 2_505_724_200_000_000,
            }
        ],
    }
