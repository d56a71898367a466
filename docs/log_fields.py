"""The field table of docs/log-format.md, from the schema itself.

    python3 docs/log_fields.py            print the table
    python3 docs/log_fields.py --check    is the page up to date?
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "log-format.md"
MARK = "## Fields\n"
SHAPES = {
    "GE_PER_STEP": "step",
    "GE_PER_PAIR": "step, pair",
    "GE_PER_LAYER": "step, layer",
    "GE_PER_MODE": "step, layer, mode",
    "GE_PER_REPLICA": "step, layer, replica",
}
TYPES = {"GE_I64": "int64", "GE_F64": "float64", "GE_F32": "float32"}
TEXT = r'((?:"[^"]*"\s*)+)'
FIELD = re.compile(rf'X\(\w+,\s*{TEXT},\s*(\w+),\s*(\w+),\s*{TEXT},\s*{TEXT}\)')


def joined(literals: str) -> str:
    """Adjacent C string literals as one text."""
    return "".join(re.findall(r'"([^"]*)"', literals))


def table() -> str:
    schema = (ROOT / "src/log/schema.h").read_text().replace("\\\n", "")
    lines = [
        "| dataset | shape | type | unit | meaning |",
        "|---|---|---|---|---|",
        "| `/step` | [step] | int64 | 1 | training step; written last: the commit mark |",
    ]
    for name, shape, stored, units, text in FIELD.findall(schema):
        lines.append(
            f"| `/{joined(name)}` | [{SHAPES[shape]}] | {TYPES[stored]} "
            f"| {joined(units)} | {joined(text)} |"
        )
    return "\n".join(lines) + "\n"


def main() -> int:
    if "--check" not in sys.argv[1:]:
        print(table(), end="")
        return 0
    current = PAGE.read_text().partition(MARK)[2]
    if current == table():
        print(f"{PAGE.name}: {current.count(chr(10)) - 2} fields, up to date")
        return 0
    print(f"{PAGE.name}: differs from src/log/schema.h; put the output of "
          "docs/log_fields.py behind '## Fields'")
    return 1


if __name__ == "__main__":
    sys.exit(main())
