"""Cases that come with exemplars: other pictures of the same task, never the picture itself."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from monai.transforms import Randomizable
from monai.utils import convert_to_tensor

from monai_tpseg.data.cache import CachedCases
from monai_tpseg.data.datalists import DatalistError
from monai_tpseg.keys import EXEMPLAR_IMAGE, EXEMPLAR_LABEL, IMAGE, LABEL, TASK
from monai_tpseg.words import count

__all__ = ["ExemplarCases", "ExemplarPool"]


class ExemplarPool(Randomizable):
    """Draws the numbers of exemplars for a case: of its task, of another picture, none of them twice.

    Args:
        cases: cases to draw from, dictionaries with `image` (a path) and `task`.
        number: K exemplars a case.
        seed: makes the draw a function of the seed and the case, for evaluations; None draws anew each time.

    Raises:
        ValueError: `number` is below 1.
    """

    def __init__(self, cases: Sequence[dict[str, Any]], number: int = 1, seed: int | None = None) -> None:
        if number < 1:
            raise ValueError(f"The number of exemplars must be at least 1, got {number}.")
        self.cases, self.number, self.seed = list(cases), number, seed
        self.of_task: dict[Any, list[int]] = defaultdict(list)
        for i, case in enumerate(self.cases):
            self.of_task[case[TASK]].append(i)

    def candidates(self, case: dict[str, Any]) -> list[int]:
        """Return all that may serve as exemplars of `case`, at least `number`.

        Raises:
            DatalistError: there are too few.
        """
        other = [i for i in self.of_task[case[TASK]] if str(self.cases[i][IMAGE]) != str(case[IMAGE])]
        if len(other) < self.number:
            raise DatalistError(
                f"Task '{case[TASK]}' has {count(len(other), 'other picture')} with labels than '{case[IMAGE]}': "
                f"{count(self.number, 'exemplar')} asked for; lower the number or add pictures of the task."
            )
        return other

    def draw(self, case: dict[str, Any], index: int) -> list[int]:
        """Return the numbers of `number` exemplars for case number `index`."""
        state = self.R if self.seed is None else np.random.RandomState([self.seed, index])
        chosen: list[int] = state.choice(self.candidates(case), self.number, replace=False).tolist()
        return chosen

    def randomize(self, data: Any = None) -> None:
        """Nothing is drawn ahead."""


class ExemplarCases(CachedCases):
    """`CachedCases` that adds `exemplar_image` (K, 3, H, W) and `exemplar_label` (K, 1, H, W) to every case.

    Each exemplar runs through the transform on its own, so that augmentations are independent.

    Args:
        data: cases, dictionaries with `image`, `label` and `task`.
        transform: transform of a case; must return pictures of one size.
        exemplars: K; 0 adds none.
        pool: data set to draw from, with its own transform; by default this one.
        seed: see `ExemplarPool`.
        **kwargs: as in `CachedCases`.

    Raises:
        DatalistError: a case has too few others of its task.
    """

    def __init__(
        self,
        data: Sequence[Any],
        transform: Callable[..., Any],
        exemplars: int = 1,
        pool: CachedCases | None = None,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(data, transform, **kwargs)
        self.pool = pool
        self.drawn = ExemplarPool(self.data if pool is None else pool.data, exemplars, seed) if exemplars else None
        if self.drawn is not None:
            for case in self.data:
                self.drawn.candidates(case)

    def fill(self) -> None:
        """Read the cases to keep, those of the pool too."""
        super().fill()
        if self.pool is not None:
            self.pool.fill()

    def _transform(self, index: int) -> Any:
        case = dict(super()._transform(index))  # a copy: what is kept must not grow
        if self.drawn is None:
            return case
        numbers = self.drawn.draw(self.data[index], index)
        own = super()._transform
        shown = [own(i) if self.pool is None else self.pool[i] for i in numbers]
        for key, source in ((EXEMPLAR_IMAGE, IMAGE), (EXEMPLAR_LABEL, LABEL)):
            case[key] = torch.stack([convert_to_tensor(other[source], track_meta=False) for other in shown])
        return case
