"""Several tasks on one source: its cases go through a run together, read once and segmented with what they share."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import groupby
from typing import TypeVar

from monai_tpseg.studies.case import CaseRunner, Ended
from monai_tpseg.studies.case_plan import Plan
from monai_tpseg.studies.manifest import Entry
from monai_tpseg.studies.reading import Read

__all__ = ["NamedEntry", "finish_group", "group_plans", "of_one_source"]

NamedEntry = tuple[str, Entry]
_Item = TypeVar("_Item")


def of_one_source(cases: Iterable[NamedEntry]) -> list[tuple[NamedEntry, ...]]:
    """Put named entries together that follow each other and are of one source: no shard or worker parts them."""
    return [tuple(group) for _, group in groupby(cases, lambda case: case[1].source_id)]


def group_plans(plans: Iterable[Plan], runner: CaseRunner) -> Iterator[tuple[Plan, ...]]:
    """Put plans together that follow each other and can be segmented as one.

    They are to be read from the same source, and their tasks are of one modality: its pictures are made ready in one
    way. What has ended already, and slides, stay alone. One plan more is looked at than is given.
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


def finish_group(runner: CaseRunner, plans: Sequence[Plan], read: Read | None) -> Iterator[Ended]:
    """Segment the cases of a group at once and write each: they end one by one, whatever becomes of the others.

    Where the network fails for all of them at once, each is tried by itself.

    Args:
        runner: of the run.
        plans: of a group.
        read: what became of their source; None where the group has none.

    Raises:
        StudyError: nothing can be written any more.
    """
    read = read and read._replace(seconds=read.seconds / len(plans))  # each bears its share
    found = runner.segment_tasks(plans, read) if len(plans) > 1 else {}
    for plan in plans:
        yield runner.finish(plan, read, found.pop(plan.name, None))
