"""Inference with prompts on pictures and volumes, and the simulated user."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from monai_tpseg.clicks import next_clicks, scale_clicks
from monai_tpseg.inferers import PromptInferer, SimulatedUser
from monai_tpseg.inferers.task_inferer import resize_antialiased
from monai_tpseg.networks import KPrism, Prompt, kprism_demo

SIZE = (32, 64)


@pytest.fixture(scope="module")
def net() -> KPrism:
    torch.manual_seed(2)
    return kprism_demo(num_tasks=3).eval()


@torch.no_grad()
def test_pictures_come_back_at_their_own_size(net: KPrism) -> None:
    image = torch.randn(2, 3, 40, 90)
    clicks = torch.tensor([[[10, 80, 1], [0, 0, -1.0]], [[39, 3, 1], [0, 0, 0.0]]])
    marked = (torch.rand(2, 2, 1, *SIZE) > 0.5).float()
    shown = {"exemplar_image": torch.randn(2, 2, 3, *SIZE), "exemplar_label": marked}
    small = resize_antialiased(image, SIZE)
    moved = scale_clicks(clicks, (40, 90), SIZE)
    for given, prompt in (
        ({"task": torch.tensor([2, 0])}, Prompt(task=torch.tensor([2, 0]))),
        ({"clicks": clicks}, Prompt(clicks=moved)),
        (shown, Prompt(**shown)),
        ({"task": 1, "clicks": clicks, **shown}, Prompt(task=1, clicks=moved, **shown)),
    ):
        found = PromptInferer(SIZE)(image, net, **given)
        expected = resize_antialiased(net(small, prompt).sigmoid(), (40, 90))
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_slices_of_a_volume_share_a_class_and_exemplars(net: KPrism) -> None:
    volume = torch.randn(1, 3, *SIZE, 3)
    shown = {"exemplar_image": torch.randn(1, 2, 3, *SIZE), "exemplar_label": torch.ones(1, 2, 1, *SIZE)}
    for given in ({"task": 1}, shown):
        found = PromptInferer(SIZE, slice_batch=2)(volume, net, **given)
        assert found.shape == (1, 1, *SIZE, 3)
        for d in range(3):
            expected = net(volume[..., d], Prompt(**given)).sigmoid()
            torch.testing.assert_close(found[..., d], expected, atol=1e-5, rtol=1e-4)


def test_prompts_that_cannot_be(net: KPrism) -> None:
    infer = PromptInferer(SIZE)
    with pytest.raises(ValueError, match="no default prompt"):
        infer(torch.zeros(1, 3, *SIZE), net)
    with pytest.raises(ValueError, match="Clicks are for pictures"):
        infer(torch.zeros(1, 3, *SIZE, 2), net, clicks=torch.zeros(1, 1, 3))
    image, shown = torch.zeros(2, 3, *SIZE), torch.zeros(3, 1, 3, *SIZE)
    for half in ({"exemplar_image": shown[:1]}, {"exemplar_label": shown[:1, :, :1]}):
        with pytest.raises(ValueError, match="Exemplars need both exemplar_image and exemplar_label"):
            infer(image, net, task=0, **half)
    with pytest.raises(ValueError, match=r"Exemplars must be \(1, K, \.\.\.\) or \(2, K, \.\.\.\)"):
        infer(image, net, exemplar_image=shown, exemplar_label=shown[:, :, :1])
    with pytest.raises(ValueError, match=r"exemplar_label must lie in \[0, 1\], got values from 255 to 255"):
        infer(image, net, exemplar_image=shown[:2], exemplar_label=shown[:2, :, :1] + 255)
    with pytest.raises(ValueError, match="Identity takes no prompts: use TaskInferer"):
        infer(image, torch.nn.Identity(), task=0)


@torch.no_grad()
@pytest.mark.parametrize("mode", ["semantic", "in_context", "interactive"])
def test_a_simulated_user_equals_the_loop_by_hand(net: KPrism, mode: str) -> None:
    image, label = torch.randn(2, 3, *SIZE), torch.zeros(2, 1, *SIZE)
    label[0, :, 5:20, 30:50] = 1
    label[1, :, 2:9, 3:14] = 1
    shown = {"exemplar_image": torch.randn(2, 1, 3, *SIZE), "exemplar_label": label.unsqueeze(1)}
    task = torch.tensor([0, 2])
    torch.manual_seed(3)
    found = SimulatedUser(SIZE, mode, clicks=3)(image, net, label=label, task=task, **shown)  # type: ignore[arg-type]
    assert found.shape == (2, 4, *SIZE)
    prompt = {"semantic": Prompt(task=task), "in_context": Prompt(**shown), "interactive": Prompt()}[mode]
    logits = None if mode == "interactive" else net(image, prompt)
    maps = [torch.zeros_like(label) if logits is None else logits.sigmoid()]
    torch.manual_seed(3)
    for _ in range(3):
        click = next_clicks(maps[-1] >= 0.5, label.bool())
        given = click if prompt.clicks is None else torch.cat([prompt.clicks, click], dim=1)
        prompt = replace(prompt, clicks=given, previous_logits=logits)
        logits = net(image, prompt)
        maps.append(logits.sigmoid())
    torch.testing.assert_close(found, torch.cat(maps, dim=1), atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_who_is_satisfied_stops_clicking(net: KPrism) -> None:
    image = torch.randn(1, 3, *SIZE)
    mask = net(image, Prompt(task=0)) > 0
    found = SimulatedUser(SIZE, "semantic", clicks=2)(image, net, label=mask.float(), task=torch.tensor([0]))
    assert torch.equal(found[:, 0], found[:, 1])
    assert torch.equal(found[:, 0], found[:, 2])


@torch.no_grad()
def test_without_clicks_volumes_are_segmented_too(net: KPrism) -> None:
    volume, task = torch.randn(1, 3, *SIZE, 2), torch.tensor([1])
    found = SimulatedUser(SIZE, "semantic", clicks=0)(volume, net, task=task)
    assert torch.equal(found, PromptInferer(SIZE)(volume, net, task=task))


def test_users_that_cannot_be(net: KPrism) -> None:
    with pytest.raises(ValueError, match="Unknown start 'box'"):
        SimulatedUser(SIZE, "box")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="at least 1 for start 'interactive', got 0"):
        SimulatedUser(SIZE, clicks=0)
    with pytest.raises(ValueError, match="needs pictures"):
        SimulatedUser(SIZE)(torch.zeros(1, 3, *SIZE), net)
    with pytest.raises(ValueError, match=r"got 1\.5"):
        SimulatedUser(SIZE, clicks=1.5)  # type: ignore[arg-type]
    for threshold in (float("nan"), 0.0, 2.0):
        with pytest.raises(ValueError, match="threshold must be a probability"):
            SimulatedUser(SIZE, threshold=threshold)
    for label, message in ((torch.zeros(1, 1, *SIZE), "like its pictures"), (torch.full((2, 1, *SIZE), 255.0), "255")):
        with pytest.raises(ValueError, match=message):
            SimulatedUser(SIZE)(torch.zeros(2, 3, *SIZE), net, label=label)


@torch.no_grad()
def test_a_user_who_only_clicks_needs_no_task(net: KPrism) -> None:
    image, label = torch.randn(1, 3, *SIZE), torch.zeros(1, 1, *SIZE)
    label[..., 5:20, 10:30] = 1
    user = SimulatedUser(SIZE, clicks=1)
    found = user(image, net, label=label)
    assert torch.equal(found, user(image, net, label=label, task=torch.tensor([1])))
    with pytest.raises(ValueError, match="The prompt is empty"):
        SimulatedUser(SIZE, "semantic")(image, net, label=label)
