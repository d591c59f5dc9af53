"""One task from Kaggle's download to folders, tables and packed arrays."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from filelock import FileLock

from data_prep.audit import Audit, audit, audit_record
from data_prep.files import remove_folder, to_json, write_text
from data_prep.inspect_images import load_facts, save_facts
from data_prep.organise import TREES, organise, place_file, tree_names
from data_prep.pack import Contents, PackedImage, fingerprint, pack
from data_prep.prepared import PreparedData, load_prepared
from data_prep.progress import Track, no_progress
from data_prep.source import KaggleLayout, SourceFiles, find_source
from data_prep.split import plan_split

ASIDE = ".prepare"  # inside the task's folder: what was unpacked, facts of the images, the lock


def prepare(
    layout: KaggleLayout,
    source: Path | None,
    root: Path,
    *,
    valid_fraction: float = 0.1,
    seed: int = 0,
    track: Track = no_progress,
) -> PreparedData:
    """Audit the download in `source`, split it and build `root`, the task's own folder.

    Calling it again finishes what was interrupted, follows what changed, and changes nothing else.
    The source is only read; images are hard links to it where that is possible. Raises ValueError
    when the arguments are wrong or nothing is usable, and leaves nothing behind then.
    """
    if not 0 < valid_fraction < 1:
        raise ValueError(f"valid_fraction {valid_fraction} must lie between 0 and 1")
    check_places(source, root)
    with nothing_left_behind(root):
        try:
            (root / ASIDE).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ValueError(f"cannot write to {root}: {error.strerror}") from None
        with FileLock(root / ASIDE / "lock"):
            files = find_source(layout, source, root / ASIDE, track)
            build(layout, files, root, valid_fraction, seed, track)
    return load_prepared(root)


def check_places(source: Path | None, root: Path) -> None:
    """Raise ValueError when building `root` could remove files that are the user's own."""
    if source is not None and source.resolve() == root.resolve():
        raise ValueError(
            f"--source {source} is where the prepared data goes: move it or use --data"
        )
    ours = (root / ASIDE).is_dir() or (root / "audit.json").is_file()
    if not ours and any((root / tree).exists() for tree in TREES):
        raise ValueError(
            f"{root} holds folders that were not made by `prepare`: move them or use another --data"
        )


@contextmanager
def nothing_left_behind(root: Path) -> Iterator[None]:
    """Remove the folders made for `root` when it ends in the user's mistake."""
    missing = [path for path in (root, *root.parents) if not path.exists()]
    try:
        yield
    except ValueError:
        if missing:
            remove_folder(root)
            with suppress(OSError):  # a parent holds another task's folder by now
                for parent in missing[1:]:
                    parent.rmdir()
        raise


def build(
    layout: KaggleLayout,
    source: SourceFiles,
    root: Path,
    valid_fraction: float,
    seed: int,
    track: Track,
) -> None:
    """Bring `root` to what the source holds; audit.json, written last, says that it is complete."""
    facts_file = root / ASIDE / "images.tsv"
    known = load_facts(facts_file)
    found = audit(layout, source, known, track)
    if found.facts != known:
        save_facts(facts_file, found.files, found.facts)
    plan = plan_split(found.labels, found.identical, valid_fraction, seed)
    names = tree_names(found.labels, found.test_ids, layout.suffix)
    contents = packed_contents(found, plan, {key: f"{root}/{name}" for key, name in names.items()})
    record = {
        "task": layout.task,
        "valid_fraction": valid_fraction,
        "seed": seed,
        "fingerprint": fingerprint(layout, contents),
        **audit_record(found, plan),
    }
    complete = root / "audit.json"
    if read_json(complete) != record:
        complete.unlink(missing_ok=True)
    organise(root, names, plan, found.files, complete, track)
    if not complete.is_file():
        save_facts(facts_file, found.files, found.facts)  # new links changed the change times
    place_file(source.sample_submission, root / "sample_submission.csv")
    place_file(source.test_labels, root / "test_labels.csv")
    write_text(root / "classes.txt", "".join(f"{name}\n" for name in contents.classes))
    write_text(root / "split.csv", split_table(found.labels, plan))
    stats = pack(layout, contents, root / "packed", track)
    write_text(root / "stats.json", to_json(stats))
    write_text(complete, to_json(record))


def packed_contents(found: Audit, plan: Mapping[str, str], paths: Mapping[str, str]) -> Contents:
    """What `packed/` is to hold; `paths` has the file to read for each key of the facts."""
    classes = tuple(sorted(set(found.labels.values())))
    number = {name: i for i, name in enumerate(classes)}

    def image(key: str) -> PackedImage:
        facts = found.facts[key]
        name = key.split("/", 1)[1]
        return PackedImage(name, paths[key], facts.digest, facts.height, facts.width)

    return Contents(
        classes=classes,
        train_valid=tuple(image(f"train/{i}") for i in found.labels),
        labels=tuple(number[label] for label in found.labels.values()),
        splits=tuple(plan[i] for i in found.labels),
        test=tuple(image(f"test/{i}") for i in found.test_ids),
    )


def split_table(labels: Mapping[str, str], plan: Mapping[str, str]) -> str:
    """split.csv: id, label, split; sorted by id as text."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["id", "label", "split"])
    writer.writerows([i, labels[i], plan[i]] for i in sorted(labels))
    return text.getvalue()


def read_json(path: Path) -> Any:
    """The file's value; None when there is none or it is damaged."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
