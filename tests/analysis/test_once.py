from dataclasses import replace

from tests.helpers.records import record_of_trials, scored
from tuneflow.analysis.once import once


def test_a_result_is_computed_once_until_more_trials_end():
    calls = []
    count = once(lambda record, scale=1: calls.append(scale) or scale * record.history.ended)
    record = record_of_trials([scored(0, 0.5)])
    assert [count(record), count(record), count(record, 2), count(record, scale=2)] == [1, 1, 2, 2]
    record.history.record(scored(1, 0.6))
    assert count(record) == 2
    assert count(replace(record)) == 2
    assert calls == [1, 2, 2, 1, 1]
    assert record == replace(record)
