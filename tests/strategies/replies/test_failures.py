"""Errors in words a person can act on."""

from __future__ import annotations

import json

import pytest

from fedcircuit.strategies.replies.failures import (
    AllClientsFailedError,
    ClientError,
    readable,
    user_frame,
)

RAY = """<class 'ray.exceptions.RayTaskError(X)'>:<'\x1b[36mray::Actor.run()\x1b[39m (pid=1)
                  ^^^^^^^
  File "/env/lib/python3.11/site-packages/flwr/clientapp/client_app.py", line 161, in __call__
    return self._registered_funcs[full_name](message, context)
           ^^^^^^^
  File "/srv/me/project/client.py", line 14, in train
    raise ValueError("my own bug")
  File "/env/lib/python3.11/site-packages/torch/nn/modules/linear.py", line 9, in forward
    return input
ValueError: my own bug

The above exception was the direct cause of the following exception:

\x1b[36mray::ClientAppActor.run()\x1b[39m (pid=20621)
  File "/env/lib/python3.11/site-packages/flwr/simulation/ray_actor.py", line 65, in run
    raise ClientAppException(str(ex)) from ex
flwr.clientapp.client_app.ClientAppException: Message: my own bug'>"""


def test_a_reason_from_a_client_is_type_and_message() -> None:
    assert readable("<class 'ValueError'>:<'my mistake'>") == "ValueError: my mistake"
    assert readable("<class 'my.mod.Odd'>:<'it's <odd>'>") == "Odd: it's <odd>"
    assert readable("<class 'KeyError'>:<''>") == "KeyError"


def test_a_reason_from_ray_is_the_users_exception_and_line() -> None:
    assert readable(RAY) == "ValueError: my own bug at /srv/me/project/client.py:14 in train"


def test_a_traceback_through_libraries_alone_gives_the_exception() -> None:
    inside = RAY.replace("/srv/me/project/", "/env/lib/python3.11/site-packages/other/")
    assert readable(inside) == "ValueError: my own bug"


def test_a_reason_within_a_sentence_is_found() -> None:
    text = "Message contains an Error (reason: <class 'OSError'>:<'full'>). It originated..."
    assert readable(text) == "OSError: full"


def test_any_other_reason_stays_as_it_is() -> None:
    assert readable(" ClientApp stopped responding. ") == "ClientApp stopped responding."


def fail_in_a_library() -> None:
    json.loads("{")


def test_the_users_frame_is_the_last_one_that_is_no_librarys() -> None:
    with pytest.raises(ValueError) as caught:
        fail_in_a_library()
    line = fail_in_a_library.__code__.co_firstlineno + 1
    assert user_frame(caught.value) == f"{__file__}:{line} in fail_in_a_library"


def test_an_exception_inside_libraries_alone_gives_their_last_frame() -> None:
    with pytest.raises(ValueError) as caught:
        json.loads("{")
    error = caught.value.with_traceback(caught.tb.tb_next)  # without the test's own frame
    assert "raw_decode" in user_frame(error)


def test_an_exception_never_raised_has_no_place() -> None:
    assert user_frame(ValueError("made up")) == "an unknown place"
    assert ClientError("1", 2, ValueError("made up")).where == "an unknown place"


def test_the_error_names_round_first_client_reason_and_place() -> None:
    error = AllClientsFailedError(3, "7", "ValueError: boom", n_clients=5, where="a.py:1 in f")
    assert str(error) == (
        "all 5 clients failed in round 3; the first, client 7: ValueError: boom\n  at a.py:1 in f"
    )
    assert (error.round, error.client, error.reason) == (3, "7", "ValueError: boom")
