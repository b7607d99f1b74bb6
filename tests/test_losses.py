from __future__ import annotations

from typing import NamedTuple

import pytest
import torch
from monai.data import MetaTensor
from monai.networks.nets import UNet
from torch import Tensor
from torch.nn import functional as F

from monai_tpseg.losses import BoundaryDiceBCELoss, DeepSupervisionLoss, PrototypeContrastiveLoss, TPSegLoss, box_mean


class Output(NamedTuple):
    logits: Tensor
    side_logits: tuple[Tensor, ...]


def square_label(batch: int = 2, size: int = 24) -> Tensor:
    label = torch.zeros(batch, 1, size, size)
    label[:, :, 6:15, 8:20] = 1
    return label


def naive_box_mean(image: Tensor, kernel_size: int, count_include_pad: bool) -> Tensor:
    reach, mean = kernel_size // 2, torch.zeros_like(image)
    rows, columns = image.shape[-2:]
    for row in range(rows):
        for column in range(columns):
            top, left = max(row - reach, 0), max(column - reach, 0)
            window = image[..., top : row + reach + 1, left : column + reach + 1]
            count = kernel_size**2 if count_include_pad else window.shape[-1] * window.shape[-2]
            mean[..., row, column] = window.sum((-1, -2)) / count
    return mean


@pytest.mark.parametrize("count_include_pad", [True, False])
@pytest.mark.parametrize("size", [(9, 14), (3, 1)])
def test_box_mean_equals_a_loop_also_below_the_kernel(size: tuple[int, int], count_include_pad: bool) -> None:
    image = torch.rand(2, 1, *size)
    expected = naive_box_mean(image, 7, count_include_pad)
    torch.testing.assert_close(box_mean(image, 7, count_include_pad), expected)


def test_box_mean_equals_torch_in_two_dimensions() -> None:
    image = torch.rand(1, 1, 40, 33)
    expected = F.avg_pool2d(image, 31, 1, 15)
    torch.testing.assert_close(box_mean(image, 31, count_include_pad=True), expected)


def test_soft_rim_averages_the_target_and_not_the_weights() -> None:
    torch.manual_seed(0)
    logits, label = torch.randn(2, 1, 24, 24), square_label()
    target = naive_box_mean(label, 3, count_include_pad=False)
    assert set(target.unique().tolist()) > {0.0, 1.0}
    p, weight = logits.sigmoid(), 1 + 2 * (naive_box_mean(label, 31, count_include_pad=True) - label).abs()
    bce = -(target * p.log() + (1 - target) * (1 - p).log())
    bce_part = ((weight * bce).sum((1, 2, 3)) / weight.sum((1, 2, 3))).mean()
    dice = (2 * (p * target).sum((1, 2, 3)) + 1) / (p.sum((1, 2, 3)) + target.sum((1, 2, 3)) + 1)
    expected = 0.5 * (1 - dice).mean() + 0.5 * bce_part
    torch.testing.assert_close(BoundaryDiceBCELoss(soft_rim=3)(logits, label), expected)
    with pytest.raises(ValueError, match="soft_rim must be an odd number of pixels such as 3, got 2"):
        BoundaryDiceBCELoss(soft_rim=2)


def test_boundary_loss_equals_the_formula_written_out() -> None:
    torch.manual_seed(0)
    logits, label = torch.randn(2, 1, 24, 24), square_label()
    label[1] = 0
    label[1, :, 0, 0] = 1
    expected = []
    for row, truth in zip(logits, label, strict=True):
        p = row.sigmoid()
        dice = (2 * (p * truth).sum() + 1) / (p.sum() + truth.sum() + 1)
        weight = 1 + 2 * (naive_box_mean(truth, 31, False) - truth).abs()
        bce = -(truth * p.log() + (1 - truth) * (1 - p).log())
        expected.append(0.5 * (1 - dice) + 0.5 * (weight * bce).sum() / weight.sum())
    loss = BoundaryDiceBCELoss(count_include_pad=False)
    torch.testing.assert_close(loss(logits, label), torch.stack(expected).mean())


def test_a_mistake_at_the_outline_costs_more_than_one_far_away() -> None:
    label = torch.zeros(1, 1, 80, 80)
    label[..., :40] = 1
    loss = BoundaryDiceBCELoss(dice_weight=0.0)
    right = (label * 2 - 1) * 5
    near, far = right.clone(), right.clone()
    near[..., 40, 41] *= -1
    far[..., 40, 75] *= -1
    assert loss(near, label) > loss(far, label) > loss(right, label)


def test_without_boundary_weight_it_is_the_mean_cross_entropy() -> None:
    logits, label = torch.randn(2, 1, 24, 24), square_label()
    loss = BoundaryDiceBCELoss(dice_weight=0.0, bce_weight=1.0, boundary_weight=0.0)
    torch.testing.assert_close(loss(logits, label), F.binary_cross_entropy_with_logits(logits, label))


def test_a_lesion_that_fills_the_image_has_no_outline_at_its_edge() -> None:
    logits, label = torch.randn(1, 1, 40, 40), torch.ones(1, 1, 40, 40)
    plain = BoundaryDiceBCELoss(boundary_weight=0.0)(logits, label)
    torch.testing.assert_close(BoundaryDiceBCELoss(count_include_pad=False)(logits, label), plain)
    assert not torch.allclose(BoundaryDiceBCELoss()(logits, label), plain)


def test_empty_label_is_finite_and_smallest_for_an_empty_prediction() -> None:
    loss, label = BoundaryDiceBCELoss(), torch.zeros(1, 1, 16, 16)
    logits = torch.zeros(1, 1, 16, 16, requires_grad=True)
    value = loss(logits, label)
    value.backward()
    assert logits.grad is not None
    assert value.isfinite()
    assert (logits.grad > 0).all()  # every logit is pushed down
    assert loss(torch.full_like(label, -30.0), label) < 1e-6 < value


def test_perfect_prediction_is_zero_and_inverted_is_large() -> None:
    label = square_label()
    loss = BoundaryDiceBCELoss()
    assert loss((label * 2 - 1) * 40, label) < 1e-4
    assert loss((label * 2 - 1) * -40, label) > 10


def test_boundary_loss_is_float32_inside_autocast_and_drops_metadata() -> None:
    logits, label = torch.randn(1, 1, 24, 24), square_label(1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = BoundaryDiceBCELoss()(logits.bfloat16(), label)
    assert value.dtype == torch.float32
    torch.testing.assert_close(value, BoundaryDiceBCELoss()(logits.bfloat16().float(), label))
    leaf = MetaTensor(logits).requires_grad_()
    plain = BoundaryDiceBCELoss()(leaf, MetaTensor(label))
    plain.backward()
    assert not isinstance(plain, MetaTensor)
    assert leaf.grad is not None


def test_boundary_loss_refuses_bad_arguments() -> None:
    with pytest.raises(ValueError, match="odd number"):
        BoundaryDiceBCELoss(kernel_size=30)
    with pytest.raises(ValueError, match="smooth above 0"):
        BoundaryDiceBCELoss(smooth=0.0)
    with pytest.raises(ValueError, match="same shape"):
        BoundaryDiceBCELoss()(torch.zeros(1, 1, 4, 4), torch.zeros(1, 1, 8, 8))
    with pytest.raises(ValueError, match=r"must be \(B, 1, H, W\), got shape \(2, 8, 8\)"):
        BoundaryDiceBCELoss()(torch.zeros(2, 8, 8), torch.zeros(2, 8, 8))


@pytest.mark.parametrize("factor", [float("nan"), float("inf"), -1.0])
def test_a_factor_of_a_loss_is_finite_and_not_negative(factor: float) -> None:
    for name in ("dice_weight", "bce_weight", "boundary_weight", "smooth"):
        with pytest.raises(ValueError, match="Loss weights must be 0 or more"):
            BoundaryDiceBCELoss(**{name: factor})  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="weight must be a finite number of at least 0"):
        DeepSupervisionLoss(BoundaryDiceBCELoss(), weight=factor)
    with pytest.raises(ValueError, match="outputs must be 0 or more"):
        DeepSupervisionLoss(BoundaryDiceBCELoss(), outputs=factor)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="contrastive_weight must be a finite number of at least 0"):
        TPSegLoss(contrastive_weight=factor)


def test_prototype_contrast_refuses_what_torch_would_broadcast_or_count_from_the_end() -> None:
    features, label, prototypes = torch.randn(2, 5, 6, 6), square_label(2), unit_prototypes(3, 5)
    task, loss = torch.tensor([0, 2]), PrototypeContrastiveLoss()
    for change, message in (
        ({"label": label[:1]}, r"label must be \(2, 1, H, W\), at least 6 x 6, got shape \(1, 1, 24, 24\)"),
        ({"label": label[..., :4]}, r"got shape \(2, 1, 24, 4\)"),
        ({"label": 255 * label}, r"Label must lie in \[0, 1\], got values from 0 to 255"),
        ({"prototypes": prototypes[:, :1]}, r"prototypes must be \(T, 2, 5\)"),
        ({"task": task[:1]}, r"task must be \(2,\) int64, got shape \(1,\)"),
        ({"task": task > 0}, "got shape .*torch.bool"),
        ({"task": -task}, r"task must be in 0\.\.2, got \[0, -2\]"),
    ):
        given = {"features": features, "label": label, "prototypes": prototypes, "task": task, **change}
        with pytest.raises(ValueError, match=message):
            loss(**given)


def test_deep_supervision_adds_the_first_side_outputs() -> None:
    torch.manual_seed(0)
    label, loss = square_label(), BoundaryDiceBCELoss()
    fused, *sides = torch.randn(5, 2, 1, 24, 24)
    output = Output(fused, tuple(sides))
    expected = loss(fused, label) + 0.5 * sum(loss(side, label) for side in sides[:3])
    torch.testing.assert_close(DeepSupervisionLoss(loss, weight=0.5)(output, label), expected)
    torch.testing.assert_close(DeepSupervisionLoss(loss, outputs=0)(output, label), loss(fused, label))
    with pytest.raises(ValueError, match="has 4 side outputs"):
        DeepSupervisionLoss(loss, outputs=5)(output, label)


def test_deep_supervision_leaves_the_fourth_side_output_without_gradient() -> None:
    sides = tuple(torch.zeros(1, 1, 24, 24, requires_grad=True) for _ in range(4))
    output = Output(torch.zeros(1, 1, 24, 24), sides)
    DeepSupervisionLoss(BoundaryDiceBCELoss())(output, square_label(1)).backward()
    assert [side.grad is not None for side in sides] == [True, True, True, False]


def test_deep_supervision_takes_the_tensor_of_a_monai_network() -> None:
    network, label = UNet(2, 3, 1, channels=(4, 8), strides=(2,)), square_label(1)
    logits, loss = network(torch.randn(1, 3, 24, 24)), BoundaryDiceBCELoss()
    torch.testing.assert_close(DeepSupervisionLoss(loss)(logits, label), loss(logits, label))


def unit_prototypes(tasks: int, channels: int) -> Tensor:
    return F.normalize(torch.randn(tasks, 2, channels), dim=-1)


def test_prototype_contrast_equals_a_loop_over_the_images() -> None:
    torch.manual_seed(1)
    features, label = torch.randn(3, 5, 6, 6), square_label(3)
    prototypes, task = unit_prototypes(4, 5), torch.tensor([2, 0, 2])
    expected = []
    for f, mask, t in zip(features, F.avg_pool2d(label, 4), task.tolist(), strict=True):
        foreground = F.normalize((f * mask).sum((1, 2)) / mask.sum(), dim=0)
        background = F.normalize((f * (1 - mask)).sum((1, 2)) / (1 - mask).sum(), dim=0)
        first = (foreground @ prototypes[t, 0] - 0.1).clamp(min=0)
        expected.append((first + (background @ prototypes[t, 1] - 0.1).clamp(min=0)) / 2)
    value = PrototypeContrastiveLoss(max_cosine=0.1)(features, label, prototypes, task)
    torch.testing.assert_close(value, torch.stack(expected).mean())
    assert value > 0


def test_prototype_contrast_ignores_images_of_one_class() -> None:
    torch.manual_seed(2)
    features, label, prototypes = torch.randn(3, 5, 6, 6), square_label(3), unit_prototypes(1, 5)
    features.requires_grad_()
    label[1], label[2] = 0, 1
    task, loss = torch.zeros(3, dtype=torch.int64), PrototypeContrastiveLoss(-0.9)
    value = loss(features, label, prototypes, task)
    torch.testing.assert_close(value, loss(features[:1], label[:1], prototypes, task[:1]))
    value.backward()
    assert features.grad is not None
    assert features.grad[0].abs().sum() > 0
    assert features.grad[1:].abs().sum() == 0
    assert loss(features[1:], label[1:], prototypes, task[1:]) == 0


def test_following_its_gradient_parts_the_class_means() -> None:
    torch.manual_seed(3)
    features, label = torch.rand(2, 8, 6, 6).requires_grad_(), square_label(2)
    prototypes = F.normalize(torch.rand(1, 2, 8), dim=-1).requires_grad_()
    task, loss = torch.zeros(2, dtype=torch.int64), PrototypeContrastiveLoss()
    before = loss(features, label, prototypes, task)
    for _ in range(50):
        (gradient,) = torch.autograd.grad(loss(features, label, prototypes, task), features)
        features = (features - 20 * gradient).detach().requires_grad_()
    after = loss(features, label, prototypes, task)
    assert after < 0.2 * before
    after.backward()
    assert prototypes.grad is None


def test_prototype_contrast_is_float32_inside_autocast() -> None:
    features, label, prototypes = torch.randn(2, 5, 6, 6), square_label(2), unit_prototypes(1, 5)
    task, loss = torch.zeros(2, dtype=torch.int64), PrototypeContrastiveLoss(-0.9)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = loss(features, label, prototypes, task)
    torch.testing.assert_close(value, loss(features, label, prototypes, task), rtol=0, atol=0)
    with pytest.raises(ValueError, match="max_cosine"):
        PrototypeContrastiveLoss(1.0)


@pytest.mark.parametrize(
    ("label", "words"),
    [
        (torch.full((1, 1, 8, 8), 255.0), r"Label must lie in \[0, 1\], got values from 255 to 255"),
        (torch.full((1, 1, 8, 8), -1.0), "got values from -1 to -1"),
        (torch.full((1, 1, 8, 8), float("nan")), "got values from nan to nan"),
        (torch.zeros(0, 1, 8, 8), "The batch is empty"),
    ],
)
def test_a_label_that_is_no_mask_is_refused(label: torch.Tensor, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        BoundaryDiceBCELoss()(torch.zeros_like(label), label)
