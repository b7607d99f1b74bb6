"""Whether bf16 changes the masks: Dice between the masks of float32 and of bf16 over the cases of a datalist.

    python -m benchmarks.speed_masks --checkpoint run/model.pt --dataset_dir DATA

Weights and cases are those of a training with the bundle; its validation cases are segmented.
"""

from __future__ import annotations

import statistics
from pathlib import Path

import torch

from benchmarks.timing import arguments, save, target
from monai_tpseg.data import read_datalist
from monai_tpseg.inferers import TaskInferer
from monai_tpseg.networks import TPSeg, build_described
from monai_tpseg.networks.weights_info import read_info
from monai_tpseg.transforms import LoadMedicalImaged, NormalizeByModalityd


@torch.inference_mode()
def main() -> None:
    parser = arguments(str(__doc__))
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--dataset_dir", required=True)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    info = read_info(args.checkpoint)
    net = build_described(args.checkpoint).to(args.device)
    assert isinstance(net, TPSeg)
    fast = net.optimize_for_inference(dtype=torch.bfloat16)
    cases = read_datalist(str(Path(args.dataset_dir) / "datalist.json"), "validation", args.dataset_dir, info.tasks)
    read, normalise = LoadMedicalImaged("image"), NormalizeByModalityd()
    inferers = {"network_bf16": (TaskInferer(info.image_size, info.window), fast)}
    inferers["plain_autocast"] = (TaskInferer(info.image_size, info.window, amp="bf16"), net)
    overlaps: dict[str, list[tuple[float, float]]] = {name: [] for name in inferers}
    for case in cases:
        image = normalise(read({"image": case["image"], "task": case["task"]}))["image"].as_tensor()[None]
        image, row = image.to(args.device), info.tasks.index(case["task"])
        exact = TaskInferer(info.image_size, info.window)(image, net, task=row) > 0.5
        for name, (inferer, half) in inferers.items():
            mask = inferer(image, half, task=row) > 0.5
            overlaps[name].append((float(2 * (mask & exact).sum()), float(mask.sum() + exact.sum())))
    model = (
        f"{info.network['backbone']} at {info.image_size[0]} x {info.image_size[1]}, {info.training['epoch']} epochs"
    )
    args.checkpoint, args.dataset_dir = args.checkpoint.name, "DATA"
    dice = {name: summary(o) for name, o in overlaps.items()}
    targets = [
        target(f"Dice of {name.replace('_', ' ')}, {kind}", d[kind], 0.998)
        for name, d in dice.items()
        for kind in ("pooled", "mean")
    ]
    save("masks", args, targets=targets, cases=len(cases), model=model, dice=dice)


def summary(overlaps: list[tuple[float, float]]) -> dict[str, float]:
    """Return Dice over all pixels and over the cases in which one of the masks has a pixel."""
    dice = [both / total for both, total in overlaps if total]
    return {
        "pooled": sum(both for both, _ in overlaps) / sum(total for _, total in overlaps),
        "median": statistics.median(dice),
        "mean": statistics.mean(dice),
        "least": min(dice),
    }


if __name__ == "__main__":
    main()
