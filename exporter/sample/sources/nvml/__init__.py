"""NVIDIA GPUs by NVML: one thread per card and purpose, so that a card that hangs is alone."""

from exporter.sample.sources.nvml.source import NvmlCollector, has_gpu_or_library

__all__ = ("NvmlCollector", "has_gpu_or_library")
