"""Questions to a log, against a loop over its events; also to a log without any."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from usermirrorer.data.log.events import Log


EVENT = st.tuples(st.integers(0, 5), st.integers(0, 2), st.integers(0, 3))


@given(events=st.lists(EVENT, max_size=12))
def test_a_log_answers_as_a_loop_over_its_events_does(events: list[tuple[int, int, int]]) -> None:
    events = sorted(events)
    time, user, item = np.array(events, dtype=np.int64).reshape(-1, 3).T
    log = Log(user.astype(np.int32), item.astype(np.int32), time, users=3, items=4)
    earlier = [{tuple(pair) for _, *pair in events[:n]} for n in range(len(events))]
    assert log.first_of_pair.tolist() == [(u, i) not in earlier[n] for n, (_, u, i) in enumerate(events)]
    occasions = [len({t for t, other, _ in events if other == u and t < time}) for time, u, _ in events]
    assert log.occasions_before_event.tolist() == occasions
    moments = np.arange(7)
    for u, i in np.ndindex(3, 4) if events else ():
        times = [t for t, *pair in events if pair == [u, i]]
        query = (np.array(u), np.array(i), moments)
        assert log.seen.before(*query).tolist() == [any(t < moment for t in times) for moment in moments]
        assert log.seen.after(*query).tolist() == [any(t > moment for t in times) for moment in moments]
