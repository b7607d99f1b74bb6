"""Several tasks on one source: its cases are read once and segmented together."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import groupby
from typing import TypeVar

from monai_tpseg.studies.case import CaseOutcome, CaseRunner
from monai_tpseg.studies.case_plan import Plan
from monai_tpseg.studies.manifest import Entry
from monai_tpseg.studies.reading import Read

__all__ = ["NamedEntry", "finish_group", "group_by_source", "group_plans"]

NamedEntry = tuple[str, Entry]
_Item = TypeVar("_Item")


def group_by_source(cases: Iterable[NamedEntry]) -> list[tuple[NamedEntry, ...]]:
    """Group consecutive named entries of one source, so that no shard or worker separates them."""
    return [tuple(group) for _, group in groupby(cases, lambda case: case[1].source_id)]


def group_plans(plans: Iterable[Plan], runner: CaseRunner) -> Iterator[tuple[Plan, ...]]:
    """Group consecutive plans that can be segmented together.

    Plans of a group have the same source and tasks of the same modality, with the same preparation. Plans with a known
    outcome, and slides, form groups of one. The iterator is read one plan ahead.
    """

    def fits(one: Plan, other: Plan) -> bool:
        if one.source is None or one.source != other.source:
            return False
        return runner.model.segmenter.modality(one.entry.task) is runner.model.segmenter.modality(other.entry.task)

    return _runs(plans, fits)


def _runs(items: Iterable[_Item], fits: Callable[[_Item, _Item], bool]) -> Iterator[tuple[_Item, ...]]:
    group: list[_Item] = []
    for item in items:
        if group and not fits(group[-1], item):
            yield tuple(group)
            group = []
        group.append(item)
    if group:
        yield tuple(group)


def finish_group(runner: CaseRunner, plans: Sequence[Plan], read: Read | None) -> Iterator[CaseOutcome]:
    """Segment the cases of a group together and write each, with independent outcomes.

    If the network fails for the group, each case is run separately.

    Args:
        runner: runner of the run.
        plans: plans of a group.
        read: their source as read; None if the group has none.

    Raises:
        StudyError: writing has become impossible.
    """
    read = read and read._replace(seconds=read.seconds / len(plans))  # divided among them
    found = runner.segment_tasks(plans, read) if len(plans) > 1 else {}
    for plan in plans:
        yield runner.finish(plan, read, found.pop(plan.name, None))
