"""K-Prism and its parts, one file per box of the figure."""

from __future__ import annotations

from monai_tpseg.networks.kprism.encoder import HieraEncoder, ImageEncoder, UTNetEncoder
from monai_tpseg.networks.kprism.in_context import Memory
from monai_tpseg.networks.kprism.kprism import ImageState, KPrism, KPrismOutput
from monai_tpseg.networks.kprism.moe import MixtureAttention, MixtureFFN
from monai_tpseg.networks.kprism.prompt import MODES, Mode, Prompt, first_prompt
from monai_tpseg.networks.kprism.variants import BACKBONES, kprism_demo, kprism_net, kprism_utnet

__all__ = [
    "BACKBONES",
    "MODES",
    "HieraEncoder",
    "ImageEncoder",
    "ImageState",
    "KPrism",
    "KPrismOutput",
    "Memory",
    "MixtureAttention",
    "MixtureFFN",
    "Mode",
    "Prompt",
    "UTNetEncoder",
    "first_prompt",
    "kprism_demo",
    "kprism_net",
    "kprism_utnet",
]
