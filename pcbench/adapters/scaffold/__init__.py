"""Files that `pcbench new-adapter` writes."""
