import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedcircuit.ranges import require_at_least, require_between


def test_the_first_number_that_is_too_small_is_named() -> None:
    require_at_least(1, "controls", count=1, negatives=7, removals=None)
    with pytest.raises(ValueError, match=r"^negatives must be >= 1, got 0 \(controls\)$"):
        require_at_least(1, "controls", count=1, negatives=0, removals=-1)
    with pytest.raises(ValueError, match=r"^batch must be >= 0, got -1$"):
        require_at_least(0, batch=-1)


@pytest.mark.parametrize(
    ("span", "low", "high"),
    [("(0, 1]", False, True), ("[0, 1)", True, False), ("(0, 1)", False, False),
     ("[0, 1]", True, True)],
)  # fmt: skip
def test_brackets_say_which_bounds_are_allowed(span: str, low: bool, high: bool) -> None:
    require_between(span, share=0.5)
    for value, allowed in ((0, low), (1, high), (-1e-9, False), (1.0000001, False)):
        if allowed:
            require_between(span, share=value)
            continue
        with pytest.raises(ValueError, match="share must lie in ") as caught:
            require_between(span, "method 'x'", share=value)
        assert str(caught.value) == f"share must lie in {span}, got {value} (method 'x')"


def test_what_is_no_number_lies_nowhere() -> None:
    with pytest.raises(ValueError, match=r"share must lie in \[0, 1\], got nan"):
        require_between("[0, 1]", share=math.nan)


@given(st.floats(-5, 5), st.floats(-5, 5))
def test_every_number_is_refused_or_in_range(least: float, value: float) -> None:
    try:
        require_at_least(least, x=value)
    except ValueError:
        assert value < least
    else:
        assert value >= least
