"""Which class an attack is about."""

from __future__ import annotations

import math

import numpy as np
from which_class import pointed


def test_the_class_in_which_a_client_lies_farthest_below_the_others() -> None:
    nan = math.nan
    values = np.array(
        [
            [0.1, 0.5, 0.9],  # below in the first
            [0.8, 0.5, 0.1],  # below in the last
            [0.9, nan, 0.9],  # has none in the second
            [0.7, 0.6, 0.8],
            [0.8, 0.5, 0.8],
        ]
    )
    assert pointed(values)[:3].tolist() == [[1, 0, 0], [0, 0, 1], [0, 1, 0]]


def test_a_class_that_half_of_the_clients_lack_points_at_nobody() -> None:
    values = np.array([[math.nan, 0.4], [math.nan, 0.5], [0.9, 0.5], [0.1, 0.5]])
    assert pointed(values)[0].tolist() == [0, 1]


def test_classes_that_are_equally_far_share_the_hit() -> None:
    values = np.array([[math.nan, math.nan, 0.5], [0.5, 0.5, 0.5], [0.5, 0.5, 0.5]])
    assert pointed(values)[0].tolist() == [0.5, 0.5, 0]
