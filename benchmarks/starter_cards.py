"""Measures the figures of a weights card on a validation list, and writes them into the card or compares them with it.

Dice of each picture at its own size, the mean a task, then the mean of tasks, in percent. Of K-Prism: by class, after
1, 5 and 10 simulated clicks, with one or three exemplars of the training list, with one of another task; and the share
of clicks that the mask obeys at the clicked pixel. Nothing is drawn but exemplars and clicks, from a fixed seed.

    python -m benchmarks.starter_cards starter-tpseg starter-kprism --lesions DATA           # compare with the cards
    python -m benchmarks.starter_cards starter-tpseg --lesions DATA --write                  # write the figures
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import torch
from monai.transforms import Compose
from torch import Tensor

from monai_tpseg.clicks import next_clicks
from monai_tpseg.data import ExemplarPool, read_datalist
from monai_tpseg.defaults import THRESHOLD
from monai_tpseg.inferers import PromptInferer, TaskInferer
from monai_tpseg.inferers.task_inferer import resize_antialiased
from monai_tpseg.keys import IMAGE, LABEL, TASK
from monai_tpseg.metrics import dice_per_image
from monai_tpseg.networks import KPrism, Prompt, build_described
from monai_tpseg.networks.weights_info import WeightsInfo, read_info
from monai_tpseg.transforms import CropToRegiond, LoadMedicalImaged, NormalizeByModalityd
from monai_tpseg.weights import weights_path
from monai_tpseg.weights.pack import write_card

CLICKS = (1, 5, 10)
TOLERANCE = 0.1  # percentage points of a mean: what other processors round differently


class Read(NamedTuple):
    """A case as the network takes it: image (1, 3, H, W) normalised, label (1, 1, H, W) in {0, 1}, name of its task."""

    image: Tensor
    label: Tensor
    task: str


class Reader:
    """Reads cases of a datalist as training and evaluation do."""

    def __init__(self, info: WeightsInfo) -> None:
        steps = [
            LoadMedicalImaged(IMAGE, label_keys=LABEL),
            CropToRegiond((IMAGE, LABEL)),
            NormalizeByModalityd(modalities=info.modalities),
        ]
        self.transform = Compose(steps)

    def __call__(self, case: Mapping[str, Any]) -> Read:
        """Read one case."""
        read = self.transform(dict(case))
        image, label = (torch.as_tensor(read[key]).as_subclass(Tensor)[None].float() for key in (IMAGE, LABEL))
        return Read(image, label, str(case[TASK]))


def dice(prob: Tensor, label: Tensor) -> float:
    """Return the Dice of one picture; (1, 1, H, W) each."""
    return float(dice_per_image((prob >= THRESHOLD).float(), label)[0])


def table(found: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """Return the mean Dice of each task and their mean, in percent."""
    means = {task: 100 * sum(values) / len(values) for task, values in found.items()}
    return {name: round(value, 2) for name, value in {**means, "mean": sum(means.values()) / len(means)}.items()}


def measure_tpseg(network: Any, info: WeightsInfo, cases: Sequence[Mapping[str, Any]], device: str) -> dict[str, Any]:
    """Return the card's `dice` of a TP-Seg."""
    reader, found = Reader(info), defaultdict[str, list[float]](list)
    inferer = TaskInferer(info.image_size, info.window, device=device)  # type: ignore[arg-type]  # of the description
    for case in shown(cases, "TP-Seg"):
        read = reader(case)
        rows = torch.tensor([info.tasks.index(read.task)])
        found[read.task].append(dice(inferer(read.image, network, task=rows).cpu(), read.label))
    return {"dice": table(found)}


def clicked(
    network: KPrism, read: Read, size: tuple[int, int], device: str, seed: int
) -> tuple[list[float], list[tuple[float, bool]]]:
    """Click ten times, each time where the mask is most wrong.

    Returns:
        the Dice after each click, and of each click its polarity and whether the new mask obeys it.
    """
    truth = resize_antialiased(read.label, size) >= THRESHOLD
    state = network.encode(resize_antialiased(read.image.to(device), size))
    draws = torch.Generator().manual_seed(seed)
    prob, logits, prompt = torch.zeros_like(truth, dtype=torch.float32), None, Prompt()
    values, obeyed = list[float](), list[tuple[float, bool]]()
    for _ in range(max(CLICKS)):
        click = next_clicks(prob >= THRESHOLD, truth, draws)
        row, column, polarity = click[0, 0].tolist()
        if polarity:
            given = click.to(device)
            clicks = given if prompt.clicks is None else torch.cat([prompt.clicks, given], dim=1)
            prompt = Prompt(clicks=clicks, previous_logits=logits)
            logits = network.decode(state, prompt, None).float()
            prob = logits.sigmoid().cpu()
            marked = bool(prob[0, 0, int(row), int(column)] >= THRESHOLD)
            obeyed.append((polarity, marked is (polarity > 0)))
        values.append(dice(resize_antialiased(prob, read.label.shape[-2:]), read.label))
    return values, obeyed


class Exemplars:
    """Encoded-size exemplars of the training list, drawn for each case from a fixed seed."""

    def __init__(self, info: WeightsInfo, training: Sequence[dict[str, Any]]) -> None:
        self.reader, self.size = Reader(info), (info.image_size[0], info.image_size[1])
        self.pools = {number: ExemplarPool(training, number, seed=0) for number in (1, 3)}
        self.tasks = list(dict.fromkeys(case[TASK] for case in training))
        self.training = training
        self._read = cache(self._at)

    def _at(self, number: int) -> tuple[Tensor, Tensor]:
        read = self.reader(self.training[number])
        label = (resize_antialiased(read.label, self.size) >= THRESHOLD).float()
        return resize_antialiased(read.image, self.size), label

    def __call__(self, case: dict[str, Any], index: int, number: int, wrong: bool = False) -> dict[str, Tensor]:
        """Return `number` exemplars of the case's task, or of the next one, as `PromptInferer` takes them."""
        task = self.tasks[(self.tasks.index(case[TASK]) + 1) % len(self.tasks)] if wrong else case[TASK]
        drawn = [self._read(i) for i in self.pools[number].draw({**case, TASK: task}, index)]
        image, label = (torch.cat(parts)[None] for parts in zip(*drawn, strict=True))
        return {"exemplar_image": image, "exemplar_label": label}


def measure_kprism(
    network: KPrism,
    info: WeightsInfo,
    cases: Sequence[dict[str, Any]],
    training: Sequence[dict[str, Any]],
    device: str,
) -> dict[str, Any]:
    """Return the card's `dice` and `measures` of a K-Prism."""
    reader, exemplars = Reader(info), Exemplars(info, training)
    size = (info.image_size[0], info.image_size[1])
    inferer = PromptInferer(size, device=device)
    found: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    obeyed: list[tuple[float, bool]] = []
    for index, case in enumerate(shown(cases, "K-Prism")):
        read = reader(case)
        ways: dict[str, dict[str, Any]] = {
            "class": {"task": torch.tensor([info.tasks.index(read.task)])},
            "1 exemplar": exemplars(case, index, 1),
            "3 exemplars": exemplars(case, index, 3),
            "1 exemplar of another task": exemplars(case, index, 1, wrong=True),
        }
        for way, given in ways.items():
            found[way][read.task].append(dice(inferer(read.image, network, **given).cpu(), read.label))
        values, followed = clicked(network, read, size, device, index)
        obeyed += followed
        for number in CLICKS:
            found[f"{number} click{'s' * (number > 1)}"][read.task].append(values[number - 1])
    order = ["class", "1 click", "5 clicks", "10 clicks", "1 exemplar", "3 exemplars", "1 exemplar of another task"]
    return {"dice": {way: table(found[way]) for way in order}, "measures": obedience(obeyed)}


def obedience(obeyed: Sequence[tuple[float, bool]]) -> dict[str, float]:
    """Return the share of clicks that the mask obeys at the clicked pixel, of all and by polarity, in percent."""
    kinds = {"all": (1.0, -1.0), "positive": (1.0,), "negative": (-1.0,)}
    chosen = {kind: [ok for polarity, ok in obeyed if polarity in signs] for kind, signs in kinds.items()}
    return {f"clicks obeyed, {k}, %": round(100 * sum(v) / len(v), 2) for k, v in chosen.items() if v}


def shown(cases: Sequence[Any], title: str) -> Iterator[Any]:
    """Give `cases` one by one and say how far it is."""
    for number, case in enumerate(cases):
        if number % 50 == 0:
            print(f"{title}: {number} of {len(cases)}", file=sys.stderr, flush=True)
        yield case


def differences(card: Mapping[str, Any], measured: Mapping[str, Any]) -> list[str]:
    """Return what of `measured` the card does not say, or says otherwise, a line each."""
    told, now = _flat({key: card.get(key) or {} for key in measured}), _flat(measured)
    return [
        f"{name}: the card says {told.get(name)}, measured {now.get(name)}"
        for name in sorted(set(told) | set(now))
        if name not in told or name not in now or abs(told[name] - now[name]) > TOLERANCE
    ]


def _flat(content: Mapping[str, Any], before: str = "") -> dict[str, float]:
    flat: dict[str, float] = {}
    for key, value in content.items():
        flat |= _flat(value, f"{before}{key}/") if isinstance(value, Mapping) else {f"{before}{key}": float(value)}
    return flat


@torch.no_grad()
def measure(weights: Path, lesions: Path, device: str, limit: int = 0) -> dict[str, Any]:
    """Return the fields of the card that can be measured.

    Args:
        weights: the file.
        lesions: folder of `datalist.json` with the lists training and validation.
        device: where the network runs.
        limit: cases per task; 0 takes all.
    """
    network, info = build_described(weights), read_info(weights)
    training, cases = (
        read_datalist(lesions / "datalist.json", part, lesions, info.tasks) for part in ("training", "validation")
    )
    if limit:
        cases = [case for task in info.tasks for case in [c for c in cases if c[TASK] == task][:limit]]
    network = network.to(device)
    if isinstance(network, KPrism):
        found = measure_kprism(network, info, cases, training, device)
    else:
        found = measure_tpseg(network, info, cases, device)
    return {**found, "validation": f"{len(cases)} pictures at their own size, mean a task, then of tasks, percent"}


def main() -> None:
    """Measure, then compare or write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", nargs="+", help="names in the catalogue, or files")
    parser.add_argument("--lesions", type=Path, required=True, help="folder that holds datalist.json")
    parser.add_argument("--write", action="store_true", help="write the figures into the cards")
    parser.add_argument("--device", default="cpu", help="where the networks run (%(default)s)")
    args = parser.parse_args()
    wrong = []
    for name in args.weights:
        path = weights_path(name)
        measured = measure(path, args.lesions, args.device)
        print(json.dumps({"weights": path.stem, **measured}, indent=1))
        if args.write:
            write_card(path, measured)
            continue
        text = measured.pop("validation")
        card = json.loads(path.with_suffix(".json").read_text()).get("card", {})
        wrong += [f"{path.stem}: {line}" for line in differences(card, measured)]
        wrong += [f"{path.stem}: validation is '{text}'"] * (card.get("validation") != text)
    if wrong:
        raise SystemExit("\n".join(wrong))
    print("The cards hold." if not args.write else "The cards are written.")


if __name__ == "__main__":
    main()
