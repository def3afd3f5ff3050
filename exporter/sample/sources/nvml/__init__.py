"""NVIDIA GPUs by NVML: one thread per card and purpose, so that a card that hangs is alone."""

from exporter.sample.sources.nvml.source import Nvml, is_here

__all__ = ("Nvml", "is_here")
