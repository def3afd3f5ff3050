"""Records of runs in the forms that people need."""
