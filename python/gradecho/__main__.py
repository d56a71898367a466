"""python -m gradecho: what the reader and the plots do, from a shell."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gradecho import __version__
from gradecho._errors import GradechoError


def main(arguments: Sequence[str] | None = None) -> int:
    given = _parser().parse_args(arguments)
    try:
        given.command(given)
        sys.stdout.flush()
    except (GradechoError, ImportError) as error:
        print(f"gradecho: error: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except KeyboardInterrupt:
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m gradecho",
        description="Pictures and reports of a gradecho log, also while it grows.",
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(name: str, run: Any, text: str) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=text, description=text)
        command.set_defaults(command=run)
        command.add_argument("log", metavar="LOG", type=Path)
        return command

    report = add("report", _report, "one page on the run, a self-contained file")
    report.add_argument("-o", "--output", metavar="FILE", type=Path)

    plot = add("plot", _plot, "one picture, in the format that its name says")
    plot.add_argument("what", metavar="WHAT", help="noise_scale, knee, signal or echo")
    plot.add_argument("output", metavar="FILE", type=Path)
    plot.add_argument("--layer", metavar="NAME", help="whose echoes; default: a pick")
    plot.add_argument("--step", metavar="N", type=int, help="default: the last echoes")

    board = add("tensorboard", _tensorboard, "follow the log into TensorBoard")
    board.add_argument("folder", metavar="DIR", help="of the TensorBoard run")
    bias = add("wandb", _wandb, "follow the log into a run of Weights & Biases")
    bias.add_argument("--project", metavar="NAME")
    bias.add_argument("--name", metavar="NAME", help="of the run")
    for follower in (board, bias):
        follower.add_argument("--layers", metavar="GLOB", default="*")
        follower.add_argument(
            "--timeout",
            metavar="S",
            type=float,
            help="end when no sample came for so long; default: when the log is closed",
        )
    return parser


def _report(given: argparse.Namespace) -> None:
    from gradecho.plot import report
    from gradecho.reader import open_log

    with open_log(given.log) as log:
        print(report(log, given.output or given.log.with_suffix(".html")))


def _plot(given: argparse.Namespace) -> None:
    from gradecho import plot
    from gradecho._report import pick_layers
    from gradecho._style import styled
    from gradecho.reader import open_log

    with open_log(given.log) as log:
        if given.what == "echo":
            picks = pick_layers(log)
            layer = given.layer or (picks[0].layer if picks else 0)
            figure = plot.echo_curve(log, layer, given.step)
        elif given.what == "noise_scale":
            figure = plot.noise_scale(log)
        else:
            figure = plot.layers(log, given.what)
        kind = given.output.suffix.lstrip(".") or "png"
        options = {"metadata": {"Date": None}} if kind == "svg" else {}
        try:
            with styled():
                figure.savefig(given.output, dpi=150, format=kind, **options)
        except (OSError, ValueError) as error:
            raise GradechoError(f"cannot write {given.output}: {error}") from error
    print(given.output)


def _tensorboard(given: argparse.Namespace) -> None:
    from gradecho import followers

    with _summary_writer()(given.folder) as writer:
        follower = followers.tensorboard(given.log, writer, layers=given.layers)
        print(f"{follower.run(given.timeout)} samples")


def _summary_writer() -> Any:
    for name in ("torch.utils.tensorboard", "tensorboardX"):
        try:
            return importlib.import_module(name).SummaryWriter
        except (ImportError, AttributeError):
            continue
    raise ImportError(
        "no SummaryWriter: pip install tensorboardX, or torch and tensorboard"
    )


def _wandb(given: argparse.Namespace) -> None:
    from gradecho import followers

    try:
        package = importlib.import_module("wandb")
    except ImportError as error:
        raise ImportError(f"wandb is missing ({error}): pip install wandb") from error
    with package.init(project=given.project, name=given.name) as run:
        follower = followers.wandb(given.log, run, own_run=True, layers=given.layers)
        print(f"{follower.run(given.timeout)} samples")


if __name__ == "__main__":
    sys.exit(main())
