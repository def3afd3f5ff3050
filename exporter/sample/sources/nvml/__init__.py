"""Collector `nvml`: NVIDIA GPUs."""

from exporter.sample.sources.nvml.driver import NvmlDriver, has_gpu_or_library

__all__ = ("NvmlDriver", "has_gpu_or_library")
