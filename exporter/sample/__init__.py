"""Stage sample: reads the hardware and computes the energy of each device and interval."""
