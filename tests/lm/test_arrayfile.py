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
    with pytest.raises(ArrayFileError, match="holds 'test' version 1, expected 'other' version 1"):
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
