"""Reading a range from the command line: `lr=1e-3..0.5:log`, `hidden=0..512:64`, `width=32,64`."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

EXAMPLES = "lr=1e-3..0.5:log, hidden=0..512:64 or batch_size=64,128,256"


def parse_range(spec: str, kind: type | None = None) -> tuple[str, BaseDistribution]:
    """Parse `name=low..high[:log|:step]` or `name=a,b,c` into a name and a distribution.

    `kind` is the knob's type in the task's config: with float, `0..1` is a continuous range; with
    int, a bound that is no integer is an error; None decides by how the bounds are written.
    """
    name, equals, body = (part.strip() for part in spec.partition("="))
    if not equals or not name or not body:
        raise _wrong(spec, "is not of the form NAME=RANGE")
    if ".." in body:
        return name, _interval(spec, body, kind)
    return name, _choices(spec, body, kind)


def _wrong(spec: str, reason: str) -> ValueError:
    return ValueError(f"range {spec!r} {reason}; write it like {EXAMPLES}")


def _interval(spec: str, body: str, kind: type | None) -> BaseDistribution:
    bounds, _, option = (part.strip() for part in body.partition(":"))
    low, _, high = (part.strip() for part in bounds.partition(".."))
    log = option == "log"
    step = None if log or not option else option
    numbers = [_number(spec, text) for text in (low, high, *([step] if step else []))]
    whole = kind is int or (kind is None and all(isinstance(n, int) for n in numbers))
    if kind is int and not all(isinstance(n, int) for n in numbers):
        raise _wrong(spec, "has a bound or step that is not an integer, but the knob is one")
    if numbers[0] > numbers[1]:
        raise _wrong(spec, "has its lower bound above its upper bound")
    if log and numbers[0] <= 0:
        raise _wrong(spec, "is logarithmic, so its lower bound must be above 0")
    exact = [Decimal(repr(number)) for number in numbers]  # 0.3 - 0.1 is 0.2, as it is written
    if step and not 0 < exact[2] <= exact[1] - exact[0]:
        raise _wrong(spec, "has a step that is not between 0 and the width of the range")
    if whole:
        width = int(numbers[2]) if step else 1
        top = int(numbers[1]) - (int(numbers[1]) - int(numbers[0])) % width
        return IntDistribution(int(numbers[0]), top, log=log, step=width)
    if step:
        top_value = float(exact[1] - (exact[1] - exact[0]) % exact[2])
        return FloatDistribution(float(numbers[0]), top_value, step=float(numbers[2]))
    return FloatDistribution(float(numbers[0]), float(numbers[1]), log=log)


def _number(spec: str, text: str) -> int | float:
    try:
        return int(text)
    except ValueError:
        pass
    try:
        value = float(text)
    except ValueError:
        raise _wrong(spec, f"has {text!r} where a number is needed") from None
    if value != value or value in (float("inf"), float("-inf")):
        raise _wrong(spec, f"has {text!r}, which is not finite")
    return value


def _choices(spec: str, body: str, kind: type | None) -> CategoricalDistribution:
    texts = [text.strip() for text in body.split(",")]
    if len(texts) < 2:
        raise _wrong(spec, "holds one value only (fix a knob with --set)")
    if "" in texts:
        raise _wrong(spec, "has an empty choice")
    values = [_choice(spec, text, kind) for text in texts]
    if len({(type(v), v) for v in values}) < len(values):
        raise _wrong(spec, "names a choice twice")
    return CategoricalDistribution(values)


def _choice(spec: str, text: str, kind: type | None) -> Any:
    words = {"true": True, "false": False, "none": None}
    if kind is str:
        return text
    if kind in (int, float):
        number = _number(spec, text)
        if kind is int and not isinstance(number, int):
            raise _wrong(spec, f"has {text!r} where an integer is needed")
        return kind(number)
    if text.lower() in words:
        return words[text.lower()]
    try:
        return _number(spec, text)
    except ValueError:
        return text
