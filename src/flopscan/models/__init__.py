"""Models that flopscan brings itself, one file a family; parameter names as in the official checkpoints."""
