"""Where files of a run go, by the rules of Windows as well; they are pure, so that any machine can try them."""

import ntpath
from pathlib import PureWindowsPath

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from runstead.errors import RunsteadError
from runstead.places import apart, parts_of

BASE = PureWindowsPath("C:/runs/7")
PART = st.text(st.sampled_from(list('aZ.:\\ /*?"<>|\0\x1f~$é¹')), max_size=6) | st.sampled_from(
    [
        "CON",
        "nul.txt",
        "com1",
        "LPT¹.log",
        "aux .txt",
        "..",
        ".",
        "C:",
        "model.pt",
        "Model.PT",
        "COM10",
        "CONIN$",
        "a.b.c",
    ]
)
PATHS = st.lists(PART, min_size=1, max_size=3).map("/".join)


@given(PATHS)
@example("C:/Windows/x")
@example("a/C:x")
@example("data.csv:stream")
@example("\\\\server\\share")
def test_what_is_written_on_windows_is_below_its_folder_and_called_as_it_was(path: str) -> None:
    try:
        parts = parts_of(path, windows=True)
    except RunsteadError as error:
        assert "It is not fetched" in str(error)
        return
    assert "/".join(parts) == path
    place = PureWindowsPath(ntpath.join(BASE, *parts))
    assert place.relative_to(BASE).parts == tuple(parts)
    assert not place.is_reserved() and ntpath.normpath(place) == str(place)
    assert all(part == part.rstrip(". ") for part in parts)


@pytest.mark.parametrize(
    "path", ["model.pt", "a b/c.d", "COM10", "console", "é", ".hidden", "x (1).txt", "nullable.csv", "a..b"]
)
def test_ordinary_names_are_names_everywhere(path: str) -> None:
    assert parts_of(path, windows=True) == parts_of(path, windows=False) == path.split("/")


@pytest.mark.parametrize("path", ["", "/a", "a//b", "../a", "a/../b", "a/.", "a\0b"])
def test_what_leads_out_is_no_name_anywhere(path: str) -> None:
    for windows in (True, False):
        with pytest.raises(RunsteadError, match="no name of a file here"):
            parts_of(path, windows)


def test_names_that_differ_by_case_are_two_files_only_where_case_counts() -> None:
    apart(["a.txt", "A.txt", "b/A.txt"], windows=False)
    apart(["a.txt", "b/a.txt"], windows=True)
    with pytest.raises(RunsteadError, match=r"'a\.txt' and 'A\.txt' are one file"):
        apart(["a.txt", "A.txt"], windows=True)
