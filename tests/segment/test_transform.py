"""In a chain of MONAI transforms a mask ends as everywhere else."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import CopyItemsd

from monai_tpseg.io import meta_keys
from monai_tpseg.segment import FinishMaskd
from monai_tpseg.transforms import ForEachTask, PasteRegiond, RemoveSmallLesionsd


def case(channels: int) -> dict[str, Any]:
    meta = {meta_keys.LOADED_SHAPE: np.array((24, 30)), meta_keys.REGION: (3, 2, 21, 28), "filename_or_obj": "a.png"}
    torch.manual_seed(1)
    prob = torch.nn.functional.avg_pool2d(torch.rand(channels, 22, 30), 5, 1)
    return {"image": MetaTensor(torch.zeros(3, 18, 26), meta=meta), "pred": MetaTensor(prob, meta=meta)}


def test_it_is_the_chain_of_its_steps() -> None:
    given, middle = case(1), float(case(1)["pred"].median())
    found = FinishMaskd("pred", middle, 9)(given)
    apart = CopyItemsd("pred", names="prob")(PasteRegiond("pred")(given))
    apart["pred"] = (apart["pred"] >= middle).float()
    apart = RemoveSmallLesionsd("pred", 9)(apart)
    for key in ("pred", "prob"):
        assert torch.equal(torch.as_tensor(found[key]), torch.as_tensor(apart[key]))
    assert found["pred"].shape == (1, 24, 30)
    assert torch.equal(found["lesions"] > 0, torch.as_tensor(found["pred"]) > 0)
    assert int(found["lesions"].max()) > 1


def test_several_tasks_end_one_by_one() -> None:
    given = case(2)
    both = ForEachTask([FinishMaskd("pred")])({**given, "task": torch.tensor([3, 6])})
    for channel in range(2):
        alone = FinishMaskd("pred")({**given, "pred": given["pred"][channel : channel + 1]})
        for key in ("pred", "prob", "lesions"):
            assert torch.equal(both[key][channel : channel + 1], alone[key])


def test_one_prediction_a_case() -> None:
    with pytest.raises(ValueError, match="got the keys a, b"):
        FinishMaskd(("a", "b"))
