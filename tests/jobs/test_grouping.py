from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from assistant.jobs.files import Recording
from assistant.jobs.grouping import group


@given(
    st.lists(st.tuples(st.sampled_from([None, "de", "en"]), st.floats(0, 1000)), max_size=60),
    st.randoms(),
)
def test_groups_hold_everything_once_whatever_the_order(
    raw: list[tuple[str | None, float]], chance: object
) -> None:
    measured = [
        (Recording(Path(f"/{i}"), str(i), language), seconds)
        for i, (language, seconds) in enumerate(raw)
    ]
    groups = list(group(measured))
    chance.shuffle(measured)  # type: ignore[attr-defined]
    assert list(group(measured)) == groups
    lengths = dict(measured)
    members = [recording for one in groups for recording in one.recordings]
    assert sorted(members, key=lambda r: int(r.name)) == sorted(lengths, key=lambda r: int(r.name))
    for one in groups:
        assert 1 <= len(one.recordings) <= 16
        assert len(one.recordings) == 1 or one.sound_s <= 480.0
        assert len({recording.language for recording in one.recordings}) == 1
        own = [lengths[recording] for recording in one.recordings]
        assert own == sorted(own, reverse=True)
        assert abs(one.sound_s - sum(own)) < 1e-6
