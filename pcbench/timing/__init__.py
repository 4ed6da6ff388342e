"""How one process is timed, and on which machine."""
