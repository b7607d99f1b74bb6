"""TP-Seg on the variants of SAM 2's Hiera, built with fresh weights."""

from __future__ import annotations

from typing import Any, Literal

from monai_tpseg.networks.ablation_parts import FinestOutput, UDecoder
from monai_tpseg.networks.adapter import Routes
from monai_tpseg.networks.arguments import keep_arguments
from monai_tpseg.networks.decoder import PrototypeGuidedDecoder, TaskFusion
from monai_tpseg.networks.hiera import (
    AdapterKind,
    Stem,
    TaskConditionedHiera,
    build_hiera,
    is_published,
)
from monai_tpseg.networks.tpseg import TPSeg
from monai_tpseg.networks.unused_parameters import ReleasedExtras
from monai_tpseg.words import choose

__all__ = [
    "tpseg_hiera",
    "tpseg_hiera_base_plus",
    "tpseg_hiera_demo",
    "tpseg_hiera_large",
    "tpseg_hiera_small",
    "tpseg_hiera_tiny",
]

Layout = Literal["paper", "released"]
DecoderKind = Literal["pgtd", "unet"]
DECODERS: tuple[DecoderKind, ...] = ("pgtd", "unet")

_NARROW: dict[str, dict[str, Any]] = {
    "hiera_demo": {"rfb_channels": (16, 24, 32, 48), "channels": (24, 24, 32), "bottleneck": 16},
    "hiera_mini": {"rfb_channels": (32, 48, 64, 96), "channels": (32, 32, 64), "bottleneck": 16},
}


@keep_arguments("tpseg")
def tpseg_hiera(
    backbone: str,
    num_tasks: int = 8,
    layout: Layout = "paper",
    routes: Routes | None = None,
    freeze_encoder: bool = True,
    bottleneck: int | None = None,
    adapter: AdapterKind = "tca",
    decoder: DecoderKind = "pgtd",
    stem: Stem = "patch",
    detail: int = 0,
    **options: Any,
) -> TPSeg:
    """Build TP-Seg on a SAM 2 Hiera trunk with fresh weights; `checkpoint` and `sam2_trunk` load others.

    Args:
        backbone: "hiera_tiny", "hiera_small", "hiera_base_plus", "hiera_large"; or the small "hiera_demo" and
            "hiera_mini", without published weights.
        num_tasks: T.
        layout: "paper", or "released": task routes with a scale per task, prototype momentum 0.995, aligned corners,
            identity-blended experts, and the released files' unused parameters, frozen.
        routes: adapter routes, "both", "task" or "shared"; by default those of the layout.
        freeze_encoder: freeze the trunk, as the paper does with SAM 2 weights; False trains it too.
        bottleneck: r of the adapters, by default 64 (16 for the two small backbones).
        adapter: "tca" as in the paper; "lora", "plain" or "none" in its ablations, see `TaskConditionedHiera`.
        decoder: "pgtd" as in the paper; "unet", a plain U-shaped one without anything per task, in its ablations.
        stem: patch embedding of the trunk, "patch" as in SAM 2, or "conv" for a trunk from scratch, see `build_hiera`.
        detail: width of a skip at stride 2 for a trunk from scratch, see `DetailBlock`; 0 is none, as in the paper.
        **options: other arguments of `PrototypeGuidedDecoder`, e.g. `reinforcement=2.5` or `without_pgtd=[1]`; None is
            the default of the variant, whose decoder is as the paper's but for the small ones, which have a narrow one.

    Raises:
        ValueError: an unknown backbone, layout, adapter or decoder, no task, a released layout with other parts, or a
            stem or detail that is not for this backbone.
    """
    if layout not in ("paper", "released"):
        raise ValueError(f"Unknown layout {layout!r}; {choose(layout, ('paper', 'released'))}.")
    if num_tasks < 1:
        raise ValueError(f"num_tasks must be at least 1, got {num_tasks}.")
    if decoder not in DECODERS:
        raise ValueError(f"Unknown decoder {decoder!r}; {choose(decoder, DECODERS)}.")
    if layout == "released" and (adapter, decoder, list(options.get("without_pgtd") or ())) != ("tca", "pgtd", []):
        raise ValueError("layout 'released' has fixed parts; use layout 'paper' for another adapter or decoder.")
    if detail and (is_published(backbone) or decoder != "pgtd"):
        raise ValueError(
            f"detail is for backbones without published weights and decoder 'pgtd', not {backbone!r}, {decoder!r}."
        )
    released = layout == "released"
    routes = routes or ("task" if released else "both")
    numbers = {"bottleneck": 64, "momentum": 0.995 if released else 0.9, **_NARROW.get(backbone, {})}
    numbers |= {k: v for k, v in {"bottleneck": bottleneck, **options}.items() if v is not None}
    width = numbers.pop("bottleneck")
    encoder = TaskConditionedHiera(
        build_hiera(backbone, stem), num_tasks, width, routes, released, freeze_encoder, adapter
    )
    if decoder == "unet":
        plain = UDecoder(encoder.channels, **{k: v for k, v in numbers.items() if k in ("rfb_channels", "channels")})
        return TPSeg(encoder, plain, num_tasks, fusion=FinestOutput())
    head = PrototypeGuidedDecoder(encoder.channels, num_tasks, released=released, detail=detail, **numbers)
    extras = ReleasedExtras(num_tasks) if released else None
    fusion = TaskFusion(num_tasks, head.num_outputs)
    return TPSeg(encoder, head, num_tasks, align_corners=released, extras=extras, fusion=fusion)


def tpseg_hiera_tiny(num_tasks: int = 8, **kwargs: Any) -> TPSeg:
    """TP-Seg on Hiera-T (12 blocks, 96 channels); arguments as `tpseg_hiera`."""
    return tpseg_hiera("hiera_tiny", num_tasks, **kwargs)


def tpseg_hiera_small(num_tasks: int = 8, **kwargs: Any) -> TPSeg:
    """TP-Seg on Hiera-S (16 blocks, 96 channels); arguments as `tpseg_hiera`."""
    return tpseg_hiera("hiera_small", num_tasks, **kwargs)


def tpseg_hiera_base_plus(num_tasks: int = 8, **kwargs: Any) -> TPSeg:
    """TP-Seg on Hiera-B+ (24 blocks, 112 channels); arguments as `tpseg_hiera`."""
    return tpseg_hiera("hiera_base_plus", num_tasks, **kwargs)


def tpseg_hiera_large(num_tasks: int = 8, **kwargs: Any) -> TPSeg:
    """TP-Seg on Hiera-L (48 blocks, 144 channels), the paper's; arguments as `tpseg_hiera`."""
    return tpseg_hiera("hiera_large", num_tasks, **kwargs)


def tpseg_hiera_demo(num_tasks: int = 8, **kwargs: Any) -> TPSeg:
    """Minimal TP-Seg for demonstrations and tests: same classes, 6 blocks, a narrow decoder."""
    return tpseg_hiera("hiera_demo", num_tasks, **{"freeze_encoder": False, **kwargs})
