"""Summary of a datalist beside Table 1 of the paper: included and excluded pictures."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from monai_tpseg.data.facts import CaseFacts
from monai_tpseg.data.findings import TRAINING, VALIDATION
from monai_tpseg.data.layouts import Layout, Pair

__all__ = ["LeftOut", "Placed", "Summary"]

_SHOWN = 10  # names of one reason


class Placed(NamedTuple):
    """A pair, its facts and the list that it goes to."""

    pair: Pair
    facts: CaseFacts
    section: str


class LeftOut(NamedTuple):
    """A pair that is in no list: its name, a code and the reason."""

    name: str
    code: str
    message: str


@dataclass(frozen=True)
class Summary:
    """Result of `prepare`.

    Args:
        layout: layout of the data set.
        rule: rule of the split, in words.
        placed: all that is in a list.
        left_out: all that is not.
        unpaired: pictures without mask, masks without picture.
        remarks: about the data set and this copy of it.
    """

    layout: Layout
    rule: str
    placed: Sequence[Placed]
    left_out: Sequence[LeftOut]
    unpaired: Sequence[str]
    remarks: Sequence[str]

    @property
    def status(self) -> int:
        """The exit status of `tpseg prepare`: 3 if anything is damaged, unpaired or in two lists, else 0."""
        damaged = any(one.code != "empty" for one in self.left_out)
        return 3 if damaged or self.unpaired or self._shared_pixels() or self._shared_patients() else 0

    def without_duplicates(self) -> Summary:
        """Return the summary without the training pictures that have the pixels of a validation picture."""
        shared = self._shared_pixels()
        gone = [p for p in self.placed if p.section == TRAINING and p.facts.image_hash in shared]
        reasons = [LeftOut(p.pair.name, "duplicate", "the same pixels are in validation") for p in gone]
        placed = [p for p in self.placed if p not in gone]
        return replace(self, placed=placed, left_out=[*self.left_out, *reasons])

    def markdown(self) -> str:
        """Return the summary as Markdown."""
        lines = [f"# {self.layout.title}: {self.layout.task}", "", *self._table(), "", f"Split: {self.rule}."]
        lines += [f"{remark}" for remark in self.remarks]
        return "\n".join([*lines, "", *self._problems()]).rstrip()

    def _table(self) -> Iterator[str]:
        yield "| | training | validation | testing |"
        yield "|---|---|---|---|"
        sets = {one.pair.set for one in self.placed} | set(self.layout.sets)
        for name in sorted(sets) if len(sets) > 1 else ():
            yield self._row(name, [one for one in self.placed if one.pair.set == name])
        yield self._row("in the list", self.placed)
        if any(self.layout.counts):
            training, validation = self.layout.counts
            found = self._counts(self.placed)
            yield f"| the paper's Table 1 | {training} | {validation} | |"
            yield f"| difference | {found[TRAINING] - training:+d} | {found[VALIDATION] - validation:+d} | |"
        yield self._row("without lesion", [one for one in self.placed if one.facts.lesion == 0])
        patients = {(one.section, one.pair.patient): one for one in self.placed if one.pair.patient}
        yield self._row("patients", list(patients.values())) if patients else "| patients | unknown | unknown | |"

    def _row(self, name: str, placed: Sequence[Placed]) -> str:
        counts = self._counts(placed)
        return f"| {name} | {counts[TRAINING]} | {counts[VALIDATION]} | {counts['testing'] or ''} |"

    def _counts(self, placed: Sequence[Placed]) -> Counter[str]:
        return Counter(one.section for one in placed)

    def _problems(self) -> Iterator[str]:
        shared, patients = self._shared_pixels(), self._shared_patients()
        if shared:
            names = sorted(p.pair.name for p in self.placed if p.section == VALIDATION and p.facts.image_hash in shared)
            yield f"In training and validation, the same pixels: {_some(names)}; --drop-duplicates takes them out."
        if patients:
            yield f"In training and validation, the same patients: {_some(sorted(patients))}."
        repeated = self._repeated()
        if repeated:
            yield f"The same pixels twice in one list: {_some(repeated)}."
        if self.unpaired:
            yield f"Without partner, left out: {_some(self.unpaired)}."
        for code, ones in self._reasons().items():
            yield f"Left out [{code}]: {_some([one.name for one in ones])}. E.g. {ones[0].message}"

    def _reasons(self) -> dict[str, list[LeftOut]]:
        reasons: dict[str, list[LeftOut]] = defaultdict(list)
        for one in self.left_out:
            reasons[one.code].append(one)
        return reasons

    def _shared_pixels(self) -> set[str]:
        return self._of(TRAINING, "image_hash") & self._of(VALIDATION, "image_hash")

    def _shared_patients(self) -> set[str]:
        named = [{p.pair.patient for p in self.placed if p.section == name} - {""} for name in (TRAINING, VALIDATION)]
        return named[0] & named[1]

    def _of(self, section: str, fact: str) -> set[str]:
        return {str(getattr(p.facts, fact)) for p in self.placed if p.section == section}

    def _repeated(self) -> list[str]:
        first: set[tuple[str, str]] = set()
        names = []
        for one in self.placed:
            key = (one.section, one.facts.image_hash)
            if key in first:
                names.append(one.pair.name)
            first.add(key)
        return names


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(names[:_SHOWN])
    return f"{len(names)} ({shown}{', ...' if len(names) > _SHOWN else ''})"
