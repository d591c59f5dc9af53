"""The commands of `resnet-tune`, nothing else: each parses its options and calls a stage."""

from __future__ import annotations

import os
import signal
import sys
import traceback
from pathlib import Path
from typing import Annotated

import typer

from search.cluster.options import Submission
from search.command_line.interrupts import exit_code, listening, settled
from search.command_line.parameters import RESULTS, Panels, Results, takes
from search.command_line.surroundings import at_home, settle
from search.errors import say_last, tell
from search.finishing.options import (
    Confirming,
    Exporting,
    LastSteps,
    Prediction,
    Repetition,
    Retraining,
)
from search.options import Preparation, Request, Showing

COMPLETION = "_RESNET_TUNE_COMPLETE"  # set by the shell that asks what may come next

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    help="Hyperparameter search for image classifiers: from a Kaggle folder to a checked"
    " submission.csv. TASK is digits, cifar10, dog_breed, images, or a .py file that defines STUDY."
    " Add --debug to any command to see a traceback with an error.",
)


@app.command(
    cls=Panels, epilog="Example: resnet-tune prepare cifar10 --source ~/Downloads/cifar-10"
)
@takes(Preparation)
def prepare(preparation: Preparation) -> None:
    """Audit labelled images and split them into train and valid."""
    from search import commands

    commands.prepare(preparation)


@app.command(cls=Panels, epilog="Example: resnet-tune show cifar10 --range lr=0.01..1:log")
@takes(Showing)
def show(showing: Showing) -> None:
    """Show every knob: its default, range, unit and meaning."""
    from search import commands

    commands.show(showing)


@app.command(
    cls=Panels, epilog="Example: resnet-tune search digits --num-samples 20 --range lr=1e-3..1:log"
)
@takes(Request)
def search(request: Request) -> int:
    """Search for the best configuration.

    Ray Tune runs the trials, a sampler proposes them, ASHA stops the poor ones.

    What is searched, and what --set and --range may change: `resnet-tune show TASK`.
    """
    from search import commands

    return commands.search(request)


@app.command(
    cls=Panels, epilog="Example: resnet-tune check cifar10 --address auto --storage s3://bucket/x"
)
@takes(Request)
def check(request: Request) -> int:
    """Find out what a search would meet, need and cost.

    Everything that a search looks at before it starts, one batch, and a forecast.
    """
    from search import commands

    return commands.check(request)


@app.command(
    cls=Panels,
    epilog="Example: resnet-tune submit cifar10 --job-address http://head:8265 --num-samples 64",
)
@takes(Submission, Request)
def submit(submission: Submission, request: Request) -> int:
    """Send a search to a Ray cluster as a job.

    Takes all options of `search`.
    """
    from search import commands

    return commands.submit(request, submission.job_address, follow=submission.follow)


@app.command(epilog="Example: resnet-tune trials results/digits/first --top 10 --format csv")
def trials(
    search_dirs: Annotated[
        list[Path] | None,
        typer.Argument(metavar="SEARCH_DIR", help="By default the latest search."),
    ] = None,
    sort: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="Column to sort by, by default the metric.")
    ] = None,
    top: Annotated[int | None, typer.Option(min=1, metavar="N", help="Only so many rows.")] = None,
    status: Annotated[str | None, typer.Option(help="Only trials of this status.")] = None,
    columns: Annotated[
        str | None, typer.Option(help="The columns to show, separated by commas.")
    ] = None,
    style: Annotated[
        str, typer.Option("--format", help="How it is printed: table, csv, json or md.")
    ] = "table",
    results: Results = RESULTS,
) -> None:
    """Show the trials of a running, dead or finished search."""
    from search.records.folder import latest_search
    from search.records.search import load
    from search.review.table import print_trials

    dirs = search_dirs or [latest_search(results)]
    print_trials(
        [load(d) for d in dirs], sort=sort, top=top, status=status, columns=columns, style=style
    )


@app.command(epilog="Example: resnet-tune report results/dog_breed/first")
def report(
    search_dirs: Annotated[
        list[Path] | None,
        typer.Argument(metavar="SEARCH_DIR", help="Two or more are compared."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The file to write, by default report.html.")
    ] = None,
    results: Results = RESULTS,
) -> None:
    """Write one HTML page about a search."""
    from search import commands

    commands.report(search_dirs or [], results, out)


@app.command(cls=Panels, epilog="Example: resnet-tune confirm results/dog_breed/first --top 3")
@takes(Confirming)
def confirm(confirming: Confirming) -> int:
    """Run the best configurations and the baseline again, and choose by their means.

    On folds of all labelled images, or under other seeds. The same command goes on with it.
    """
    from search import finished

    return finished.confirm(confirming)


@app.command(cls=Panels, epilog="Example: resnet-tune retrain results/cifar10/first --trial t0007")
@takes(Retraining)
def retrain(retraining: Retraining) -> None:
    """Train the best configuration on all labelled images.

    That is train and valid together; then the test set is predicted.
    """
    from search import finished

    finished.retrain(retraining)


@app.command(
    cls=Panels,
    epilog="Example: resnet-tune predict results/digits/first --images photos --out out.csv",
)
@takes(Prediction)
def predict(prediction: Prediction) -> None:
    """Predict the test set again, or other images."""
    from search import finished

    finished.predict(prediction)


@app.command(cls=Panels, epilog="Example: resnet-tune reproduce results/digits/first --trial t0007")
@takes(Repetition)
def reproduce(repetition: Repetition) -> int:
    """Run a trial again and say whether its curve comes out the same."""
    from search import finished

    return finished.reproduce(repetition)


@app.command(cls=Panels, epilog="Example: resnet-tune export results/dog_breed/first --format onnx")
@takes(Exporting)
def export(exporting: Exporting) -> None:
    """Write the retrained model for others, with its classes and normalisation beside it."""
    from search import finished

    finished.export(exporting)


@app.command(cls=Panels, epilog="Example: resnet-tune run dog_breed --source ~/dogs --seed 1")
@takes(Preparation, Request, LastSteps)
def run(preparation: Preparation, request: Request, steps: LastSteps) -> int:
    """Prepare, search, retrain, predict and report in one go."""
    from search import commands

    return commands.run(preparation, request, steps)


def main(arguments: list[str] | None = None) -> None:
    """Run a command; an error is one line on standard error, and the exit code tells its kind."""
    settle()
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in arguments
    arguments = at_home([argument for argument in arguments if argument != "--debug"])
    if COMPLETION in os.environ:
        app(prog_name="resnet-tune")  # typer answers the shell, and exits
    sys.exit(settled(guarded(arguments, debug)))


def guarded(arguments: list[str], debug: bool) -> int:
    """The exit code: 0 success, 1 failure, 2 wrong argument, 141 closed pipe, 128 + a signal."""
    try:
        command = typer.main.get_command(app)  # its own main() would swallow Ctrl-C and EPIPE
        with listening(), command.make_context("resnet-tune", arguments) as context:
            command.invoke(context)
        return 0
    except typer.Exit as done:
        return done.exit_code
    except (typer.Abort, KeyboardInterrupt) as stop:
        say_last("resnet-tune: interrupted")
        return exit_code(stop)
    except SystemExit as stop:  # Ray Client ends with the bare number at SIGTERM
        if stop.code == signal.SIGTERM:
            say_last("resnet-tune: interrupted")
            return 128 + signal.SIGTERM
        return stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except BrokenPipeError:  # whoever read our output has had enough
        return 141
    except Exception as error:
        if debug:
            traceback.print_exc()
        return tell(error)
