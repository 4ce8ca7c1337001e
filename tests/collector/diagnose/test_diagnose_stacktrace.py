"""Stack traces: the first exception of a chain, and the program's own frame it came from."""

from __future__ import annotations

import json
import traceback

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.diagnose.stacktrace import Birth, birth, short_file


def raised(function: object) -> Birth:
    """The birth of what a function raises, as Python prints it here."""
    try:
        function()  # type: ignore[operator]
    except Exception:
        return birth(traceback.format_exc())
    raise AssertionError("nothing was raised")


def deepest() -> None:
    raise KeyError("shelf")


def through_a_library() -> None:
    json.loads("{")


def chained() -> None:
    try:
        deepest()
    except KeyError as error:
        raise RuntimeError("no label") from error


def in_a_handler() -> None:
    try:
        deepest()
    except KeyError:
        through_a_library()


def test_the_innermost_own_frame_is_the_place_of_birth() -> None:
    """Not where it was caught, nor where it was logged."""
    born = raised(deepest)
    assert born.type == "KeyError"
    assert born.message == "'shelf'"
    assert born.frame is not None
    assert (born.frame.function, born.frame.is_library) == ("deepest", False)
    assert str(born.frame).endswith(f":{deepest.__code__.co_firstlineno + 1} in deepest")


def test_of_what_a_library_raised_the_caller_is_named() -> None:
    """The frame in the library is kept beside it."""
    born = raised(through_a_library)
    assert born.frame is not None
    assert born.raised_in is not None
    assert born.frame.function == "through_a_library"
    assert born.raised_in.is_library


@pytest.mark.parametrize("function", [chained, in_a_handler])
def test_the_first_of_a_chain_is_the_cause(function: object) -> None:
    """Both ways in which Python chains exceptions print the first one first."""
    born = raised(function)
    assert (born.type, born.frame.function if born.frame else None) == ("KeyError", "deepest")


JAVA = """java.lang.RuntimeException: order failed
\tat com.shop.Orders.place(Orders.java:10)
\tat org.springframework.web.Servlet.service(Servlet.java:3)
Caused by: java.lang.IllegalStateException: no stock: 7
\tat java.base/java.util.Objects.requireNonNull(Objects.java:233)
\tat com.shop.Stock.find(Stock.java:42)
\t... 3 more"""

NODE = """Error: card declined
    at authorise (/srv/app/payments.js:31:11)
    at Layer.handle (/srv/app/node_modules/express/lib/router/layer.js:95:5)
    at node:internal/process/task_queues:95:5"""


def test_java_prints_the_first_cause_last() -> None:
    """And the frame that raised on top."""
    born = birth(JAVA)
    assert (born.type, born.message) == ("java.lang.IllegalStateException", "no stock: 7")
    assert str(born.frame) == "Stock.java:42 in com.shop.Stock.find"
    assert born.raised_in is not None
    assert born.raised_in.is_library


def test_javascript_frames_are_read_too() -> None:
    """Installed modules are libraries there as well."""
    born = birth(NODE)
    assert (born.type, born.message) == ("Error", "card declined")
    assert str(born.frame) == "/srv/app/payments.js:31 in authorise"


def test_where_all_frames_are_a_librarys_the_innermost_is_named() -> None:
    """Better than nothing: a program may be installed like a library."""
    text = 'Traceback:\n  File "/x/site-packages/shop/a.py", line 3, in run\nValueError: x\n'
    assert str(birth(text).frame) == "site-packages/shop/a.py:3 in run"


@given(st.text(max_size=300))
def test_any_text_is_read_without_harm(text: str) -> None:
    """A text that is no stack trace has no frame."""
    assert birth(text).frame is None or '"' in text or "at " in text


def test_a_text_without_frames_has_no_birth() -> None:
    """Nothing is made up."""
    assert birth("") == Birth(frame=None, raised_in=None, type=None, message=None)


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/usr/src/app/shop/orders.py", "app/shop/orders.py"),
        ("C:\\build\\app\\shop\\orders.py", "app/shop/orders.py"),
        ("/app/orders.py", "/app/orders.py"),
        ("some/where/in/shop/orders.py", "some/where/in/shop/orders.py"),
        ("OrderService.java", "OrderService.java"),
    ],
)
def test_a_place_has_the_same_name_wherever_it_is_installed(path: str, name: str) -> None:
    """Of absolute paths the last directories are kept; what a program shortened itself is left alone."""
    assert short_file(path) == name
