"""The rounds of a training iteration: gradients of the sum, memory that does not grow, modes, the trainer."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from ignite.engine import Events
from monai.losses import DiceCELoss
from torch import Tensor

from monai_tpseg.clicks import next_clicks
from monai_tpseg.engines import ModeMix, PreparePromptBatch, PromptTrainer, train_rounds
from monai_tpseg.losses import DeepSupervisionLoss
from monai_tpseg.networks import KPrism, Prompt, kprism_demo
from monai_tpseg.networks.kprism import MODES, first_prompt

SIZE = (32, 48)


def loss() -> DeepSupervisionLoss:
    part = DiceCELoss(sigmoid=True, smooth_nr=1.0, smooth_dr=1.0, lambda_dice=5.0, lambda_ce=5.0)
    return DeepSupervisionLoss(part, outputs=2)


@pytest.fixture
def net() -> KPrism:
    """Evaluation mode: no dropout, so that two passes can be compared."""
    return kprism_demo(num_tasks=2).eval()


def batch(number: int = 2) -> dict[str, Tensor]:
    label = torch.zeros(number, 1, *SIZE)
    label[:, :, 8:24, 10:30] = 1
    return {
        "image": torch.randn(number, 3, *SIZE),
        "label": label,
        "task": torch.arange(number) % 2,
        "exemplar_image": torch.randn(number, 1, 3, *SIZE),
        "exemplar_label": label.unsqueeze(1).clone(),
    }


def start(mode: Any, data: dict[str, Tensor]) -> Prompt:
    return first_prompt(mode, data["task"], data["exemplar_image"], data["exemplar_label"])


def plain_rounds(net: KPrism, data: dict[str, Tensor], prompt: Prompt, rounds: int) -> Tensor:
    """All rounds in one graph."""
    total, logits = torch.zeros(()), None
    for i in range(rounds):
        if i or prompt.is_empty:
            marked = torch.zeros_like(data["label"]) if logits is None else (logits > 0).float()
            click = next_clicks(marked, data["label"])
            given = click if prompt.clicks is None else torch.cat([prompt.clicks, click], dim=1)
            prompt = replace(prompt, clicks=given, previous_logits=None if logits is None else logits.detach())
        output = net(data["image"], prompt, deep_supervision=True)
        total = total + (0.8 if i else 1.0) * loss()(output, data["label"])
        logits = output.logits
    return total


@pytest.mark.parametrize("mode", MODES)
def test_gradients_are_those_of_the_sum_of_all_rounds(net: KPrism, mode: str) -> None:
    data = batch()
    torch.manual_seed(4)
    expected = plain_rounds(net, data, start(mode, data), 2)
    expected.backward()
    wanted = {name: p.grad for name, p in net.named_parameters()}
    net.zero_grad(set_to_none=True)
    torch.manual_seed(4)
    output = train_rounds(net, data["image"], data["label"], start(mode, data), loss(), rounds=2)
    torch.testing.assert_close(output.loss, expected.detach(), atol=1e-4, rtol=1e-4)
    assert not output.loss.requires_grad
    assert output.logits.shape == data["label"].shape
    for name, p in net.named_parameters():
        if wanted[name] is None:
            assert p.grad is None or not p.grad.any(), name
        else:
            torch.testing.assert_close(p.grad, wanted[name], atol=2e-4, rtol=2e-3)


def test_the_image_is_encoded_once(net: KPrism, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = {"encoder": 0, "decoder": 0}
    for name in calls:
        part = getattr(net, name)
        part.register_forward_hook(lambda *_, name=name: calls.__setitem__(name, calls[name] + 1))
    data = batch()
    train_rounds(net, data["image"], data["label"], Prompt(task=0), loss(), rounds=4)
    assert calls == {"encoder": 1, "decoder": 4}


def test_what_is_kept_for_backward_does_not_grow_with_rounds(net: KPrism) -> None:
    def most(rounds: int) -> int:
        alive: dict[int, int] = {}
        peak = 0

        class Kept:
            def __init__(self, tensor: Tensor) -> None:
                self.tensor = tensor
                alive[id(self)] = tensor.numel()
                nonlocal peak
                peak = max(peak, sum(alive.values()))

            def __del__(self) -> None:
                alive.pop(id(self), None)

        data = batch(1)
        with torch.autograd.graph.saved_tensors_hooks(Kept, lambda kept: kept.tensor):
            train_rounds(net, data["image"], data["label"], Prompt(task=0), loss(), rounds=rounds)
        return peak

    two, six = most(2), most(6)
    assert six < 1.1 * two  # a click is a token; rounds that were kept would make it three times as much


def test_modes_are_drawn_as_asked() -> None:
    torch.manual_seed(0)
    mix = ModeMix(0.5, 0.0, 0.5)
    drawn = [mix.draw(torch.device("cpu")) for _ in range(200)]
    assert 70 < drawn.count("semantic") < 130
    assert "in_context" not in drawn
    with pytest.raises(ValueError, match=r"semantic 0\.5, in_context 0\.3, interactive 0\.4"):
        ModeMix(0.5)


def test_in_context_needs_exemplars() -> None:
    with pytest.raises(ValueError, match="need exemplar_image"):
        first_prompt("in_context", torch.zeros(1), None, None)
    with pytest.raises(ValueError, match="Unknown mode 'box'"):
        first_prompt("box", torch.zeros(1), None, None)  # type: ignore[arg-type]


def trainer(net: KPrism, mode: str, epochs: int, **options: Any) -> PromptTrainer:
    return PromptTrainer(
        mix=ModeMix(**{m: float(m == mode) for m in MODES}),
        device=torch.device("cpu"),
        max_epochs=epochs,
        train_data_loader=[batch()],
        network=net,
        optimizer=torch.optim.AdamW(net.parameters(), lr=5e-3),
        loss_function=loss(),
        prepare_batch=PreparePromptBatch(),
        decollate=False,
        **options,
    )


@pytest.mark.parametrize("mode", ["in_context", "interactive"])
def test_the_trainer_learns(mode: str) -> None:
    torch.manual_seed(0)
    losses: list[float] = []
    engine = trainer(kprism_demo(num_tasks=2), mode, epochs=6, rounds=2)
    engine.add_event_handler(Events.ITERATION_COMPLETED, lambda e: losses.append(float(e.state.output["loss"])))
    engine.run()
    assert losses[-1] < 0.9 * losses[0]


def test_bfloat16_and_bad_arguments() -> None:
    engine = trainer(kprism_demo(num_tasks=2), "interactive", epochs=1, rounds=2, precision="bf16")
    engine.run()
    assert torch.isfinite(engine.state.output["loss"])
    assert all(p.grad.dtype == torch.float32 for p in engine.network.parameters() if p.grad is not None)
    with pytest.raises(ValueError, match="rounds must be at least 1, got 0"):
        trainer(kprism_demo(), "semantic", 1, rounds=0)
