"""Names become rows."""

from __future__ import annotations

import pytest
import torch
from monai.data import list_data_collate

from monai_tpseg.catalogue import TASK_NAMES
from monai_tpseg.transforms import TaskToIndexd


def test_names_rows_and_tensors_become_int64_rows() -> None:
    cases = [TaskToIndexd()({"task": task}) for task in ("breast_lesion", 6, "6", torch.tensor(6))]
    for case in cases:
        assert case["task_name"] == "breast_lesion"
    batch = list_data_collate(cases)["task"]
    assert batch.dtype == torch.int64
    assert batch.tolist() == [6, 6, 6, 6]


def test_rows_follow_the_given_names() -> None:
    to_index = TaskToIndexd(["skin_lesion", "wet_amd"], key="which")
    case = to_index({"which": "wet_amd", "image": "a.png"})
    assert (int(case["which"]), case["task_name"], case["image"]) == (1, "wet_amd", "a.png")
    with pytest.raises(ValueError, match="Unknown task 'colon_polyp'; choose one of skin_lesion, wet_amd"):
        to_index({"which": "colon_polyp"})


def test_a_missing_task_lists_the_choices() -> None:
    with pytest.raises(ValueError, match=f"no 'task'; choose one of {', '.join(TASK_NAMES)}"):
        TaskToIndexd()({"image": "a.png"})


def test_names_must_differ() -> None:
    with pytest.raises(ValueError, match="without duplicates"):
        TaskToIndexd(["wet_amd", "wet_amd"])
