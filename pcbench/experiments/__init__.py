"""Experiments built on the laws: scaling in width and depth, phase diagrams, figures."""
