"""Every file with pixels that pydicom ships is read right or refused with a code, and so is every damaged copy."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from pydicom.data import get_testdata_file

from benchmarks.page_tables import shown
from monai_tpseg.io import NEXT_ACTIONS, READ_CODES, ReadError
from monai_tpseg.transforms import LoadMedicalImage
from tests.scripts import load_script

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "dicom.md"


outcomes = load_script("benchmarks/dicom_outcomes.py")
FILES: list[Path] = outcomes.files_with_pixels()
INVERTED_BY_ITK = {"6154", "6247", "6278"}  # MONOCHROME1: we leave the inversion to the pipeline, after the window
WRONG_IN_ITK = {f"SC_rgb_rle_{bits}bit{frames}.dcm" for bits in (16, 32) for frames in ("", "_2frame")}
OF_12_BITS = {"JPEG-lossy.dcm", "JPGExtended.dcm"}  # pydicom has no decoder for these


def test_the_corpus_is_there() -> None:
    assert len(FILES) >= 95


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_values_equal_the_other_paths_or_a_code_says_why_not(path: Path) -> None:
    found = outcomes.agreement(path)
    if isinstance(found, ReadError):
        assert found.code in READ_CODES
        assert path.name in found.message
        return
    image = outcomes.ours(path)
    if path.name in OF_12_BITS:
        assert found == {"SimpleITK": 0.0}
        return
    assert found["arithmetic"] <= 1e-6 * max(1000.0, np.abs(image).max())
    if path.name in INVERTED_BY_ITK:
        other = outcomes.by_simpleitk(path)
        np.testing.assert_allclose(image + other, (image + other).flat[0], atol=1e-2)
    elif path.name not in WRONG_IN_ITK:
        assert found.get("SimpleITK", 0.0) <= 1e-3


def test_wide_colour_equals_the_same_picture_of_8_bits() -> None:
    eight = outcomes.ours(Path(str(get_testdata_file("SC_rgb_rle.dcm", download=False))))
    for bits in (16, 32):
        wide = outcomes.ours(Path(str(get_testdata_file(f"SC_rgb_rle_{bits}bit.dcm", download=False))))
        np.testing.assert_allclose(wide, eight, atol=1e-4)


def test_most_files_are_read_and_few_are_refused() -> None:
    codes = []
    for path in FILES:
        try:
            LoadMedicalImage()(path)
        except ReadError as error:
            codes.append(error.code)
    assert len(FILES) - len(codes) >= 85
    assert set(codes) <= {"E_DECODE", "E_TRUNCATED", "E_NOT_IMAGE", "E_NO_PIXELS"}


def test_the_table_of_the_page_is_what_the_script_prints() -> None:
    assert shown(PAGE, "outcomes") == outcomes.table(), "run: python -m benchmarks.dicom_outcomes docs/dicom.md"


def test_every_code_stands_on_the_page_with_its_next_action() -> None:
    rows = [line.split(" | ") for line in PAGE.read_text().splitlines() if line.startswith("| `E_")]
    documented = {row[0].strip("| `"): row[-1].rstrip(" |") for row in rows if len(row) == 3}
    assert documented == dict(NEXT_ACTIONS)
    assert set(documented) == set(READ_CODES)


def _mutate(count: int) -> subprocess.CompletedProcess[str]:
    script = Path(__file__).with_name("mutate.py")
    command = [sys.executable, str(script), "--count", str(count), "--seed", "0"]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)


@pytest.mark.parametrize("count", [40, pytest.param(200, marks=pytest.mark.slow)])
def test_damaged_files_end_in_a_result_or_a_code(count: int) -> None:
    done = _mutate(count)
    lines = done.stdout.splitlines()
    assert [line for line in lines if "FAULT" in line] == []
    assert done.returncode == 0, done.stderr[-2000:]
    assert len(lines) == count
    assert len({line.split()[-1] for line in lines}) >= 3  # reads and refusals of several kinds: the run is no sham
