"""Odd places: names of folders, terminals, locales, other users, small machines."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from search import load
from search.command_line.surroundings import at_home
from search.finishing.retrain import retrain
from search.study.loading import load_study
from tests.commands import RAY_WARNS, resnet_tune
from tests.downloads import cats_and_dogs, write_download
from tests.finished import digits_search
from tests.ledgers import make_search

pytestmark = RAY_WARNS
REPOSITORY = Path(__file__).resolve().parents[2]
NAMES = (
    *("a b", "a#b", "a?b=c&d", "50%", "%20", "a:b", "it's", 'say "x"', "a\\b", "-x", "--help"),
    *(
        "$HOME",
        "*",
        "[a]",
        "{x}",
        "犬",
        "\u0391\u0301",
        "é",
        "\u202eabc",
        "tab\there",
        "s3:",
        "a\nb",
    ),
)
REPORT = ["report", "{search}"]
READING = (
    ["show", "digits"],
    ["--help"],
    ["search", "--help"],
    ["trials", "{search}"],
    ["trials", "{search}", "--format", "csv"],
    ["trials", "{search}", "--format", "json"],
    ["trials", "{search}", "--format", "md"],
    REPORT,
    ["trials", "nichts/größer/犬"],
)


@pytest.fixture(scope="module")
def retrained_search(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A place with data and a finished, retrained search of the digits."""
    above = tmp_path_factory.mktemp("place")
    found = load(digits_search(above))
    retrain(found, load_study("digits"), Path(found.info.data.root))
    return above


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[pytest.mark.soak] if number % 4 else [])
        for number, name in enumerate(NAMES)
    ],
)
def test_a_finished_search_lies_anywhere(
    name: str, retrained_search: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Named from outside, and from the folder itself by a path that begins as an option does."""
    (tmp_path / name).mkdir()
    shutil.copytree(retrained_search / "results", tmp_path / name / name)
    search_dir = tmp_path / name / name / "digits" / "one"
    assert "t0000" in resnet_tune("trials", str(search_dir)).out
    monkeypatch.chdir(tmp_path / name)
    assert "t0000" in resnet_tune("trials", f"--results={name}").out
    assert "t0000" in resnet_tune("trials", "--", f"{name}/digits/one").out
    resnet_tune("report", f"--results={name}")
    page = (search_dir / "report.html").read_text(encoding="utf-8")
    assert "\u202e" not in page.replace("\\u202e", "")
    photos = Path(name) / "photos"
    shutil.copytree(retrained_search / "data" / "digits" / "valid" / "0", photos)
    resnet_tune("predict", f"--images={photos}", f"--out={name}.csv", str(search_dir))
    assert len(Path(f"{name}.csv").read_text().splitlines()) == 1 + len(list(photos.iterdir()))
    resnet_tune("export", str(search_dir), "--format", "safetensors")
    assert sorted(path.name for path in Path().iterdir()) == sorted({name, f"{name}.csv"})


@pytest.mark.parametrize("name", NAMES)
def test_data_lie_anywhere(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_download(tmp_path / name / "in", cats_and_dogs())
    resnet_tune("prepare", "images", f"--source={name}/in", f"--data={name}/data")
    found = json.loads((tmp_path / name / "data" / "images-in" / "audit.json").read_text())
    assert found["counts"]["labelled"] == 20
    assert [path.name for path in tmp_path.iterdir()] == [name]


def python(
    commands: Sequence[Sequence[str]], env: Mapping[str, str | None]
) -> subprocess.CompletedProcess[bytes]:
    """Run commands one after another in one process; the exit codes stand last on stderr."""
    changed = {key: value for key, value in {**os.environ, **env}.items() if value is not None}
    changed["PYTHONPATH"] = str(REPOSITORY)
    typed = [word for words in commands for word in [*words, NEXT]]
    return subprocess.run(
        [sys.executable, "-c", SCRIPT, *typed], env=changed, capture_output=True, timeout=300
    )


NEXT = "--next--"
SCRIPT = f"""
import os, sys
from search.cli import main
codes, words = [], []
for word in sys.argv[1:]:
    words.append(word)
    if word == {NEXT!r}:
        try:
            main(words[:-1])
        except SystemExit as done:
            codes.append(done.code)
        words = []
sys.stderr.flush()
os.write(2, f"\\ncodes {{codes}}".encode())
"""
NO_LOCALE = {"LC_ALL": "C", "LANG": None, "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
TERMINALS: dict[str, dict[str, str | None]] = {
    "C": NO_LOCALE,
    "ascii": {"PYTHONIOENCODING": "ascii", "HOME": "/nonexistent", "TERM": None, "USER": None},
    "narrow": {"COLUMNS": "40", "NO_COLOR": "1"},
    "dumb": {"TERM": "dumb", "COLUMNS": None},
}
MORE: dict[str, dict[str, str | None]] = {
    "latin": {"PYTHONIOENCODING": "latin-1"},
    "strict": {"PYTHONIOENCODING": "ascii:strict", **NO_LOCALE},
    "narrower": {"COLUMNS": "1", "LINES": "1"},
    "nonsense": {"TERM": "nonsense", "COLUMNS": "many", "HOME": "/proc"},
}


@pytest.mark.parametrize(
    "terminal", [*TERMINALS, *(pytest.param(name, marks=pytest.mark.soak) for name in MORE)]
)
def test_every_terminal_and_locale(terminal: str, tmp_path: Path) -> None:
    """A search in folders of other alphabets, and a caveat of every one."""
    search_dir = tmp_path / "größe" / "digits" / "犬"
    make_search(search_dir, info={"caveat": "é → 犬 \x1b[31m"})
    reading = (
        READING if terminal == "C" or terminal in MORE else [w for w in READING if REPORT != w]
    )
    commands = [[word.format(search=search_dir) for word in words] for words in reading]
    done = python(commands, {**TERMINALS, **MORE}[terminal])
    told = done.stderr.decode("utf-8", "replace")
    assert "Traceback" not in told
    assert "fault of the program" not in told
    assert told.splitlines()[-1] == f"codes {[0] * (len(commands) - 1) + [1]}", told
    assert b"t0000" in done.stdout
    if terminal in ("C", "ascii", "strict"):
        assert (done.stdout + done.stderr).isascii()
    assert b"\x1b" not in done.stdout + done.stderr


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-", ">/dev/full"])
def test_streams_that_are_closed_or_full(closed: str, tmp_path: Path) -> None:
    search_dir = make_search(tmp_path / "digits" / "one")
    done = subprocess.run(
        [
            *("sh", "-c", f'exec "$@" {closed}', "sh", sys.executable, "-m", "search"),
            *("trials", str(search_dir)),
        ],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
    )
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr
    if closed == ">/dev/full":
        assert done.returncode == 1
        assert "No space left on device" in done.stderr
    else:
        assert done.returncode == 0, done.stderr
        assert ("t0000" in done.stdout) == (">&-" not in closed.replace("2>&-", ""))


def test_a_closed_stream_gives_its_number_to_no_file() -> None:
    """Whatever a library writes to standard output would go into that file."""
    code = (
        "import os; from search.command_line.surroundings import settle; settle();"
        "assert all(os.path.realpath(f'/proc/self/fd/{n}') == os.devnull for n in (0, 1, 2));"
        "print('x'); assert os.open('/', os.O_RDONLY) > 2"
    )
    command = ["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", sys.executable, "-c", code]
    env = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    assert subprocess.run(command, env=env, capture_output=True).returncode == 0


def test_a_home_that_the_shell_has_not_put_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Shells leave `~` where it stands after `=`."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    words = ["--data=~/data", "~", "~/x", "--name", "a~", "lr=~", "~nobody-at-all/x", "--out=./~"]
    home = str(tmp_path / "home")
    assert at_home(words) == [f"--data={home}/data", home, f"{home}/x", *words[3:]]


OTHER = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
# so that it can read the interpreter, wherever that lies; writing is denied as to anybody
OTHER += ["--inh-caps=-all,+dac_read_search", "--ambient-caps=+dac_read_search"]
WRITING = (
    ["report", "{search}"],
    ["retrain", "{search}", "--data={place}/data"],
    ["predict", "{search}", "--data={place}/data"],
    ["export", "{search}", "--format", "safetensors"],
    ["search", "digits", "--data={place}/data", "--results={place}/results", "--name=new"],
    ["prepare", "digits", "--data={place}/new"],
)


def becomes_another() -> bool:
    """Whether a process can be started as another user."""
    if os.geteuid() != 0 or shutil.which("setpriv") is None:
        return False
    return subprocess.run([*OTHER, "true"], capture_output=True).returncode == 0


@pytest.mark.slow
@pytest.mark.skipif(not becomes_another(), reason="only root may become another user (setpriv)")
def test_another_user_reads_all_and_is_told_what_cannot_be_written(retrained_search: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="rt-", dir="/tmp") as name:
        place = Path(name) / "place"
        shutil.copytree(retrained_search, place)
        for path in (Path(name), place, *place.rglob("*")):
            path.chmod(0o755 if path.is_dir() else 0o644)
        before = {path: path.stat().st_mtime_ns for path in place.rglob("*")}
        where = {"search": place / "results" / "digits" / "one", "place": place}
        for words in (["trials", "{search}"], *WRITING):
            done = subprocess.run(
                [*OTHER, sys.executable, "-m", "search", *(word.format(**where) for word in words)],
                env={**os.environ, "HOME": "/nonexistent", "PYTHONPATH": str(REPOSITORY)},
                capture_output=True,
                text=True,
                cwd="/",
            )
            assert "Traceback" not in done.stderr, (words, done.stderr)
            errors = [line for line in done.stderr.splitlines() if "error:" in line]
            assert done.returncode == len(errors) == (words[0] != "trials"), (words, done.stderr)
            assert all(
                "ermission denied" in error or "cannot write" in error for error in errors
            ), errors
        assert {path: path.stat().st_mtime_ns for path in place.rglob("*")} == before


@pytest.mark.slow
def test_a_search_in_all_odd_places_at_once(tmp_path: Path) -> None:
    """Odd names, no home to write to, a long TMPDIR, files named like packages, no locale."""
    work = tmp_path / "a #1?b%20:c'd\"e 犬"
    scratch = work / ("t" * 120)
    scratch.mkdir(parents=True)
    for name in ("search", "random", "types", "trainables", "torch", "data_prep/__init__"):
        (work / name).parent.mkdir(exist_ok=True)
        (work / f"{name}.py").write_text("raise RuntimeError('the wrong one')\n")
    (tmp_path / "bin").mkdir()
    script = tmp_path / "bin" / "tune.py"  # as the console script: its own folder is on sys.path
    script.write_text("from search.cli import main\nmain()\n")
    env = {"HOME": "/proc", "TMPDIR": str(scratch), "LC_ALL": "C", "PYTHONPATH": str(REPOSITORY)}
    env |= {"RAY_TMPDIR": tempfile.gettempdir()}  # sockets have no room in the long one: it is told
    quick = ["--num-samples=2", "--num-epochs=1", "--set", "width=8", "--no-confirm"]
    done = subprocess.run(
        [sys.executable, str(script), "run", "digits", "--name=x.y-1", "--results=-r", *quick],
        cwd=work,
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        errors="replace",
    )
    assert done.returncode == 0, done.stderr
    search_dir = work / "-r" / "digits" / "x.y-1"
    assert set(load(search_dir).trials["status"]) <= {"completed", "stopped"}
    assert (search_dir / "submission.csv").is_file()
    assert (search_dir / "report.html").is_file()
