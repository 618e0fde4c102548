"""Capture: run a model on shapes (or for real) and write down what it did. The only part that imports torch."""
