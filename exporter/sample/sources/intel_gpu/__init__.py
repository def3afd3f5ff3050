"""Collector `intel_gpu`: discrete Intel GPUs, by sysfs files of their kernel drivers."""

from exporter.sample.sources.intel_gpu.driver import IntelDriver, has_gpus

__all__ = ("IntelDriver", "has_gpus")
