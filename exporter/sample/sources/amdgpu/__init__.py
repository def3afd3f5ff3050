"""Collector `amdgpu`: AMD GPUs, by the sysfs files of their kernel driver."""

from exporter.sample.sources.amdgpu.driver import AmdDriver, has_gpus

__all__ = ("AmdDriver", "has_gpus")
