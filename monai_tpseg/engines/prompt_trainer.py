"""MONAI's supervised trainer for K-Prism: one mode per batch, and rounds of clicks."""

from __future__ import annotations

from functools import partial
from typing import Any

from monai.engines import SupervisedTrainer
from monai.engines.utils import IterationEvents
from monai.utils.enums import CommonKeys

from monai_tpseg.engines.rounds import ModeMix, average_over_ranks, train_rounds
from monai_tpseg.engines.targets import drop_exemplars, keep_one_lesion, swap_foreground, use_foreign_exemplars
from monai_tpseg.inferers.task_inferer import Amp, autocast
from monai_tpseg.keys import EXEMPLAR_IMAGE, EXEMPLAR_LABEL, IMAGE, LABEL, PRED, TASK
from monai_tpseg.networks import unwrap
from monai_tpseg.networks.kprism import first_prompt
from monai_tpseg.networks.layers import plain_tensor

__all__ = ["PromptTrainer"]


class PromptTrainer(SupervisedTrainer):
    """Trains K-Prism; each iteration runs `train_rounds` in the mode drawn by `mix`.

    Args:
        mix: probabilities of the modes.
        rounds: decoder passes per iteration, at least 1.
        click_weight: weight of the loss of every round after the first.
        obey_weight: weight of `click_cross_entropy` at the clicks; 0 is the paper's.
        one_lesion: probability of targeting a single lesion of a picture with several, selected by a click.
        opposite: probability of swapping lesion and background in exemplars and target.
        foreign: probability of using exemplars of another task in the batch, with an empty target.
        precision: "none", "bf16" or "fp16" (with scaled losses).
        **kwargs: as in `SupervisedTrainer`, but for `amp`, `inferer`, `compile` and `accumulation_steps`;
            `prepare_batch` is `PreparePromptBatch`.

    Raises:
        ValueError: `rounds` is below 1.
    """

    def __init__(
        self,
        mix: ModeMix | None = None,
        rounds: int = 3,
        click_weight: float = 0.8,
        obey_weight: float = 0.0,
        one_lesion: float = 0.0,
        opposite: float = 0.0,
        foreign: float = 0.0,
        precision: Amp = "none",
        **kwargs: Any,
    ) -> None:
        if rounds < 1:
            raise ValueError(f"rounds must be at least 1, got {rounds}.")
        super().__init__(amp=precision == "fp16", **kwargs)
        self.mix, self.rounds, self.click_weight = mix or ModeMix(), rounds, click_weight
        self.obey_weight, self.one_lesion = obey_weight, one_lesion
        self.opposite, self.foreign = opposite, foreign
        self.precision: Amp = precision

    def _iteration(self, engine: Any, batchdata: dict[str, Any]) -> dict[str, Any]:
        """Run one iteration; the output holds image, label, the last round's logits and the loss over all rounds."""
        image, label, _, extra = engine.prepare_batch(
            batchdata, engine.state.device, engine.non_blocking, **engine.to_kwargs
        )
        image, label = plain_tensor(image), plain_tensor(label)
        net = unwrap(engine.network)
        net.train()
        engine.optimizer.zero_grad(set_to_none=engine.optim_set_to_none)
        mode = engine.mix.draw(image.device)
        shown, shown_label = extra.get(EXEMPLAR_IMAGE), extra.get(EXEMPLAR_LABEL)
        if mode == "interactive" and engine.one_lesion:
            label = keep_one_lesion(label, engine.one_lesion)
        if mode == "in_context":
            shown, shown_label = drop_exemplars(plain_tensor(shown), plain_tensor(shown_label))
            label, shown_label = swap_foreground(label, shown_label, engine.opposite)
            label, shown, shown_label = use_foreign_exemplars(label, shown, shown_label, extra[TASK], engine.foreign)
        output = train_rounds(
            net,  # type: ignore[arg-type]
            image,
            label,
            first_prompt(mode, extra[TASK], shown, shown_label),
            engine.loss_function,
            engine.rounds,
            engine.click_weight,
            engine.obey_weight,
            scale=engine.scaler.scale if engine.scaler is not None else lambda value: value,
            autocast=partial(autocast, image.device, engine.precision),
        )
        average_over_ranks(net)
        engine.state.output = {IMAGE: image, LABEL: label, PRED: output.logits, CommonKeys.LOSS: output.loss}
        for event in ("FORWARD_COMPLETED", "LOSS_COMPLETED", "BACKWARD_COMPLETED"):
            engine.fire_event(IterationEvents[event])
        _step(engine)
        engine.fire_event(IterationEvents.MODEL_COMPLETED)
        return engine.state.output  # type: ignore[no-any-return]


def _step(engine: Any) -> None:
    if engine.scaler is None:
        engine.optimizer.step()
        return
    engine.scaler.step(engine.optimizer)
    engine.scaler.update()
