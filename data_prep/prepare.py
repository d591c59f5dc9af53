"""One task from Kaggle's download to folders, tables and packed arrays."""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from filelock import FileLock

from data_prep.answer_key import answers_table
from data_prep.audit import Audit, audit
from data_prep.digests import digest, write_digests
from data_prep.files import from_json, remove_folder, to_json, write_text
from data_prep.image_tree import ASIDE
from data_prep.inspect_images import load_facts, save_facts
from data_prep.layout import FOUND, Layout, SourceOptions
from data_prep.organise import TREES, organise, place_file, tree_names
from data_prep.pack import Contents, PackedImage, fingerprint, pack
from data_prep.prepared import TABLES, PreparedData, load_prepared
from data_prep.progress import Track, no_progress
from data_prep.readers import check_unread
from data_prep.source import SourceFiles, find_source
from data_prep.split import VALID, plan_split
from data_prep.summary import audit_record

SPLIT = "split.json"  # in ASIDE: fraction and seed, which an interrupted call must not forget
DEFAULT_FRACTION = 0.1


def prepare(
    layout: Layout,
    source: Path | None,
    root: Path,
    *,
    valid_fraction: float | None = None,
    seed: int | None = None,
    options: SourceOptions = FOUND,
    track: Track = no_progress,
) -> PreparedData:
    """Audit the data in `source`, split them and build `root`, the task's own folder.

    Fraction and seed of the split that are not given are those that `root` was prepared with, or
    else 0.1 and 0: the split that searches share changes only where the caller says so.

    Calling it again finishes what was interrupted, follows what changed, and changes nothing else.
    The source is only read; images are hard links to it where that is possible. Raises ValueError
    when the arguments are wrong or nothing is usable, and leaves nothing behind then; and while a
    search reads data that would become others.
    """
    if valid_fraction is not None and not 0 < valid_fraction < 1:
        raise ValueError(f"valid_fraction {valid_fraction} must lie between 0 and 1")
    check_places(source, root)
    with nothing_left_behind(root):
        try:
            (root / ASIDE).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ValueError(f"cannot write to {root}: {error.strerror}") from None
        with FileLock(root / ASIDE / "lock"):
            files = find_source(layout, source, root / ASIDE, track, options)
            build(layout, files, root, split_choice(root, valid_fraction, seed), options, track)
    return load_prepared(root)


def split_choice(root: Path, valid_fraction: float | None, seed: int | None) -> tuple[float, int]:
    """Fraction and seed: the given ones, those of before, or the defaults."""
    before = read_json(root / ASIDE / SPLIT) or read_json(root / "audit.json") or {}
    fraction_before, seed_before = before.get("valid_fraction"), before.get("seed")
    if valid_fraction is None:
        valid_fraction = DEFAULT_FRACTION if fraction_before is None else float(fraction_before)
    if seed is None:
        seed = 0 if seed_before is None else int(seed_before)
    return valid_fraction, seed


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
    layout: Layout,
    source: SourceFiles,
    root: Path,
    split: tuple[float, int],
    options: SourceOptions,
    track: Track,
) -> None:
    """Bring `root` to what the source holds; audit.json, written last, says that it is complete."""
    facts_file = root / ASIDE / "images.tsv"
    known = load_facts(facts_file)
    found = audit(layout, source, known, track, options)
    if found.facts != known:
        save_facts(facts_file, found.files, found.facts)
    valid_fraction, seed = split
    plan = given_split(source, found) or plan_split(
        found.labels, found.identical, valid_fraction, seed
    )
    usable = {key: path for key, path in found.paths.items() if not found.facts[key].error}
    layout = layout.fitted([(found.facts[k].height, found.facts[k].width) for k in usable])
    names = tree_names(found.labels, usable)
    contents = packed_contents(found, plan, {key: f"{root}/{name}" for key, name in names.items()})
    record = {
        "task": layout.task,
        "valid_fraction": valid_fraction,
        "seed": seed,
        "fingerprint": fingerprint(layout, contents),
        **audit_record(found, plan),
        **({"image_size": layout.image_size} if layout.fit else {}),
    }
    complete = root / "audit.json"
    before = read_json(complete)
    if before and before.get("fingerprint") != record["fingerprint"]:
        check_unread(root)
    if before != record:
        complete.unlink(missing_ok=True)
    write_text(root / ASIDE / SPLIT, to_json({"valid_fraction": valid_fraction, "seed": seed}))
    organise(root, names, plan, found.files, complete, track)
    if not complete.is_file():
        save_facts(facts_file, found.files, found.facts)  # new links changed the change times
    place_file(source.sample_submission, root / "sample_submission.csv")
    sample, answers = found.wanted.sample, found.wanted.answers
    write_or_remove(root / "sample_submission.json", sample.to_json() if sample else None)
    write_or_remove(root / "test_labels.csv", answers_table(answers) if answers else None)
    write_text(root / "classes.txt", "".join(f"{name}\n" for name in contents.classes))
    write_text(root / "split.csv", split_table(found.labels, plan))
    stats = pack(layout, contents, root / "packed", track)
    write_text(root / "stats.json", to_json(stats))
    digests = {name: digest(root / name) for name in TABLES if (root / name).is_file()}
    digests[complete.name] = hashlib.sha256(to_json(record).encode()).hexdigest()
    write_digests(root, digests)
    write_text(complete, to_json(record))


def given_split(source: SourceFiles, found: Audit) -> dict[str, str] | None:
    """The source's own split. Raises ValueError where one of its sides has no usable image."""
    if not found.sides:
        return None
    missing = sorted({"train", VALID} - set(found.sides.values()))
    if missing:
        raise ValueError(
            f"{source.valid if missing == [VALID] else source.train} has no usable image: a split"
            " that is given needs both sides; without the folder a part of train becomes valid"
        )
    return found.sides


def write_or_remove(path: Path, text: str | None) -> None:
    """Write the text; without one there is no such file."""
    if text is None:
        remove_folder(path)
    else:
        write_text(path, text)


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
        return from_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
