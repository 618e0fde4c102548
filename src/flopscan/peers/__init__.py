"""The other counters themselves, where they are installed: asked about a model, beside what flopscan counts."""
