"""The attribute stage: splits the energy of devices between runs."""
