"""Is this real hardware, and what does it run? Evidence, reference values, verdicts; knows no ledger."""
