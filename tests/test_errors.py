import inspect
import re

import coterie.errors
from coterie.errors import CoterieError


def test_the_tree_is_drawn_as_it_is_and_each_kind_lies_right_below_the_root() -> None:
    classes = {name: kind for name, kind in vars(coterie.errors).items() if inspect.isclass(kind)}
    drawn = re.findall(r"[├└]── (\w+)", coterie.errors.__doc__ or "")
    assert sorted(drawn) == sorted(set(classes) - {"CoterieError"})
    assert all(kind.__bases__ == (CoterieError,) for name, kind in classes.items() if name != "CoterieError")


def test_a_message_is_one_screen_at_most() -> None:
    short, long = CoterieError("a" * 2500), CoterieError("begin " + "x" * 300_000 + " end")
    assert str(short) == "a" * 2500
    assert len(str(long)) <= 2500
    assert str(long).startswith("begin xxx")
    assert str(long).endswith("xxx end")
