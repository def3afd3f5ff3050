"""Collector `nvml`: NVIDIA GPUs. Each GPU has its own threads, so that one may hang alone."""

from exporter.sample.sources.nvml.source import NvmlCollector, has_gpu_or_library

__all__ = ("NvmlCollector", "has_gpu_or_library")
