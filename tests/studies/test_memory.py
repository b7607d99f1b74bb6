"""Volumes that are larger than the memory: refused by their header, or by the limit, and the run goes on."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from monai_tpseg.io import ReadError
from monai_tpseg.studies import Limits, Model, Reader, Run, find_entries, prepare_output
from monai_tpseg.testing.phantoms import make_phantom, write_png


def claim(path: Path, shape: tuple[int, int, int]) -> Path:
    """Write a volume of zeros that takes no room on the disc: a header, and a hole."""
    header = nib.Nifti1Image(np.zeros((2, 2, 2), np.int16), np.diag([0.5, 0.5, 0.5, 1.0])).header
    header.set_data_shape(shape)
    with path.open("wb") as file:
        file.write(header.binaryblock + bytes(4))
        file.truncate(352 + 2 * int(np.prod(shape, dtype=np.int64)))
    return path


def test_a_volume_of_1024_x_1024_x_600_is_refused_by_its_header(tmp_path: Path) -> None:
    reader = Reader(Limits(memory=0.25))  # of the 7.5 GB that it would take
    error = reader.get(claim(tmp_path / "large.nii", (1024, 1024, 600))).error
    reader.close()
    assert isinstance(error, ReadError)
    assert error.code == "E_TOO_LARGE"
    needed, limit = 1024 * 1024 * 600 * 3 * 4 / 1e9, 2**29 * 3 * 4 / 1e9
    assert "1024 x 1024 x 600 voxels" in str(error)
    assert f"take {needed:.1f} GB" in str(error)
    assert f"at most {limit:.1f} GB are read at once; split it or resample it" in str(error)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux keeps the limit")
def test_a_volume_beyond_the_limit_costs_itself(model: Model, tmp_path: Path) -> None:
    """32 million voxels are 384 MB as three channels: six times the limit, as 1024 x 1024 x 600 are of 1.2 GB."""
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    claim(folder / "b.nii", (512, 512, 122))
    for name in ("a.png", "c.png"):
        write_png(make_phantom("skin_lesion", 1, 40).image, folder / name)
    entries = find_entries(folder, "skin_lesion")
    counts = Run(model, out, quiet=True, reader=Reader(Limits(memory=1 / 16)))(
        prepare_output(out, entries, "source", False)
    )
    codes = {path.parent.name: json.loads(path.read_text())["code"] for path in out.glob("cases/*/result.json")}
    assert codes == {"a_skin_lesion": "", "b_skin_lesion": "E_TOO_LARGE", "c_skin_lesion": ""}
    assert (counts["failed"], sum(counts.values())) == (1, 3)
