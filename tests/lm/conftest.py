"""Shared helpers and fixtures of the tests of lm/."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture
def text_dir(tmp_path):
    """Folder with the texts of the toy language."""
    from toy_language import write_texts  # needs torch, which tests of the runtime do without

    return write_texts(tmp_path)


@pytest.fixture
def store(tmp_path, text_dir):
    """Its tokens."""
    from toy_language import write_store

    return write_store(tmp_path, text_dir)


@pytest.fixture(scope="module")
def neural_folder(tmp_path_factory):
    """A neural language model, two adapters and a lexicon; shared, so do not change it."""
    from toy_neural import write_toy_model

    neural_folder = tmp_path_factory.mktemp("lm")
    write_toy_model(neural_folder)
    return neural_folder


@pytest.fixture(scope="module")
def neural_model(neural_folder):
    """That model, open."""
    from lm.onnx_lm import OnnxLanguageModel

    return OnnxLanguageModel(neural_folder / "lm.onnx", neural_folder / "lm.bin")
