"""GDCM apart gives the same pixels as in this process, and damaged streams end in a code."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.data import get_testdata_file

from monai_tpseg.io import ReadError
from monai_tpseg.io.dicom.gdcm import decompress_isolated
from monai_tpseg.transforms import LoadMedicalImage


def _lossless() -> Path:
    return Path(str(get_testdata_file("SC_rgb_jpeg_gdcm.dcm", download=False)))


def test_several_objects_take_one_child(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    run = subprocess.run

    def counted(*arguments: Any, **options: Any) -> Any:
        calls.append(arguments)
        return run(*arguments, **options)

    monkeypatch.setattr(subprocess, "run", counted)
    datasets = [pydicom.dcmread(_lossless()) for _ in range(3)]
    expected = datasets[0].pixel_array.copy()
    decompress_isolated(datasets)
    assert len(calls) == 1
    for dataset in datasets:
        assert not dataset.file_meta.TransferSyntaxUID.is_encapsulated
        np.testing.assert_array_equal(dataset.pixel_array, expected)


def test_damaged_streams_end_in_a_code(tmp_path: Path) -> None:
    content = _lossless().read_bytes()
    start = content.find(b"\xff\xd8")
    codes = []
    for seed in range(3):
        data, rng = bytearray(content), np.random.default_rng(seed)
        for place in rng.integers(start + 20, start + 700, 12):
            data[place] ^= 1 << int(rng.integers(8))
        (tmp_path / "a").write_bytes(bytes(data))
        try:
            LoadMedicalImage()(tmp_path / "a")
        except ReadError as error:
            codes.append(error.code)
    assert codes
    assert set(codes) <= {"E_DECODE", "E_TRUNCATED"}
