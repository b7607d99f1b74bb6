"""Everyday changes touch the files that docs/architecture.md lists: there the thing is defined, and nowhere else."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs" / "architecture.md").read_text()
TABLE = PAGE.split("| change | files | at most | measured by |\n")[1].split("\n\n")[0]
ROWS = {
    cells[0]: cells[1:]
    for line in TABLE.splitlines()[1:]
    for cells in [[cell.strip() for cell in line.strip("|").split(" | ")]]
}

# what a change of this kind edits, as it stands in the code; names of data sets and phantoms are not the product's
DEFINED: dict[str, str] = {
    "a task": r'^    Task\(\s*\*?\(?"wet_amd"',
    "a modality": r'DERMOSCOPY = "dermoscopy"',
    "the definition of Dice": r"2 \* tp\b|2 \* \(?\w+ & \w+\)?\.sum",
    "a DICOM compression": r'"1\.2\.840\.10008\.1\.2\.4\.80": ',
    "a SNOMED code": r'\bCode\("\d{6,9}"',  # measurements have DICOM's codes
    "a column of `lesions.csv`": r"^class Lesion\b",
    "a backbone": r'"hiera_small": HieraVariant',
    "the order of the report": r"def worst_first\(self\)",
    "the default threshold": r"^THRESHOLD\b.*=",
    "a shortcut of the viewer": r"\['Shift\+B'\]",
    "a loss": r"^class TPSegLoss\b",
    "a file suffix": r"^PICTURE_SUFFIXES\b",
}


def holding(pattern: str) -> set[str]:
    """Return the files of the product in which a pattern occurs."""
    files = (path for kind in ("py", "js", "j2", "html") for path in (ROOT / "monai_tpseg").rglob(f"*.{kind}"))
    return {
        path.relative_to(ROOT).as_posix()
        for path in files
        if "testing" not in path.parts and re.search(pattern, path.read_text(), re.M)
    }


def test_every_row_of_the_page_is_measured() -> None:
    assert set(ROWS) == set(DEFINED)


@pytest.mark.parametrize("change", sorted(DEFINED))
def test_a_change_touches_the_files_of_the_page(change: str) -> None:
    files, most, test = ROWS[change]
    assert (ROOT / test.strip("`")).is_file()
    named = re.findall(r"`(monai_tpseg/[\w/.]+)`", files)
    assert named
    assert all((ROOT / name).is_file() for name in named)
    assert holding(DEFINED[change]) == {named[0]}
    assert files.count(",") + 1 <= int(most)
