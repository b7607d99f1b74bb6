"""The examples in docstrings say what really comes out."""

from __future__ import annotations

import doctest
import importlib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
EXAMPLES = [file for file in sorted(ROOT.glob("monai_tpseg/**/*.py")) if ">>> " in file.read_text()]


@pytest.mark.parametrize("file", EXAMPLES, ids=lambda file: str(file.relative_to(ROOT)))
def test_examples_hold(file: Path) -> None:
    module = importlib.import_module(".".join(file.relative_to(ROOT).with_suffix("").parts))
    found = doctest.testmod(module)
    assert found.failed == 0
