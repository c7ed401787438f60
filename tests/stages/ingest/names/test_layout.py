"""What folders mean: known names, readings that only one is possible of, and questions about all others."""

from __future__ import annotations

from pathlib import Path

import pytest

from reprise.config.errors import ParameterError, SourceError
from reprise.config.params import parse
from stages.ingest.names.layout import Layout, understand
from stages.ingest.sources.folder import Folder

ROOT = Path("photos")


def read(*names: str, **options: object) -> dict[str, tuple[str | None, str | None] | None]:
    """Split and label of each name."""
    layout = understand(names, ROOT, **options)  # type: ignore[arg-type]
    return {name: place and place[:2] for name in names if (place := layout.place(name), True)}


def question(*names: str, **options: object) -> str:
    with pytest.raises(SourceError) as caught:
        understand(names, ROOT, **options)  # type: ignore[arg-type]
    return str(caught.value)


@pytest.mark.parametrize(
    ("folder", "split"),
    [
        *((name, "train") for name in ("train", "Training", "TRAIN")),
        *((name, "val") for name in ("val", "valid", "validation", "dev", "Devel", "development")),
        *((name, "test") for name in ("test", "testing", "eval", "Evaluation", "holdout", "hold-out", "held_out")),
    ],
)
def test_known_names_are_splits(folder: str, split: str) -> None:
    other = "test" if split == "train" else "train"
    assert read(f"{folder}/cat/1.jpg", f"{folder}/dog/2.jpg", f"{other}/cat/3.jpg", f"{other}/dog/4.jpg") == {
        f"{folder}/cat/1.jpg": (split, "cat"),
        f"{folder}/dog/2.jpg": (split, "dog"),
        f"{other}/cat/3.jpg": (other, "cat"),
        f"{other}/dog/4.jpg": (other, "dog"),
    }


def test_an_unlabelled_part_belongs_to_train_whatever_its_folders() -> None:
    """The form of STL-10."""
    names = ("train/cat/1.jpg", "train/dog/2.jpg", "test/cat/3.jpg", "test/dog/4.jpg", "unlabeled/a/b/5.jpg")
    assert read(*names)["unlabeled/a/b/5.jpg"] == ("train", None)
    assert read(*names)["train/dog/2.jpg"] == ("train", "dog")


@pytest.mark.parametrize(
    "names",
    [
        ("cat/1.jpg", "dog/2.jpg"),
        ("n01440764/1.JPEG", "n01443537/2.JPEG"),
        *(tuple(f"{digit}/1.png" for digit in range(10)) for _ in range(1)),
        ("00000/1.ppm", "00001/2.ppm", "00042/3.ppm"),  # GTSRB
        ("001.Black_footed_Albatross/1.jpg", "002.Laysan_Albatross/2.jpg"),  # CUB
        ("train_station/1.jpg", "train_interior/2.jpg", "test_tube/3.jpg", "harbour/4.jpg", "beach/5.jpg", "bar/6.jpg"),
        ("marten/1.jpg", "marmot/2.jpg", "mayfly/3.jpg"),  # they begin like months
        ("2cv/1.jpg", "2000gt/2.jpg"),
    ],
)
def test_a_folder_a_class_needs_no_parameter(names: tuple[str, ...]) -> None:
    assert read(*names) == {name: (None, name.split("/")[0]) for name in names}


def test_one_part_without_labels_is_no_contradiction() -> None:
    """The form of Kaggle's dogs and cats."""
    names = ("train/cat/1.jpg", "train/dog/2.jpg", "test/3.jpg", "test/4.jpg")
    assert read(*names)["test/3.jpg"] == ("test", None)


@pytest.mark.parametrize(
    ("names", "labels"),
    [
        (("2019/06/1.jpg", "2020/07/2.jpg", "2021/08/3.jpg"), "several folders deep"),
        (("a/b/1.jpg", "a/b/2.jpg", "c/d/3.jpg"), "several folders deep"),
        (("train/cat/young/1.jpg", "train/dog/2.jpg", "test/cat/3.jpg"), "several folders deep"),
        (("cat/1.jpg", "dog/2.jpg", "unsorted.jpg"), "some beside them"),
        (("2019/1.jpg", "2020/2.jpg"), "dates, devices, parts or annotations"),
        (("2021-05-03 Rome/1.jpg", "2021-06/2.jpg"), "dates, devices, parts or annotations"),
        (("january/1.jpg", "feb/2.jpg"), "dates, devices, parts or annotations"),
        (("100CANON/1.jpg", "101_PANA/2.jpg"), "dates, devices, parts or annotations"),
        (("camera_1/1.jpg", "camera_2/2.jpg"), "dates, devices, parts or annotations"),
        (("cam1/1.jpg", "Cam 2/2.jpg"), "dates, devices, parts or annotations"),
        (("patient001/1.jpg", "patient002/2.jpg"), "dates, devices, parts or annotations"),
        (("images/1.jpg", "masks/1.png"), "dates, devices, parts or annotations"),
        (("JPEGImages/1.jpg", "SegmentationClass/1.png"), "dates, devices, parts or annotations"),
        (("rgb/1.png", "depth/1.png"), "dates, devices, parts or annotations"),
        (("img/1.jpg", "ground_truth/1.png"), "dates, devices, parts or annotations"),
        (("fold1/1.jpg", "fold_2/2.jpg"), "dates, devices, parts or annotations"),
        (("0a/1.jpg", "f3/2.jpg", "77/3.jpg"), "dates, devices, parts or annotations"),
    ],
)
def test_folders_that_may_be_no_classes_are_asked_about(names: tuple[str, ...], labels: str) -> None:
    message = question(*names)
    assert labels in message
    assert "Set source.options.labels in params.yaml" in message
    for name in ("none", "folders", "parent"):
        read(*names, labels=name)  # each answer is one


def test_a_class_may_be_called_like_an_annotation() -> None:
    assert read("mask/1.jpg", "no_mask/2.jpg") == {
        "mask/1.jpg": (None, "mask"),
        "no_mask/2.jpg": (None, "no_mask"),
    }


def test_the_answers_mean_what_they_say() -> None:
    names = ("2019/cat/a/1.jpg", "2020/dog/2.jpg", "3.jpg")
    assert [place and place[1] for place in read(*names, labels="none").values()] == [None, None, None]
    assert [place and place[1] for place in read(*names, labels="folders").values()] == ["2019", "2020", None]
    assert [place and place[1] for place in read(*names, labels="parent").values()] == ["a", "dog", None]
    assert [place and place[1] for place in read(*names, layout="classes").values()] == ["2019", "2020", None]
    assert [place and place[1] for place in read(*names, layout="flat").values()] == [None, None, None]


@pytest.mark.parametrize(
    ("names", "splits"),
    [
        (("train/cat/1.jpg", "test/cat/2.jpg", "extra/cat/3.jpg"), {"extra": "train"}),
        (("bus/1.jpg", "car/2.jpg", "train/3.jpg"), {"bus": "test", "car": "val"}),
        (("training_set/cat/1.jpg", "test_set/cat/2.jpg"), {"training_set": "train", "test_set": "test"}),
        (("train2017/1.jpg", "val2017/2.jpg"), {"train2017": "train", "val2017": "val"}),
        (
            ("seg_train/a/1.jpg", "seg_test/a/2.jpg", "seg_pred/3.jpg"),
            dict(zip(("seg_train", "seg_test", "seg_pred"), ("train", "test", "unlabelled"), strict=True)),
        ),
        (("train/a/1.jpg", "test/a/2.jpg", "eval/a/3.jpg"), {"test": "test", "eval": "val"}),
        (("train/a/1.jpg", "training/a/2.jpg"), {"train": "train", "training": "val"}),
    ],
)
def test_parts_that_may_be_no_splits_are_asked_about(names: tuple[str, ...], splits: dict[str, str]) -> None:
    assert "source.options.splits" in question(*names)
    places = read(*names, named_splits=splits, labels="none")
    for name, place in places.items():
        meant = splits.get(name.split("/")[0], name.split("/")[0])
        assert place == ("train" if meant == "unlabelled" else meant, None)


def test_the_question_shows_an_answer_that_works() -> None:
    message = question("training_set/cat/1.jpg", "training_set/dog/1.jpg", "test_set/cat/2.jpg", "test_set/dog/3.jpg")
    assert "{test_set: test, training_set: train}" in message
    assert read(
        "training_set/cat/1.jpg", "test_set/dog/2.jpg", named_splits={"test_set": "test", "training_set": "train"}
    )


def test_what_lies_in_no_split_is_outside() -> None:
    assert read("train/a/1.jpg", "other/2.jpg", "3.jpg", layout="splits") == {
        "train/a/1.jpg": ("train", "a"),
        "other/2.jpg": None,
        "3.jpg": None,
    }


def test_names_of_splits_that_are_not_there_are_refused() -> None:
    message = question("train/1.jpg", "test/2.jpg", named_splits={"Extra": "train"})
    assert "names folders that are not there" in message
    assert "Extra; at the top are test, train" in message


def test_one_folder_around_everything_is_no_class_and_is_named() -> None:
    layout = understand(["images/1.jpg", "images/2.jpg"], ROOT)
    assert layout.labels == "none"
    assert any("'images', which is no class" in sentence for sentence in layout.sentences)
    assert understand(["images/1.jpg"], ROOT, labels="folders").labels == "folders"
    message = question("archive/train/cat/1.jpg", "archive/test/cat/2.jpg")
    assert "set source.root to that folder instead" in message


def test_what_was_understood_is_said_with_counts() -> None:
    names = ["training/cat/1.jpg", "training/dog/2.jpg", "dev/cat/3.jpg"]
    assert understand(names, ROOT).sentences == (
        "Folders at the top are splits: dev/ is val (1 files), training/ is train (2 files).",
        "The first folder is the class.",
    )
    assert understand(["1.jpg"], ROOT).sentences == ("There are no folders of classes: there are no labels.",)


def test_hostile_names_are_shown_safely() -> None:
    message = question("tr\x1b[31m/a/1.jpg", "train/a/2.jpg")
    assert "\x1b" not in message
    assert "\\x1b" in message


def test_the_folders_between_class_and_file_are_left_for_groups() -> None:
    assert Layout(None, "folders").place("cat/p1/s2/1.jpg") == (None, "cat", ("p1", "s2"))
    assert Layout(None, "parent").place("p1/s2/cat/1.jpg") == (None, "cat", ("p1", "s2"))
    assert Layout({"train": "train"}, "none").place("train/p1/1.jpg") == ("train", None, ("p1",))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"layout": "flat", "labels": "folders"}, "with layout `flat` folders mean nothing"),
        ({"layout": "classes", "splits": {"a": "train"}}, "there are no splits to name"),
        ({"splits": {"a": "training"}}, "source.options.splits"),
        ({"group": "pattern"}, "group `pattern` and group_pattern belong together"),
        ({"group_table": "x.csv"}, "group `table` and group_table belong together"),
        ({"group": "pattern", "group_pattern": "("}, "group_pattern is no regular expression"),
    ],
)
def test_options_that_contradict_each_other_are_refused(options: dict, words: str) -> None:
    with pytest.raises(ParameterError, match=words.replace("(", r"\(")):
        parse(Folder.Params, options, "source.options")
