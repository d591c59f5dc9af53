"""Tables of labels as people have them: the same images and labels, or a line that says why."""

from __future__ import annotations

from pathlib import Path

import pytest

from data_prep.layout import FOUND, Layout, SourceOptions
from data_prep.prepare import prepare
from data_prep.prepared import PreparedData
from tests.downloads import LAYOUT, cats_and_dogs, write_images, write_table

ROWS = cats_and_dogs(15)
ANY = Layout(task="any", image_size=4)
"""Nothing is known of the files' names."""


def prepared(source: Path, options: SourceOptions = FOUND, layout: Layout = ANY) -> PreparedData:
    """The source, prepared beside it."""
    return prepare(layout, source, source.parent / f"{source.name}-data", options=options)


def labels_of(data: PreparedData) -> dict[str, str]:
    """Id -> label."""
    return dict(zip(data.split["id"], data.split["label"], strict=True))


@pytest.mark.parametrize("layout", [ANY, LAYOUT])
@pytest.mark.parametrize(
    ("ids", "files", "header"),
    [
        ("{}", "{}.png", "id,label"),
        ("{}", "{}.PNG", "id,label"),
        ("{}", "{}.jpeg", "id,label"),
        ("{}", "{}.TIF", "image_id,species"),
        ("{}.png", "{}.png", "image_id,species"),
        ("{}.jpg", "{}.png", "file name,class"),
        ("train/{}.png", "{}.png", "path,label"),
        ("/home/me/train/{}.png", "{}.png", "path,label"),
        ("train\\{}.png", "{}.png", "path,label"),
        ("./{}.png", "{}.png", "path,label"),
        ("{}", "train/{}.png", "id,label"),
        ("{}", "deep/er/{}.png", "id,label"),
        ("{}", "{}.png", "anything,breed"),
    ],
)
def test_ids_in_any_form_mean_the_same_images(
    tmp_path: Path, layout: Layout, ids: str, files: str, header: str
) -> None:
    rows = [(ids.format(row_id), label) for row_id, label in ROWS]
    names = [files.format(row_id) for row_id, _ in ROWS]
    data = prepared(write_table(tmp_path / "in", rows, header=header, files=names), layout=layout)
    assert labels_of(data) == dict(ROWS)
    plain = prepared(write_table(tmp_path / "plain", ROWS))
    assert data.fingerprint == plain.fingerprint  # the same split of the same pixels


def test_half_of_the_ids_with_suffix_and_mixed_suffixes(tmp_path: Path) -> None:
    endings = (".png", ".JPG", ".jpeg")
    files = [f"{row_id}{endings[n % 3]}" for n, (row_id, _) in enumerate(ROWS)]
    rows = [(name if n % 2 else name.split(".")[0], ROWS[n][1]) for n, name in enumerate(files)]
    data = prepared(write_table(tmp_path / "in", rows, files=files), layout=LAYOUT)
    assert labels_of(data) == dict(ROWS)
    assert "left out" not in data.summary


def test_leading_zeros_and_capitals(tmp_path: Path) -> None:
    rows = [(f"{number:04d}", "cat" if number % 2 else "dog") for number in range(20)]
    files = [f"{number}.png" for number in range(20)]
    data = prepared(write_table(tmp_path / "in", rows, files=files))
    assert labels_of(data) == {str(int(row_id)): label for row_id, label in rows}
    assert "20 ids mean a file up to case, accents or leading zeros (0000: 0.png)" in data.summary
    rows = [(f"IMG_{number}", label) for number, (_, label) in enumerate(ROWS)]
    files = [f"img_{number:03d}.png" for number in range(30)]
    assert len(prepared(write_table(tmp_path / "two", rows, files=files)).split) == 30


def test_near_misses_are_said_together(tmp_path: Path) -> None:
    rows = [*ROWS, ("007", "cat")]
    files = [*(f"{row_id}.png" for row_id, _ in ROWS), "7.png", "07.png"]
    source = write_table(tmp_path / "in", rows, files=files)
    data = prepared(source)
    assert len(data.split) == 30
    assert "1 ids without a file resemble unlabelled ones" in data.summary
    assert "(007: 07.png, 7.png): rename" in data.summary
    assert "missing files 1 (007), unlabelled files 2 (07.png, 7.png)" in data.summary


def test_ids_with_sub_folders_keep_images_of_one_name_apart(tmp_path: Path) -> None:
    rows = [(f"{label}s/{n % 15:03d}.jpg", label) for n, (_, label) in enumerate(ROWS)]
    data = prepared(write_table(tmp_path / "in", rows, files=[row_id for row_id, _ in rows]))
    assert labels_of(data) == dict(rows)
    assert (data.root / "train_valid" / "cat" / "cats%2F000.jpg").is_file()


def test_other_folders_are_other_images(tmp_path: Path) -> None:
    rows = [*ROWS, ("birds/001.png", "emu")]
    files = [*(f"{row_id}.png" for row_id, _ in ROWS), "dogs/001.png"]
    data = prepared(write_table(tmp_path / "in", rows, files=files))
    assert data.classes == ("cat", "dog")
    assert "CLASSES LOST, without one usable image: emu (1 labelled)" in data.summary
    assert "(birds/001.png: dogs/001.png): rename the files or the ids" in data.summary


def test_one_stem_with_two_suffixes_is_not_guessed(tmp_path: Path) -> None:
    files = [*(f"{row_id}.png" for row_id, _ in ROWS), "x.png", "x.jpg", "y.png", "y.jpg"]
    rows = [*ROWS, ("x", "cat"), ("y.jpg", "cat")]
    data = prepared(write_table(tmp_path / "in", rows, files=files))
    assert len(data.split) == 31
    assert "missing files 1 (x), unlabelled files 3 (x.jpg, x.png, y.png)" in data.summary


def test_an_index_column_first_and_extra_columns(tmp_path: Path) -> None:
    source = write_table(tmp_path / "in", ROWS)
    lines = [f"{n},{n % 5},{i},{label}" for n, (i, label) in enumerate(ROWS)]
    (source / "labels.csv").write_text("\n".join([",width,id,label", *lines]))
    assert labels_of(prepared(source)) == dict(ROWS)
    rows = [(str(number), label) for number, (_, label) in enumerate(ROWS, start=1)]
    source = write_table(tmp_path / "numbers", rows)
    lines = [f"{n},{i},{label}" for n, (i, label) in enumerate(rows)]
    (source / "labels.csv").write_text("\n".join([",file,label", *lines]))
    assert labels_of(prepared(source)) == dict(rows)


def test_a_table_without_a_header(tmp_path: Path) -> None:
    source = write_table(tmp_path / "in", [("c0.png", "cat")], files=["c0.png"])
    write_images(source / "train", [f"{row_id}.png" for row_id, _ in ROWS])
    (source / "labels.csv").write_text("".join(f"{i}.png,{label}\n" for i, label in ROWS))
    assert labels_of(prepared(source)) == dict(ROWS)


def test_columns_and_tables_that_cannot_be_told_are_asked_for(tmp_path: Path) -> None:
    source = write_table(tmp_path / "in", ROWS)
    lines = [f"{i},{label},{n % 4}" for n, (i, label) in enumerate(ROWS)]
    (source / "labels.csv").write_text("\n".join(["id,animal,colour", *lines]))
    with pytest.raises(
        ValueError, match=r"several columns.*\(id, animal, colour\).*--label-column"
    ):
        prepared(source)
    assert labels_of(prepared(source, SourceOptions(label_column="animal"))) == dict(ROWS)
    with pytest.raises(
        ValueError, match="--label-column anmal: labels.csv has.*did you mean animal"
    ):
        prepared(source, SourceOptions(label_column="anmal"))
    with pytest.raises(ValueError, match="--id-column key: labels.csv has the columns id, animal"):
        prepared(source, SourceOptions(id_column="key"))
    write_table(source, ROWS)
    (source / "more.csv").write_bytes((source / "labels.csv").read_bytes())
    with pytest.raises(ValueError, match=r"any of labels\.csv, more\.csv may be .*--labels"):
        prepared(source)
    assert labels_of(prepared(source, SourceOptions(labels=Path("more.csv")))) == dict(ROWS)


def test_named_tables_and_folders(tmp_path: Path) -> None:
    source = write_table(tmp_path / "in", ROWS)
    (source / "train").rename(source / "pictures")
    write_images(source / "thumbs", [f"{row_id}.png" for row_id, _ in ROWS], first=100)
    options = SourceOptions(labels=source / "labels.csv", image_folder=Path("pictures"))
    data = prepared(source, options)
    assert labels_of(data) == dict(ROWS)
    assert "unused folders 1 (thumbs: 30 images)" in data.summary
    with pytest.raises(ValueError, match="--labels nowhere.csv: no such file, here or in"):
        prepared(source, SourceOptions(labels=Path("nowhere.csv")))
    with pytest.raises(ValueError, match="--image-folder nowhere: no such folder, here or in"):
        prepared(source, SourceOptions(image_folder=Path("nowhere")))


def test_train_and_test_images_in_one_folder(tmp_path: Path) -> None:
    names = [f"Train_{n}.png" for n in range(30)] + [f"Test_{n}.png" for n in range(4)]
    write_images(tmp_path / "in" / "images", names)
    rows = [f"Train_{n},{'cat' if n % 2 else 'dog'}\n" for n in range(30)]
    (tmp_path / "in" / "train.csv").write_text("image_id,label\n" + "".join(rows))
    sample = "".join(f"Test_{n},cat\n" for n in range(4))
    (tmp_path / "in" / "sample_submission.csv").write_text("image_id,label\n" + sample)
    data = prepared(tmp_path / "in")
    assert "30 labelled images of 2 classes: 27 train, 3 valid; 4 test images" in data.summary
    assert "unlabelled" not in data.summary


def test_a_contradiction_is_kept_out_whatever_the_order(tmp_path: Path) -> None:
    rows = [*ROWS, ("c0.png", "dog"), ("c1.png", "cat")]
    files = [f"{row_id}.png" for row_id, _ in ROWS]
    data = prepared(write_table(tmp_path / "in", [*rows], files=[*files, "c0.png", "c1.png"]))
    assert "c0" not in labels_of(data)
    assert "repeated ids 1 (c1.png), contradictory ids 2 (c0, c0.png)" in data.summary


def test_files_without_any_suffix(tmp_path: Path) -> None:
    source = write_table(tmp_path / "in", ROWS, files=[row_id for row_id, _ in ROWS])
    assert labels_of(prepared(source)) == dict(ROWS)
    write_images(source / "train", ["z.png"])
    with pytest.raises(ValueError, match=r"missing files 30 \(c0\), unlabelled files 31 \(c0\)"):
        prepared(source)


def test_a_validation_folder_beside_a_table_is_counted_and_can_be_had(tmp_path: Path) -> None:
    source = write_table(tmp_path / "in", ROWS)
    write_images(source / "valid", ["v1.png", "v2.png"], first=600)
    (source / "README.txt").write_text("Images, labels and more: see there.\n")
    data = prepared(source)
    assert labels_of(data) == dict(ROWS)
    assert "unused folders 1 (valid: 2 images)" in data.summary
    assert (
        f"valid/ is not used, as a table names the labels: where it names those of valid/ too,"
        f" --image-folder {source} takes both, split anew" in data.summary
    )
    with (source / "labels.csv").open("a") as file:
        file.write("v1,cat\nv2,dog\n")
    data = prepared(source, SourceOptions(image_folder=source))
    assert labels_of(data) == {**dict(ROWS), "v1": "cat", "v2": "dog"}
    assert "not used" not in data.summary


@pytest.mark.parametrize("folder", ["train", "pictures"])
def test_a_table_among_the_images(tmp_path: Path, folder: str) -> None:
    source = write_table(tmp_path / "in", ROWS)
    (source / "labels.csv").rename(source / "train" / "labels.csv")
    (source / "train").rename(source / folder)
    data = prepared(source)
    assert labels_of(data) == dict(ROWS)
    assert "left out" not in data.summary  # the table is no unlabelled image


def test_a_table_in_a_folder_of_its_own(tmp_path: Path) -> None:
    source = write_table(tmp_path / "in", ROWS)
    (source / "annotations").mkdir()
    (source / "labels.csv").rename(source / "annotations" / "labels.csv")
    (source / "train").rename(source / "pictures")
    assert labels_of(prepared(source)) == dict(ROWS)


def test_the_same_images_in_two_folders_are_no_two_classes(tmp_path: Path) -> None:
    source = write_table(tmp_path / "in", ROWS)
    (source / "train").rename(source / "pictures")
    write_images(source / "masks", [f"{row_id}.png" for row_id, _ in ROWS], first=300)
    with pytest.raises(ValueError, match=r"c0 may be masks/c0.png or pictures/c0.png: name the f"):
        prepared(source)
    options = SourceOptions(image_folder=Path("pictures"))
    assert labels_of(prepared(source, options)) == dict(ROWS)


@pytest.mark.parametrize(("yes", "no"), [("1", "0"), ("1.0", "0.0"), ("True", "False")])
def test_a_column_for_each_class(tmp_path: Path, yes: str, no: str) -> None:
    source = write_table(tmp_path / "in", ROWS)
    lines = [
        f"{yes if label == 'cat' else no},{i},{no if label == 'cat' else yes}" for i, label in ROWS
    ]
    (source / "labels.csv").write_text("\n".join(["cat,image,dog", *lines]))
    data = prepared(source)
    assert labels_of(data) == dict(ROWS)
    assert "ids in 'image', labels in 'the columns cat and so on'" in data.summary
    (source / "labels.csv").write_text("\n".join(["cat,image,dog", *lines, f"{yes},c0,{yes}"]))
    with pytest.raises(ValueError, match=r"several columns that may hold the label"):
        prepared(source)


def test_lines_of_a_file_name_and_a_label(tmp_path: Path) -> None:
    source = write_table(tmp_path / "in", ROWS)
    (source / "labels.csv").unlink()
    (source / "labels.txt").write_text("".join(f"{i}.png {label}\n" for i, label in ROWS))
    assert labels_of(prepared(source)) == dict(ROWS)


@pytest.mark.parametrize(
    ("before", "header"), [("", "id,"), ("", ","), ("sep=,\r\n", "id,label"), ("SEP=,\n", "a,b")]
)
def test_columns_without_names_and_excels_first_line(
    tmp_path: Path, before: str, header: str
) -> None:
    source = write_table(tmp_path / "in", ROWS, header=header)
    path = source / "labels.csv"
    path.write_text(before + path.read_text())
    assert labels_of(prepared(source)) == dict(ROWS)


def test_an_index_without_a_name_is_no_column_of_labels(tmp_path: Path) -> None:
    source = write_table(tmp_path / "in", ROWS)
    lines = [f"{n},{i}" for n, (i, _) in enumerate(ROWS)]
    (source / "labels.csv").write_text("\n".join([",id", *lines]))
    with pytest.raises(ValueError, match=r"has no column of labels \(, id\): name one with"):
        prepared(source)
