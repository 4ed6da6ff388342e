"""Protocol between pcbench and an implementation, its manifest, and how implementations are loaded."""
