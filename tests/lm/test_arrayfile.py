"""The file of arrays as such, and checksums; what its readers make of damaged files is in their own tests."""

import hashlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lm.arrayfile import DTYPES, ArrayFileError, open_array_file, write_array_file
from lm.digest import sha256


@given(data=st.binary(max_size=300), more=st.binary(max_size=300))
def test_digests_are_those_of_hashlib(data, more):
    digest = sha256(data)
    digest.update(more)
    assert digest.hexdigest() == hashlib.sha256(data + more).hexdigest()


def test_arrays_come_back_as_they_were_also_after_their_memory_was_given_back(tmp_path):
    rng = np.random.default_rng(0)
    written = {dtype: rng.integers(0, 100, (7, 1000)).astype(dtype) for dtype in sorted(DTYPES)}
    write_array_file(tmp_path / "a.bin", kind="test", arrays=written, meta={"name": "ä"})
    opened = open_array_file(tmp_path / "a.bin", kind="test")
    assert opened.meta == {"name": "ä"}
    for _ in range(2):
        assert all(np.array_equal(opened.arrays[name], array) for name, array in written.items())
        assert all(opened.arrays[name].dtype == array.dtype for name, array in written.items())
        opened.release()
    assert all(not array.flags.writeable for array in opened.arrays.values())
    assert list(tmp_path.iterdir()) == [tmp_path / "a.bin"]


def test_another_kind_and_a_cut_file_are_refused(tmp_path):
    path = tmp_path / "a.bin"
    write_array_file(path, kind="test", arrays={"x": np.arange(100)}, meta={})
    with pytest.raises(ArrayFileError, match="holds 'test' version 1, expected 'other' version 1 or 2"):
        open_array_file(path, kind="other")
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(ArrayFileError, match="cut off: array 'x' ends at byte"):
        open_array_file(path, kind="test")
    path.write_bytes(b"")
    with pytest.raises(ArrayFileError, match="not an array file"):
        open_array_file(path, kind="test")


def test_types_that_the_format_does_not_hold(tmp_path):
    with pytest.raises(TypeError, match="'x' has dtype complex128"):
        write_array_file(tmp_path / "a.bin", kind="test", arrays={"x": np.zeros(3, complex)}, meta={})
    assert not list(tmp_path.iterdir())


@given(st.lists(st.sampled_from([0, 1, 3, 254, 255, 256, 257, 70_000]), max_size=40), st.integers(0, 1000))
def test_starts_come_back_from_their_counts(tmp_path_factory, counts, first):
    starts = np.cumsum([first, *counts]).astype(np.uint32)
    path = tmp_path_factory.mktemp("counts") / "a.bin"
    write_array_file(path, kind="test", arrays={"first": starts, "other": starts}, meta={}, counts=["first"])
    opened = open_array_file(path, kind="test")
    assert opened.arrays["first"].dtype == np.uint32
    assert np.array_equal(opened.arrays["first"], starts)
    assert np.array_equal(opened.arrays["other"], starts)
    assert not opened.arrays["first"].flags.writeable
    assert opened.offsets.keys() == {"other"}
    opened.release()
    assert np.array_equal(opened.arrays["first"], starts)


def test_counts_take_a_byte_a_row(tmp_path):
    starts = np.arange(0, 50_000, 5, dtype=np.uint32)
    for name, counts in (("plain", ()), ("counts", ("x",))):
        write_array_file(tmp_path / name, kind="test", arrays={"x": starts}, meta={}, counts=counts)
    saved = (tmp_path / "plain").stat().st_size - (tmp_path / "counts").stat().st_size
    assert saved == pytest.approx(3 * len(starts), abs=64)


@pytest.mark.parametrize(
    ("array", "error", "message"),
    [
        (np.array([3, 2], np.uint32), ValueError, "'x' falls"),
        (np.array([1, 2], np.int64), TypeError, "'x' of int64"),
        (np.zeros((2, 2), np.uint32), TypeError, r"shape \(2, 2\)"),
        (np.zeros(0, np.uint32), TypeError, r"shape \(0,\)"),
    ],
)
def test_what_cannot_be_stored_as_counts(tmp_path, array, error, message):
    with pytest.raises(error, match=message):
        write_array_file(tmp_path / "a.bin", kind="test", arrays={"x": array}, meta={}, counts=["x"])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"large": [[1, 300]]', '"large": [[9, 300]]', "array 'x': damaged counts"),
        ('"large": [[1, 300]]', '"large": [[1, "a"]]', "array 'x': damaged counts"),
        ('"large": [[1, 300]]', '"large": [[1, -30]]', "array 'x': damaged counts"),
        ('"shape": [4]', '"shape": [0]', "array 'x': damaged counts"),
        ('"shape": [4]', '"shape": [9999]', "cut off: array 'x'"),
        ('"version": 2', '"version": 3', "holds 'test' version 3"),
    ],
)
def test_damaged_counts_are_refused(tmp_path, old, new, message):
    path = tmp_path / "a.bin"
    starts = np.array([0, 5, 305, 306], np.uint32)
    write_array_file(path, kind="test", arrays={"x": starts}, meta={"room": " " * 20}, counts=["x"])
    head = path.read_bytes()
    assert old.encode() in head
    changed = head.replace(old.encode(), new.encode())
    changed = changed.replace(b" " * 20, b" " * (20 - len(new) + len(old)), 1)  # the header's length stays
    path.write_bytes(changed)
    with pytest.raises(ArrayFileError, match=message):
        open_array_file(path, kind="test")
