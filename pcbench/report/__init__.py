"""Results of a run: evidence, verdicts, and reports in every form."""
