"""The files that `pcbench new-adapter` writes."""
