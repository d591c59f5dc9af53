"""Every file of a finished search, and of its data, damaged: the right result, or a line about it.

One at a time; a finished training is never thrown away for a file beside it.
"""

from __future__ import annotations

import contextlib
import io
import random
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from search.cli import guarded
from search.records.search import load
from tests.commands import RAY_WARNS, resnet_tune
from tests.stage import copy

pytestmark = RAY_WARNS

Damage = Callable[[Path], None]
Attack = Callable[[str, Path, Damage, Path, Path, bytes], str | None]
PLAIN = [
    w
    for s in ("sampler=random", "scheduler=none", "width=8", "metric=valid_loss")
    for w in ("--set", s)
]
PLAIN += ["--no-trial-batch", "--no-confirm"]


def emptied(path: Path) -> None:
    path.write_bytes(b"")


def cut(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def overwritten(path: Path) -> None:
    path.write_bytes(random.Random(0).randbytes(max(100, path.stat().st_size)))


def changed(path: Path) -> None:
    """One bit, in the middle."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))


def a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()
    (path / "inside").write_text("x")


def removed(path: Path) -> None:
    path.unlink()


def a_loop(path: Path) -> None:
    path.unlink()
    path.symlink_to(path.name)


DAMAGES: list[Damage] = [emptied, cut, overwritten, changed, a_folder, removed, a_loop]
READING = ("trials --format json", "report", "predict")
WORKING = ("export --format safetensors", "reproduce --trial t0001", "retrain")
ON_RAY = ("confirm --folds 3", "search --num-samples 4", "run --num-samples 4")
RESULTS = {
    "predict": "submission.csv",
    "retrain": "submission.csv",
    "run": "submission.csv",
    "export": "export/model.safetensors",
}
OF_DATA = (
    "*.csv *.txt *.json SHA256SUMS packed/* .prepare/* train/0/1*.png test/unknown/1.png".split()
)


@pytest.fixture(scope="module")
def whole(confirmed_digits: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A search with a confirmation, a final model and a submission."""
    place = tmp_path_factory.mktemp("whole")
    shutil.copytree(confirmed_digits.parents[2], place, dirs_exist_ok=True)
    search_dir = place / confirmed_digits.relative_to(confirmed_digits.parents[2])
    resnet_tune("retrain", str(search_dir), "--data", str(place / "data"))
    resnet_tune("report", str(search_dir))
    return search_dir


def outcome(command: str, search_dir: Path, data: Path) -> tuple[int, str, bytes]:
    """Exit code, what was said, and the result that people use."""
    name, *options = command.split()
    where = [] if name in ("trials", "report") else ["--data", str(data)]
    words = [name, str(search_dir)]
    if name in ("search", "run"):
        words = [name, "digits", "--name", "one", "--resume", *PLAIN]
        where += ["--results", str(search_dir.parents[1])]
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = guarded([*words, *options, *where], debug=False)
    file = search_dir / RESULTS.get(name, "")
    result = file.read_bytes() if file.is_file() else b""
    if name == "trials":
        result = out.getvalue().encode()
    if name in ("search", "confirm") and code == 0:
        result = "\n".join(numbers(search_dir)).encode()
    return code, out.getvalue() + err.getvalue(), result


def numbers(search_dir: Path) -> list[str]:
    """All that is known of the trials and of the runs again, but for times."""
    found = load(search_dir)
    records = [*found.records.values(), *(found.runs.records.values() if found.runs else ())]
    return [
        f"{r.trial_id} {r.status} {e} {row['valid_loss']} {row['valid_acc']}"
        for r in records
        for e, row in sorted(r.history.items())
    ]


def files(search_dir: Path) -> list[Path]:
    """All of them, relative; a lock holds nothing."""
    found = (path for path in sorted(search_dir.rglob("*")) if path.is_file())
    return [path.relative_to(search_dir) for path in found if path.suffix != ".lock"]


def undamaged(command: str, whole: Path, place: Path) -> bytes:
    """The result that a command should have."""
    shutil.copytree(whole, place / "digits" / "one")
    code, said, result = outcome(command, place / "digits" / "one", whole.parents[2] / "data")
    assert code == 0, said
    return result


def attack(
    command: str, file: Path, damage: Damage, whole: Path, place: Path, expected: bytes
) -> str | None:
    """What was wrong with how a command took it, None if nothing."""
    data, search_dir = whole.parents[2] / "data", place / "digits" / "one"
    copy(whole, search_dir)
    if command.split()[0] in RESULTS:
        (search_dir / RESULTS[command.split()[0]]).unlink(missing_ok=True)
    if (search_dir / file).is_file():
        damage(search_dir / file)
    code, said, result = outcome(command, search_dir, data)
    case = f"{command}, {file} {damage.__name__}: "
    if "fault of the program" in said or "Traceback" in said:
        return f"{case}{said}"
    named = file.name in said or file.parts[0] in said
    if code == 0 and result != expected and not named:
        return f"{case}another result, not a word"
    if code != 0 and not named:
        return f"{case}exit {code} without its name: {said}"
    return None


def wrong_of(
    attempt: Attack,
    command: str,
    damages: Sequence[Damage],
    whole: Path,
    folder: Path,
    seed: int | str,
) -> str:
    """What was wrong, a line each, after one damage of each file by that kind of attack."""
    expected = undamaged(command, whole, folder / "undamaged")
    drawn = random.Random(seed)
    found = files(whole) if attempt is attack else data_files(whole.parents[2] / "data" / "digits")
    assert len(found) > 12
    wrong = []
    for number, file in enumerate(found):
        damage = drawn.choice(damages)
        told = attempt(command, file, damage, whole, folder / str(number), expected)
        if told is not None:
            sys.stdout.write(f"\n{told}\n")  # with -s at once: on Ray this takes half an hour
            wrong.append(told)
    return "\n".join(wrong)


@pytest.mark.slow
@pytest.mark.parametrize("command", READING)
def test_one_damage_of_each_file(command: str, whole: Path, tmp_path: Path) -> None:
    assert wrong_of(attack, command, DAMAGES, whole, tmp_path, command) == ""


@pytest.mark.soak
@pytest.mark.timeout(3000)
@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("command", [*READING, *WORKING])
def test_every_damage_of_every_file(
    command: str, damage: Damage, whole: Path, tmp_path: Path
) -> None:
    assert wrong_of(attack, command, [damage], whole, tmp_path, 0) == ""


@pytest.mark.soak
@pytest.mark.timeout(6000)
@pytest.mark.parametrize("command", ON_RAY)
def test_one_damage_of_each_file_before_ray(command: str, whole: Path, tmp_path: Path) -> None:
    assert wrong_of(attack, command, DAMAGES, whole, tmp_path, command) == ""


def data_files(root: Path) -> list[Path]:
    """Those of prepared data, of the images a few; relative."""
    found = [path for pattern in OF_DATA for path in sorted(root.glob(pattern)) if path.is_file()]
    image = next(path for path in found if path.suffix == ".png")
    found = [path for path in found if path.suffix != ".png"] + [image]
    return [path.relative_to(root) for path in found if path.name not in ("lock", "readers")]


def attack_data(
    command: str, file: Path, damage: Damage, whole: Path, place: Path, expected: bytes
) -> str | None:
    """The same for a file of the prepared data."""
    search_dir, data = place / "digits" / "one", place / "data"
    copy(whole, search_dir)
    source = whole.parents[2] / "data" / "digits"
    if command.startswith("run"):
        copy(source, data / "digits")
    else:  # which read nothing else
        for name in (*data_files(source), Path("test", "unknown", "1.png")):
            copy(source / name, data / "digits" / name)
    (search_dir / "submission.csv").unlink()
    damage(data / "digits" / file)
    code, said, result = outcome(command, search_dir, data)
    shutil.rmtree(data)
    case = f"{command}, {file} {damage.__name__}: "
    if "fault of the program" in said or "Traceback" in said:
        return f"{case}{said}"
    named = file.name in said or (file.parts[0] == "packed" and "packed" in said)
    if code == 0 and result != expected:
        return f"{case}another result: {said}"
    if code != 0 and not named:
        return f"{case}exit {code} without its name: {said}"
    return None


@pytest.mark.slow
def test_one_damage_of_each_file_of_the_data(whole: Path, tmp_path: Path) -> None:
    assert wrong_of(attack_data, "predict", DAMAGES, whole, tmp_path, 0) == ""


@pytest.mark.soak
@pytest.mark.timeout(6000)
@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("command", ["predict", "retrain"])
def test_every_damage_of_every_file_of_the_data(
    command: str, damage: Damage, whole: Path, tmp_path: Path
) -> None:
    assert wrong_of(attack_data, command, [damage], whole, tmp_path, 0) == ""


@pytest.mark.soak
@pytest.mark.timeout(6000)
def test_damaged_data_before_a_run(whole: Path, tmp_path: Path) -> None:
    """`run` prepares first, which makes damaged files again."""
    assert wrong_of(attack_data, ON_RAY[2], DAMAGES, whole, tmp_path, 1) == ""
