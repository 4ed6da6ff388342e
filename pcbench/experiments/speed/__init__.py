"""Experiments on speed: the reference beside its peers and the machine's matrix products."""
