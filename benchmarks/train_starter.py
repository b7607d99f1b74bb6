"""Trains the starter weights as they are shipped, TP-Seg and K-Prism in three stages each, on one core.

LESIONS and MORE are folders with a datalist.json each; the training lists of both are joined, the validation list is
that of LESIONS and is looked at once a stage, after its last step. A stage that was interrupted goes on from its last
epoch, one that is done is not done again. Then `tpseg weights pack` makes the files of the catalogue.

    python -m benchmarks.train_starter tpseg --lesions LESIONS --more MORE --out OUT
    python -m benchmarks.train_starter kprism --lesions LESIONS --more MORE --out OUT
    tpseg weights pack OUT/tpseg_3/model.pt --name starter-tpseg --out FOLDER
    python -m benchmarks.starter_cards starter-tpseg --lesions LESIONS --write
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

from monai_tpseg.networks.checkpoint import read_checkpoint
from monai_tpseg.networks.weights_info import read_info, save_weights

ROOT = Path(__file__).resolve().parents[1]


class Stage(NamedTuple):
    """One training.

    Attributes:
        name: of its folder under OUT.
        start: name of the stage whose weights it starts from; "" starts from nothing.
        options: of train.json, beside those that all stages of the network share.
        trunk: name of a stage of TP-Seg whose trunk replaces that of `start`; "" keeps it.
    """

    name: str
    start: str
    options: dict[str, Any]
    trunk: str = ""


COMMON: dict[str, Any] = {
    "backbone": "hiera_mini",
    "stem": "conv",
    "detail": 16,
    "balance": 0.7,  # one of 40 CT slices is seen 20 times as often as one of 2,783 pictures of skin, not 70 times
    "num_workers": 0,
    "cache_rate": 1.0,
    "validate::dataset::cache_rate": 0.0,
    "overlay_images": False,
}
TPSEG: dict[str, Any] = {**COMMON, "recipe": "from_scratch", "batch_size": 16, "ema": 0.998}
KPRISM: dict[str, Any] = {
    **COMMON,
    **{"channels": 64, "num_layers": 3, "num_experts": 3, "width": 16},
    **{"image_size": 128, "batch_size": 8, "lr": 0.0015, "final_lr": 1e-5, "rounds": 3, "val_clicks": 0},
    **{"obey_weight": 2.0, "opposite": 0.3, "semantic_share": 0.25},
}
LONG: dict[str, Any] = {
    **{"exemplars": 2, "foreign": 0.3, "one_lesion": 0.4, "warmup": 0.02, "epoch_cases": 800},
    **{"semantic_share": 0.2, "in_context_share": 0.3, "interactive_share": 0.5},
}
STAGES: dict[str, tuple[Stage, ...]] = {
    "tpseg": (
        Stage("tpseg_1", "", {"image_size": 128, "lr": 0.0015, "epoch_cases": 3200, "max_epochs": 16}),
        Stage(
            "tpseg_2",
            "tpseg_1",
            {"image_size": 192, "lr": 0.0008, "reinforcement_ramp": 0, "epoch_cases": 1600, "max_epochs": 8},
        ),
        Stage(
            "tpseg_3",
            "tpseg_2",
            {"image_size": 192, "lr": 0.001, "reinforcement_ramp": 0, "epoch_cases": 1600, "max_epochs": 30},
        ),
    ),
    "kprism": (
        Stage(
            "kprism_1",
            "",
            {"ema": 0.995, "warmup": 0.02, "exemplars": 1, "one_lesion": 0.4, "epoch_cases": 1000, "max_epochs": 13}
            | {"in_context_share": 0.25, "interactive_share": 0.5},
        ),
        Stage(
            "kprism_2",
            "kprism_1",
            LONG | {"lr": 0.0012, "final_lr": 0.0004, "ema": 0.995, "max_epochs": 22},
            trunk="tpseg_3",
        ),
        Stage(
            "kprism_3",
            "kprism_2",
            LONG | {"image_size": 192, "lr": 0.0008, "ema": 0.998, "max_epochs": 14},
        ),
    ),
}
TRIED: dict[str, tuple[Stage, ...]] = {
    "tpseg": (
        Stage(  # 224 pixels: the windows of the trunk (8, 4, 14, 7 tokens) fit without padding
            "tpseg_4",
            "tpseg_3",
            {"image_size": 224, "lr": 0.0008, "reinforcement_ramp": 0, "epoch_cases": 1600, "max_epochs": 10}
            | {"ema": 0.995, "warmup": 0.03},
        ),
    ),
    "kprism": (),
}
"""Further stages whose weights are not shipped, as docs/weights.md explains."""

BUNDLES = {"tpseg": "tpseg_lesion_segmentation", "kprism": "kprism_universal_segmentation"}


def join_lists(lesions: Path, more: Path | None, out: Path) -> Path:
    """Write a datalist of absolute paths: both training lists, the validation list of `lesions` alone."""

    def entries(folder: Path, section: str) -> list[dict[str, Any]]:
        found = json.loads((folder / "datalist.json").read_text())[section]
        return [{**e, "image": str(folder / e["image"]), "label": str(folder / e["label"])} for e in found]

    training = [entry for folder in (lesions, more) if folder for entry in entries(folder.absolute(), "training")]
    print("training pictures:", dict(Counter(entry["task"] for entry in training)))
    path = out / "datalist.json"
    path.write_text(json.dumps({"training": training, "validation": entries(lesions.absolute(), "validation")}))
    return path


def take_trunk(tpseg: Path, kprism: Path, start: Path) -> Path:
    """Write the weights of K-Prism with the trunk of TP-Seg, without its adapters; return their file.

    Raises:
        KeyError: the trunks are not alike.
    """
    trained, state = read_checkpoint(tpseg), read_checkpoint(kprism)
    own = "encoder.hiera.trunk."
    state |= {key: trained["encoder.trunk." + key.removeprefix(own)] for key in state if key.startswith(own)}
    start.parent.mkdir(parents=True, exist_ok=True)
    save_weights(start, state, read_info(kprism))
    return start


def train(network: str, stage: Stage, datalist: Path, out: Path, extra: list[str]) -> None:
    """Run one stage unless its folder says that it is done.

    Raises:
        SystemExit: the training failed.
    """
    folder = out / stage.name
    if (folder / "done").is_file():
        return
    options = {**(TPSEG if network == "tpseg" else KPRISM), **stage.options}
    options |= {"datalist": datalist, "dataset_dir": out, "output_dir": folder, "resume": "auto"}
    options |= {"val_interval": options["max_epochs"]}
    if stage.start:
        options["checkpoint"] = out / stage.start / "model.pt"
    if stage.trunk:
        options["checkpoint"] = take_trunk(out / stage.trunk / "model.pt", options["checkpoint"], folder / "start.pt")
    config = ROOT / "bundles" / BUNDLES[network] / "configs" / "train.json"
    words = [sys.executable, "-m", "monai.bundle", "run", "--config_file", str(config)]
    words += [word for key, value in options.items() for word in (f"--{key}", str(value))]
    print("training", stage.name, flush=True)
    ended = subprocess.run([*words, *extra], check=False, env={**os.environ, "OMP_NUM_THREADS": "1"})
    if ended.returncode:
        raise SystemExit(f"{stage.name} failed.")
    (folder / "done").touch()


def main() -> None:
    """Train the stages of a network one after the other."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("network", choices=sorted(STAGES))
    parser.add_argument("--lesions", type=Path, required=True, metavar="LESIONS", help="folder with datalist.json")
    parser.add_argument("--more", type=Path, metavar="MORE", help="a second folder, of which only training is used")
    parser.add_argument("--out", type=Path, required=True, metavar="OUT", help="folder of the stages")
    parser.add_argument(
        "--amp", default="none", choices=("none", "bf16"), help="bf16 only where the processor multiplies in it (none)"
    )
    parser.add_argument("--tried", action="store_true", help="also train the stages that were tried and not shipped")
    arguments, extra = parser.parse_known_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    datalist = join_lists(arguments.lesions, arguments.more, arguments.out.absolute())
    stages = STAGES[arguments.network] + (TRIED[arguments.network] if arguments.tried else ())
    for stage in stages:
        train(arguments.network, stage, datalist, arguments.out.absolute(), ["--amp", arguments.amp, *extra])


if __name__ == "__main__":
    main()
