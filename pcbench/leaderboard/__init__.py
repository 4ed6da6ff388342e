"""`pcbench bench`: speed and quality of several implementations in one interleaved run, beside their conformance."""
