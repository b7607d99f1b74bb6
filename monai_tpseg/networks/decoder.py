"""The prototype-guided decoder: receptive-field blocks, three task decoders (PGTD), a head on the last stage."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from monai_tpseg.networks.ablation_parts import PlainBlock
from monai_tpseg.networks.kernels import depthwise_per_sample
from monai_tpseg.networks.layers import RFB, TaskHead, full_precision, mlp, resize, run_checkpointed
from monai_tpseg.networks.prototype import BACKGROUND, FOREGROUND, PrototypeAttention, PrototypeBank
from monai_tpseg.networks.stem import DetailBlock

__all__ = [
    "PGTD",
    "DynamicExperts",
    "PGTDOutput",
    "Projection",
    "PrototypeGuidedDecoder",
    "TaskFusion",
]


class Projection(nn.Sequential):
    """gelu(GN(conv1x1 x)), the unit of equation (4)."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(nn.Conv2d(in_channels, out_channels, 1, bias=False), nn.GroupNorm(1, out_channels), nn.GELU())

    def on_upsampled(self, x: Tensor, size: torch.Size, align_corners: bool) -> Tensor:
        """Project `x` as if upsampled to `size` first.

        A 1x1 convolution without bias and an interpolation commute, so the convolution runs at the coarse size.
        """
        conv, norm, act = self
        projected: Tensor = act(norm(resize(conv(x), size, align_corners)))
        return projected


class FeatureEncoder(nn.Sequential):
    """f~: a small convolutional encoding of f (3x3 in groups of four channels, GN(4), GELU, 1x1), as released."""

    def __init__(self, channels: int) -> None:
        super().__init__(
            nn.Conv2d(channels, channels, 3, padding=1, groups=channels // 4),
            nn.GroupNorm(4, channels),
            nn.GELU(),
            nn.Conv2d(channels, channels, 1),
        )


class DynamicExperts(nn.Module):
    """M depthwise 3x3 experts generated and mixed by a descriptor, equation (10).

    The experts are linear, so sum_m w_m (W_m * f) = (sum_m w_m W_m) * f: mixing the kernels first leaves one depthwise
    convolution per sample, the same function at 1/M of the cost.

    Args:
        channels: C.
        num_experts: M.
        identity_blend: mix every kernel with the identity kernel, `s * kernel + (1 - s) * identity` with a learnable s
            that starts at 0.3, as released. Without it the generator's bias starts at the identity kernel, so that the
            block starts near y = f' in both forms.
    """

    identity: Tensor

    def __init__(self, channels: int, num_experts: int = 6, identity_blend: bool = False) -> None:
        super().__init__()
        self.num_experts = num_experts
        self.generator = mlp(channels, 2 * channels, num_experts * channels * 9)
        self.weights = nn.Linear(channels, num_experts)
        identity = torch.zeros(1, 1, 3, 3)
        identity[..., 1, 1] = 1.0
        self.register_buffer("identity", identity, persistent=False)
        self.blend = nn.Parameter(torch.tensor(0.3)) if identity_blend else None
        if not identity_blend:
            last = self.generator[-1]
            assert isinstance(last, nn.Linear)
            last.bias.data.view(-1, 3, 3).add_(identity[0])

    def forward(self, descriptor: Tensor) -> tuple[Tensor, Tensor]:
        """z (B, C) -> expert_kernels (B, M, C, 3, 3), expert_weights (B, M)."""
        kernels = self.generator(descriptor).view(descriptor.shape[0], self.num_experts, -1, 3, 3)
        if self.blend is not None:
            kernels = kernels * self.blend + self.identity * (1 - self.blend)
        return kernels, self.weights(descriptor).softmax(dim=-1)

    @staticmethod
    def apply_experts(x: Tensor, kernels: Tensor, weights: Tensor) -> Tensor:
        """Run the mixed kernel of each sample depthwise over x (B, C, h, w)."""
        mixed = torch.einsum("bm,bmcij->bcij", weights, kernels)
        return depthwise_per_sample(x, mixed)


class PGTDOutput(NamedTuple):
    """Output of one decoder: `logits` (B, 1, h, w), `features` y and `encoded` f~, both (B, C, h, w)."""

    logits: Tensor
    features: Tensor
    encoded: Tensor


class PGTD(nn.Module):
    """Prototype-guided task decoder, equations (4) to (11), on one pair of scales.

    Args:
        low_channels: channels of the finer map.
        high_channels: channels of the coarser map.
        channels: C of the block ("mid").
        num_tasks: T.
        num_experts: M of equation (10).
        alpha: of equation (9).
        reinforcement: lambda_p of equation (11); a buffer, since a schedule may ramp it and inference must use the
            value of the validation.
        momentum: of the prototypes.
        num_heads: attention heads of equation (6).
        released: the released form of the details that differ: one linear for equation (7), the similarity divided by
            its mean magnitude over the sample's map, identity-blended experts, resizing with aligned corners, and the
            released prototype update.
    """

    reinforcement: Tensor

    def __init__(
        self,
        low_channels: int,
        high_channels: int,
        channels: int,
        num_tasks: int,
        num_experts: int = 6,
        alpha: float = 0.5,
        reinforcement: float = 5.0,
        momentum: float = 0.9,
        num_heads: int = 4,
        released: bool = False,
    ) -> None:
        super().__init__()
        self.alpha, self.released = alpha, released
        self.register_buffer("reinforcement", torch.tensor(float(reinforcement)))
        self.project_low = Projection(low_channels, channels // 2)
        self.project_high = Projection(high_channels, channels)
        self.fuse = Projection(channels + channels // 2, channels)
        self.encode = FeatureEncoder(channels)
        self.bank = PrototypeBank(num_tasks, channels, momentum, released)
        self.attention = PrototypeAttention(channels, num_heads)
        self.descriptor = nn.Linear(3 * channels, channels) if released else mlp(3 * channels, channels, channels)
        self.experts = DynamicExperts(channels, num_experts, identity_blend=released)
        self.head = TaskHead(channels, num_tasks)
        self.amplifier = nn.Parameter(torch.tensor(1.0))  # rho of (11)
        self.temperature = nn.Parameter(torch.tensor(0.1))  # temp of (11)

    def forward(self, low: Tensor, high: Tensor, task: Tensor) -> PGTDOutput:
        """Decode `low` (B, C_low, h, w), guided by `high` (B, C_high, h', w'), h' <= h, for `task` (B,).

        Runs in float32 even under autocast: the vote of equation (11) amplifies the similarity 50 times, and with it
        every rounding error of f~. In Hiera-L these blocks account for less than 1 % of the multiply-adds.
        """
        with full_precision(low.device):
            return self._decode(low.float(), high.float(), task)

    def _decode(self, low: Tensor, high: Tensor, task: Tensor) -> PGTDOutput:
        high = self.project_high.on_upsampled(high, low.shape[-2:], self.released)
        fused = self.fuse(torch.cat([high, self.project_low(low)], dim=1))  # (4)
        encoded = self.encode(fused)
        prototypes = self.bank(task)
        similarity = self.similarity(encoded, prototypes)
        kernels, weights = self.experts(self.describe(encoded, prototypes))
        enhanced = fused * (1 + self.alpha * torch.sigmoid(similarity))  # (9)
        features = self.experts.apply_experts(enhanced, kernels, weights)  # (10)
        return PGTDOutput(self.head(features, task) + self.vote(similarity), features, encoded)

    def similarity(self, encoded: Tensor, prototypes: Tensor) -> Tensor:
        """S_raw = cos(f~, P_fg) - cos(f~, P_bg), (B, 1, h, w), the signed similarity of equations (8) and (11)."""
        pixels = F.normalize(encoded, dim=1).flatten(2)
        difference = (prototypes[:, FOREGROUND] - prototypes[:, BACKGROUND]).unsqueeze(1)  # (B, 1, C), unit prototypes
        return torch.matmul(difference, pixels).view(encoded.shape[0], 1, *encoded.shape[-2:])

    def describe(self, encoded: Tensor, prototypes: Tensor) -> Tensor:
        """z of equations (6) and (7), (B, C)."""
        background, foreground = self.attention(prototypes, encoded.flatten(2)).unbind(1)
        z: Tensor = self.descriptor(torch.cat([foreground, background, foreground - background], dim=-1))
        return z

    def vote(self, similarity: Tensor) -> Tensor:
        """lambda_p * rho * tanh(S_raw / temp), the prototype term of equation (11)."""
        if self.released:
            similarity = similarity / (similarity.abs().mean(dim=(1, 2, 3), keepdim=True) + 1e-6)
        return self.reinforcement * self.amplifier * torch.tanh(similarity / self.temperature.clamp_min(1e-3))


class TaskFusion(nn.Module):
    """Weighted sum of the outputs with one softmax row of weights per task, starting at [2, 0, 0, ...].

    Args:
        num_tasks: T.
        num_outputs: number of logit maps.
    """

    def __init__(self, num_tasks: int, num_outputs: int = 4) -> None:
        super().__init__()
        weight = torch.zeros(num_tasks, num_outputs)
        weight[:, 0] = 2.0
        self.task_weight = nn.Parameter(weight)

    def forward(self, logits: Sequence[Tensor], task: Tensor) -> Tensor:
        """Sequence of (B, 1, H, W), (B,) -> (B, 1, H, W)."""
        weights = self.task_weight[task].softmax(dim=-1)  # (B, outputs)
        return sum(
            (w.view(-1, 1, 1, 1) * x for w, x in zip(weights.unbind(1), logits, strict=True)), weights.new_zeros(())
        )


class PrototypeGuidedDecoder(nn.Module):
    """RFBs, PGTD3 to PGTD1 from coarse to fine, and a side head on the last stage.

    Args:
        in_channels: channels of the four encoder stages, finest first.
        num_tasks: T.
        rfb_channels: width of each stage after its RFB.
        channels: C of PGTD1, PGTD2, PGTD3.
        num_experts, alpha, reinforcement, momentum, released: see `PGTD`.
        without_pgtd: numbers (1, 2, 3) of the PGTD to replace by a `PlainBlock`, Table 4 of the paper.
        detail: width of a `DetailBlock` after PGTD1, whose logits come first; 0 is none, as in the paper.

    Raises:
        ValueError: `without_pgtd` holds another number, or `detail` is negative.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        num_tasks: int,
        rfb_channels: Sequence[int] = (64, 128, 256, 512),
        channels: Sequence[int] = (128, 128, 256),
        num_experts: int = 6,
        alpha: float = 0.5,
        reinforcement: float = 5.0,
        momentum: float = 0.9,
        released: bool = False,
        without_pgtd: Sequence[int] = (),
        detail: int = 0,
    ) -> None:
        super().__init__()
        if detail < 0:
            raise ValueError(f"detail must be 0 or more channels, got {detail}.")
        if not set(without_pgtd) <= {1, 2, 3}:
            raise ValueError(f"without_pgtd must name some of 1, 2, 3, got {list(without_pgtd)}.")
        self.rfbs = nn.ModuleList(RFB(i, o) for i, o in zip(in_channels, rfb_channels, strict=True))
        high = (channels[1], channels[2], rfb_channels[3])
        self.pgtds = nn.ModuleList(
            PlainBlock(low, up, mid, num_tasks)
            if number in without_pgtd
            else PGTD(low, up, mid, num_tasks, num_experts, alpha, reinforcement, momentum, released=released)
            for number, low, up, mid in zip((1, 2, 3), rfb_channels, high, channels, strict=False)
        )
        self.side_head = TaskHead(rfb_channels[3], num_tasks)
        self.detail = DetailBlock(channels[0], detail, num_tasks) if detail else None
        self.checkpointing = False

    @property
    def num_outputs(self) -> int:
        """Number of logit maps: the detail block's if there is one, those of PGTD1 to 3 and of the last stage."""
        return 4 if self.detail is None else 5

    def forward(
        self, features: Sequence[Tensor], task: Tensor, image: Tensor
    ) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        """Decode four stages, finest first; `image` (B, 3, H, W) is for the detail block.

        Returns:
            logits of the detail block if there is one, PGTD1, PGTD2, PGTD3 and the head of the last stage, each at its
            own size (B, 1, h, w), and the encodings f~ of the PGTD1, PGTD2, PGTD3 that exist, for the prototype
            update.
        """
        pairs = zip(self.rfbs, features, strict=True)
        return self.decode([run_checkpointed(rfb, x, enabled=self.checkpointing) for rfb, x in pairs], task, image)

    def decode(
        self, stages: Sequence[Tensor], task: Tensor, image: Tensor
    ) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        """As `forward`, for stages already processed by their RFBs."""
        logits: list[Tensor] = [self.side_head(stages[3], task)]
        encoded: list[Tensor] = []
        high = stages[3]
        for i in (2, 1, 0):
            output = run_checkpointed(self.pgtds[i], stages[i], high, task, enabled=self.checkpointing)
            high = output.features
            logits.insert(0, output.logits)
            if isinstance(output, PGTDOutput):
                encoded.insert(0, output.encoded)
        if self.detail is not None:
            logits.insert(0, run_checkpointed(self.detail, image, high, task, enabled=self.checkpointing))
        return tuple(logits), tuple(encoded)
