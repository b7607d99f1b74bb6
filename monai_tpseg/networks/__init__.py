"""Networks: TP-Seg and K-Prism, and their parts."""

from __future__ import annotations

from monai_tpseg.networks.ablation_parts import UDecoder
from monai_tpseg.networks.adapter import TaskAdapter
from monai_tpseg.networks.bind import BoundTask, bind_task
from monai_tpseg.networks.build import ARCHITECTURES, build_network, hiera_of
from monai_tpseg.networks.decoder import PGTD, PrototypeGuidedDecoder, TaskFusion
from monai_tpseg.networks.described import build_described, describe
from monai_tpseg.networks.hiera import HIERA_VARIANTS, TaskConditionedHiera, build_hiera
from monai_tpseg.networks.kprism import KPrism, Prompt, kprism_demo, kprism_net, kprism_utnet
from monai_tpseg.networks.layers import RFB
from monai_tpseg.networks.peers import PEERS, TaskAgnostic, build_peer, nnunet_plan_2d
from monai_tpseg.networks.prototype import PrototypeBank
from monai_tpseg.networks.route import SplitGate
from monai_tpseg.networks.task import TaskNetwork
from monai_tpseg.networks.tpseg import TPSeg, TPSegOutput, unwrap
from monai_tpseg.networks.tpseg_hiera import (
    tpseg_hiera,
    tpseg_hiera_base_plus,
    tpseg_hiera_demo,
    tpseg_hiera_large,
    tpseg_hiera_small,
    tpseg_hiera_tiny,
)

__all__ = [
    "ARCHITECTURES",
    "HIERA_VARIANTS",
    "PEERS",
    "PGTD",
    "RFB",
    "BoundTask",
    "KPrism",
    "Prompt",
    "PrototypeBank",
    "PrototypeGuidedDecoder",
    "SplitGate",
    "TPSeg",
    "TPSegOutput",
    "TaskAdapter",
    "TaskAgnostic",
    "TaskConditionedHiera",
    "TaskFusion",
    "TaskNetwork",
    "UDecoder",
    "bind_task",
    "build_described",
    "build_hiera",
    "build_network",
    "build_peer",
    "describe",
    "hiera_of",
    "kprism_demo",
    "kprism_net",
    "kprism_utnet",
    "nnunet_plan_2d",
    "tpseg_hiera",
    "tpseg_hiera_base_plus",
    "tpseg_hiera_demo",
    "tpseg_hiera_large",
    "tpseg_hiera_small",
    "tpseg_hiera_tiny",
    "unwrap",
]
