"""The commands of `resnet-tune`, nothing else: each parses its options and calls a stage."""

from __future__ import annotations

import sys
import traceback
from pathlib import Path
from typing import Annotated, Any

import typer

from search.options import (
    DATA,
    RESULTS,
    Address,
    CpusPerTrial,
    Data,
    GpusPerTrial,
    MaxConcurrent,
    MaxFailures,
    Mlflow,
    Name,
    NumEpochs,
    NumSamples,
    Patience,
    Ranges,
    Results,
    Resume,
    SearchDir,
    Seed,
    Sets,
    Source,
    Storage,
    Task,
    TimeBudget,
    Trial,
    ValidFraction,
    Wandb,
    WarmStart,
)

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    help="Hyperparameter search for image classifiers: from a Kaggle folder to a checked"
    " submission.csv. TASK is digits, cifar10, dog_breed, or a .py file that defines STUDY."
    " Add --debug to any command to see a traceback with an error.",
)


@app.command(epilog="Example: resnet-tune prepare cifar10 --source ~/Downloads/cifar-10")
def prepare(
    task: Task,
    source: Source = None,
    data: Data = DATA,
    valid_fraction: ValidFraction = 0.1,
    seed: Annotated[int, typer.Option(help="seed of the split")] = 0,
) -> None:
    """Audit a Kaggle download and split it into train and valid."""
    from search import commands as pipeline

    pipeline.prepare(task, source, data, valid_fraction, seed)


@app.command(epilog="Example: resnet-tune search digits --num-samples 20 --range lr=1e-3..1:log")
def search(
    task: Task,
    data: Data = DATA,
    name: Name = None,
    num_samples: NumSamples = None,
    num_epochs: NumEpochs = None,
    seed: Seed = None,
    sets: Sets = None,
    ranges: Ranges = None,
    resume: Resume = False,
    time_budget: TimeBudget = None,
    patience: Patience = None,
    warm_start: WarmStart = None,
    max_concurrent: MaxConcurrent = None,
    max_failures: MaxFailures = 3,
    cpus_per_trial: CpusPerTrial = None,
    gpus_per_trial: GpusPerTrial = None,
    address: Address = None,
    storage: Storage = None,
    mlflow: Mlflow = None,
    wandb: Wandb = None,
    results: Results = RESULTS,
) -> None:
    """Search: Ray Tune runs the trials, Optuna proposes them, ASHA stops the poor ones."""
    from search import commands as pipeline

    request = pipeline.Request(**locals_of(locals()))
    raise typer.Exit(pipeline.search(request))


@app.command(epilog="Example: resnet-tune check cifar10 --address auto --storage s3://bucket/tune")
def check(
    task: Task,
    data: Data = DATA,
    name: Name = None,
    num_samples: NumSamples = None,
    num_epochs: NumEpochs = None,
    sets: Sets = None,
    ranges: Ranges = None,
    cpus_per_trial: CpusPerTrial = None,
    gpus_per_trial: GpusPerTrial = None,
    address: Address = None,
    storage: Storage = None,
    results: Results = RESULTS,
) -> None:
    """Find out what would go wrong with a search before it starts, and what it will cost."""
    from search import commands as pipeline

    raise typer.Exit(pipeline.check(pipeline.Request(**locals_of(locals()))))


@app.command(
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
    epilog="Example: resnet-tune submit cifar10 --job-address http://head:8265 --num-samples 64",
)
def submit(
    context: typer.Context,
    task: Task,
    job_address: Annotated[
        str, typer.Option(help="the cluster: http://HOST:8265, ray://HOST:PORT")
    ],
    follow: Annotated[bool, typer.Option(help="print the job's log until it ends")] = True,
) -> None:
    """Send a search to a Ray cluster as a job; takes all options of `search`."""
    from search import commands as pipeline

    command = typer.main.get_command(app).commands["search"]  # type: ignore[attr-defined]
    options = command.make_context("submit", [task, *context.args]).params
    request = pipeline.Request(**locals_of(options))
    raise typer.Exit(pipeline.submit(request, job_address, follow=follow))


@app.command(epilog="Example: resnet-tune trials results/digits/first --top 10 --format csv")
def trials(
    search_dirs: Annotated[
        list[Path] | None,
        typer.Argument(metavar="[SEARCH_DIR]...", help="default: the latest search"),
    ] = None,
    sort: Annotated[str | None, typer.Option(help="column to sort by; default: the metric")] = None,
    top: Annotated[int | None, typer.Option(min=1, help="only so many rows")] = None,
    status: Annotated[str | None, typer.Option(help="only trials of this status")] = None,
    columns: Annotated[str | None, typer.Option(help="comma-separated columns to show")] = None,
    style: Annotated[str, typer.Option("--format", help="table, csv, json or md")] = "table",
    results: Results = RESULTS,
) -> None:
    """Show the trial table of a running, dead or finished search."""
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
        typer.Argument(metavar="[SEARCH_DIR]...", help="two or more are compared"),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="file to write; default: report.html")] = None,
    results: Results = RESULTS,
) -> None:
    """Write one self-contained HTML page about a search."""
    from search import commands as pipeline

    pipeline.report(search_dirs or [], results, out)


@app.command(epilog="Example: resnet-tune retrain results/cifar10/first --trial t0007")
def retrain(
    search_dir: SearchDir = None,
    trial: Trial = None,
    num_epochs: Annotated[
        int | None, typer.Option(min=1, help="default: the trial's best epoch")
    ] = None,
    data: Annotated[Path | None, typer.Option(help="default: where the search found it")] = None,
    results: Results = RESULTS,
) -> None:
    """Train the best configuration on train and valid together, then predict the test set."""
    from search import commands as pipeline

    pipeline.retrain(search_dir, results, data, trial, num_epochs)


@app.command(
    epilog="Example: resnet-tune predict results/digits/first --images photos --out out.csv"
)
def predict(
    search_dir: SearchDir = None,
    images: Annotated[Path | None, typer.Option(help="a folder of other images")] = None,
    out: Annotated[
        Path | None, typer.Option(help="default: submission.csv / predictions.csv")
    ] = None,
    data: Annotated[Path | None, typer.Option(help="default: where the search found it")] = None,
    results: Results = RESULTS,
) -> None:
    """Predict the test set again, or other images, with the retrained model."""
    from search import commands as pipeline

    pipeline.predict(search_dir, results, data, images, out)


@app.command(epilog="Example: resnet-tune run dog_breed --source ~/Downloads/dogs --num-samples 20")
def run(
    task: Task,
    source: Source = None,
    data: Data = DATA,
    valid_fraction: ValidFraction = 0.1,
    name: Name = None,
    num_samples: NumSamples = None,
    num_epochs: NumEpochs = None,
    seed: Seed = None,
    sets: Sets = None,
    ranges: Ranges = None,
    resume: Resume = False,
    time_budget: TimeBudget = None,
    patience: Patience = None,
    warm_start: WarmStart = None,
    max_concurrent: MaxConcurrent = None,
    max_failures: MaxFailures = 3,
    cpus_per_trial: CpusPerTrial = None,
    gpus_per_trial: GpusPerTrial = None,
    address: Address = None,
    storage: Storage = None,
    mlflow: Mlflow = None,
    wandb: Wandb = None,
    results: Results = RESULTS,
) -> None:
    """Everything in one go: prepare, search, retrain, predict, report."""
    from search import commands as pipeline

    options = locals_of(locals())
    source, valid_fraction = options.pop("source"), options.pop("valid_fraction")
    raise typer.Exit(pipeline.run(pipeline.Request(**options), source, valid_fraction))


def locals_of(options: dict[str, Any]) -> dict[str, Any]:
    """A command's parameters without its imports, lists instead of None for repeatable options."""
    return {
        key: (value or []) if key in ("sets", "ranges", "warm_start") else value
        for key, value in options.items()
        if key != "pipeline"
    }


def main(arguments: list[str] | None = None) -> None:
    """Run a command; an error is one line on standard error, and the exit code tells its kind."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in arguments
    arguments = [argument for argument in arguments if argument != "--debug"]
    sys.exit(guarded(arguments, debug))


def guarded(arguments: list[str], debug: bool) -> int:
    """The exit code: 0 success, 1 failure, 2 wrong argument, 130 interrupted."""
    try:
        return app(args=arguments, prog_name="resnet-tune", standalone_mode=False) or 0
    except (typer.Abort, KeyboardInterrupt):
        return complain("interrupted", 130)
    except Exception as error:
        if debug:
            traceback.print_exc()
        if hasattr(error, "format_message"):  # typer's own: wrong options and arguments
            return complain(error.format_message(), 2)
        if type(error).__name__ == "UsageError":
            return complain(str(error), 2)
        known = isinstance(error, ValueError | OSError)
        text = str(error) if known else f"{type(error).__name__}: {error}; add --debug for details"
        return complain(text, 1)


def complain(text: str, code: int) -> int:
    """One line on standard error."""
    sys.stderr.write("resnet-tune: error: " + " ".join(text.split()) + "\n")
    return code
