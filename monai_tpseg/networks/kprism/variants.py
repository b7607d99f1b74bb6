"""The variants of K-Prism and their dimensions."""

from __future__ import annotations

from typing import Any

from monai_tpseg.networks.arguments import keep_arguments
from monai_tpseg.networks.hiera import HIERA_VARIANTS, Stem, is_published
from monai_tpseg.networks.kprism.encoder import HieraEncoder, UTNetEncoder
from monai_tpseg.networks.kprism.kprism import KPrism
from monai_tpseg.networks.kprism.mask_encoder import MaskEncoder
from monai_tpseg.words import choose

__all__ = ["BACKBONES", "kprism_demo", "kprism_net", "kprism_utnet"]

_NARROW: dict[str, int] = {"width": 8, "channels": 32, "groups": 8, "num_experts": 2, "num_heads": 4}
_NARROW |= {"num_layers": 3, "head_channels": 8}
BACKBONES = ("utnet", "utnet_demo", *HIERA_VARIANTS)
"""Image encoders: that of the paper, a narrow one of ours, and SAM 2's."""


@keep_arguments("kprism")
def kprism_net(
    backbone: str = "utnet",
    num_tasks: int = 8,
    freeze_encoder: bool = False,
    width: int | None = None,
    stem: Stem = "patch",
    **decoder: Any,
) -> KPrism:
    """Build K-Prism with fresh weights.

    Args:
        backbone: "utnet" (the paper's), "utnet_demo", or a variant of SAM 2's Hiera such as "hiera_tiny".
        num_tasks: T classes.
        freeze_encoder: freeze a Hiera trunk; UTNet is always trained.
        width: channels of the stems, by default 48 (8 in the demo variants).
        stem: patch embedding of a Hiera trunk, see `build_hiera`.
        **decoder: other arguments of `KPrism` and `DualPromptDecoder`; None is the default of the variant.

    Raises:
        ValueError: an unknown backbone, no task, a UTNet that is to be frozen, or a stem or detail that is not for it.
    """
    if backbone not in BACKBONES:
        raise ValueError(f"Unknown backbone {backbone!r}; {choose(backbone, BACKBONES)}.")
    options = {"width": 48} | (_NARROW if backbone.endswith("_demo") else {})
    options |= {k: v for k, v in {"width": width, **decoder}.items() if v is not None}
    narrow = options.pop("width")
    encoder: UTNetEncoder | HieraEncoder
    if backbone.startswith("utnet"):
        if freeze_encoder:
            raise ValueError(
                "freeze_encoder is for SAM 2's trunks; UTNet has no published weights and must be trained."
            )
        if stem != "patch":
            raise ValueError("stem is for Hiera trunks; UTNet has its own stem.")
        encoder = UTNetEncoder(narrow)
    else:
        encoder = HieraEncoder(backbone, freeze_encoder, stem)
    if options.get("detail") and (backbone == "utnet" or (is_published(backbone) and not backbone.startswith("utnet"))):
        raise ValueError(f"detail is for backbones that are trained from scratch, not {backbone!r}.")
    return KPrism(encoder, MaskEncoder(tuple(encoder.channels), narrow), num_tasks, **options)


def kprism_utnet(num_tasks: int = 33, **kwargs: Any) -> KPrism:
    """K-Prism as in the paper, by default with its 33 classes; arguments as `kprism_net`."""
    return kprism_net("utnet", num_tasks, **kwargs)


def kprism_demo(num_tasks: int = 8, **kwargs: Any) -> KPrism:
    """Minimal K-Prism for demonstrations and tests: same classes, three narrow layers of two experts."""
    return kprism_net("utnet_demo", num_tasks, **kwargs)
