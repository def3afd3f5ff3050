"""Estimates energy and emissions of unmeasured or planned work from hardware power limits."""
