"""What a series is segmented for: the first rule that fits decides, and what fits none is left alone."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, NamedTuple

from monai_tpseg.parsing import ParseError, read_yaml

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
    """A rule file that cannot be used: one line that says which rule, and the way out."""


class SeriesFacts(NamedTuple):
    """What rules go by.

    Attributes:
        modality, body_part, series_description, station: of the header, empty where it does not say.
        ae_title: of who sent the series.
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
            header: of one of its objects.
            ae_title: of who sent it.
        """
        read = {name: str(header.get(keyword) or "").strip() for name, keyword in CONDITIONS.items() if keyword}
        return cls(**read, ae_title=ae_title.strip())


class Decision(NamedTuple):
    """What becomes of a series.

    Attributes:
        rule: number of the rule that fits, from 1; 0 where none does.
        tasks: to segment it for; none where it is to be ignored or no rule fits.
        named: the rule goes by the series description, so that images which call themselves an aside are meant too.
    """

    rule: int
    tasks: tuple[str, ...] = ()
    named: bool = False


@dataclass(frozen=True)
class Rule:
    """One rule: all of its conditions must hold.

    Attributes:
        conditions: name in `CONDITIONS` -> patterns of which one must fit; `*` and `?` stand for any text, case does
            not matter.
        tasks: to segment for; none to ignore.
    """

    conditions: Mapping[str, tuple[str, ...]]
    tasks: tuple[str, ...]

    def fits(self, facts: SeriesFacts) -> bool:
        """Say whether all conditions hold."""
        return all(
            any(fnmatchcase(getattr(facts, name).casefold(), pattern.casefold()) for pattern in patterns)
            for name, patterns in self.conditions.items()
        )


def decide(rules: Sequence[Rule], facts: SeriesFacts) -> Decision:
    """Return what the first rule that fits says; nothing is guessed where none does."""
    for number, rule in enumerate(rules, start=1):
        if rule.fits(facts):
            return Decision(number, rule.tasks, "series_description" in rule.conditions)
    return Decision(0)


def read_rules(path: str | Path, tasks: Collection[str]) -> list[Rule]:
    """Read a rule file.

    Args:
        path: YAML with a list under `rules`.
        tasks: names that the weights know.

    Raises:
        RulesError: no such file, no YAML, or a rule that cannot be used.
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
        raise RulesError(f"Rule {number} has an unknown key {unknown[0]!r}; choose from {', '.join(known)}.")
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
            raise RulesError(f"Rule {number}: the weights do not know {task!r}; choose one of {', '.join(tasks)}.")
    return Rule(conditions, named)


def _texts(number: int, name: str, value: Any) -> tuple[str, ...]:
    listed = value if isinstance(value, list) else [value]
    if not listed or not all(isinstance(one, str) and one for one in listed):
        raise RulesError(
            f"Rule {number}: {name} must be a string or a list of strings, got {value!r}; put it in quotes."
        )
    return tuple(listed)
