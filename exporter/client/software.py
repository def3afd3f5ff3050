"""The versions of what a program runs on, as a label of its run."""

import sys

LIBRARIES = (
    *("torch", "tensorflow", "jax", "keras", "transformers", "lightning", "sklearn", "xgboost"),
    *("lightgbm", "datasets", "accelerate", "deepspeed", "numpy", "scipy", "pandas"),
)
MOST_BYTES = 512
"""Labels of a run have 2,048 bytes in all."""


def software() -> str:
    """Python, and those of the known libraries that are imported: `Python 3.11.7, torch 2.9.1`.

    `track("bert", labels={"software": software()})` puts it into every appendix.
    """
    versions = [
        f"{name} {version}"
        for name in LIBRARIES
        if isinstance(version := getattr(sys.modules.get(name), "__version__", None), str)
    ]
    said = ", ".join((f"Python {sys.version.split()[0]}", *versions))
    return said.encode()[:MOST_BYTES].decode(errors="ignore")
