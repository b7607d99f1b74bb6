"""The code of a failed reading survives MONAI's wrapping, pickling and the workers of a DataLoader."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
from monai.transforms import Compose
from torch._utils import ExceptionWrapper

from monai_tpseg.io import READ_CODES, ReadError, find_read_error
from monai_tpseg.transforms import LoadMedicalImaged


def test_message_is_one_line_with_its_code() -> None:
    error = ReadError("E_4D", "a.nii has\n  5 time points")
    assert str(error) == "a.nii has 5 time points [E_4D]"
    assert error.code in READ_CODES


def test_pickle_keeps_code_and_message() -> None:
    error = pickle.loads(pickle.dumps(ReadError("E_4D", "a.nii has 5 time points")))
    assert (error.code, error.message) == ("E_4D", "a.nii has 5 time points")


def test_found_inside_compose(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError) as caught:
        Compose([LoadMedicalImaged()])({"image": tmp_path / "absent.png"})
    found = find_read_error(caught.value)
    assert found is not None
    assert found.code == "E_NOT_FOUND"


def test_found_in_the_text_of_a_worker(tmp_path: Path) -> None:
    try:
        Compose([LoadMedicalImaged()])({"image": tmp_path / "absent.png"})
    except RuntimeError:
        wrapped = ExceptionWrapper(where="in DataLoader worker process 0")  # what a worker sends, without a worker
    with pytest.raises(RuntimeError) as caught:
        wrapped.reraise()
    assert caught.value.__cause__ is None
    found = find_read_error(caught.value)
    assert found is not None
    assert found.code == "E_NOT_FOUND"
    assert found.message == "absent.png does not exist; check the path."


def test_other_errors_are_none_of_ours() -> None:
    assert find_read_error(RuntimeError("out of memory [E_SOMETHING]")) is None
