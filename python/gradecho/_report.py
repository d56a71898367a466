"""One page on a run, for plot.report(): one file that needs no network and no
scripts, and can be mailed or put beside the log."""

from __future__ import annotations

import base64
import io
import os
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from gradecho._errors import GradechoError
from gradecho._health import findings
from gradecho._plot_echo import echo_curve
from gradecho._plot_layers import layers
from gradecho._plot_scale import examples_per_step, last_known, noise_scale
from gradecho._style import number, styled
from gradecho.reader import Log, LogError

import numpy as np  # isort: skip  (its absence is told by the reader)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CURVES = 4

PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
:root {{ color-scheme: light dark; }}
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 54rem; margin: 2rem auto;
  padding: 0 1rem; color: #2b2f33; background: #fafbfb; }}
h1 {{ font-size: 1.5rem; margin-bottom: 0; overflow-wrap: anywhere; }}
h2 {{ font-size: 1.1rem; margin: 2.2rem 0 .4rem; }}
p.lead {{ font-size: 1.1rem; }}
p, li, td {{ overflow-wrap: anywhere; }}
.quiet, figcaption {{ color: #6b747c; font-size: .9rem; }}
figure {{ margin: 0 0 1.2rem; }}
img {{ display: block; max-width: 100%; height: auto; background: #fff;
  padding: .6rem; box-sizing: border-box; border: 1px solid #e3e6e8;
  border-radius: 6px; }}
table {{ border-collapse: collapse; width: 100%; font-size: .93rem; }}
td {{ padding: .3rem .8rem .3rem 0; border-bottom: 1px solid #8883;
  vertical-align: top; }}
td:first-child {{ white-space: nowrap; }}
.look {{ color: #b5523b; font-weight: 600; }}
.fine {{ color: #0b6e99; }}
pre {{ font-size: .82rem; overflow-x: auto; padding: .8rem; background: #8881;
  border-radius: 6px; }}
@media (prefers-color-scheme: dark) {{
  body {{ color: #dfe3e6; background: #1b1e21; }}
  .quiet, figcaption {{ color: #9aa3ab; }}
  .look {{ color: #e08f78; }} .fine {{ color: #6db8d4; }}
}}
@media (max-width: 40rem) {{ td {{ display: block; border: 0; padding: 0; }}
  td:last-child {{ padding-bottom: .6rem; border-bottom: 1px solid #8883; }} }}
</style>
</head>
<body>
{body}
</body>
</html>
"""


@dataclass(frozen=True)
class Pick:
    layer: int
    why: str


def write_page(log: Log, path: str | os.PathLike[str]) -> Path:
    """See plot.report()."""
    if not len(log):
        raise GradechoError(f"log {log.path} has no samples yet: nothing to report")
    sections = [
        _head(log),
        _scale_section(log),
        _layer_section(log),
        _curve_section(log),
        _health_section(log),
        _configuration(log),
    ]
    title = f"gradecho: {log.attributes.get('session', log.path.name)}"
    text = PAGE.format(title=escape(title), body="\n".join(sections))
    target = Path(path)
    growing = target.with_name(f"{target.name}.{os.getpid()}.new")
    try:  # never half a page
        growing.write_text(text, encoding="utf-8")
        growing.replace(target)
    except OSError as error:
        growing.unlink(missing_ok=True)
        raise LogError(f"cannot write {target}: {error.strerror}") from error
    return target


# ---- sections ----


def _head(log: Log) -> str:
    about = log.attributes
    steps = log.steps
    state = "" if log.complete else " The log is still open, or was cut off."
    return (
        f"<h1>{escape(str(about.get('session', '')))}</h1>\n"
        f'<p class="quiet">{escape(log.path.name)}, begun '
        f"{escape(str(about.get('created', '')))}: {_count(len(log), 'sample')} "
        f"of steps {steps[0]:,} to {steps[-1]:,}, {_count(len(log.layers), 'layer')}, "
        f"{_count(int(about.get('world_size', 0)), 'trainer')}.{state}</p>\n"
        f'<p class="lead">{_verdict(log)}</p>'
    )


def _verdict(log: Log) -> str:
    """What batch size and noise have to do with each other, in a sentence or
    two; and how much of the spectra is signal."""
    total = examples_per_step(log)
    batch = float(total[-1])
    smooth = log.read("model_noise_scale_smooth")
    known = np.flatnonzero(np.isfinite(smooth))
    scale = float(smooth[known[-1]]) if len(known) else np.nan
    said = []
    if np.isnan(scale):
        said.append(
            "The noise scale is not known: it takes two replicas or more, and the "
            "number of examples in each."
        )
    elif not scale > 0:
        said.append(
            "The gradient cannot be told from zero: the noise scale has no upper "
            "bound here."
        )
    else:
        said.append(
            f"A step of <strong>{number(scale)}</strong> examples would hold as "
            "much signal as noise (noise scale of the whole model)."
        )
    if scale > 0 and np.isfinite(batch):
        said.append(f"The run uses {number(batch)}: {_advice(scale / batch)}.")
    rows = log.echo_rows()
    if len(rows):
        counts = log.last_echoes("signal_modes")
        counts = counts[counts >= 0]
        measured = int((log.last_echoes("s_mean") > 0).sum())
        said.append(
            f"Up to step {log.steps[rows[-1]]:,}, {int(counts.sum())} of the "
            f"{measured} leading modes in {_count(len(counts), 'layer')} are signal."
        )
    return " ".join(said)


def _advice(ratio: float) -> str:
    if ratio > 4:
        return "noise rules, and more data in a step pays almost in proportion"
    if ratio < 0.25:
        return "signal rules, and more data in a step would be wasted"
    return (
        "near the balance, more data in a step still helps, but less than in proportion"
    )


def _scale_section(log: Log) -> str:
    if not np.isfinite(log.read("noise_scale_smooth")).any():
        return ""
    return _section(
        "Noise scale",
        _image(noise_scale(log), "Noise scale over training steps"),
        "Examples at which noise and signal are equal; at the upper right the "
        "last moving average. Above the dashed line noise rules the step. The "
        "moving average, a ratio of averages over many samples, lags behind. "
        "Single samples scatter; the band is the median of a few.",
    )


def _layer_section(log: Log) -> str:
    parts = []
    for what, text in (("knee", "Knee"), ("signal", "Signal modes")):
        try:
            figure = layers(log, what)
        except GradechoError:  # no value in any layer
            continue
        parts.append(_image(figure, f"{text} of each layer over training steps"))
    return _section("Layers", "\n".join(parts)) if parts else ""


def _curve_section(log: Log) -> str:
    picks = pick_layers(log)
    if not picks:
        return _section("Echoes", "<p>No sample has echoes.</p>")
    parts = [
        _image(
            echo_curve(log, pick.layer),
            f"Echo curve of {log.layers[pick.layer].name}",
            f"{log.layers[pick.layer].name}: {pick.why}.",
        )
        for pick in picks
    ]
    return _section(
        "Echoes",
        "\n".join(parts),
        "How much of each mode of one replica's gradient is real, against the "
        "mode's singular value. Points under the laws: noise is not alike in all "
        "directions. Open points may be noise.",
    )


def pick_layers(log: Log) -> list[Pick]:
    """The layers worth a curve, and why; from each one's last echoes."""
    if not len(log.echo_rows()):
        return []
    count = log.last_echoes("signal_modes").astype(float)
    measured = (count >= 0) & np.isfinite(log.last_echoes("echo")).any(axis=1)
    count[~measured] = np.nan
    last = np.where(measured, last_known(log, "noise_scale_smooth"), np.nan)
    tau2 = np.where(measured, log.last_echoes("tau2_edge"), np.nan)
    misfit = tau2 * np.nan
    if "misfit_exact" in log:
        misfit = log.last_echoes("misfit_exact")
    reasons = (
        (count, "most signal modes: {:.0f}"),
        (np.where(measured, misfit, np.nan), "isotropic law furthest off: {:.2f}"),
        (np.where(last > 0, last, np.nan), "highest noise scale with echoes: {:,.0f}"),
        (
            np.where(count == 0, np.sqrt(tau2), np.nan),
            "largest knee without signal: {:.3g}",
        ),
        (-count, "fewest signal modes"),
    )
    picks: dict[int, list[str]] = {}
    for values, why in reasons:
        if not np.isfinite(values).any() or len(picks) == CURVES:
            continue
        layer = int(np.nanargmax(values))
        picks.setdefault(layer, []).append(why.format(values[layer]))
    return [Pick(layer, "; ".join(why)) for layer, why in picks.items()]


def _health_section(log: Log) -> str:
    rows = "\n".join(
        f'<tr><td>{escape(f.name)}</td><td class="{"fine" if f.fine else "look"}">'
        f"{escape(f.value)}</td><td>{'' if f.fine else escape(f.advice)}</td></tr>"
        for f in findings(log)
    )
    return _section("Health", f"<table>\n{rows}\n</table>")


def _configuration(log: Log) -> str:
    text = str(log.attributes.get("config", "")).strip()
    if not text:
        return ""
    version = escape(str(log.attributes.get("gradecho_version", "?")))
    return _section(
        "Configuration", f"<pre>{escape(text)}</pre>", f"Of gradecho {version}."
    )


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}" + ("" if number == 1 else "s")


def _section(title: str, body: str, text: str = "") -> str:
    said = f'<p class="quiet">{text}</p>\n' if text else ""
    return f"<section>\n<h2>{title}</h2>\n{said}{body}\n</section>"


def _image(figure: Figure, alternative: str, caption: str = "") -> str:
    # A picture and not part of the page: its ids, and what it says, stay in it.
    file = io.BytesIO()
    with styled():
        figure.savefig(file, format="svg", dpi=200, metadata={"Date": None})
    width = round(112 * figure.get_figwidth())  # the widest fill the page
    data = base64.b64encode(file.getvalue()).decode()
    below = f"<figcaption>{escape(caption)}</figcaption>" if caption else ""
    return (
        f'<figure><img alt="{escape(alternative)}" width="{width}" '
        f'src="data:image/svg+xml;base64,{data}">{below}</figure>'
    )
