"""The JAX reference PCN: residual MLPs, their energy, inference, equilibria, learning and variants of PC.

Nothing here knows the oracle or the theory, which judge it.  Precision is that of the arrays: run inside
`jax.enable_x64(True)` for float64, as `pcbench.adapters.reference` does.
"""
