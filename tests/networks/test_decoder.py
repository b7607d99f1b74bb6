"""The decoder's parts against naive twins."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from monai_tpseg.networks.decoder import PGTD, DynamicExperts, TaskFusion
from monai_tpseg.networks.layers import TaskHead
from monai_tpseg.networks.prototype import PrototypeAttention


def test_merged_experts_equal_the_sum_of_experts() -> None:
    experts = DynamicExperts(8, num_experts=4)
    x, z = torch.randn(3, 8, 7, 9), torch.randn(3, 8)
    kernels, weights = experts(z)
    expected = torch.zeros_like(x)
    for b in range(3):
        for m in range(4):
            expected[b] += weights[b, m] * F.conv2d(x[b : b + 1], kernels[b, m][:, None], padding=1, groups=8)[0]
    torch.testing.assert_close(experts.apply_experts(x, kernels, weights), expected, atol=1e-5, rtol=1e-4)


def test_folded_attention_equals_multihead_attention() -> None:
    ours, theirs = PrototypeAttention(32, 4), torch.nn.MultiheadAttention(32, 4, batch_first=True)
    torch.nn.init.normal_(ours.in_proj_bias)
    theirs.load_state_dict(ours.state_dict())
    query, pixels = torch.randn(2, 2, 32), torch.randn(2, 32, 50)
    expected, _ = theirs(query, pixels.transpose(1, 2), pixels.transpose(1, 2))
    torch.testing.assert_close(ours(query, pixels), expected, atol=1e-5, rtol=1e-4)


def test_task_head_picks_the_row_of_each_sample() -> None:
    head = TaskHead(6, 3)
    x, task = torch.randn(4, 6, 5, 5), torch.tensor([2, 0, 1, 2])
    all_rows = F.conv2d(F.gelu(head.norm(head.depthwise(x))), head.task_weight[..., None, None], head.task_bias)
    torch.testing.assert_close(head(x, task), all_rows[torch.arange(4), task][:, None], atol=1e-5, rtol=1e-4)


def test_similarity_is_the_difference_of_cosines() -> None:
    block = PGTD(4, 4, 8, num_tasks=2)
    x, prototypes = torch.randn(2, 8, 3, 5), block.bank(torch.tensor([1, 0]))
    cosine = F.cosine_similarity(x[:, None], prototypes[..., None, None], dim=2)
    torch.testing.assert_close(block.similarity(x, prototypes), (cosine[:, 1] - cosine[:, 0])[:, None])


def test_pgtd_is_in_float32_under_autocast_too() -> None:
    pgtd = PGTD(16, 24, 16, num_tasks=2)
    low, high, task = torch.randn(2, 16, 8, 8).bfloat16(), torch.randn(2, 24, 4, 4).bfloat16(), torch.tensor([1, 0])
    expected = pgtd(low.float(), high.float(), task)
    with torch.autocast("cpu", torch.bfloat16):
        found = pgtd(low, high, task)
    for name, value in found._asdict().items():
        torch.testing.assert_close(value, getattr(expected, name), msg=name)


def test_released_vote_does_not_couple_samples() -> None:
    block = PGTD(4, 4, 8, num_tasks=2, released=True).eval()
    low, high, task = (
        torch.randn(2, 4, 8, 8),
        torch.randn(2, 4, 4, 4) * torch.tensor([1.0, 9.0]).view(2, 1, 1, 1),
        torch.tensor([0, 1]),
    )
    together = block(low, high, task).logits
    alone = torch.cat([block(low[i : i + 1], high[i : i + 1], task[i : i + 1]).logits for i in range(2)])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-4)


def test_fusion_starts_with_most_weight_on_the_finest() -> None:
    maps = [torch.full((1, 1, 2, 2), float(i)) for i in range(4)]
    weights = torch.tensor([2.0, 0, 0, 0]).softmax(0)
    expected = (weights * torch.arange(4)).sum()
    torch.testing.assert_close(TaskFusion(2)(maps, torch.tensor([1])), torch.full((1, 1, 2, 2), float(expected)))
