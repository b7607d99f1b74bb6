"""Rules that select the tasks of a series: the first matching rule decides; other series are skipped."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, NamedTuple

from monai_tpseg.parsing import ParseError, read_yaml
from monai_tpseg.words import choose

__all__ = ["CONDITIONS", "Decision", "Rule", "RulesError", "SeriesFacts", "decide", "read_rules"]

CONDITIONS: dict[str, str] = {
    "modality": "Modality",
    "body_part": "BodyPartExamined",
    "series_description": "SeriesDescription",
    "station": "StationName",
    "ae_title": "",
}
"""Condition of a rule -> keyword of the attribute that it is about; the AE title is that of who sent the series."""

_ACTIONS = ("task", "tasks", "ignore")


class RulesError(ValueError):
    """Invalid rule file: one line with the rule and the correction."""


class SeriesFacts(NamedTuple):
    """Properties of a series that rules match.

    Attributes:
        modality, body_part, series_description, station: values of the header, or "".
        ae_title: AE title of the sender.
    """

    modality: str = ""
    body_part: str = ""
    series_description: str = ""
    station: str = ""
    ae_title: str = ""

    @classmethod
    def of(cls, header: Any, ae_title: str) -> SeriesFacts:
        """Return the facts of a series.

        Args:
            header: header of one of its objects.
            ae_title: AE title of the sender.
        """
        read = {name: str(header.get(keyword) or "").strip() for name, keyword in CONDITIONS.items() if keyword}
        return cls(**read, ae_title=ae_title.strip())


class Decision(NamedTuple):
    """Decision on a series.

    Attributes:
        rule: number of the matching rule, from 1; 0 if none matches.
        tasks: tasks to segment; empty if the series is ignored or no rule matches.
        named: whether the rule matches the series description, so that images declared as secondary are included.
    """

    rule: int
    tasks: tuple[str, ...] = ()
    named: bool = False


@dataclass(frozen=True)
class Rule:
    """One rule: all of its conditions must hold.

    Attributes:
        conditions: name in `CONDITIONS` -> patterns, one of which must match; `*` and `?` are wildcards, case is
            ignored.
        tasks: tasks to segment; empty ignores the series.
    """

    conditions: Mapping[str, tuple[str, ...]]
    tasks: tuple[str, ...]

    def fits(self, facts: SeriesFacts) -> bool:
        """Return whether all conditions hold."""
        return all(
            any(fnmatchcase(getattr(facts, name).casefold(), pattern.casefold()) for pattern in patterns)
            for name, patterns in self.conditions.items()
        )


def decide(rules: Sequence[Rule], facts: SeriesFacts) -> Decision:
    """Return the decision of the first matching rule; without one, no task is assigned."""
    for number, rule in enumerate(rules, start=1):
        if rule.fits(facts):
            return Decision(number, rule.tasks, "series_description" in rule.conditions)
    return Decision(0)


def read_rules(path: str | Path, tasks: Collection[str]) -> list[Rule]:
    """Read a rule file.

    Args:
        path: YAML file with a list under `rules`.
        tasks: names of the tasks of the weights.

    Raises:
        RulesError: the file does not exist, is not YAML, or contains an invalid rule.
    """
    try:
        content = read_yaml(path)
    except OSError as error:
        raise RulesError(f"'{path}' cannot be read ({error.strerror}); write the rules there.") from error
    except ParseError as error:
        raise RulesError(f"'{path}' is not YAML ({error}); see docs/pacs.md for an example.") from error
    listed = content.get("rules") if isinstance(content, dict) and set(content) == {"rules"} else None
    if not isinstance(listed, list) or not listed:
        raise RulesError(f"'{path}' must hold one list under 'rules:'; see docs/pacs.md for an example.")
    return [_rule(number, one, tasks) for number, one in enumerate(listed, start=1)]


def _rule(number: int, read: Any, tasks: Collection[str]) -> Rule:
    if not isinstance(read, dict):
        raise RulesError(f"Rule {number} is not a mapping of conditions; write e.g. 'modality: CT'.")
    known = (*CONDITIONS, *_ACTIONS)
    unknown = [str(name) for name in read if name not in known]
    if unknown:
        raise RulesError(f"Rule {number} has an unknown key {unknown[0]!r}; {choose(unknown[0], known)}.")
    conditions = {name: _texts(number, name, read[name]) for name in CONDITIONS if name in read}
    if not conditions:
        raise RulesError(f"Rule {number} has no condition and would match everything; give a modality.")
    actions = [name for name in _ACTIONS if name in read]
    if len(actions) != 1:
        raise RulesError(f"Rule {number} must have one of task, tasks or 'ignore: true', it has {len(actions)}.")
    if actions == ["ignore"]:
        if read["ignore"] is not True:
            raise RulesError(f"Rule {number}: ignore must be true, got {read['ignore']!r}; remove the rule.")
        return Rule(conditions, ())
    named = _texts(number, actions[0], read[actions[0]])
    for task in named:
        if task not in tasks:
            raise RulesError(f"Rule {number}: the weights do not know {task!r}; {choose(task, tasks)}.")
    return Rule(conditions, named)


def _texts(number: int, name: str, value: Any) -> tuple[str, ...]:
    listed = value if isinstance(value, list) else [value]
    if not listed or not all(isinstance(one, str) and one for one in listed):
        raise RulesError(
            f"Rule {number}: {name} must be a string or a list of strings, got {value!r}; put it in quotes."
        )
    return tuple(listed)
