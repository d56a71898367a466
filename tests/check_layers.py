"""Third-party headers stay in the layer that owns them.

CMake's include paths keep the project's own layers apart (cmake/Layers.cmake);
system-wide headers are on every path, so they are checked here.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

OWNERS = {
    "mpi.h": ["comm"],
    "hdf5.h": ["log"],
    "hdf5_hl.h": ["log"],
    "cblas.h": ["spectral"],
    "lapacke.h": ["spectral"],
    "yaml.h": ["monitor"],
    "jansson.h": ["cli"],
    "argp.h": ["cli"],
    "ncurses.h": ["cli"],
    "sys/mman.h": ["core", "handoff", "comm"],
}


def main(root: Path) -> int:
    files = sorted(root.glob("src/*/*.[ch]"))
    wrong = [
        f"{file.relative_to(root)}: {header} belongs to src/{', src/'.join(OWNERS[header])}"
        for file in files
        for header in re.findall(r'#\s*include\s*[<"]([^>"]+)[>"]', file.read_text())
        if header in OWNERS and file.parent.name not in OWNERS[header]
    ]
    print(*wrong, f"{len(files)} files, {len(wrong)} out of their layer", sep="\n")
    return 1 if wrong or not files else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
