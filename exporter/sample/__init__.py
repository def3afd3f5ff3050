"""sample: what the hardware says, as energy per device and interval."""
