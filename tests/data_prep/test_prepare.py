"""The whole stage: its files, calling it again, changes, and being killed at any moment."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from PIL import Image

from data_prep import digits, dog_breed
from data_prep.images import decode
from data_prep.prepare import prepare
from data_prep.prepared import load_prepared
from data_prep.readers import reading
from tests.downloads import LAYOUT, cats_and_dogs, png, unpack_tar, write_download

Snapshot = dict[str, tuple[int, int]]


def snapshot(root: Path) -> Snapshot:
    """Modification time and inode of everything in a folder."""
    paths = [root, *root.rglob("*")]
    return {str(p): (p.lstat().st_mtime_ns, p.lstat().st_ino) for p in paths if p.name != "lock"}


def tree(root: Path, name: str) -> list[str]:
    """The files of one tree."""
    folder = root / name
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


def check_consistent(root: Path) -> None:
    """The trees and tables are one another's."""
    data = load_prepared(root)
    rows: list[list[str]] = data.split.to_numpy().tolist()
    assert tree(root, "train_valid") == sorted(f"{label}/{i}.png" for i, label, _ in rows)
    for side in ("train", "valid"):
        expected = sorted(f"{label}/{i}.png" for i, label, split in rows if split == side)
        assert tree(root, side) == expected
    assert (root / "classes.txt").read_text().split("\n")[:-1] == list(data.classes)
    assert list(data.classes) == sorted({label for _, label, _ in rows})
    left = [p for p in root.rglob("*") if "partial" in p.name or p.name.endswith(".old")]
    assert left == []


def test_the_files_of_the_contract(tmp_path: Path) -> None:
    download = write_download(tmp_path / "in", cats_and_dogs())
    shutil.copy(download / "sample.csv", download / "answers.csv")
    data = prepare(LAYOUT, download, tmp_path / "data" / "toy")
    root = data.root
    names = sorted(p.name for p in root.iterdir() if not p.name.startswith("."))
    assert names == sorted(
        "train valid train_valid test classes.txt split.csv audit.json stats.json packed"
        " sample_submission.csv sample_submission.json test_labels.csv SHA256SUMS".split()
    )
    check_consistent(root)
    assert tree(root, "test") == ["unknown/1.png", "unknown/2.png", "unknown/3.png"]
    assert (root / "split.csv").read_text().splitlines()[:2] == ["id,label,split", "c0,cat,train"]
    assert data.split["id"].tolist() == sorted(data.split["id"].tolist())
    assert data.fingerprint == json.loads((root / "audit.json").read_text())["fingerprint"]
    assert data.summary == "20 labelled images of 2 classes: 18 train, 2 valid; 3 test images"
    assert (root / "sample_submission.csv").read_bytes() == (download / "sample.csv").read_bytes()
    assert (root / "test_labels.csv").is_file()
    source = (download / "train" / "c0.png").stat()
    assert (root / "train_valid" / "cat" / "c0.png").stat().st_ino == source.st_ino
    assert source.st_nlink == 3


@pytest.mark.parametrize("packed", [False, True])
def test_a_second_call_changes_nothing(tmp_path: Path, packed: bool) -> None:
    download = write_download(tmp_path / "in", cats_and_dogs())
    if packed:
        zip_download(download)
    root = tmp_path / "data" / "toy"
    prepare(LAYOUT, download, root)
    before = snapshot(tmp_path)
    prepare(LAYOUT, download, root)
    assert snapshot(tmp_path) == before


def zip_download(download: Path) -> None:
    """Replace train/ and test/ by a zip that holds them."""
    with zipfile.ZipFile(download / "all.zip", "w") as opened:
        for part in ("train", "test"):
            for path in (download / part).iterdir():
                opened.write(path, f"{part}/{path.name}")
            shutil.rmtree(download / part)


def test_a_second_call_decodes_only_what_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    download = write_download(tmp_path / "in", cats_and_dogs())
    root = tmp_path / "data" / "toy"
    prepare(LAYOUT, download, root)
    decoded: list[bytes] = []

    def counted(data: bytes) -> Image.Image:
        decoded.append(data)
        return decode(data)

    monkeypatch.setattr("data_prep.inspect_images.decode", counted)
    prepare(LAYOUT, download, root)
    assert decoded == []
    (download / "train" / "c5.png").write_bytes(png(99))
    prepare(LAYOUT, download, root)
    assert decoded == [png(99)]


def test_a_changed_image_of_the_same_size_and_time_is_noticed(tmp_path: Path) -> None:
    download = write_download(tmp_path / "in", cats_and_dogs())
    root = tmp_path / "data" / "toy"
    path = download / "train" / "c5.png"
    old = path.stat()
    first = prepare(LAYOUT, download, root).fingerprint
    contents = [png(n) for n in range(2000, 4000)]
    same_size = next(c for c in contents if len(c) == old.st_size)
    path.write_bytes(same_size)
    os.utime(path, ns=(old.st_atime_ns, old.st_mtime_ns))
    data = prepare(LAYOUT, download, root)
    assert data.fingerprint != first
    assert (root / "train_valid" / "cat" / "c5.png").read_bytes() == same_size
    check_consistent(root)


def test_the_folder_follows_the_source(tmp_path: Path) -> None:
    download = write_download(tmp_path / "in", cats_and_dogs())
    root = tmp_path / "data" / "toy"
    prepare(LAYOUT, download, root)
    (download / "train" / "c0.png").unlink()
    (download / "train" / "new.png").write_bytes(png(800))
    replaced = download / "train" / "c1.tmp"
    replaced.write_bytes(png(801))
    os.replace(replaced, download / "train" / "c1.png")  # a new inode, the links have the old
    rows = [("new", "emu"), *cats_and_dogs(9), ("c9", "dog")]
    lines = "".join(f"{i},{label}\n" for i, label in rows)
    (download / "labels.csv").write_text("id,label\n" + lines)
    (download / "sample.csv").unlink()
    (download / "test" / "1.png").unlink()
    data = prepare(LAYOUT, download, root)
    check_consistent(root)
    assert data.classes == ("cat", "dog", "emu")
    assert (root / "train_valid" / "cat" / "c1.png").read_bytes() == png(801)
    assert (root / "train_valid" / "dog" / "c9.png").is_file()
    assert not (root / "sample_submission.csv").exists()
    assert tree(root, "test") == ["unknown/2.png", "unknown/3.png"]
    (download / "labels.csv").write_text("id,label\nc1,cat\nc2,cat\n")
    prepare(LAYOUT, download, root, valid_fraction=0.5)
    check_consistent(root)
    assert sorted(p.name for p in (root / "train_valid").iterdir()) == ["cat"]


def test_another_seed_or_fraction_moves_the_links(tmp_path: Path) -> None:
    download = write_download(tmp_path / "in", cats_and_dogs(30))
    root = tmp_path / "data" / "toy"
    sides = []
    for fraction, seed in ((0.1, 0), (0.1, 1), (0.5, 1), (0.1, 0)):
        prepare(LAYOUT, download, root, valid_fraction=fraction, seed=seed)
        check_consistent(root)
        sides.append(tree(root, "valid"))
    assert sides[0] != sides[1]
    assert [len(names) for names in sides] == [6, 6, 30, 6]
    assert sides[0] == sides[3]


def test_the_split_changes_only_where_the_caller_says_so(tmp_path: Path) -> None:
    download = write_download(tmp_path / "in", cats_and_dogs(30))
    root = tmp_path / "data" / "toy"
    first = prepare(LAYOUT, download, root, valid_fraction=0.2, seed=7)
    assert (first.split["split"] == "valid").sum() == 12
    assert prepare(LAYOUT, download, root).fingerprint == first.fingerprint
    (root / "audit.json").unlink()  # as an interrupted call leaves it
    assert prepare(LAYOUT, download, root).fingerprint == first.fingerprint
    other = prepare(LAYOUT, download, root, seed=0)
    assert other.fingerprint != first.fingerprint
    assert (other.split["split"] == "valid").sum() == 12


def test_data_that_a_search_reads_are_not_replaced(tmp_path: Path) -> None:
    download = write_download(tmp_path / "in", cats_and_dogs(30))
    root = tmp_path / "data" / "toy"
    first = prepare(LAYOUT, download, root).fingerprint
    with reading(root), reading(root):
        before = snapshot(root)
        with pytest.raises(ValueError, match="a search is using .*toy, and this would put other"):
            prepare(LAYOUT, download, root, seed=1)
        assert prepare(LAYOUT, download, root).fingerprint == first  # nothing to replace
        assert snapshot(root) == before
    assert prepare(LAYOUT, download, root, seed=1).fingerprint != first


def test_what_does_not_belong_into_the_trees_is_removed(tmp_path: Path) -> None:
    download = write_download(tmp_path / "in", cats_and_dogs())
    root = tmp_path / "data" / "toy"
    prepare(LAYOUT, download, root)
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "keep.png").write_bytes(b"x")
    (root / "train" / "link").symlink_to(outside)
    (root / "valid" / "cat" / "stale.png").write_bytes(b"x")
    shutil.rmtree(root / "test")
    (root / "test").symlink_to(outside)
    prepare(LAYOUT, download, root)
    check_consistent(root)
    assert tree(root, "test") == ["unknown/1.png", "unknown/2.png", "unknown/3.png"]
    assert [p.name for p in outside.iterdir()] == ["keep.png"]


def test_images_are_copied_where_links_cannot_be_made(tmp_path: Path) -> None:
    memory = Path("/dev/shm")
    if not memory.is_dir() or memory.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("links fail only across file systems, and /dev/shm is not a second one here")
    download = write_download(tmp_path / "in", cats_and_dogs())
    root = memory / f"resnet-tune-test-{os.getpid()}"
    try:
        prepare(LAYOUT, download, root)
        check_consistent(root)
        copy = root / "train_valid" / "cat" / "c0.png"
        assert copy.read_bytes() == (download / "train" / "c0.png").read_bytes()
        assert copy.stat().st_nlink == 2  # copied once, the side links to it
        before = snapshot(root)
        prepare(LAYOUT, download, root)
        assert snapshot(root) == before
        (download / "train" / "c0.png").write_bytes(png(321))
        prepare(LAYOUT, download, root)
        assert copy.read_bytes() == png(321)
        check_consistent(root)
    finally:
        shutil.rmtree(root, ignore_errors=True)


def test_a_users_own_folders_are_not_touched(tmp_path: Path) -> None:
    download = write_download(tmp_path / "in", cats_and_dogs())
    before = snapshot(tmp_path)
    with pytest.raises(ValueError, match="where the prepared data goes"):
        prepare(LAYOUT, download, download)
    other = write_download(tmp_path / "other", cats_and_dogs())
    with pytest.raises(ValueError, match="not made by `prepare`"):
        prepare(LAYOUT, download, other)
    shutil.rmtree(other)
    assert snapshot(download) == {k: v for k, v in before.items() if k.startswith(str(download))}


def test_wrong_arguments(tmp_path: Path) -> None:
    download = write_download(tmp_path / "in", cats_and_dogs())
    with pytest.raises(ValueError, match="between 0 and 1"):
        prepare(LAYOUT, download, tmp_path / "data", valid_fraction=1.5)
    (tmp_path / "file").write_text("x")
    with pytest.raises(ValueError, match="cannot write to"):
        prepare(LAYOUT, download, tmp_path / "file" / "toy")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "in"]


def test_a_failure_spares_the_neighbours(tmp_path: Path) -> None:
    download = write_download(tmp_path / "in", cats_and_dogs())
    prepare(LAYOUT, download, tmp_path / "data" / "good")
    (download / "labels.csv").write_text("id,label\n")
    with pytest.raises(ValueError, match="no usable"):
        prepare(LAYOUT, download, tmp_path / "data" / "bad")
    assert [p.name for p in (tmp_path / "data").iterdir()] == ["good"]
    with pytest.raises(ValueError, match="no usable"):
        prepare(LAYOUT, download, tmp_path / "data" / "good")
    check_consistent(tmp_path / "data" / "good")


def test_loading_what_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no prepared data in .*resnet-tune prepare toy"):
        load_prepared(tmp_path / "toy")
    download = write_download(tmp_path / "in", cats_and_dogs())
    root = prepare(LAYOUT, download, tmp_path / "data" / "toy").root
    shutil.rmtree(root / "packed")
    with pytest.raises(ValueError, match=r"incomplete or damaged \(.*packed.*prepare toy`"):
        load_prepared(root)
    (root / "audit.json").write_text("{")
    with pytest.raises(ValueError, match="incomplete"):
        load_prepared(root)


KILLS = """
import os, shutil, sys
from pathlib import Path
from data_prep.prepare import prepare
from data_prep.prepared import load_prepared
from tests.downloads import LAYOUT
from tests.data_prep.test_prepare import check_consistent

download, root, seed = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
WRITES = {"os.link", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "shutil.copyfile"}

def in_child(work):
    pid = os.fork()
    if pid == 0:
        try:
            work()
        except BaseException as error:
            print(f"{type(error).__name__}: {error}", flush=True)
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

def killed_at(number):
    left = [number]
    def hook(event, args):
        if event in WRITES or (event == "open" and isinstance(args[2], int) and args[2] & 3):
            left[0] -= 1
            if left[0] < 0:
                os._exit(9)  # like kill -9: nothing is cleaned up, no buffer is written
    sys.addaudithook(hook)
    prepare(LAYOUT, download, root, seed=seed)

def finished():
    try:
        load_prepared(root)
    except (ValueError, FileNotFoundError):
        pass  # known to be incomplete
    else:
        check_consistent(root)
    prepare(LAYOUT, download, root, seed=seed)
    check_consistent(root)
    assert load_prepared(root).fingerprint == sys.argv[4]

start = root.with_name("start")
number = killed = 0
while True:
    shutil.rmtree(root, ignore_errors=True)
    if start.exists():
        shutil.copytree(start, root)
    code = in_child(lambda: killed_at(number))
    if code == 0:
        break
    assert code == 9, f"write {number}: {code}"
    assert in_child(finished) == 0, f"write {number}: wrong data, or the next call does not finish"
    number += 1
print(number)
"""


@pytest.mark.slow
@pytest.mark.parametrize("case", ["first", "archive", "other_seed"])
def test_killed_before_any_single_write_the_next_call_finishes(tmp_path: Path, case: str) -> None:
    download = write_download(tmp_path / "in", cats_and_dogs(3), test=1)
    seed = 1 if case == "other_seed" else 0
    if case == "archive":
        zip_download(download)
    expected = prepare(LAYOUT, download, tmp_path / "reference", seed=seed).fingerprint
    root = tmp_path / "data" / "toy"
    root.parent.mkdir()
    if case == "other_seed":
        prepare(LAYOUT, download, tmp_path / "data" / "start", seed=0)
    command = [sys.executable, "-c", KILLS, str(download), str(root), str(seed), expected]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert int(done.stdout.split()[-1]) > (30 if case != "other_seed" else 10)


def test_the_digits_need_no_source(tmp_path: Path) -> None:
    data = prepare(digits.LAYOUT, None, tmp_path / "digits")
    check_consistent(data.root)
    assert data.classes == tuple("0123456789")
    assert (data.split["split"] == "valid").sum() == round(len(data.split) / 10)
    assert len((data.root / "test_labels.csv").read_text().splitlines()) == 365
    before = snapshot(data.root)
    prepare(digits.LAYOUT, None, tmp_path / "digits")
    assert snapshot(data.root) == before


def test_real_dogs(tmp_path: Path, shared_data: Path) -> None:
    unpack_tar(shared_data / "dog_kaggle_120x20_short256.tar", tmp_path)
    download = tmp_path / "dog_kaggle_120x20_short256"
    data = prepare(dog_breed.LAYOUT, download, tmp_path / "data" / "dog_breed")
    assert (len(data.classes), len(data.split)) == (120, 2400)
    per_class = data.split[data.split["split"] == "valid"].groupby("label").size()
    assert set(per_class) <= {1, 2, 3}
    assert len(per_class) == 120
    record = json.loads((data.root / "audit.json").read_text())
    assert record["counts"]["conflicts"] == 1
    (pair,) = record["conflicts"]
    sides = data.split.set_index("id").loc[pair["ids"], "split"]
    assert sides.nunique() == 1


def test_a_download_of_links_keeps_its_own_names(tmp_path: Path) -> None:
    download = write_download(tmp_path / "in", cats_and_dogs())
    store = tmp_path / "store"
    store.mkdir()
    for number, path in enumerate(sorted((download / "train").iterdir())):
        os.replace(path, store / f"object{number}")
        path.symlink_to(store / f"object{number}")
    (download / "train" / "c0.png").rename(download / "train" / "c0.PNG")
    root = prepare(LAYOUT, download, tmp_path / "data" / "toy").root
    check_consistent(root)
    assert not any(path.is_symlink() for path in root.rglob("*"))


def test_two_calls_at_once_agree(tmp_path: Path) -> None:
    download = write_download(tmp_path / "in", cats_and_dogs(30))
    root = tmp_path / "data" / "toy"
    work = (
        "import sys; from pathlib import Path; from data_prep.prepare import prepare;"
        " from tests.downloads import LAYOUT;"
        " print(prepare(LAYOUT, Path(sys.argv[1]), Path(sys.argv[2])).fingerprint)"
    )
    command = [sys.executable, "-c", work, str(download), str(root)]
    calls = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    printed = {call.communicate(timeout=120)[0].strip() for call in calls}
    assert printed == {load_prepared(root).fingerprint}
    check_consistent(root)
