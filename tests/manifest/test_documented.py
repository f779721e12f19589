"""Every field of reference values stands in the document about them: a value nobody knows of is never given."""

import re
from typing import Any

import pytest

from manifest import reference_file
from manifest.fields import Table
from tests.conftest import PROJECT

TEXT = (PROJECT / "docs/reference-values.md").read_text("utf-8")


@pytest.mark.parametrize(
    ("table", "heading"),
    [(reference_file._SIMULATED, "snp"), (reference_file._TDX, "tdx"), (reference_file._AZURE, "azure")],
    ids=["snp", "tdx", "azure"],
)
def test_every_field_is_documented(table: Table[Any], heading: str) -> None:
    (section,) = re.findall(rf"^## {heading}.*?(?=^## |\Z)", TEXT, re.MULTILINE | re.DOTALL)
    named = set(re.findall(r"`(\w+)`", section))
    assert {column.name for column in table.columns} <= named
