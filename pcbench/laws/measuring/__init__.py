"""How the laws measure: comparisons with allowances, certified equilibria, wide networks and statistics."""
