"""Plots for papers, one file each: a figure, and the caption that says how its numbers came about. Needs matplotlib."""
