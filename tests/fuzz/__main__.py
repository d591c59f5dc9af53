"""`python -m tests.fuzz labels|image|archive|ledger --seconds N [--seed S]`.

With atheris installed (it is no dependency) it looks for bytes that reach new lines of code;
without, or with `--random`, it damages whole files at random. What fails is kept in `--keep`.
"""

from __future__ import annotations

import argparse
import hashlib
import random
import shutil
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

SLOW = 5.0  # seconds for one input that are a finding themselves
LOOKED_AT = ["data_prep", "search", "tarfile", "zipfile", "py7zr", "PIL"]


def main() -> int:
    """How many kinds of findings there are by chance; by coverage the first one ends all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("target", choices=("labels", "image", "archive", "ledger"))
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--random", action="store_true", help="do not use atheris")
    parser.add_argument("--keep", type=Path, default=Path("fuzz-findings"))
    options = parser.parse_args()
    options.keep.mkdir(exist_ok=True)
    atheris = None if options.random else imported()
    with atheris.instrument_imports(include=LOOKED_AT) if atheris else nullcontext():
        from tests.fuzz.targets import place
    try:
        if atheris is not None:
            return by_coverage(atheris, options.target, options.seconds, options.seed, options.keep)
        return by_chance(options.target, options.seconds, options.seed, options.keep)
    finally:
        shutil.rmtree(place(), ignore_errors=True)


def imported() -> Any:
    """The package; None where it is not installed, with a line that says so."""
    try:
        import atheris  # type: ignore[import-not-found, import-untyped, unused-ignore]
    except ImportError:
        sys.stdout.write("atheris is not installed (pip install atheris): damaging at random\n")
        return None
    return atheris


def by_chance(target: str, seconds: float, seed: int, keep: Path) -> int:
    """Damage whole files at random for so long; the number of kinds of findings."""
    from tests.fuzz.seeds import SEEDS, damaged, mended
    from tests.fuzz.targets import TARGETS

    rng, run, seeds = random.Random(seed), TARGETS[target], SEEDS[target]()
    found: set[str] = set()
    count, end = 0, time.monotonic() + seconds
    while time.monotonic() < end:
        data = mended(target, damaged(rng.choice(seeds), rng), rng)
        kind = problem(run, data)
        count += 1
        if kind is not None and kind not in found:
            found.add(kind)
            path = keep / f"{target}-{hashlib.sha256(data).hexdigest()[:12]}"
            path.write_bytes(data)
            sys.stdout.write(f"{kind}: {path}\n")
    sys.stdout.write(f"{target}: {count:,} inputs by chance, seed {seed}, {len(found)} findings\n")
    return len(found)


def problem(run: Callable[[bytes], None], data: bytes) -> str | None:
    """The kind of the error and the line it comes from, or `slow`; None where all is well."""
    begun = time.monotonic()
    try:
        run(data)
    except Exception as error:
        trace = error.__traceback__
        while trace is not None and trace.tb_next is not None:
            trace = trace.tb_next
        where = f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}" if trace else ""
        return f"{type(error).__name__} at {where}: {str(error)[:80]!r}"
    return "slow" if time.monotonic() - begun > SLOW else None


def by_coverage(atheris: Any, target: str, seconds: float, seed: int, keep: Path) -> int:
    """Let atheris look for so long, which ends this process."""
    from tests.fuzz.seeds import SEEDS, damaged, mended
    from tests.fuzz.targets import TARGETS, place

    corpus = place() / "corpus"
    corpus.mkdir()
    for number, data in enumerate(SEEDS[target]()):
        (corpus / str(number)).write_bytes(data)
    rng = random.Random(seed)

    def mutate(data: bytes, most: int, number: int) -> bytes:
        rng.seed(number)
        changed = atheris.Mutate(data, most) if rng.random() < 0.5 else damaged(data, rng)
        return bytes(mended(target, changed, rng)[:most])

    flags = [f"-max_total_time={seconds:.0f}", f"-seed={seed + 1}", "-max_len=65536"]
    flags += [f"-artifact_prefix={keep}/{target}-", "-timeout=20", "-rss_limit_mb=3000"]
    words = [sys.argv[0], str(corpus), *flags]
    atheris.Setup(words, TARGETS[target], custom_mutator=mutate)
    atheris.Fuzz()
    return 0


if __name__ == "__main__":
    sys.exit(main())
