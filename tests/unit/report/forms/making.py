"""A record with something of everything, and what an escape must be undone to."""

PART = {"id": "package-0", "method": "counter", "split": "cpu_time", "held_uj": 0}
KWH_UJ = 3_600_000_000_000
HOSTILE = (
    "a|b]\\input{/etc/passwd}<script>&amp;$x$ 50% _#~^`q`\"-- ''[y](http://z) \x1b[2J\u202e\n*"
)
USE = {
    "zone": "DE",
    "source": "a table, 2024",
    "grams_per_kwh": 344.14,
    "pue": 1.2,
    "signal": "average",
    "basis": "lifecycle",
    "accounting": "location",
    "estimated": False,
    "fallback_step": 0,
    "energy_uj": 3 * KWH_UJ,
    "carbon_ng": 1239 * 10**9,
}


def gpu(name):
    """A part of a card that was held alone."""
    return {
        "device": "gpu",
        "id": name,
        "model": "NVIDIA A100-SXM4-80GB",
        "method": "counter",
        "split": "exclusive",
        "energy_uj": KWH_UJ,
        "held_uj": KWH_UJ // 4,
        "carbon_ng": 413 * 10**9,
    }


def record(name="bert", **more):
    """Two cards, processors that are measured and memory that is estimated."""
    parts = [
        gpu("GPU-1"),
        gpu("GPU-2"),
        {**PART, "device": "cpu", "energy_uj": KWH_UJ // 2, "carbon_ng": 206 * 10**9},
        {
            **PART,
            "device": "dram",
            "method": "estimated",
            "split": "memory",
            "energy_uj": KWH_UJ // 2,
            "carbon_ng": 207 * 10**9,
        },
    ]
    return {
        "version": 1,
        "run_id": name,
        "job_id": "4711",
        "node": "n1",
        "nodes": None,
        "started": 1_795_000_000.0,
        "ended": 1_795_003_600.0,
        "at": 1_795_009_999.0,
        "duration_seconds": 3_600.0,
        "energy_uj": 3 * KWH_UJ,
        "held_uj": KWH_UJ // 2,
        "carbon_ng": 1239 * 10**9,
        "energy_joules": 10.8e6,
        "carbon_grams": 1239.0,
        "parts": parts,
        "intensity": [USE],
        "units": {},
        "logged": {},
        "labels": {"training_type": "fine-tuning", "geographical_location": "Frankfurt, Germany"},
        **more,
    }


def hostile():
    """The same, where every text that somebody else chose is an attack."""
    labels = dict.fromkeys(
        ("hardware_used", "training_type", "geographical_location", "software"), HOSTILE
    )
    use = {**USE, "zone": HOSTILE, "source": HOSTILE}
    return record(HOSTILE, job_id=HOSTILE, node=HOSTILE, labels=labels, intensity=[use])
