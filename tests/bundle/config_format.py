"""The one way that the bundles' JSON is written: `python -m tests.bundle.config_format` rewrites the configs.

An object or list stands on one line if it fits. If not, and all its entries would fit on lines of their own, they fill
lines; else it has a line or more for each entry. The top level and lists of objects always have a line for each entry.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

WIDTH = 120
CONFIGS = sorted((Path(__file__).resolve().parents[2] / "bundles").glob("*/configs/*.json"))


def formatted(config: dict[str, Any]) -> str:
    """Return a config as text."""
    return _lines(config, 0, 0, top=True) + "\n"


def _lines(value: Any, indent: int, column: int, top: bool = False) -> str:
    """`value` from `column` on, where its container is indented by `indent`."""
    text = json.dumps(value, ensure_ascii=False)
    if not isinstance(value, dict | list) or (not top and column + len(text) < WIDTH):
        return text
    pad, brackets = " " * (indent + 4), text[0] + text[-1]
    keyed = (
        [(f"{json.dumps(k)}: ", v) for k, v in value.items()] if isinstance(value, dict) else [("", v) for v in value]
    )
    entries = [key + json.dumps(v, ensure_ascii=False) for key, v in keyed]
    objects = isinstance(value, list) and any(isinstance(v, dict | list) for v in value)
    if top or objects or any(len(pad) + len(entry) >= WIDTH for entry in entries):
        body = ",\n".join(pad + key + _lines(v, indent + 4, indent + 4 + len(key)) for key, v in keyed)
    else:
        body = _filled(entries, pad)
    return f"{brackets[0]}\n{body}\n{' ' * indent}{brackets[1]}"


def _filled(entries: list[str], pad: str) -> str:
    lines = [pad + entries[0]]
    for entry in entries[1:]:
        lines[-1] += ","
        if len(lines[-1]) + len(entry) + 2 <= WIDTH:
            lines[-1] += " " + entry
        else:
            lines.append(pad + entry)
    return "\n".join(lines)


if __name__ == "__main__":
    for path in CONFIGS:
        path.write_text(formatted(json.loads(path.read_text(encoding="utf-8"))), encoding="utf-8")
