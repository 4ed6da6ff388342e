"""One conformance run: the plan, the runner processes, the journal and the progress."""
