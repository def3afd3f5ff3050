"""Intensities from the network: asked for in a short-lived process, kept in memory."""
