"""Observations of labelled cases, processed as in a run, for the estimates fitted after training."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from numpy.typing import NDArray

from monai_tpseg.files import file_sha256
from monai_tpseg.keys import IMAGE, LABEL, TASK
from monai_tpseg.metrics import dice_per_image
from monai_tpseg.segment import Segmentation
from monai_tpseg.studies.altered_copies import altered_copies
from monai_tpseg.studies.model import Model
from monai_tpseg.transforms import LoadMedicalImaged
from monai_tpseg.transforms.regions import crop_to_region
from monai_tpseg.trust import observe
from monai_tpseg.trust.contours import Curves, curves_of, thresholds_of
from monai_tpseg.trust.features import map_features
from monai_tpseg.trust.fitted_files import ContourFile, Fitted
from monai_tpseg.trust.quality import DiceModel, fit_dice
from monai_tpseg.trust.refusal import fit_refusal

__all__ = [
    "Sample",
    "cases_per_task",
    "collect",
    "data_digest",
    "data_provenance",
    "fit_contours",
    "fit_expected",
    "fit_trust",
]

_TOGETHER = 4  # slices of a volume


@dataclass(frozen=True)
class Sample:
    """Observations of one case.

    Attributes:
        row: row of its task.
        curves: its errors at every threshold.
        features: (D,) features of its probabilities.
        dice: Dice of its mask.
        pooled: task -> (F,) pooled features, for its own task and for others if requested.
        copies: features and Dice of altered copies, see `monai_tpseg.studies.altered_copies`.
    """

    row: int
    curves: Curves
    features: NDArray[np.float64]
    dice: float
    pooled: dict[int, NDArray[np.float64]] = field(default_factory=dict)
    copies: tuple[tuple[NDArray[np.float64], float], ...] = ()


def collect(model: Model, cases: Iterable[Mapping[str, Any]], others: int = 0, copies: int = 0) -> Iterator[Sample]:
    """Segment cases and yield their observations, one by one.

    Args:
        model: model of the weights.
        cases: pictures from `read_datalist`.
        others: number of other tasks, in rotation, for which each picture is also segmented.
        copies: number of altered copies of each picture.
    """
    load = LoadMedicalImaged(IMAGE, label_keys=LABEL)
    turns: Counter[int] = Counter()
    for n, case in enumerate(cases):
        entry: dict[Hashable, Any] = dict(case.items())
        read = load(entry)
        row = model.info.tasks.index(str(case[TASK]))
        asked = _others(row, len(model.info.tasks), others, turns[row])
        turns[row] += 1
        image, label = read[IMAGE], torch.as_tensor(read[LABEL]).as_subclass(torch.Tensor)
        sample = _sample(model, image, label, row, asked)
        seen = (_measured(model, copy, truth, row) for copy, truth in altered_copies(image, label > 0, copies, n))
        yield replace(sample, copies=tuple(seen))


def _measured(model: Model, image: MetaTensor, label: torch.Tensor, row: int) -> tuple[NDArray[np.float64], float]:
    """Features and Dice of a picture."""
    found, truth = model.segment_image(image, model.info.tasks[row], _TOGETHER), (label > 0).to(torch.uint8)
    return _features(model, found), _dice(model, found, truth)


def _features(model: Model, found: Segmentation) -> NDArray[np.float64]:
    return map_features(crop_to_region(found.prob, found.image.meta)[0].numpy(), model.settings.threshold)


def _dice(model: Model, found: Segmentation, truth: torch.Tensor) -> float:
    return float(dice_per_image((found.prob >= model.settings.threshold)[None], truth[None])[0])


def _sample(model: Model, image: MetaTensor, label: torch.Tensor, row: int, others: list[int]) -> Sample:
    with observe(model.network) as seen:
        found = model.segment_image(image, model.info.tasks[row], _TOGETHER)  # no batch size is measured here
        for other in others if seen is not None else ():
            model.segment_image(image, model.info.tasks[other], _TOGETHER)
    rows = range(len(model.info.tasks))
    pooled = {} if seen is None else {r: seen.of(r) for r in rows}
    truth = (label > 0).to(torch.uint8)
    return Sample(
        row,
        curves_of(found.prob.numpy(), truth.numpy()),
        _features(model, found),
        _dice(model, found, truth),
        {r: one.double().mean(0).numpy() for r, one in pooled.items() if len(one)},
    )


def _others(row: int, tasks: int, count: int, turn: int) -> list[int]:
    """`count` of the other tasks, in rotation, so that all are used equally often."""
    rest = [other for other in range(tasks) if other != row]
    return [rest[(turn * count + k) % len(rest)] for k in range(min(count, len(rest)))]


def data_provenance(name: str, cases: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the description of cases for a file fitted on them.

    Args:
        name: name of their list.
        cases: cases from `read_datalist`.
    """
    return {"list": name, "cases": len(cases), "sha256": data_digest(cases)}


def data_digest(cases: Sequence[Mapping[str, Any]]) -> str:
    """Return the SHA-256 of the images, labels and tasks of cases, independent of order and names."""
    digests = []
    for case in cases:
        digest = hashlib.sha256(str(case[TASK]).encode())
        for key in (IMAGE, LABEL):
            digest.update(file_sha256(case[key]).encode())
        digests.append(digest.digest())
    return hashlib.sha256(b"".join(sorted(digests))).hexdigest()


def fit_contours(
    samples: Sequence[Sample], tasks: Sequence[str], miss: float, false: float, data: Mapping[str, Any]
) -> ContourFile:
    """Fit the contour thresholds of the tasks that have cases.

    Args:
        samples: observations from `collect`.
        tasks: names in row order.
        miss, false: guaranteed shares, see `monai_tpseg.trust.contours`.
        data: description of the cases.
    """
    found = {
        name: thresholds_of(curves, miss, false)
        for row, name in enumerate(tasks)
        if (curves := [one.curves for one in samples if one.row == row])
    }
    return ContourFile(miss, false, found, dict(data))


def fit_trust(
    samples: Sequence[Sample], tasks: Sequence[str], provenance: Mapping[str, Any], unseen: Sequence[Sample] = ()
) -> Fitted:
    """Fit the refusal and the expected Dice.

    Args:
        samples: observations from `collect`, with `others` for the refusal.
        tasks: names in row order.
        provenance: description of the cases, see `Fitted.provenance`.
        unseen: observations of cases not used in training, which determine the limits of the refusal.
    """
    asked = [(vector, row, row == one.row) for one in samples for row, vector in one.pooled.items()]
    refusal = None
    if asked:
        pooled, at, own = (np.array(column) for column in zip(*asked, strict=True))
        refusal = fit_refusal(pooled, at, own, len(tasks))
        new = [(one.pooled[one.row], one.row) for one in unseen if one.row in one.pooled]
        if new:
            refusal = refusal.with_limits(*(np.array(column) for column in zip(*new, strict=True)))
    return Fitted(refusal, fit_expected(samples, tasks), {"cases": cases_per_task(samples, tasks), **provenance})


def fit_expected(samples: Sequence[Sample], tasks: Sequence[str]) -> DiceModel:
    """Fit the expected Dice on cases and their altered copies; copies of a case are held out with it.

    Args:
        samples: observations from `collect`.
        tasks: names in row order.
    """
    parts = [(n, one.row, *part) for n, one in enumerate(samples) for part in ((one.features, one.dice), *one.copies)]
    case, rows, features, dice = (np.array(column) for column in zip(*parts, strict=True))
    return fit_dice(features, rows, dice, len(tasks), cases=case)


def cases_per_task(samples: Sequence[Sample], tasks: Sequence[str]) -> dict[str, int]:
    """Return the number of cases of each task."""
    return dict(Counter(tasks[one.row] for one in samples))
