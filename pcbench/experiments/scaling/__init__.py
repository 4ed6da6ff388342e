"""How energies, gradients and losses scale with width and depth."""
