"""What each option of the recipe gains, and the peers beside it, all with the same data and the same minutes.

Every row gets as many steps as fit into MINUTES of one core of this machine, other work on it aside: a step of each
network is timed first. Rows are compared on a held-out fifth of the training lists alone, so that nothing is chosen on
validation; `--validation` is for the peers, once the recipe is chosen. LESIONS and MORE hold a datalist.json each; of
MORE only the training list is used.

    python -m benchmarks.recipe rows --lesions LESIONS --more MORE --out OUT --minutes 30
    python -m benchmarks.recipe rows --lesions LESIONS --more MORE --out OUT --minutes 30 --encoder mae/encoder.pt
    python -m benchmarks.recipe peers --lesions LESIONS --more MORE --out OUT --minutes 60 --validation

--encoder adds a row: the first one on the trunk of `tpseg pretrain` (--stem patch), fine-tuned with layer-wise rates.

A row that is done is not repeated, an interrupted one is resumed: repeat the command. OUT/suite.yaml is the suite that
was run; `tpseg table` and benchmarks/results_page.py read OUT/results.json.
"""

from __future__ import annotations

import argparse
import json
import time
from functools import cache
from pathlib import Path
from typing import Any

import torch
import yaml

from monai_tpseg.catalogue import TASK_NAMES
from monai_tpseg.experiments import read_suite
from monai_tpseg.experiments.datalist import write_datalist
from monai_tpseg.experiments.runner import run_suite
from monai_tpseg.files import write_atomically
from monai_tpseg.networks.build import default_options
from monai_tpseg.networks.weights_info import WeightsInfo
from monai_tpseg.training.plan import seconds_per_step

ROOT = Path(__file__).resolve().parents[1]
BUNDLE = ROOT / "bundles" / "tpseg_lesion_segmentation"
COMMON: dict[str, Any] = {
    "recipe": "from_scratch",
    "image_size": 128,
    "batch_size": 16,
    "lr": 0.0015,
    "balance": 0.7,
    "num_workers": 0,
    "cache_rate": 0.0,  # in minutes like these a picture is seen once or twice
    "overlay_images": False,
    "progress": False,
    "device": "cpu",
    "backbone": "hiera_mini",
}
BEST: dict[str, Any] = {"stem": "conv", "detail": 16, "ema": 0.998}
ROWS: dict[str, tuple[str, dict[str, Any]]] = {
    "base": ("hiera_mini at 128 pixels", {}),
    "demo": ("smaller trunk (hiera_demo)", {"backbone": "hiera_demo"}),
    "stem": ("convolutional patch embedding", {"stem": "conv"}),
    "detail": ("skip at stride 2", {"detail": 16}),
    "both": ("both", {"stem": "conv", "detail": 16}),
    "ema": ("moving average of the weights", {"ema": 0.998}),
    "balanced": ("every task equally often", {"balance": 1.0}),
    "flips": ("flips alone as augmentation", {"augmentation": "flips"}),
    "px192": ("192 pixels", {"image_size": 192}),
    "px256": ("256 pixels", {"image_size": 256}),
    "all": ("stem, skip and average", BEST),
    "rim": ("labels smoothed near the outline", {"soft_rim": 3}),
    "longer": ("twice as many steps, a cosine twice as long", {}),
    "fewer": ("the pictures of LESIONS alone", {}),
}
LONGER = {"longer": 2}  # factor of the steps
FEWER = ("fewer",)  # rows that train on the pictures of LESIONS alone
FEWER_LIST = "fewer.json"
PEERS: dict[str, tuple[str, dict[str, Any]]] = {
    "TP-Seg": ("TP-Seg", BEST),
    "UNet": ("MONAI UNet", {"architecture": "unet", "width": 24}),
    "DynUNet": ("MONAI DynUNet", {"architecture": "dynunet"}),
    "SAM2-UNet": ("SAM2-UNet on the same trunk", {"adapter": "plain", "decoder": "unet", "stem": "conv", "ema": 0.998}),
}
KINDS = {"rows": ROWS, "peers": PEERS}
_NETWORK = ("architecture", "backbone", "adapter", "decoder", "width", "stem", "detail")
_SLOWER = 1.3  # a step with its augmentation and optimiser, in passes through the network
_EPOCHS = 10


def join_data(lesions: Path, more: Path | None, out: Path, holdout: int = 0) -> Path:
    """Make a folder with one datalist of both training lists and the validation list of `lesions`; return it.

    `fewer.json` beside it has the pictures of `lesions` that remain after `holdout`, for the rows of `FEWER`.
    """
    folder = out / "data"
    folder.mkdir(parents=True, exist_ok=True)
    lists: dict[str, list[dict[str, Any]]] = {"training": [], "validation": []}
    for name, source in (("lesions", lesions), ("more", more)):
        if source is None:
            continue
        link = folder / name
        if not link.is_symlink():
            link.symlink_to(source.absolute(), target_is_directory=True)
        content = json.loads((source / "datalist.json").read_text())
        for section in lists if name == "lesions" else ("training",):
            lists[section] += [
                {**entry, **{key: f"{name}/{entry[key]}" for key in ("image", "label")}} for entry in content[section]
            ]
    write_atomically(folder / "datalist.json", json.dumps(lists).encode())
    write_datalist(folder / "datalist.json", folder / FEWER_LIST, TASK_NAMES, holdout)
    kept = json.loads((folder / FEWER_LIST).read_text())
    kept["training"] = [entry for entry in kept["training"] if entry["image"].startswith("lesions/")]
    write_atomically(folder / FEWER_LIST, json.dumps(kept).encode())
    return folder


def rows_of(kind: str, encoder: str = "") -> dict[str, tuple[str, dict[str, Any]]]:
    """Return title and options of each row of a kind; `encoder`, the file of a pretrained trunk, adds one."""
    if not encoder:
        return KINDS[kind]
    options = {"encoder_checkpoint": encoder, "layer_decay": 0.75}
    return {**KINDS[kind], "pretrained": ("trunk pretrained without labels, layer-wise rates", options)}


def steps_in(minutes: float, options: dict[str, Any]) -> int:
    """Return the steps of a row that fit into so many minutes here; rows of one network have equally many."""
    known = {"architecture", *default_options(options.get("architecture", "tpseg"))}  # a peer has no backbone
    network = {key: options[key] for key in _NETWORK if key in options and key in known}
    seconds = _seconds(json.dumps(network), options["image_size"], options["batch_size"], options["device"])
    return max(_EPOCHS, int(60 * minutes / seconds))


@cache
def _seconds(network: str, size: int, batch: int, device: str) -> float:
    info = WeightsInfo(TASK_NAMES, json.loads(network), (size, size))
    return _SLOWER * min(
        seconds_per_step(info, batch, False, torch.device(device), time.process_time) for _ in range(2)
    )


def make_suite(
    kind: str, minutes: float, holdout: int, data: Path, tiny: dict[str, Any] | None = None, encoder: str = ""
) -> dict[str, Any]:
    """Return the suite, each row with its steps.

    Args:
        kind: "rows" or "peers".
        minutes: of each row.
        holdout: 5 for a fifth of the training list, 0 for the validation list.
        data: folder of `join_data`.
        tiny: options laid over all, for a test.
        encoder: see `rows_of`.
    """
    rows = []
    for name, (title, options) in rows_of(kind, encoder).items():
        whole = {**COMMON, **options, **(tiny or {})}
        steps = LONGER.get(name, 1) * steps_in(minutes, whole)
        cases = max(1, steps // _EPOCHS) * whole["batch_size"]
        length = {"epoch_cases": cases, "max_epochs": _EPOCHS, "val_interval": _EPOCHS}
        fewer = {"datalist": str(data / FEWER_LIST)} if name in FEWER else {}
        rows.append({"id": name, "title": title, "options": {**options, **fewer, **length}})
    title = f"{kind.capitalize()}, {minutes:g} minutes each, " + ("a held-out fifth" if holdout else "validation")
    return {
        "name": f"recipe_{kind}_{minutes:g}",
        "title": title,
        "holdout": holdout,
        "options": {**COMMON, **(tiny or {})},
        "reference": next(iter(KINDS[kind])),
        "rows": rows,
    }


def main() -> None:
    """Run the rows of a kind that are not done yet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=sorted(KINDS))
    parser.add_argument("--lesions", type=Path, required=True, metavar="LESIONS", help="folder with datalist.json")
    parser.add_argument("--more", type=Path, metavar="MORE", help="a second folder, of which only training is used")
    parser.add_argument("--out", type=Path, required=True, metavar="OUT", help="folder of the runs")
    parser.add_argument("--minutes", type=float, default=30, metavar="M", help="of each row (30)")
    parser.add_argument("--encoder", default="", metavar="E", help="encoder.pt of tpseg pretrain: adds a row")
    parser.add_argument("--only", nargs="+", default=[], metavar="ROW", help="run these rows alone")
    parser.add_argument("--validation", action="store_true", help="compare on the validation list")
    arguments = parser.parse_args()
    out = arguments.out
    holdout = 0 if arguments.validation else 5
    data = join_data(arguments.lesions, arguments.more, out, holdout)
    suite = out / "suite.yaml"
    if not suite.is_file():  # a resumed suite keeps the steps that it began with
        made = make_suite(arguments.kind, arguments.minutes, holdout, data, encoder=arguments.encoder)
        write_atomically(suite, yaml.safe_dump(made, sort_keys=False).encode())
    failed = run_suite(read_suite(suite), data, out, BUNDLE, arguments.only)
    if failed:
        raise SystemExit(f"Failed: {', '.join(failed)}; the same command tries them again.")


if __name__ == "__main__":
    main()
