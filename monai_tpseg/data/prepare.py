"""From a data set as it was downloaded to a datalist: pairs found, read, checked, divided and counted."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

from tqdm.auto import tqdm

from monai_tpseg.data.facts import CaseFacts, default_workers, inspect_cases
from monai_tpseg.data.findings import TRAINING, VALIDATION
from monai_tpseg.data.layouts import DatasetContent, Layout, LayoutError, Pair
from monai_tpseg.data.splits import deal_folds, draw_validation, group_by_keys
from monai_tpseg.data.summary import LeftOut, Placed, Summary
from monai_tpseg.files import write_atomically
from monai_tpseg.io import ReadError
from monai_tpseg.keys import IMAGE, LABEL, PATIENT, TASK
from monai_tpseg.words import count

__all__ = ["Options", "SplitChoice", "prepare", "relative_to"]

SplitChoice = Literal["paper", "official", "seeded"]
TESTING = "testing"


@dataclass(frozen=True)
class Options:
    """Options for dividing a data set.

    Args:
        split: `paper`, the layout's own rule; `official`, the published split; `seeded`, a draw of the paper's sizes.
        seed: random seed.
        val_share: part of the pictures for validation where the layout has no sizes, in (0, 1).
        folds: 0, or the number of folds of a cross-validation.
        fold: the fold that validates, 1 to `folds`; 0 writes a list for each.
        with_empty: keep pictures without lesion; None does as the paper's sizes do.
        drop_duplicates: leave out of training what has the pixels of a validation picture.
        workers: processes that read, default one per core.
        progress: draw bars.

    Raises:
        ValueError: a number is out of its range.
    """

    split: SplitChoice = "paper"
    seed: int = 0
    val_share: float = 0.2
    folds: int = 0
    fold: int = 0
    with_empty: bool | None = None
    drop_duplicates: bool = False
    workers: int | None = None
    progress: bool = False

    def __post_init__(self) -> None:
        if not 0 < self.val_share < 1:
            raise ValueError(f"val_share must be above 0 and below 1, got {self.val_share}.")
        if self.folds == 1 or self.folds < 0 or not 0 <= self.fold <= self.folds:
            raise ValueError(f"fold must be from 1 to folds, and folds 2 or more, got {self.fold} of {self.folds}.")
        if self.workers is not None and self.workers < 0:
            raise ValueError(f"workers must be 0 or more processes, got {self.workers}.")


class _Read(NamedTuple):
    pair: Pair
    facts: CaseFacts


def prepare(layout: Layout, source: Path, out: Path, options: Options) -> list[Summary]:
    """Write the datalist of a data set, or one for each fold as `OUT_fold1.json`, and return what went into it.

    Pictures and masks that serve as they are stay where they are; what must be converted is written into the folder
    `LAYOUT_prepared` beside the list. Paths are relative to the folder of the list.

    Args:
        layout: layout of the data set.
        source: folder that it was unpacked into.
        out: the JSON file to write.
        options: options for dividing it.

    Raises:
        LayoutError: the tree is laid out otherwise, or cannot be divided as asked.
    """
    if not source.is_dir():
        way_out = (
            "check the path" if layout.name == "folders" else f"name the one that {layout.title} was unpacked into"
        )
        raise LayoutError(f"No folder at '{source}'; {way_out}.")
    files = out.parent / f"{layout.name}_prepared"
    if source.resolve().is_relative_to(files.resolve()):
        raise LayoutError(f"'{source}' is the folder for converted files; write the list elsewhere with --out.")
    found = layout.find(source)
    pairs, left_out = _pairs(found, files, options.progress)
    workers = default_workers() if options.workers is None else options.workers
    facts = inspect_cases([(str(p.image), str(p.label)) for p in pairs], workers, options.progress, "checking")
    kept = _usable(layout, [_Read(*one) for one in zip(pairs, facts, strict=True)], options, left_out)
    if not kept:
        raise LayoutError(f"No usable pair of picture and mask in '{source}'.")
    folds = [options.fold] if options.fold or not options.folds else range(1, options.folds + 1)
    summaries = []
    for fold in folds:
        path = out if len(folds) == 1 else out.with_name(f"{out.stem}_fold{fold}{out.suffix}")
        sections, rule = _folded(layout, kept, options, fold) if fold else _divided(layout, kept, options)
        placed = [Placed(r.pair, r.facts, section) for r, section in zip(kept, sections, strict=True)]
        summary = Summary(layout, rule, placed, left_out, [*found.unpaired], [*layout.remarks, *found.remarks])
        if options.drop_duplicates:
            summary = summary.without_duplicates()
        _write(summary, path)
        summaries.append(summary)
    return summaries


def relative_to(folder: Path, path: str | os.PathLike[str]) -> str:
    """Return `path` as it is written into a list in `folder`, with forward slashes."""
    return Path(os.path.relpath(path, folder)).as_posix()


def _pairs(found: DatasetContent, files: Path, progress: bool) -> tuple[list[Pair], list[LeftOut]]:
    pairs: list[Pair] = []
    left_out: list[LeftOut] = []
    shown = progress and sys.stderr.isatty()
    for source in tqdm(found.sources, desc="reading", unit="source", disable=not shown):
        try:
            pairs += source.read(files)
        except ReadError as error:
            left_out.append(LeftOut(source.name, error.code, error.message))
    return pairs, left_out


def _usable(layout: Layout, read: Sequence[_Read], options: Options, left_out: list[LeftOut]) -> list[_Read]:
    """Return what can be trained on; the rest goes to `left_out`."""
    with_empty = layout.with_empty if options.with_empty is None else options.with_empty
    kept = []
    for one in read:
        if one.facts.code:
            left_out.append(LeftOut(one.pair.name, one.facts.code, one.facts.message))
        elif one.facts.lesion == 0 and not with_empty:
            left_out.append(LeftOut(one.pair.name, "empty", "no lesion in the mask; --with-empty keeps it"))
        else:
            kept.append(one)
    return kept


def _divided(layout: Layout, read: Sequence[_Read], options: Options) -> tuple[list[str], str]:
    """Return the list of every picture, and the rule in words."""
    official = options.split == "official" or (options.split == "paper" and layout.paper_split == "official")
    if options.split == "official" and not any(r.pair.section for r in read):
        raise LayoutError(f"{layout.title} has no published split in this tree; use --split seeded.")
    sections = [r.pair.section if official or not _drawable(layout, r.pair) else "" for r in read]
    drawn = sections.count("")
    for name in {r.pair.set for r, section in zip(read, sections, strict=True) if not section}:
        numbers = [n for n, section in enumerate(sections) if not section and read[n].pair.set == name]
        validation = _draw([read[n] for n in numbers], _share(layout.sets[name], options.val_share), options.seed)
        for position, number in enumerate(numbers):
            sections[number] = VALIDATION if position in validation else TRAINING
    rules = [f"as published: {count(len(sections) - drawn, 'picture')}"] if len(sections) > drawn else []
    rules += [
        f"drawn by us with seed {options.seed}, patients and equal pictures together: {count(drawn, 'picture')}"
    ] * (drawn > 0)
    return sections, "; ".join(rules)


def _drawable(layout: Layout, pair: Pair) -> bool:
    training, validation = layout.sets[pair.set]
    return pair.section != TESTING and bool(training) == bool(validation)


def _share(sizes: tuple[int, int], default: float) -> float:
    return sizes[1] / sum(sizes) if sum(sizes) else default


def _draw(read: Sequence[_Read], share: float, seed: int) -> set[int]:
    names = [r.pair.name for r in read]
    return draw_validation(group_by_keys([_keys(r) for r in read]), names, round(share * len(read)), seed)


def _keys(one: _Read) -> list[str]:
    patient = [f"patient {one.pair.patient}"] if one.pair.patient else []
    return [*patient, f"pixels {one.facts.image_hash}"]


def _folded(layout: Layout, read: Sequence[_Read], options: Options, fold: int) -> tuple[list[str], str]:
    """Return the list of every picture for one fold; what is held out by its owners stays out, as `testing`."""
    pool = [n for n, r in enumerate(read) if _drawable(layout, r.pair)]
    if not pool:
        raise LayoutError(f"{layout.title} has fixed lists, which cannot be divided into folds.")
    published = {read[n].pair.fold for n in pool} == set(range(1, options.folds + 1))
    if published:
        numbers = [read[n].pair.fold for n in pool]
        rule = f"fold {fold} of {options.folds} as published"
    else:
        groups = group_by_keys([_keys(read[n]) for n in pool])
        numbers = deal_folds(groups, [read[n].pair.name for n in pool], options.folds, options.seed)
        rule = f"fold {fold} of {options.folds}, ours with seed {options.seed}, patients and equal pictures together"
    sections = [TESTING] * len(read)
    for number, of_case in zip(pool, numbers, strict=True):
        sections[number] = VALIDATION if of_case == fold else TRAINING
    return sections, rule


def _write(summary: Summary, path: Path) -> None:
    lists: dict[str, list[Mapping[str, Any]]] = {TRAINING: [], VALIDATION: []}
    for one in sorted(summary.placed, key=lambda placed: placed.pair.name):
        entry = {
            IMAGE: relative_to(path.parent, one.pair.image),
            LABEL: relative_to(path.parent, one.pair.label),
            TASK: summary.layout.task,
        }
        if one.pair.patient:
            entry[PATIENT] = f"{summary.layout.name}/{one.pair.patient}"
        lists.setdefault(one.section, []).append(entry)
    head = {"name": summary.layout.title, "split": summary.rule}
    write_atomically(path, (json.dumps({**head, **lists}, indent=1) + "\n").encode())
