"""Rows of language models that were measured at different times."""

import pytest

pytest.importorskip("torch")

from benchmarks.language import merged  # noqa: E402


def test_rows_measured_anew_take_their_old_places():
    before = [{"name": "a", "bytes": 1}, {"name": "b", "bytes": 2}]
    now = [{"name": "c", "bytes": 3}, {"name": "a", "bytes": 4}]
    assert [(row["name"], row["bytes"]) for row in merged(before, now)] == [("a", 4), ("b", 2), ("c", 3)]
    assert merged([], now) == now
