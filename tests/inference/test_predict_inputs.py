"""Which images are meant by ``input``: a folder, a file, a glob, a table; and what is told when there is none."""

import os
import sys
from pathlib import Path

import pytest

from ft.errors import UserError
from ft.inference.inputs import find_images


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def names_of(given: object, **options: str) -> list[str]:
    return [name for name, _ in find_images(str(given), **options)]


def test_a_folder_is_searched_through_and_sorted_without_what_is_hidden(tmp_path):
    touch(
        tmp_path, "b.JPG", "a/2.png", "a/10.png", "notes.txt", ".hidden.png", ".cache/x.png", "a/._2.png", "c/d/e.tif"
    )
    found = find_images(str(tmp_path))
    assert [name for name, _ in found] == ["a/10.png", "a/2.png", "b.JPG", "c/d/e.tif"]
    assert [path for _, path in found] == [str(tmp_path / name) for name, _ in found]


@pytest.mark.parametrize("name", ["a b=c.png", "[x].png", "*.png", "ü,'\"{}.png", "new\nline.png", "-x;.png", "~.png"])
def test_no_name_is_odd(tmp_path, name):
    touch(tmp_path, name, "x.png")
    assert sorted(names_of(tmp_path)) == sorted([name, "x.png"])
    assert find_images(str(tmp_path / name)) == [(str(tmp_path / name), str(tmp_path / name))]
    folder = tmp_path / name.removesuffix(".png")
    touch(folder, "1.png")
    assert names_of(folder) == ["1.png"]


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no file name that is not text")
def test_a_name_that_is_no_text_is_found_and_can_be_opened(tmp_path):
    path = os.fsencode(tmp_path) + b"/\xff.png"
    with open(path, "w"):
        pass
    assert os.path.exists(find_images(str(tmp_path))[0].path)


def test_a_linked_image_counts_and_a_linked_folder_does_not(tmp_path):
    touch(tmp_path, "in/1.png", "out/2.png")
    (tmp_path / "in" / "3.png").symlink_to(tmp_path / "out" / "2.png")
    (tmp_path / "in" / "loop").symlink_to(tmp_path / "in")
    (tmp_path / "in" / "gone.png").symlink_to(tmp_path / "nowhere.png")
    # One that leads nowhere too: it is told as an image that cannot be read, not left out in silence.
    assert names_of(tmp_path / "in") == ["1.png", "3.png", "gone.png"]


def test_a_glob_takes_images_alone_and_goes_through_folders(tmp_path, monkeypatch):
    touch(tmp_path, "a/1.png", "a/b/2.jpg", "a/notes.txt", "a/d.png/3.png")
    monkeypatch.chdir(tmp_path)
    assert names_of("a/*") == ["a/1.png"]
    assert names_of("a/**/*") == ["a/1.png", "a/b/2.jpg", "a/d.png/3.png"]
    with pytest.raises(UserError, match=r"input=a/\*\.txt matches 1 paths, no image \(\.bmp"):
        names_of("a/*.txt")
    with pytest.raises(UserError, match=r"input=c/\*\.png matches nothing"):
        names_of("c/*.png")


def test_one_image_need_not_end_like_one(tmp_path):
    touch(tmp_path, "scan")
    assert names_of(tmp_path / "scan") == [str(tmp_path / "scan")]


def table(tmp_path: Path, text: str, name: str = "list.csv") -> Path:
    (tmp_path / name).write_text(text, encoding="utf-8")
    return tmp_path / name


def test_a_table_lists_images_relative_to_itself_in_its_order_and_as_often_as_it_says(tmp_path):
    file = table(tmp_path, "\ufeffid,file,thumb\n1,b.png,t/b.png\n2,a.png,t/a.png\n\n3,b.png,t/b.png\n")
    assert find_images(str(file)) == [(name, str(tmp_path / name)) for name in ("b.png", "a.png", "b.png")]
    assert names_of(file, column="thumb") == ["t/b.png", "t/a.png", "t/b.png"]
    elsewhere = table(tmp_path, f"file\n{tmp_path}/far/1.png\n", "far.csv")
    assert find_images(str(elsewhere))[0].path == f"{tmp_path}/far/1.png"


def test_a_row_without_a_file_is_an_image_that_cannot_be_read(tmp_path):
    assert find_images(str(table(tmp_path, "id,file\n1,a.png\n2\n3,\n"))) == [
        ("a.png", str(tmp_path / "a.png")),
        ("", ""),
        ("", ""),
    ]


@pytest.mark.parametrize(
    ("text", "column", "told"),
    [
        ("id,name\n1,ann\n", "auto", "has no column of image files: its columns are id, name"),
        ("a.png\nb.png\n", "auto", "needs a header line; its first line names an image: a.png"),
        ("file,label\n", "auto", "has no rows below its header line"),
        ("", "auto", "has no rows below its header line"),
        ("file,label\na.png,x\n", "flie", "column=flie: the columns are file, label. Did you mean file?"),
    ],
)
def test_a_table_that_does_not_fit_is_refused(tmp_path, text, column, told):
    with pytest.raises(UserError) as caught:
        find_images(str(table(tmp_path, text)), column=column)
    assert told in str(caught.value)
    assert str(tmp_path) in str(caught.value) or "column=" in str(caught.value)


def test_a_table_that_is_no_text_is_refused(tmp_path):
    (tmp_path / "list.csv").write_bytes(b"file\n\xff\xfe.png\n")
    with pytest.raises(UserError, match="cannot be read as CSV in UTF-8"):
        find_images(str(tmp_path / "list.csv"))


def test_nothing_there_is_told_with_what_is(tmp_path):
    touch(tmp_path, "photos/notes.txt")
    with pytest.raises(UserError, match=r"photo: there is no such file or folder\. Did you mean photos\?"):
        find_images(str(tmp_path / "photo"))
    with pytest.raises(UserError, match=r"photos holds no image \(\.bmp, "):
        find_images(str(tmp_path / "photos"))
    with pytest.raises(UserError, match=r"column=file is for a CSV file, and input=.*photos is none"):
        find_images(str(tmp_path / "photos"), column="file")
    for impossible in ("x" * 300, "a\0b"):
        with pytest.raises(UserError, match="input="):
            find_images(str(tmp_path / impossible))
