"""How the number of inference steps to equilibrium scales with width and depth."""
