"""Hypothesis strategies that make JSON for pydantic models: ours, and the SDK's."""

import types
import typing
from typing import Annotated, Any, Literal, Union

import annotated_types
from hypothesis import strategies as st
from pydantic import BaseModel, StringConstraints

from assistant.server.realtime.items import DataUrl

TEXT = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), max_size=12)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)
IS_DATA_URL = typing.get_args(DataUrl)[1]


def model(kind: type[BaseModel]) -> st.SearchStrategy[dict[str, Any]]:
    """JSON objects of a model; fields with a default may be left out."""
    required, others = {}, {}
    for name, field in kind.model_fields.items():
        made = of(field.annotation, tuple(field.metadata))
        fixed = field.is_required() or typing.get_origin(field.annotation) is Literal
        (required if fixed else others)[name] = made
    return st.fixed_dictionaries(required, optional=others)


def of(kind: Any, metadata: tuple[Any, ...] = ()) -> st.SearchStrategy[Any]:
    """JSON values of a type."""
    if typing.get_origin(kind) is Annotated:
        inner, *more = typing.get_args(kind)
        return of(inner, (*more, *metadata))
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if origin in (Union, types.UnionType):
        return st.one_of([of(each, metadata) for each in args])
    if origin is Literal:
        return st.sampled_from(args)
    if origin in (tuple, list):
        return st.lists(of(args[0]), max_size=3)
    if origin is dict:
        return st.dictionaries(of(args[0]), of(args[1]), max_size=3)
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return model(kind)
    return _plain(kind, metadata)


def _plain(kind: Any, metadata: tuple[Any, ...]) -> st.SearchStrategy[Any]:
    if kind is bool:
        return st.booleans()
    if kind is int:
        low, high = _range(metadata)
        return st.integers(0 if low is None else int(low), 10**6 if high is None else int(high))
    if kind is float:
        low, high = _range(metadata)
        return st.floats(low or 0.0, 1e6 if high is None else high, exclude_min=True)
    if kind is str:
        return _text(metadata)
    if kind in (type(None), None):
        return st.none()
    return JSON


def _range(metadata: tuple[Any, ...]) -> tuple[float | None, float | None]:
    low = high = None
    for each in _flat(metadata):
        match each:
            case annotated_types.Ge(ge=value) | annotated_types.Gt(gt=value):
                low = value
            case annotated_types.Le(le=value):
                high = value
            case annotated_types.Lt(lt=value):
                high = value * 0.99  # type: ignore[operator]
    return low, high  # type: ignore[return-value]


def _flat(metadata: tuple[Any, ...]) -> typing.Iterator[Any]:
    for each in metadata:
        yield from getattr(each, "metadata", ()) or (each,)


def _text(metadata: tuple[Any, ...]) -> st.SearchStrategy[str]:
    for each in _flat(metadata):
        if each == IS_DATA_URL:
            return st.just("data:image/png;base64,AAAA")
        if isinstance(each, StringConstraints) and each.pattern:
            return st.from_regex(r"\A[a-zA-Z0-9_-]{1,20}\Z")
        if isinstance(each, annotated_types.MinLen):
            return st.from_regex(r"\A[a-z]{1,9}\Z")
    return TEXT
