"""State dicts of the released TP-Seg layout, renamed to those of this package."""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from monai_tpseg.networks.checkpoint import CheckpointError

__all__ = ["convert_released"]

_PGTD_RENAMES = {
    "adaptive_scale_weights": "extras.scales.{k}.scale_weight.weight",
    "expert_init_scale": "decoder.pgtds.{k}.experts.blend",
    "sim_temp": "decoder.pgtds.{k}.temperature",
    "proto_amplifier": "decoder.pgtds.{k}.amplifier",
    "multi_scale_protos": "decoder.pgtds.{k}.bank.prototypes",
    "proj_low.": "decoder.pgtds.{k}.project_low.",
    "proj_high.": "decoder.pgtds.{k}.project_high.",
    "fuse.": "decoder.pgtds.{k}.fuse.",
    "scale_encoders.0.": "decoder.pgtds.{k}.encode.",
    "proto_cross_attn.0.": "decoder.pgtds.{k}.attention.",
    "proto_fuser.": "decoder.pgtds.{k}.descriptor.",
    "scale_router.": "extras.scales.{k}.scale_router.",
    "proto_initializer.": "extras.scales.{k}.initializer.",
    "expert_generator.": "decoder.pgtds.{k}.experts.generator.",
    "expert_weight_gen.0.": "decoder.pgtds.{k}.experts.weights.",
    "head.": "decoder.pgtds.{k}.head.",
}
_RENAMES: list[tuple[str, str]] = [
    (r"encoder\.(pos_embed.*|patch_embed\..*)", r"encoder.trunk.\1"),
    (r"encoder\.blocks\.(\d+)\.block\.(.*)", r"encoder.trunk.blocks.\1.\2"),
    (r"encoder\.blocks\.(\d+)\.adapter\.task_scales", r"encoder.adapters.\1.task_scale"),
    (r"encoder\.blocks\.(\d+)\.adapter\.norm\.(.*)", r"encoder.adapters.\1.norm.\2"),
    (r"task_embedding\.(.*)", r"extras.task_embedding.\1"),
    (r"fuser\.weight\.weight", r"fusion.task_weight"),
]

_RFB_PARTS = {"branch": "branches.", "conv_cat.": "merge.", "conv_res.": "residual."}
_HEAD_PARTS = {"0.": "depthwise.", "1.": "norm.", "3.weight": "task_weight", "3.bias": "task_bias"}
_DERIVED = ("proto_initialized", "proto_momentum", "identity_kernel")  # configuration or constants in this package
_ROUTER = re.compile(r"encoder\.blocks\.(\d+)\.adapter\.task_routers\.(\d+)\.([02])\.weight")


def convert_released(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename a state dict of the released TP-Seg layout to `tpseg_hiera(..., layout="released")`.

    Foreground and background are swapped in the prototypes (index 0 is background here), the routers of all tasks
    are stacked into one tensor per block, 1x1 convolutions of heads become rows, and a `module.` prefix is dropped.

    Raises:
        CheckpointError: a key unknown to the layout, or uninitialised prototypes.
    """
    result: dict[str, Tensor] = {}
    routers: dict[str, dict[int, Tensor]] = {}
    for released_key, value in state.items():
        key = released_key.removeprefix("module.")
        if match := _ROUTER.fullmatch(key):
            block, task, layer = match.groups()
            name = f"encoder.adapters.{block}.{'task_down' if layer == '0' else 'task_up'}"
            routers.setdefault(name, {})[int(task)] = value.flatten(1)
        elif key.endswith(_DERIVED):
            if key.endswith("proto_initialized") and not bool(value.all()):
                raise CheckpointError(
                    f"'{key}' states that the prototypes of some tasks were never initialised: train first."
                )
        else:
            new = _rename(key)
            result[new] = _reshape(new, value)
            if new.endswith("bank.prototypes"):  # lambda_p is a constant of the released code
                result[new.replace("bank.prototypes", "reinforcement")] = torch.tensor(5.0)
    for name, rows in routers.items():
        result[name] = torch.stack([rows[task] for task in range(len(rows))])
    return result


def _rename(key: str) -> str:
    for pattern, replacement in _RENAMES:
        if re.fullmatch(pattern, key):
            return re.sub(pattern, replacement, key)
    if match := re.fullmatch(r"rfb([1-4])(_1)?\.(.*)", key):
        stage, second, rest = match.groups()
        base = f"extras.rfbs.{int(stage) - 2}." if second else f"decoder.rfbs.{int(stage) - 1}."
        return base + _swap(rest, _RFB_PARTS, key)
    if match := re.fullmatch(r"predtrans([234])\.(.*)", key):
        base = "decoder.side_head." if match[1] == "4" else f"extras.heads.{int(match[1]) - 2}."
        return base + _swap(match[2], _HEAD_PARTS, key)
    if match := re.fullmatch(r"pgtd([123])\.(.*)", key):
        new = _swap(match[2], _PGTD_RENAMES, key).format(k=int(match[1]) - 1)
        return (
            new
            if ".head." not in new
            else f"{new.split('.head.')[0]}.head." + _swap(new.split(".head.")[1], _HEAD_PARTS, key)
        )
    raise CheckpointError(f"'{key}' is not a name of the released TP-Seg layout; is this another model's state dict?")


def _swap(rest: str, table: Mapping[str, str], key: str) -> str:
    for old, new in table.items():
        if rest.startswith(old):
            return new + rest[len(old) :]
    raise CheckpointError(f"'{key}' is not a name of the released TP-Seg layout; is this another model's state dict?")


def _reshape(name: str, value: Tensor) -> Tensor:
    if name.endswith("bank.prototypes"):
        return value[:, 0].flip(1)  # (T, 1, 2, C), foreground first -> (T, 2, C), background first
    if name.endswith("scale_weight.weight"):
        return value.view(1, 1)
    if name.endswith("task_weight") and value.ndim == 4:
        return value.flatten(1)  # (T, C, 1, 1) -> (T, C)
    return value
