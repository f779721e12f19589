"""Other verifiers beside ours: environments of their own, verdicts and speed. Nothing of theirs is imported by us."""
