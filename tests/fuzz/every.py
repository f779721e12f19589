"""Every target there is, by the name of its program."""

from tests.fuzz import ledger_targets, targets

TARGETS = targets.TARGETS | ledger_targets.LEDGER_TARGETS
