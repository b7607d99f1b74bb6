"""From what was asked about a slice to its mask; what was found before is found again where it is needed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from monai_tpseg.annotate.session.exemplar_pictures import Shown
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

_STATES = 4  # encoded slices that are kept: 22 MB each for the paper's network at 512 x 512
_MEMORIES = 2  # encoded sets of exemplars that are kept
_SURE = 0.02  # a drawn pixel counts as a probability of 0.98, others as one of 0.02
_LOGITS = 32  # answers that are kept: 1 MB each at 512 x 512


@dataclass(frozen=True)
class Recipe:
    """All that an answer depends on besides source and weights; the same recipe gives the same answer.

    Attributes:
        index: of the slice.
        modality: how its values became input.
        task: name of the class, or None.
        clicks: in pixels of the source.
        exemplars: see `Exemplar`.
        previous: number of the result that is corrected, or None.
        drawn: how the mask came about where the network was not asked: `brush`, `outline`, ...; else "".
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
        """Whether the network was asked for a class and nothing else, as a run asks it: such masks can be judged."""
        return self.task is not None and not (self.clicks or self.exemplars or self.drawn) and self.previous is None


@dataclass(frozen=True)
class Result:
    """An answer, and how it came about.

    Attributes:
        recipe: how.
        found: the answer.
        trust: what is known about it, as `Trust.record` says it; None where nothing is.
    """

    recipe: Recipe
    found: PackedMask
    trust: dict[str, Any] | None = None


class Predictor:
    """Answers recipes. An encoded slice serves all prompts on it; logits are kept for the next click.

    Logits that are not kept any more, e.g. after a restart, are found again from the recipes that led to them.

    Args:
        model: network and weights.
        pixels: of the case.
    """

    def __init__(self, model: PromptModel, pixels: Pixels) -> None:
        self.model, self.pixels = model, pixels
        self.results: dict[int, Result] = {}
        self.shown: dict[str, Shown] = {}
        self._states: Recent[tuple[int, Modality], ImageState] = Recent(_STATES)
        self._memories: Recent[tuple[Modality, tuple[Exemplar, ...]], Memory] = Recent(_MEMORIES)
        self._logits: Recent[int, Tensor] = Recent(_LOGITS)

    def answer(self, recipe: Recipe) -> tuple[int, Result]:
        """Return the number of a new result, and the result; it counts once it is `keep`t."""
        logits = self._run(recipe)
        prob = probabilities(logits, self.pixels.region_size)[0]
        whole, marked = self.model.finish.cut(prob, self.pixels.meta)
        number = self._next()
        self._logits.put(number, logits)
        return number, Result(recipe, PackedMask.of(marked[0].numpy(), whole[0].numpy()), self._trust(recipe, prob))

    def draw(self, recipe: Recipe, marked: NDArray[np.bool_], beyond: int = 0) -> tuple[int, Result]:
        """Return a result that a person has drawn: what was marked before keeps its probability, the rest has 1.

        Args:
            recipe: with `drawn`, and the result that was there before as `previous`.
            marked: (H, W) of the whole frame.
            beyond: how many new results there are already that are not kept yet.
        """
        prob = np.ones(marked.shape, np.float32)
        if recipe.previous is not None:
            before = self.results[recipe.previous].found
            prob = np.where(before.mask() > 0, before.prob(), prob)
        number, found = self._next() + beyond, PackedMask.of(marked, prob)
        self._logits.put(number, self._drawn_logits(found))
        return number, Result(recipe, found)

    def keep(self, number: int, result: Result) -> None:
        """Keep a result of `answer`, or one that was read."""
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
        """Return a slice that shows a lesion if the network can see it there.

        Raises:
            SessionError: nothing is left of its mask at the network's size.
        """
        if not bool(self._slice(exemplar, modality).label.any()):
            height, width = self.model.image_size
            raise SessionError(
                f"The mask of slice {exemplar.index} is too small for an exemplar: at the network's {height} x {width} "
                "pixels nothing is left of it; use a slice with more."
            )
        return exemplar

    def _trust(self, recipe: Recipe, prob: Tensor) -> dict[str, Any] | None:
        """Of what a run would find too: nobody has fitted what clicks make of it."""
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
        """What the network is told of a mask that it has not made: marked pixels are as sure as they can be kept."""
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

    def _slice(self, exemplar: Exemplar, modality: Modality) -> Shown:
        size = self.model.image_size
        top, left, bottom, right = self.pixels.region
        mask = self.results[exemplar.result].found.mask()[top:bottom, left:right]
        label = resize_antialiased(torch.from_numpy(mask).float()[None, None], size)[0] >= 0.5
        image = resize_antialiased(self._input(exemplar.index, modality), size)[0]
        return Shown(image, label.float())
