"""Each task of a case goes through the transforms by itself."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from monai.transforms import AsDiscreted

from monai_tpseg.catalogue import TASK_NAMES
from monai_tpseg.transforms import ForEachTask, RemoveSmallLesionsd, TaskToIndexd


def test_channels_are_told_apart_and_joined_again() -> None:
    seen: list[tuple[str, int, tuple[int, ...]]] = []

    def look(case: dict[str, Any]) -> dict[str, Any]:
        seen.append((case["task_name"], int(case["task"]), tuple(case["pred"].shape)))
        return {**case, "prob": case["pred"]}

    case = TaskToIndexd()({"task": ["breast_lesion", 0], "pred": torch.rand(2, 8, 8, 4)})
    assert case["task"].tolist() == [6, 0]
    assert case["task_name"] == "breast_lesion"
    result = ForEachTask([look, AsDiscreted("pred", threshold=0.5), RemoveSmallLesionsd("pred", 3)])(case)
    assert seen == [("breast_lesion", 6, (1, 8, 8, 4)), (TASK_NAMES[0], 0, (1, 8, 8, 4))]
    assert torch.equal(result["prob"], case["pred"])
    for channel in range(2):
        alone = RemoveSmallLesionsd("pred", 3)({"pred": (case["pred"][channel : channel + 1] >= 0.5).float()})
        assert torch.equal(result["pred"][channel : channel + 1], alone["pred"])


def test_one_task_goes_through_as_it_is() -> None:
    case = TaskToIndexd()({"task": "wet_amd", "pred": torch.rand(1, 8, 8)})
    assert ForEachTask([lambda x: {**x, "seen": x["task_name"]}])(case)["seen"] == "wet_amd"


def test_another_number_of_channels_is_an_error() -> None:
    case = {"task": torch.tensor([1, 2]), "pred": torch.rand(1, 8, 8)}
    with pytest.raises(ValueError, match="1 channel does not fit 2 tasks"):
        ForEachTask([])(case)
