"""What a run has found: evidence, verdicts, and reports in every form."""
