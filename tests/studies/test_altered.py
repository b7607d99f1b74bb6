"""Altered copies keep size and place, differ from the picture, and bend picture and label alike."""

from __future__ import annotations

import numpy as np
import torch
from monai.data import MetaTensor

from monai_tpseg.studies.altered_copies import altered_copies


def scene() -> tuple[MetaTensor, torch.Tensor]:
    """A bright ellipse on a dim ramp, and its label."""
    rows, columns = np.mgrid[:60, :80]
    label = ((rows - 25) / 10) ** 2 + ((columns - 45) / 14) ** 2 < 1
    image = torch.tensor(np.stack([40 + rows * 0.3 + 150 * label] * 3), dtype=torch.float32)
    return MetaTensor(image, meta={"kind": "picture"}), torch.tensor(label[None])


def test_copies_are_the_same_again_and_keep_the_meta() -> None:
    image, label = scene()
    first, again = (list(altered_copies(image, label, 2, seed=3)) for _ in range(2))
    for (copy, truth), (other, other_truth) in zip(first, again, strict=True):
        assert torch.equal(copy.as_tensor(), other.as_tensor())
        assert torch.equal(truth, other_truth)
        assert copy.shape == image.shape
        assert copy.meta["kind"] == "picture"
        assert set(truth.unique().tolist()) <= {0, 1}
        assert not torch.allclose(copy.as_tensor(), image.as_tensor(), atol=1)
    other = next(iter(altered_copies(image, label, 1, seed=4)))[0]
    assert not torch.equal(first[0][0].as_tensor(), other.as_tensor())


def test_the_label_moves_with_the_picture() -> None:
    """What is bright stays lesion: the first copy is not bent, the second is."""
    image, label = scene()
    for seed in range(4):
        (_, same), (bent, moved) = altered_copies(image, label, 2, seed)
        assert torch.equal(same > 0, label)
        assert moved.any()
        inside, outside = (bent.as_tensor()[0][part].median() for part in (moved[0] > 0, moved[0] == 0))
        assert inside > outside + 20
