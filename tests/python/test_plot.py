"""gradecho.plot: what the pictures show is what the log holds; the report is
one page that needs nothing else. Run by ctest, which sets GRADECHO_BIN."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from reader_support import HERE, PACKAGE, plant

pytest.importorskip("matplotlib", reason="matplotlib is not installed")

import h5py
from matplotlib.axes import Axes
from matplotlib.figure import Figure

import gradecho
from gradecho import _health, _plot_layers, _plot_scale, plot
from gradecho.reader import Log

sys.path[:0] = [str(HERE.parent / "e2e")]
import reference  # noqa: E402

NAMES = ["fc1.weight", "fc2.weight", "fc2.bias"]


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Log]:
    path = tmp_path / "log.h5"
    plant(path, NAMES)
    with gradecho.open_log(path) as log:
        yield log


@pytest.fixture(scope="module")
def replayed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Log]:
    """A log of the program itself: clear modes in noise."""
    folder = tmp_path_factory.mktemp("replayed")
    rng = np.random.default_rng(3)
    with h5py.File(folder / "gradients.h5", "w") as file:
        file.attrs["batch_size"] = 32.0
        for name, rows, cols in (("wide", 30, 80), ("tall", 70, 20)):
            edge = np.sqrt(rows) + np.sqrt(cols)
            truth, _, _ = reference.planted(
                rng, rows, cols, edge * np.geomspace(4, 0.7, 6)
            )
            noise = rng.standard_normal((3, 4, rows, cols))
            file[f"gradients/{name}"] = (truth + noise).astype("f4")
    command = [os.environ["GRADECHO_BIN"], "replay", str(folder / "gradients.h5"),
               "--log", str(folder / "log.h5"), "--set", "sample.echo_every=1",
               "--set", "layers.max_modes=6"]  # fmt: skip
    subprocess.run(command, check=True, capture_output=True)
    with gradecho.open_log(folder / "log.h5") as log:
        yield log


def lines(axis: Axes, label: str) -> np.ndarray:
    """What was drawn under this label: [point, 2]."""
    handles, labels = axis.get_legend_handles_labels()
    assert label in labels, labels
    handle = handles[labels.index(label)]
    line = handle.lines[0] if hasattr(handle, "lines") else handle
    return np.asarray(line.get_xydata())


# ---- echo_curve ----


def test_echoes_are_those_of_the_log(log: Log) -> None:
    axis = plot.echo_curve(log, "fc2.weight", step=60).axes[0]
    seen, echo = log.read("s_replica", 6, 1), log.read("echo", 6, 1)
    count = int(log.read("signal_modes", 6, 1))
    signal = np.argsort(-log.read("mode_t", 6, 1))[:count]
    points = [
        lines(axis, label)
        for label in ("measured, signal", "measured, may be noise")
        if label in axis.get_legend_handles_labels()[1]
    ]
    drawn = np.concatenate(points)
    both = np.stack([seen, echo], axis=1)
    np.testing.assert_array_equal(
        drawn[drawn[:, 0].argsort()], both[both[:, 0].argsort()]
    )
    assert 0 < count < len(seen) and len(points[0]) == count
    np.testing.assert_array_equal(np.sort(points[0][:, 1]), np.sort(echo[signal]))
    np.testing.assert_array_equal(
        lines(axis, "mode law, noise along the mode")[:, 1], log.read("echo_mode", 6, 1)
    )
    bars = np.concatenate(
        [
            np.diff(np.array(container[2][0].get_segments())[:, :, 1])[:, 0] / 2
            for container in axis.containers
        ]
    )
    np.testing.assert_allclose(np.sort(bars), np.sort(log.read("echo_se", 6, 1)))


def test_the_knee_is_marked(log: Log) -> None:
    axis = plot.echo_curve(log, 0).axes[0]
    row = int(log.echo_rows()[-1])
    knee = np.sqrt(log.read("tau2_edge", row, 0))
    upright = [
        line.get_xdata()[0] for line in axis.lines if len(set(line.get_xdata())) == 1
        and len(line.get_xdata()) == 2
    ]  # fmt: skip
    assert knee in upright
    assert any(text.get_text().startswith("knee ") for text in axis.texts)
    assert axis.get_xscale() == "log"


@pytest.mark.parametrize("layer", ["wide", "tall"])
def test_the_curves_go_through_what_the_program_says(replayed: Log, layer: str) -> None:
    axis = plot.echo_curve(replayed, layer).axes[0]
    row = len(replayed) - 1
    seen = replayed.read("s_replica", row, layer)
    above = seen > 1.02 * replayed.read("edge", row, layer)
    assert above.sum() >= 3
    for field, label in (
        ("echo_hill", "hill law, isotropic noise"),
        ("echo_exact", "exact law, isotropic noise"),
    ):
        curve = lines(axis, label)
        value = np.interp(seen, curve[:, 0], curve[:, 1])
        np.testing.assert_allclose(
            value[above], replayed.read(field, row, layer)[above], atol=2e-3
        )


def test_layers_without_echoes_are_told(log: Log) -> None:
    with pytest.raises(gradecho.GradechoError, match=r"layer fc2\.bias has no echoes"):
        plot.echo_curve(log, "fc2.bias")
    with pytest.raises(gradecho.GradechoError, match="no echoes in step 10:"):
        plot.echo_curve(log, "fc1.weight", step=10)


# ---- noise_scale ----


def test_noise_scales_are_those_of_the_log(log: Log) -> None:
    figure = plot.noise_scale(log)
    panels = {
        axis.get_title(loc="left"): axis for axis in figure.axes if axis.get_visible()
    }
    assert set(panels) == {"whole model", *NAMES}
    for i, name in enumerate(NAMES):
        drawn = lines(panels[name], "moving average")
        np.testing.assert_array_equal(drawn[:, 0], log.steps)
        np.testing.assert_array_equal(
            drawn[:, 1], log.read("noise_scale_smooth", layer=i)
        )
        batch = lines(panels[name], "examples per step")
        assert set(batch[:, 1]) == {4 * 64.0}
        assert len(panels[name].collections) == 1, "the band"
    model = lines(panels["whole model"], "one sample")
    np.testing.assert_array_equal(model[:, 1], log.read("model_noise_scale"))


def test_the_band_is_the_median_of_neighbours() -> None:
    value = np.array([10.0, 12, -3, 14, 16, 18, 20])
    low, high = _plot_scale._band(value, np.full(7, 2.0))
    assert high[3] == 18 and low[3] == 13, (
        "of [12, inf, 16, 18, 20], [10, -, 12, 14, 16]"
    )
    low, high = _plot_scale._band(-value, np.full(7, 2.0))
    assert np.nanmin(high) > 1e3, "no upper bound is drawn to the edge"


def test_no_bound_and_no_batch_size(tmp_path: Path) -> None:
    path = tmp_path / "log.h5"
    scale = np.full((30, 3), -5.0)
    plant(path, NAMES, noise_scale=scale, noise_scale_smooth=scale,
          batch_size=np.full(30, np.nan))  # fmt: skip
    with gradecho.open_log(path) as log:
        figure = plot.noise_scale(log)
        assert "examples per step" not in figure.axes[1].get_legend_handles_labels()[1]
        assert np.isnan(lines(figure.axes[1], "moving average")[:, 1]).all()
        figure.savefig(tmp_path / "picture.png")


# ---- layers ----


def drawn_grid(figure: Figure) -> np.ndarray:
    mesh = figure.axes[0].collections[0]
    height, width = (n - 1 for n in mesh.get_coordinates().shape[:2])
    grid = np.ma.filled(mesh.get_array().astype(float), np.nan)
    return np.asarray(grid).reshape(height, width)


def test_the_heat_map_is_the_log(log: Log) -> None:
    figure = plot.layers(log)
    np.testing.assert_array_equal(drawn_grid(figure), np.sqrt(log.read("tau2_edge")).T)
    assert [t.get_text() for t in figure.axes[0].get_yticklabels()] == NAMES
    figure = plot.layers(log, "signal")  # of the samples and layers with echoes
    signal = log.read("signal_modes")[log.echo_rows(), :2]
    np.testing.assert_array_equal(drawn_grid(figure), signal.T)
    figure = plot.layers(log, "sigma2")
    np.testing.assert_array_equal(drawn_grid(figure), log.read("sigma2").T)
    with pytest.raises(gradecho.GradechoError, match="loss is"):
        plot.layers(log, "loss")


def test_many_layers_are_labelled_in_groups(tmp_path: Path) -> None:
    path = tmp_path / "log.h5"
    parts = ("attn.q", "attn.k", "attn.v", "attn.o", "mlp.up", "mlp.down")
    names = [
        "embed",
        *(f"block.{i}.{part}" for i in range(25) for part in parts),
        "head",
    ]
    plant(path, names, samples=900, every=30)
    with gradecho.open_log(path) as log:
        figure = plot.layers(log)
        labels = [t.get_text() for t in figure.axes[0].get_yticklabels()]
        assert labels == ["embed", *(f"block.{i}" for i in range(25)), "head"]
        grid = drawn_grid(figure)
        assert grid.shape == (152, _plot_layers.COLUMNS)
        whole = np.sqrt(log.read("tau2_edge"))
        assert whole.min() <= grid.min() and grid.max() <= whole.max()
        assert len(plot.noise_scale(log).axes) == _plot_scale.PANELS


# ---- the report ----


class Page(HTMLParser):
    """Everything that a browser would fetch, and whether tags are balanced."""

    VOID = ("meta", "img", "br", "link")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.sources: list[str] = []
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.text = ""
        self.feed(text)
        assert not self.open

    def handle_starttag(
        self, tag: str, attributes: list[tuple[str, str | None]]
    ) -> None:
        self.tags.add(tag)
        self.sources += [
            v or "" for k, v in attributes if k in ("src", "href", "srcset")
        ]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def page(log: Log, path: Path) -> Page:
    assert gradecho.report(log, path) == path
    return Page(path.read_text(encoding="utf-8"))


def test_the_report_stands_alone(log: Log, tmp_path: Path) -> None:
    out = tmp_path / "run.html"
    out.write_text("old")
    found = page(log, out)
    assert len(found.sources) >= 4
    assert all(s.startswith("data:image/svg+xml;base64,") for s in found.sources)
    assert not found.tags & {"script", "link", "iframe", "object"}
    text = out.read_text(encoding="utf-8")
    assert "url(" not in text and "@import" not in text
    for words in ("planted", "30 samples", "Noise scale", "Health", "every: 10"):
        assert words in found.text, words
    scale = log.read("model_noise_scale_smooth")[-1]
    assert f"A step of {scale:.3g} examples" in found.text
    assert sorted(p.name for p in tmp_path.iterdir()) == ["log.h5", "run.html"]


def test_names_are_text(tmp_path: Path) -> None:
    path = tmp_path / "log.h5"
    evil = "<script>alert('$x$ & \"y\"')</script>"
    plant(path, [evil, "a$b$c", "last"])
    with gradecho.open_log(path) as log:
        found = page(log, tmp_path / "run.html")
    assert "script" not in found.tags
    assert evil in found.text


def test_what_is_wrong_is_shown(tmp_path: Path) -> None:
    path = tmp_path / "log.h5"
    noise = np.ones((30, 3, 4))
    noise[4, 1, 2] = 3.5
    alike = np.zeros(30)
    alike[9] = 0.97
    used = np.full((30, 3), 4)
    used[5:8, 2] = 3
    plant(path, NAMES, replica_noise=noise, residual_correlation_max=alike,
          layer_replicas=used, dropped=np.full(30, 12),
          restarts=np.repeat([0, 1], 15))  # fmt: skip
    with gradecho.open_log(path) as log:
        found = {finding.name: finding for finding in _health.findings(log)}
        text = page(log, tmp_path / "run.html").text
    for name, value in (
        (
            "noisiest replica, over the mean",
            "3.5 times: replica 2, fc2.weight, step 40",
        ),
        (
            "largest correlation of two replicas' noise",
            "0.97: replicas 0 and 1, step 90",
        ),
        ("samples dropped", "12 beside 30 measured"),
        ("restarts of the monitors", "1: steps 140 to 150"),
        ("gradients missing or not finite", "fc2.bias: 3 of 30 samples"),
    ):
        assert value in found[name].value and not found[name].fine
        assert found[name].advice in text and value in text
    assert found["replicas in a sample"].fine


def test_a_healthy_log_is_called_so(log: Log) -> None:
    assert all(finding.fine for finding in _health.findings(log))


def shell(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "gradecho", *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": str(PACKAGE)},
        capture_output=True,
        text=True,
    )


def test_from_a_shell(log: Log, tmp_path: Path) -> None:
    done = shell("report", log.path)
    assert (done.returncode, done.stdout) == (0, f"{tmp_path / 'log.html'}\n")
    Page((tmp_path / "log.html").read_text(encoding="utf-8"))
    done = shell("plot", log.path, "echo", tmp_path / "echo.svg")
    assert done.returncode == 0 and "<svg" in (tmp_path / "echo.svg").read_text()
    done = shell("report", tmp_path / "no.h5")
    assert done.returncode == 2
    assert done.stderr == (
        f"gradecho: error: log {tmp_path / 'no.h5'}: No such file or directory\n"
    )
    done = shell("report", log.path, "-o", tmp_path / "none" / "x.html")
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert "cannot write" in done.stderr


# ---- the page on all this ----


def test_the_examples_of_the_page_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("pandas", reason="pandas is not installed")
    plant(tmp_path / "run.h5", NAMES)
    monkeypatch.chdir(tmp_path)
    text = (HERE.parents[1] / "docs" / "python.md").read_text(encoding="utf-8")
    examples = re.findall(r"```python\n(.*?)```", text, re.S)
    assert len(examples) == 3
    known: dict[str, object] = {}
    for example in examples:
        exec(compile(example, "docs/python.md", "exec"), known)
    made = {"echo.svg", "noise_scale.png", "layers.svg", "run.html"}
    assert made <= {path.name for path in tmp_path.iterdir()}
