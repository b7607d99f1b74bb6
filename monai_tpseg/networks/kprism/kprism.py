"""K-Prism: semantic, in-context and interactive segmentation in one network."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple, cast, overload

import torch
import torch.nn.functional as F
from torch import Tensor

from monai_tpseg.networks.kprism.blocks import to_tokens
from monai_tpseg.networks.kprism.click_map import ClickPyramid, click_map
from monai_tpseg.networks.kprism.decoder import STRIDES, DualPromptDecoder
from monai_tpseg.networks.kprism.detail import PromptDetail
from monai_tpseg.networks.kprism.encoder import ImageEncoder
from monai_tpseg.networks.kprism.fusion import PixelFusion
from monai_tpseg.networks.kprism.in_context import InContextPrompt, Memory, read_memory
from monai_tpseg.networks.kprism.interactive import InteractivePrompt
from monai_tpseg.networks.kprism.mask_encoder import MaskEncoder
from monai_tpseg.networks.kprism.prompt import Prompt, check_exemplars, check_prompt
from monai_tpseg.networks.kprism.queries import Queries, join
from monai_tpseg.networks.kprism.semantic import SemanticPrompt
from monai_tpseg.networks.layers import check_precision, plain_tensor, resize, to_device, with_meta_of
from monai_tpseg.networks.script import TracedForScript
from monai_tpseg.networks.task import TaskNetwork, expand_task, is_passed_to_windows

__all__ = ["ImageState", "KPrism", "KPrismOutput"]


class ImageState(NamedTuple):
    """Encoded batch of images from `KPrism.encode`, the starting point of every prompt.

    coarse: (B, C, H / 16, W / 16) the encoder's last map, which exemplars are compared with.
    pixels: X per level before any prompt, coarsest first, (B, D, h, w).
    valid: per level (B, h * w) bool, False for padding; None where there is none.
    size: (H, W) of the images.
    fine: what `PromptDetail` sees of the images, (B, C, H / 2, W / 2); None without one.
    """

    coarse: Tensor
    pixels: tuple[Tensor, ...]
    valid: tuple[Tensor, ...] | None
    size: tuple[int, int]
    fine: Tensor | None = None


class KPrismOutput(NamedTuple):
    """Outputs for training.

    logits: prediction of the last layer, or of the detail block where there is one (B, 1, H, W).
    side_logits: of the layers before it, the last one first, each (B, 1, H, W).
    """

    logits: Tensor
    side_logits: tuple[Tensor, ...]


class KPrism(TracedForScript, TaskNetwork):
    """Knowledge-guided and prompt-integrated segmentation (arXiv 2509.25594): one binary mask per prompt.

    An image is encoded once; each prompt on it (`Prompt`: class, exemplars, clicks, previous mask, in any combination)
    then costs a decoder pass.

    Args:
        encoder: see `ImageEncoder`.
        mask_encoder: of exemplars, with the widths of `encoder`.
        num_tasks: T classes.
        channels: D of the decoder.
        groups: of its norms.
        summaries: tokens per exemplar and level.
        detail: width of a `PromptDetail` after the decoder; 0 is none, as in the paper.
        **decoder: other arguments of `DualPromptDecoder`.

    >>> from monai_tpseg.networks import kprism_demo
    >>> net = kprism_demo(num_tasks=2).eval()
    >>> state = net.encode(torch.zeros(1, 3, 64, 96))
    >>> first = net.decode(state, Prompt(task=1))
    >>> clicks = torch.tensor([[[20.0, 30.0, 1.0]]])  # row, column, inside
    >>> net.decode(state, Prompt(task=1, clicks=clicks, previous_logits=first)).shape
    torch.Size([1, 1, 64, 96])
    """

    def __init__(
        self,
        encoder: ImageEncoder,
        mask_encoder: MaskEncoder,
        num_tasks: int,
        channels: int = 256,
        groups: int = 32,
        summaries: int = 6,
        detail: int = 0,
        **decoder: Any,
    ) -> None:
        super().__init__()
        if num_tasks < 1:
            raise ValueError(f"num_tasks must be at least 1, got {num_tasks}.")
        widths = tuple(reversed(encoder.channels))  # coarsest first
        self.num_tasks = num_tasks
        self.encoder = encoder
        self.mask_encoder = mask_encoder
        self.fusion = PixelFusion(widths, channels, groups)
        self.pyramid = ClickPyramid(channels, groups)
        self.semantic = SemanticPrompt(num_tasks, channels)
        self.in_context = InContextPrompt(widths, channels, summaries)
        self.interactive = InteractivePrompt(channels)
        self.decoder = DualPromptDecoder(channels, **decoder)
        self.detail = PromptDetail(channels, detail) if detail else None

    @overload
    def forward(
        self, image: Tensor, prompt: Prompt | int | Tensor | None = ..., deep_supervision: Literal[False] = ...
    ) -> Tensor: ...

    @overload
    def forward(
        self, image: Tensor, prompt: Prompt | int | Tensor | None, deep_supervision: Literal[True]
    ) -> KPrismOutput: ...

    def forward(
        self, image: Tensor, prompt: Prompt | int | Tensor | None = None, deep_supervision: bool = False
    ) -> Tensor | KPrismOutput:
        """Segment `image`: `decode(encode(image), prompt)`.

        Args:
            image: (B, 3, H, W), ImageNet-normalised, H and W divisible by the encoder's divisor.
            prompt: what to segment; a bare row stands for `Prompt(task=row)`; see `TaskNetwork` for a call without.
            deep_supervision: return a `KPrismOutput` instead of logits.

        Returns:
            logits (B, 1, H, W), with the metadata of `image`; or the `KPrismOutput` they are part of, plain tensors.

        Raises:
            ValueError: see `encode` and `decode`; no prompt, or one that MONAI's sliding windows hand on to every
                window although it holds places or tensors of a whole batch.
        """
        if not isinstance(prompt, Prompt):
            prompt = Prompt(task=self.named_task(prompt))
        elif not isinstance(prompt.task, int) and is_passed_to_windows(lambda one: one is prompt):
            raise ValueError("A Prompt does not fit the windows of SlidingWindowInferer; bind_task(net, task) does.")
        state = self.encode(image)
        if deep_supervision:
            return self.decode(state, prompt, deep_supervision=True)
        return with_meta_of(image, self.decode(state, prompt))

    def encode(self, image: Tensor, valid: Tensor | None = None) -> ImageState:
        """Encode images, independent of any prompt.

        Args:
            image: (B, 3, H, W).
            valid: (B, 1, H, W) 1 where an image has pixels, 0 where it is padding that no query shall look at.

        Raises:
            ValueError: an unsupported size, another shape, or a type other than float32.
        """
        image = plain_tensor(image)
        self._check_size(image)
        check_precision(image, self)
        features = tuple(reversed(self.encoder(image)))
        pixels = tuple(self.fusion(feature, level) for level, feature in enumerate(features))
        fine = None if self.detail is None else self.detail.encode_image(image)
        return ImageState(features[0], pixels, _levels(valid, image), (image.shape[2], image.shape[3]), fine)

    def remember(self, image: Tensor, label: Tensor, valid: Tensor | None = None) -> Memory:
        """Encode exemplars once, for use with any number of images and clicks.

        Args:
            image, label, valid: `exemplar_image`, `exemplar_label` and `exemplar_valid` of `Prompt`.

        Raises:
            ValueError: the shapes do not fit, or a sample has no exemplar at all.
        """
        check_exemplars(image, label, valid)
        batch, number = image.shape[:2]
        image, label = plain_tensor(image).flatten(0, 1), plain_tensor(label).flatten(0, 1).to(image.dtype)
        whole = None if valid is None else plain_tensor(valid).flatten(0, 1).to(image.dtype)
        self._check_size(image)
        keys, values = self.encoder(image)[-1], tuple(reversed(self.mask_encoder(image, label)))
        said = (self.in_context.summarise(v, label, whole, level) for level, v in enumerate(values))
        seen = _levels(whole, image)
        present = None if whole is None else whole.flatten(1).any(1).view(batch, number)
        return Memory(
            to_tokens(keys).reshape(batch, -1, keys.shape[1]),
            to_tokens(values[0]).reshape(batch, -1, keys.shape[1]),
            tuple(s.view(batch, number, *s.shape[1:]) for s in said),
            None if seen is None else seen[0].view(batch, -1),
            torch.ones(batch, number, dtype=torch.bool, device=image.device) if present is None else present,
        )

    @overload
    def decode(
        self, state: ImageState, prompt: Prompt, memory: Memory | None = ..., deep_supervision: Literal[False] = ...
    ) -> Tensor: ...

    @overload
    def decode(
        self, state: ImageState, prompt: Prompt, memory: Memory | None = ..., *, deep_supervision: Literal[True]
    ) -> KPrismOutput: ...

    def decode(
        self, state: ImageState, prompt: Prompt, memory: Memory | None = None, deep_supervision: bool = False
    ) -> Tensor | KPrismOutput:
        """Segment encoded images.

        Args:
            state: from `encode`.
            prompt: what to segment.
            memory: exemplars from `remember`, in place of the prompt's.
            deep_supervision: return a `KPrismOutput` instead of logits.

        Returns:
            logits (B, 1, H, W), or the `KPrismOutput` they are part of.

        Raises:
            ValueError: the prompt is empty, does not fit the images, or names a class that does not exist.
        """
        check_prompt(prompt, state.coarse.shape[0], state.size, memory is not None)
        if prompt.exemplar_image is not None:
            memory = self.remember(prompt.exemplar_image, cast(Tensor, prompt.exemplar_label), prompt.exemplar_valid)
        clicks = self._clicks(state, prompt, memory)
        drawn = click_map(prompt.clicks, prompt.previous_logits, state.coarse.shape[0], state.size, state.coarse.device)
        pixels = self._pixels(state, drawn, memory)
        logits, finest = self.decoder(pixels, self._queries(state, prompt, memory, clicks), clicks, state.valid)
        if self.detail is not None and state.fine is not None:
            logits = (*logits, self.detail(state.fine, drawn, finest))
        last, *before = reversed(logits)
        if not deep_supervision:
            return resize(last, state.size)
        return KPrismOutput(resize(last, state.size), tuple(resize(x, state.size) for x in before))

    def _pixels(self, state: ImageState, drawn: Tensor, memory: Memory | None) -> list[Tensor]:
        """The pixel side: what exemplars read, and the pyramid of the drawn clicks on every level."""
        pixels = list(state.pixels)
        if memory is not None:
            pixels[0] = self.fusion(read_memory(state.coarse, memory), 0)
        return [x + c for x, c in zip(pixels, self.pyramid(drawn), strict=True)]

    def _clicks(self, state: ImageState, prompt: Prompt, memory: Memory | None) -> Tensor | None:
        """Clicks on the images' device; one that does not exist where the query side would be empty."""
        batch, device = state.coarse.shape[0], state.coarse.device
        if prompt.clicks is not None and prompt.clicks.shape[1]:
            return to_device(plain_tensor(prompt.clicks), device).float()
        alone = prompt.task is None and memory is None
        return torch.zeros(batch, 1, 3, device=device) if alone else None

    def _queries(self, state: ImageState, prompt: Prompt, memory: Memory | None, clicks: Tensor | None) -> Queries:
        """The query side: tokens of the class, of the exemplars, of the clicks."""
        parts: list[Queries] = []
        if prompt.task is not None:
            rows = expand_task(prompt.task, state.coarse.shape[0], self.num_tasks, state.coarse.device)
            parts.append(self.semantic(rows))
        if memory is not None:
            parts.append(self.in_context(memory))
        if clicks is not None:
            parts.append(self.interactive(clicks, state.size, alone=not parts))
        return join(parts)

    def _check_size(self, image: Tensor) -> None:
        if image.ndim != 4 or image.shape[1] != 3:
            raise ValueError(f"image must be (B, 3, H, W), got shape {tuple(image.shape)}.")
        divisor = self.encoder.divisor
        if image.shape[2] % divisor or image.shape[3] % divisor:
            size = f"{image.shape[2]} x {image.shape[3]}"
            raise ValueError(f"H and W must be divisible by {divisor}, got {size}; resize or pad the image.")


def _levels(valid: Tensor | None, image: Tensor) -> tuple[Tensor, ...] | None:
    """Return where each level has any pixel, coarsest first, (B, h * w) bool."""
    if valid is None:
        return None
    if valid.shape != (image.shape[0], 1, *image.shape[2:]):
        expected = (image.shape[0], 1, *image.shape[2:])
        raise ValueError(f"valid must be {expected}, got shape {tuple(valid.shape)}.")
    whole = plain_tensor(valid).to(image.device).float()
    return tuple(F.max_pool2d(whole, stride).flatten(1) > 0 for stride in STRIDES)
