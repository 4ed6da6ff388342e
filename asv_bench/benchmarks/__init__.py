"""The benchmarks of this asv project: those that pcbench ships, one module each."""
