"""Worker processes: start one, exchange frames with it, and keep its limits."""
