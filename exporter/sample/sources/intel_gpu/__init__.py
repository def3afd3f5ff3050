"""Collector `intel_gpu`: Intel GPUs, the discrete cards of the kernel drivers i915 and xe, read from sysfs without root."""

from exporter.sample.sources.intel_gpu.driver import IntelDriver, has_gpus

__all__ = ("IntelDriver", "has_gpus")
