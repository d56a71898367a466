"""Draw measured echoes against the isotropic law: python3 docs/echo.py LOG SVG

One panel per layer with signal modes; all echo samples of the log.
"""

from __future__ import annotations

import sys

import h5py
import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt  # noqa: E402 (the backend is chosen first)
import numpy as np  # noqa: E402

INK, POINT, LAW = "#333333", "#0b6e99", "#b5523b"


def exact(y: np.ndarray, gamma: float) -> np.ndarray:
    """Echo by the exact law, from the observed axis (docs/theory.md, 5)."""
    t = np.maximum(y**2 - 1 - gamma, 2 * np.sqrt(gamma))
    x4 = ((t + np.sqrt(t**2 - 4 * gamma)) / 2) ** 2
    x2 = np.sqrt(x4)
    return (x4 - gamma) / np.sqrt((x4 + gamma * x2) * (x4 + x2))


def main(path: str, out: str) -> None:
    plt.rcParams.update({"svg.hashsalt": "gradecho", "font.size": 10,
                         "axes.edgecolor": INK, "text.color": INK,
                         "axes.spines.top": False, "axes.spines.right": False})
    with h5py.File(path, "r", swmr=True) as log:
        n = len(log["step"])
        names = [name.decode() for name in log["layer"][:]]
        rows, cols = log["rows"][:], log["cols"][:]
        data = {k: log[k][:n] for k in
                ("echo", "echo_se", "s_replica", "sigma2", "edge", "mode_t")}
    shown = [i for i in range(len(names)) if min(rows[i], cols[i]) >= 64]
    figure, axes = plt.subplots(1, len(shown), sharey=True,
                                figsize=(3.1 * len(shown), 3.5))
    for axis, i in zip(np.atleast_1d(axes), shown):
        ratio = data["s_replica"][:, i] / data["edge"][:, i, None]
        signal = data["mode_t"][:, i] > 5
        echo = data["echo"][:, i]
        axis.errorbar(ratio[signal], echo[signal], yerr=data["echo_se"][:, i][signal],
                      fmt="o", ms=4, lw=0.6, color=POINT, alpha=0.55, mec="none",
                      label="measured, one mode")
        top = np.nanmax(ratio[signal]) * 1.1 if signal.any() else 3.0
        x = np.linspace(1, max(top, 1.5), 300)
        gamma = rows[i] / cols[i]
        axis.plot(x, exact(x * (1 + np.sqrt(gamma)), gamma), color=LAW, lw=1.5,
                  label="isotropic noise, exact law")
        axis.set(title=f"{names[i]}\n{rows[i]} x {cols[i]}", xscale="log",
                 ylim=(0, 1.02), xlabel="observed singular value / knee")
        axis.title.set_fontsize(10)
        axis.xaxis.set_major_formatter("{x:g}")
        axis.xaxis.set_minor_formatter("")
        axis.grid(alpha=0.2, lw=0.5)
    np.atleast_1d(axes)[0].set_ylabel("spectral echo")
    handles, labels = np.atleast_1d(axes)[0].get_legend_handles_labels()
    figure.tight_layout(rect=(0, 0, 1, 0.92))
    figure.legend(handles, labels, loc="upper center", ncols=2, frameon=False)
    figure.savefig(out, metadata={"Date": None})


if __name__ == "__main__":
    main(*sys.argv[1:3])
