"""Whether a value is of the kind that a parameter's annotation says, and how to say so to a user."""

import math
import types
from collections.abc import Mapping, Sequence
from typing import Any, Literal, Union, get_args, get_origin

WORDS = {int: "a whole number", float: "a finite number", str: "text", bool: "true or false", type(None): "null"}


def fits(value: Any, annotation: Any) -> bool:
    """Whether a plain value is of the annotated kind; whole numbers are numbers, and true and false are not.

    Args:
        value: As YAML gives it.
        annotation: Of built-in kinds, literals, lists, dictionaries and unions of them; anything else fits.
    """
    origin, inside = get_origin(annotation), get_args(annotation)
    if origin in (Union, types.UnionType):
        return any(fits(value, each) for each in inside)
    if origin is Literal:
        return any(value == each and isinstance(value, bool) == isinstance(each, bool) for each in inside)
    if annotation in (None, type(None)):
        return value is None
    if annotation is float:
        return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if annotation is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if annotation in (str, bool):
        return isinstance(value, annotation)
    if origin in (list, Sequence) or annotation is list:
        return isinstance(value, list | tuple) and all(fits(each, inside[0]) for each in value if inside)
    if origin in (dict, Mapping) or annotation is dict:
        return isinstance(value, Mapping) and all(fits(each, inside[1]) for each in value.values() if inside)
    return True


def in_words(annotation: Any) -> str:
    """The kind as a user would say it: ``a whole number or null``."""
    origin, inside = get_origin(annotation), get_args(annotation)
    if origin in (Union, types.UnionType):
        return " or ".join(in_words(each) for each in inside)
    if origin is Literal:
        return str(inside[0]) if len(inside) == 1 else f"one of {', '.join(map(str, inside))}"
    if origin in (list, Sequence) or annotation is list:
        return f"a list of {in_words(inside[0])}" if inside else "a list"
    if origin in (dict, Mapping) or annotation is dict:
        return "a group of keys and values"
    return WORDS.get(type(None) if annotation is None else annotation, "a value")


def choices_of(annotation: Any) -> list[str]:
    """The words that a value of this kind, or of a list of this kind, may be; empty where any text is one."""
    origin, inside = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return [each for each in inside if isinstance(each, str)]
    if origin in (Union, types.UnionType, list, Sequence):
        found = [choice for each in inside for choice in choices_of(each)]
        return [] if str in inside else list(dict.fromkeys(found))
    return []


def is_choice(annotation: Any) -> bool:
    """Whether nothing but the words of ``choices_of``, numbers among them, lists of these and null are of this kind."""
    origin, inside = get_origin(annotation), get_args(annotation)
    if origin in (Union, types.UnionType, list, Sequence):
        return all(each is type(None) or is_choice(each) for each in inside)
    return origin is Literal
