"""Whatever is computed lies where its inputs lie, which on a machine without a GPU nothing else would show.

A default device takes every tensor that is made without one: here "meta", which cannot be computed with the CPU's.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import pytest
import torch

from monai_tpseg.inferers import TaskInferer
from monai_tpseg.networks import Prompt, TPSeg, kprism_demo, tpseg_hiera, tpseg_hiera_demo
from monai_tpseg.networks.fast.inference_form import segment_several

ELSEWHERE = torch.device("meta")
TASK = torch.tensor([0, 1])


@pytest.mark.parametrize("layout", ["paper", "released"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@torch.no_grad()
def test_network_for_inference(layout: Literal["paper", "released"], dtype: torch.dtype) -> None:
    net, image = tpseg_hiera_demo(3, layout=layout).eval(), torch.randn(2, 3, 64, 64)
    with ELSEWHERE:
        fast = net.optimize_for_inference(dtype=dtype)
        results = [fast(image, 1), fast(image, TASK), fast.segment_tasks(image, [0, 2])]
    assert {x.device.type for x in (*fast.state_dict().values(), *results)} == {"cpu"}


@pytest.mark.parametrize(
    "options",
    [{}, {"layout": "released"}, {"decoder": "unet"}, {"adapter": "lora"}, {"adapter": "plain"}, {"routes": "task"},
     {"without_pgtd": [1]}],
)  # fmt: skip
def test_training_step(options: dict[str, Any]) -> None:
    net: TPSeg = tpseg_hiera("hiera_demo", 3, freeze_encoder=False, **options).train()
    image, label = torch.randn(2, 3, 64, 64), torch.ones(2, 1, 64, 64)
    with ELSEWHERE:
        output = net(image, TASK, deep_supervision=True)
        (output.logits.mean() + sum(side.mean() for side in output.side_logits)).backward()
        net.update_prototypes(output.features, label, TASK)
        tasks = net.segment_tasks(image, [0, 2])
    assert output.logits.device == tasks.device == image.device


@torch.no_grad()
def test_inferer() -> None:
    net, volume = tpseg_hiera_demo(3).eval(), torch.randn(1, 3, 64, 64, 5)
    fast, one, several = net.optimize_for_inference(), TASK[:1], torch.tensor([[0, 2]])
    calls: list[Callable[[], torch.Tensor]] = [
        lambda: TaskInferer(64, slice_batch=2)(volume, fast, task=one),
        lambda: TaskInferer(64, window="sliding", slice_batch=1)(volume, net, task=one),
        lambda: TaskInferer(64, tta_flips=True, skip_empty=True, half=True)(volume, fast, task=several),
        lambda: TaskInferer(64)(volume[..., 0], net, task=one),
    ]
    with ELSEWHERE:
        assert {call().device.type for call in calls} == {"cpu"}


def test_kprism() -> None:
    net, image = kprism_demo(num_tasks=3), torch.randn(2, 3, 64, 64)
    shown = {"exemplar_image": torch.randn(2, 2, 3, 64, 64), "exemplar_label": torch.ones(2, 2, 1, 64, 64)}
    clicks = torch.tensor([[[5, 7, 1], [40, 60, -1.0]], [[0, 0, 1], [30, 10, -1.0]]])
    prompts = [
        Prompt(task=TASK),
        Prompt(**shown),
        Prompt(clicks=clicks, previous_logits=torch.randn(2, 1, 64, 64)),
        Prompt(task=TASK, clicks=clicks, **shown),
    ]
    with ELSEWHERE:
        for prompt in prompts:
            logits = net(image, prompt)
            logits.mean().backward()
            assert logits.device == image.device
        assert segment_several(net.eval(), image, [0, 2]).device == image.device
