"""A file is replaced by a whole one, or left as it was."""

import pytest

from tinygen.files import replacing


@pytest.mark.parametrize("as_given", [str, lambda path: path])
def test_a_whole_file_takes_the_place_of_the_old_one(tmp_path, as_given):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with replacing(as_given(path)) as file:
        file.write(b"new")
        assert path.read_text() == "old"
    assert path.read_text() == "new" and list(tmp_path.iterdir()) == [path]


def test_an_error_leaves_the_old_file_alone(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(ZeroDivisionError), replacing(path) as file:
        file.write(b"half")
        raise ZeroDivisionError
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]
