"""An implementation in a process of its own: the process, the frames exchanged with it, and its limits."""
