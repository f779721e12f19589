"""Every target there is, by the name of its program."""

from tests.fuzz import image_targets, ledger_targets, targets

TARGETS = targets.TARGETS | ledger_targets.LEDGER_TARGETS | image_targets.IMAGE_TARGETS
