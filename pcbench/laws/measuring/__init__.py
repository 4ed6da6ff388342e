"""Measuring tools of the laws: comparisons, certified equilibria, wide networks and statistics."""
