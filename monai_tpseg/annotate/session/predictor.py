"""Prediction of masks from recipes, recomputing earlier results when needed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from monai_tpseg.annotate.session.exemplar_pictures import ExemplarPicture
from monai_tpseg.annotate.session.history import Click, Exemplar
from monai_tpseg.annotate.session.masks import PackedMask
from monai_tpseg.annotate.session.pixels import Pixels
from monai_tpseg.annotate.session.prompt_model import PromptModel
from monai_tpseg.annotate.session.recent import Recent
from monai_tpseg.annotate.session.session_error import SessionError
from monai_tpseg.catalogue import Modality
from monai_tpseg.clicks import scale_clicks
from monai_tpseg.inferers.task_inferer import probabilities, resize_antialiased
from monai_tpseg.networks import Prompt
from monai_tpseg.networks.kprism import ImageState, Memory

__all__ = ["Predictor", "Recipe", "Result"]

_STATES = 4  # cached encoded slices: 22 MB each for the paper's network at 512 x 512
_MEMORIES = 2  # cached encoded sets of exemplars
_SURE = 0.02  # a drawn pixel has probability 0.98, other pixels 0.02
_LOGITS = 32  # cached logits: 1 MB each at 512 x 512


@dataclass(frozen=True)
class Recipe:
    """All inputs of a result in addition to source and weights; equal recipes give equal results.

    Attributes:
        index: number of the slice, from 0.
        modality: modality that selected the preprocessing.
        task: name of the class, or None.
        clicks: clicks in pixels of the source.
        exemplars: exemplars of the prompt.
        previous: number of the corrected result, or None.
        drawn: tool of a mask without the network: `brush`, `outline`, ...; otherwise "".
    """

    index: int
    modality: Modality
    task: str | None = None
    clicks: tuple[Click, ...] = ()
    exemplars: tuple[Exemplar, ...] = ()
    previous: int | None = None
    drawn: str = ""

    @property
    def by_class_alone(self) -> bool:
        """Whether the prompt is a class only, as in `tpseg run`, so that trust estimates apply."""
        return self.task is not None and not (self.clicks or self.exemplars or self.drawn) and self.previous is None


@dataclass(frozen=True)
class Result:
    """A mask with its recipe.

    Attributes:
        recipe: recipe of the mask.
        found: the mask.
        trust: trust estimates from `Trust.record`, or None.
    """

    recipe: Recipe
    found: PackedMask
    trust: dict[str, Any] | None = None


class Predictor:
    """Compute the results of recipes. Encoded slices are cached for all prompts, logits for the next click.

    Logits no longer cached, e.g. after a restart, are recomputed from the recipes that led to them.

    Args:
        model: network and weights.
        pixels: pixels of the case.
    """

    def __init__(self, model: PromptModel, pixels: Pixels) -> None:
        self.model, self.pixels = model, pixels
        self.results: dict[int, Result] = {}
        self.shown: dict[str, ExemplarPicture] = {}
        self._states: Recent[tuple[int, Modality], ImageState] = Recent(_STATES)
        self._memories: Recent[tuple[Modality, tuple[Exemplar, ...]], Memory] = Recent(_MEMORIES)
        self._logits: Recent[int, Tensor] = Recent(_LOGITS)

    def answer(self, recipe: Recipe) -> tuple[int, Result]:
        """Return number and result of a recipe; the result takes effect with `keep`."""
        logits = self._run(recipe)
        prob = probabilities(logits, self.pixels.region_size)[0]
        whole, marked = self.model.finish.cut(prob, self.pixels.meta)
        number = self._next()
        self._logits.put(number, logits)
        return number, Result(recipe, PackedMask.of(marked[0].numpy(), whole[0].numpy()), self._trust(recipe, prob))

    def draw(self, recipe: Recipe, marked: NDArray[np.bool_], beyond: int = 0) -> tuple[int, Result]:
        """Return number and result of a drawn mask: pixels marked before keep their probability, new ones have 1.

        Args:
            recipe: recipe with `drawn`, and the replaced result as `previous`.
            marked: (H, W) bool, the mask of the whole slice.
            beyond: number of new results that are not kept yet.
        """
        prob = np.ones(marked.shape, np.float32)
        if recipe.previous is not None:
            before = self.results[recipe.previous].found
            prob = np.where(before.mask() > 0, before.prob(), prob)
        number, found = self._next() + beyond, PackedMask.of(marked, prob)
        self._logits.put(number, self._drawn_logits(found))
        return number, Result(recipe, found)

    def keep(self, number: int, result: Result) -> None:
        """Keep a result from `answer` or from a file."""
        self.results[number] = result

    def logits(self, number: int) -> Tensor:
        """Return the logits (1, 1, h, w) of a kept result."""
        chain: list[int] = []
        at: int | None = number
        while at is not None and at not in self._logits:
            chain.append(at)
            recipe = self.results[at].recipe
            at = None if recipe.drawn else recipe.previous
        for one in reversed(chain):
            self._logits.put(one, self._again(one))
        return self._logits.get(number, lambda: self._again(number))

    def seen(self, exemplar: Exemplar, modality: Modality) -> Exemplar:
        """Return an exemplar slice if its mask is not empty at the network's input size.

        Raises:
            SessionError: the mask is empty at the network's input size.
        """
        if not bool(self._slice(exemplar, modality).label.any()):
            height, width = self.model.image_size
            raise SessionError(
                f"The mask of slice {exemplar.index} is too small for an exemplar: at the network's {height} x {width} "
                "pixels nothing is left of it; use a slice with more."
            )
        return exemplar

    def _trust(self, recipe: Recipe, prob: Tensor) -> dict[str, Any] | None:
        """Return the trust estimates of a mask without clicks; for others none were fitted."""
        if not recipe.by_class_alone:
            return None
        row = self.model.info.tasks.index(str(recipe.task))
        said = self.model.judge.judge(None, row, prob.cpu(), self.model.finish.threshold).record()
        return said if any(said.values()) else None

    def _next(self) -> int:
        return max(self.results, default=-1) + 1

    def _again(self, number: int) -> Tensor:
        result = self.results[number]
        return self._drawn_logits(result.found) if result.recipe.drawn else self._run(result.recipe)

    def _drawn_logits(self, found: PackedMask) -> Tensor:
        """Return logits for a mask that is not from the network: marked pixels are as certain as can be stored."""
        top, left, bottom, right = self.pixels.region
        mask = torch.from_numpy(found.mask()[top:bottom, left:right]).float()[None, None]
        return torch.logit(resize_antialiased(mask, self.model.image_size), eps=_SURE)

    def _run(self, recipe: Recipe) -> Tensor:
        key = recipe.index, recipe.modality
        state = self._states.get(key, lambda: self.model.encode(self._input(*key)))
        previous = None if recipe.previous is None else self.logits(recipe.previous).to(self.model.device)
        task = None if recipe.task is None else self.model.info.tasks.index(recipe.task)
        prompt = Prompt(task=task, clicks=self._clicks(recipe.clicks), previous_logits=previous)
        return self.model.decode(state, prompt, self._memory(recipe))

    def _input(self, index: int, modality: Modality) -> Tensor:
        return self.pixels.network_input(index, modality, self.model.prepare)

    def _clicks(self, clicks: tuple[Click, ...]) -> Tensor | None:
        if not clicks:
            return None
        top, left = self.pixels.region[:2]
        inside = torch.tensor([[(row - top, column - left, sign) for row, column, sign in clicks]])
        return scale_clicks(inside, self.pixels.region_size, self.model.image_size)

    def _memory(self, recipe: Recipe) -> Memory | None:
        if not recipe.exemplars:
            return None
        key = recipe.modality, recipe.exemplars
        return self._memories.get(key, lambda: self._remember(*key))

    def _remember(self, modality: Modality, exemplars: tuple[Exemplar, ...]) -> Memory:
        shown = [self.shown[one.picture] if one.picture else self._slice(one, modality) for one in exemplars]
        image, label = (torch.stack(parts) for parts in ([s.image for s in shown], [s.label for s in shown]))
        return self.model.remember(image[None], label[None])

    def _slice(self, exemplar: Exemplar, modality: Modality) -> ExemplarPicture:
        size = self.model.image_size
        top, left, bottom, right = self.pixels.region
        mask = self.results[exemplar.result].found.mask()[top:bottom, left:right]
        label = resize_antialiased(torch.from_numpy(mask).float()[None, None], size)[0] >= 0.5
        image = resize_antialiased(self._input(exemplar.index, modality), size)[0]
        return ExemplarPicture(image, label.float())
