"""What a monitor sends, counted and by formula, and what that means for a large
model: python3 docs/scaling.py [SVG]

Prints the tables of docs/performance.md. With SVG, also counts the traffic of
`gradecho replay` on 2 to 32 ranks, by the test tests/mpi/test_traffic.py (which
needs GRADECHO_BIN and TRAFFIC_LIB), and draws it against the formulas.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

MODES, PARTNERS, REPORT, SKETCH = 16, 8, 14, 256
# A decoder with 70e9 parameters: 80 blocks, their matrices and vectors.
WIDTH, NARROW, WIDE, BLOCKS, WORDS = 8192, 1024, 28672, 80, 32000
MATRICES = BLOCKS * [
    (WIDTH, WIDTH), (NARROW, WIDTH), (NARROW, WIDTH), (WIDTH, WIDTH),
    (WIDE, WIDTH), (WIDE, WIDTH), (WIDTH, WIDE),
] + 2 * [(WORDS, WIDTH)]
LAYERS = len(MATRICES) + 2 * BLOCKS + 1
RANKS, STEP = 1024, 4.1  # seconds: 4 million tokens at 400 Tflop/s a rank
MACHINE = 8  # ranks of one
COPY, NETWORK, MEMORY = 14e9, 50e9, 10e9  # bytes/s of a rank
PASSES = 2 * 2 * 40  # two SVDs of 40 steps, two passes each


def floats(shape: tuple[int, int], modes: int = MODES) -> int:
    """Modes of a layer, as they travel, but for padding."""
    return modes * sum(shape)


def mean(entries: float, ranks: int, machine: int = 1) -> float:
    """Bytes that a rank sends for the mean, with so many ranks to a machine."""
    return (ranks - machine + ranks / machine - 1) / ranks * 4 * entries


def exchange(matrices: list[tuple[int, int]], ranks: int, modes: int = MODES) -> float:
    """Bytes that a rank sends of its modes to partners, but for padding."""
    return min(PARTNERS, ranks - 1) * 4 * sum(floats(m, modes) for m in matrices)


def row(layers: int, measured: int, modes: int = MODES) -> int:
    """Bytes of one replica's row at rank 0."""
    return 8 * (2 + 2 * layers + SKETCH + measured * modes * REPORT)


def predict() -> None:
    entries = sum(m * n for m, n in MATRICES) + (2 * BLOCKS + 1) * WIDTH
    print(f"{entries / 1e9:.1f} billion parameters, {LAYERS} layers, {RANKS} ranks, "
          f"{MACHINE} to a machine")
    print(f"{'parameters a rank':>18} {'gradient':>9} {'copy':>7} {'mean sent':>10} "
          f"{'on the network':>14} | sample.every for 1 %: copy, network")
    for share in (1, 8, 64):
        p = entries / share
        # Ranks with the same shard, and how many of them share a machine.
        alike, near = RANKS // share, max(MACHINE // share, 1)
        copy, sent = 4 * p / COPY, mean(p, alike, near)
        print(f"{p / 1e9:16.1f} B {4 * p / 1e9:6.1f} GB {copy:5.2f} s {sent / 1e9:7.1f} GB "
              f"{sent / NETWORK:12.2f} s | {copy / STEP / 0.01:10.0f} "
              f"{sent / NETWORK / STEP / 0.01:10.0f}")
    print("echo samples of the whole model, by layers.per_sample: mean kept, "
          "one core's time for SVDs, modes sent, rows at rank 0")
    for turn in (len(MATRICES), 64, 16):
        part = turn / len(MATRICES)
        bytes_ = 4 * part * sum(m * n for m, n in MATRICES)
        modes = part * exchange(MATRICES, RANKS)
        rows = RANKS * row(LAYERS, turn)
        print(f"{turn:5} of {len(MATRICES)}: {bytes_ / 1e9:6.1f} GB "
              f"{PASSES * bytes_ / MEMORY:7.0f} s {modes / 1e9:6.2f} GB {rows / 1e6:7.0f} MB")


def draw(out: str) -> None:
    import matplotlib

    matplotlib.use("svg")
    import matplotlib.pyplot as plt

    sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests/mpi"))
    import test_traffic as test

    with tempfile.TemporaryDirectory() as folder:
        counted = {r: test.traffic(Path(folder), r) for r in test.RANKS}
        near = {r: test.traffic(Path(folder), r, machine=4) for r in (8, 16, 32)}
    curves = {
        "mean": lambda r: test.SAMPLES * mean(test.entries(), r),
        "shift": lambda r: test.ECHOES * exchange(test.matrices(), r, test.MODES),
        "gather": lambda _: test.SAMPLES * row(3, 0)
        + test.ECHOES * (row(3, 2, test.MODES) - row(3, 0)),
    }
    names = {"mean": "mean of the gradient", "shift": "modes to partners",
             "gather": "row to rank 0"}
    plt.rcParams.update({"svg.hashsalt": "gradecho", "font.size": 10, "svg.fonttype": "none"})
    figure, axis = plt.subplots(figsize=(6.2, 3.4), layout="constrained")
    for (kind, formula), colour in zip(curves.items(), ("#0b6e99", "#b5523b", "#5a7d2a")):
        axis.plot(test.RANKS, [formula(r) / 1e3 for r in test.RANKS], color=colour)
        axis.plot(test.RANKS, [counted[r][1][kind].bytes / 1e3 for r in test.RANKS], "o",
                  color=colour, label=names[kind])
    axis.plot([*near], [test.SAMPLES * mean(test.entries(), r, 4) / 1e3 for r in near],
              color="#7a5c99")
    axis.plot([*near], [near[r][1]["mean"].bytes / 1e3 for r in near], "o", color="#7a5c99",
              label="mean, 4 ranks to a machine")
    axis.set(xscale="log", yscale="log", xlabel="ranks", ylabel="kB sent by a rank",
             title="Counted (points) and by formula (lines)", ylim=(5, 500))
    axis.set_xticks(test.RANKS, [str(r) for r in test.RANKS])
    axis.minorticks_off()
    axis.legend(frameon=False, loc="upper left")
    for side in ("top", "right"):
        axis.spines[side].set_visible(False)
    figure.savefig(out, metadata={"Date": None})


if __name__ == "__main__":
    predict()
    if len(sys.argv) > 1:
        draw(sys.argv[1])
