"""LEAF's JSON files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from made_up_files import read


def leaf(path: Path, users: dict[str, tuple[list, list]], /, **change: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {
        "users": list(users),
        "num_samples": [len(y) for _, y in users.values()],
        "user_data": {user: {"x": x, "y": y} for user, (x, y) in users.items()},
        **change,
    }
    path.write_text(json.dumps(content), encoding="utf-8")


def test_leaf_has_a_column_of_users(tmp_path: Path) -> None:
    leaf(tmp_path / "train/a.json", {"f1": ([[1, 2], [3, 4]], [1, 0]), "f0": ([[5, 6]], [1])})
    leaf(tmp_path / "train/b.json", {"f2": ([[7, 8]], [0])})
    leaf(tmp_path / "test/a.json", {"f1": ([[9, 9]], [1])})

    data = read(tmp_path, "leaf", columns=("user",), standardise=False)

    assert data.train.inputs.tolist() == [[1, 2], [3, 4], [5, 6], [7, 8]]
    assert data.train.labels.tolist() == [1, 0, 1, 0]
    assert data.columns["user"].tolist() == ["f1", "f1", "f0", "f2"]


def test_784_numbers_of_leaf_are_an_image(tmp_path: Path) -> None:
    for part in ("train", "test"):
        leaf(tmp_path / part / "a.json", {"f": ([[i / 784 for i in range(784)]] * 2, [0, 1])})
    data = read(tmp_path, "leaf")
    assert data.input_shape == (1, 28, 28)
    assert float(data.train.inputs.mean()) == pytest.approx(0, abs=1e-5)
    assert bool((data.train.inputs[0].flatten().diff() > 0).all())


@pytest.mark.parametrize(
    ("users", "change", "words"),
    [
        ({"f": ([[1], [2]], [0, -1])}, {}, "a.json user f row 1 has the label -1"),
        ({"f": ([[1], [2]], [0])}, {}, "user 'f' has 2 x, 1 y and num_samples 1"),
        ({"f": ([[1]], [0])}, {"num_samples": [2]}, "1 x, 1 y and num_samples 2"),
        (
            {"f": ([[1], [2, 3]], [0, 1])},
            {},
            "x of user 'f' must be lists of numbers of one length",
        ),
        ({"f": (["to be"], [0])}, {}, "x of user 'f' must be lists of numbers"),
        ({"f": ([[1]], [0])}, {"user_data": {}}, "a.json: user 'f' is listed in users and has no"),
        ({"f": ([[1]], [0])}, {"user_data": {"f": None}}, "user 'f' must have a list x and a list"),
        ({"f": ([[1]], [0])}, {"user_data": {"f": {"x": 1, "y": 0}}}, "must have a list x and a"),
        ({"f": ([[1]], [0])}, {"users": [7]}, "user 7 is listed in users and has no entry"),
        ({"f": ([[1]], [0])}, {"users": ["f", "f"], "num_samples": [1, 1]}, "'f' is listed twice"),
        ({"f": ([[1]], [0])}, {"num_samples": [1, 2]}, "users are 1, num_samples 2; .* as many"),
        ({"f": ([[1]], [0])}, {"num_samples": []}, "users are 1, num_samples 0"),
        ({"f": ([[1]], [0])}, {"users": [], "num_samples": []}, "'f' is in user_data and not list"),
        ({"f": ([[10**400]], [0])}, {}, "x of user 'f' must be lists of numbers"),
        ({"f": ([[1]], [0])}, {"users": None}, "no file of LEAF.*TypeError"),
        ({"f": ([[1]], [0]), "g": ([[1, 2]], [0])}, {}, "all x must have one length"),
    ],
)
def test_files_that_are_not_of_leaf_say_why(
    tmp_path: Path, users: dict, change: dict[str, object], words: str
) -> None:
    for part in ("train", "test"):
        leaf(tmp_path / part / "a.json", users, **change)
    with pytest.raises(ValueError, match=words):
        read(tmp_path, "leaf")


def test_a_user_in_two_files_and_an_unknown_column_are_refused(tmp_path: Path) -> None:
    for name in ("train/a", "train/b", "test/a"):
        leaf(tmp_path / f"{name}.json", {"f": ([[1], [2]], [0, 1])})
    with pytest.raises(ValueError, match=r"user 'f' is in .*a\.json and in .*b\.json"):
        read(tmp_path, "leaf")
    with pytest.raises(ValueError, match="one column 'user', not 'city'"):
        read(tmp_path, "leaf", columns=("city",))
