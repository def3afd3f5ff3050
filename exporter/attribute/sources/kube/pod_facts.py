"""What is known of pods by their metadata."""

from collections.abc import Mapping
from typing import NamedTuple


class PodFacts(NamedTuple):
    """One pod."""

    uid: str
    namespace: str
    name: str
    run_id: str = ""
    job_id: str = ""
    owner_kind: str = ""
    owner_name: str = ""
    labels: tuple[tuple[str, str], ...] = ()
    """Those that the operator lets out."""
    containers: tuple[str, ...] = ()
    created: str = ""
    is_over: bool = False
    started_ns: int = 0
    """CLOCK_BOOTTIME of when the kubelet took it, which was when it was given its devices; 0: that
    is not known."""
    is_partial: bool = False
    """Namespace and name are known, from the node itself; the API server has not described it."""


class MigDevice(NamedTuple):
    """A MIG device of dynamic resource allocation that exists only while it is claimed.

    Its driver publishes the GPU and the profile, and no UUID.
    """

    gpu: str
    """UUID of the GPU that it is a part of."""
    slices: int
    slices_of: int
    """Slices of the largest MIG device of that GPU."""


class Known(NamedTuple):
    """What the server said last."""

    pods: Mapping[str, PodFacts] = {}
    """By uid."""
    gpus: Mapping[tuple[str, str, str], str] = {}
    """UUIDs of devices by driver, pool and name, for dynamic resource allocation."""
    at_ns: int = 0
    """CLOCK_BOOTTIME of the last word; 0: it has said nothing yet."""
    why: str = "the API server has not answered yet"
    """Why there is nothing newer; "": all is well."""
    gpus_why: str = ""
    """Why `gpus` may not be read; "": they may, or the server has no such thing."""
    mig: Mapping[tuple[str, str, str], MigDevice] = {}
    """MIG devices without a UUID, by driver, pool and name."""
