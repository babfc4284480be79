"""What a session leaves behind is gone when it has ended."""

import gc
import os
import weakref
from collections.abc import Iterator

import pytest

from assistant.server import tidying
from assistant.server.tidying import bound_memory, set_models_aside, tidy


class Part:
    other: "Part"


@pytest.fixture
def aside() -> Iterator[None]:
    gc.disable()
    yield
    gc.unfreeze()
    gc.enable()


def cycle() -> "weakref.ref[Part]":
    one, two = Part(), Part()
    one.other, two.other = two, one
    return weakref.ref(one)


def test_objects_that_refer_to_each_other_are_collected(aside: None) -> None:
    left = cycle()
    assert left() is not None
    tidy()
    assert left() is None


def test_a_system_without_such_an_allocator_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.platform", "darwin")
    tidying._of_c.cache_clear()
    bound_memory()
    tidy()
    assert tidying._of_c("malloc_trim") is None
    tidying._of_c.cache_clear()


def test_few_kernels_are_kept_unless_somebody_chose_otherwise(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY"):
        monkeypatch.setenv(name, "64")
    monkeypatch.delenv("LRU_CACHE_CAPACITY")
    bound_memory()
    assert os.environ["ONEDNN_PRIMITIVE_CACHE_CAPACITY"] == "64"
    assert os.environ["LRU_CACHE_CAPACITY"] == "256"


def test_what_is_set_aside_is_not_looked_at_again(aside: None) -> None:
    model = cycle()  # garbage only once it is set aside, as a model's parts may be
    held = model()
    set_models_aside()
    assert gc.get_freeze_count() > 0
    del held
    session = cycle()
    tidy()
    assert session() is None
    assert model() is not None
