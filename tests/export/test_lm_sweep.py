"""A language model in fewer bits: what is left of it, and the command that measures it."""

import json

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("onnx")

from export.cli import main  # noqa: E402
from export.language_model import write_language_model  # noqa: E402
from export.lm_sweep import LmVariant, in_bits, quantized  # noqa: E402
from lm.arrayfile import open_array_file  # noqa: E402
from lm.neural import KIND, NeuralModel  # noqa: E402
from lm.train.checkpoint import write_checkpoint  # noqa: E402
from tests.lm.toy_neural import WORDS, make_trained  # noqa: E402


def test_the_exported_bits_are_what_export_writes(tmp_path):
    trained = make_trained(dim=64)
    write_language_model(trained, tmp_path)
    model, size = quantized(trained.model, LmVariant(4, 8))
    exported = NeuralModel.open(tmp_path / "lm.bin")
    assert np.array_equal(exported.rows(slice(None)), model.embedding.detach().numpy())
    arrays = open_array_file(tmp_path / "lm.bin", kind=KIND).arrays
    for number, layer in enumerate(model.networks[0].layers):
        expected = (arrays[f"weight.{number}"].astype(np.float32) * arrays[f"weight_scale.{number}"]).T
        assert np.array_equal(layer.weight.detach().numpy(), expected)
    stored = sum(array.nbytes for name, array in arrays.items() if name != "unknown_log_share")
    assert size == stored


def test_fewer_bits_are_fewer_bytes_and_a_larger_error():
    model = make_trained(dim=64).model
    errors, sizes = [], []
    for bits in (32, 16, 8, 6, 5, 4, 3, 2):
        made, size = quantized(model, LmVariant(bits, bits))
        errors.append((made.embedding - model.embedding).square().mean().item())
        sizes.append(size)
    assert errors[0] == 0
    assert errors == sorted(errors)
    assert sizes == sorted(sizes, reverse=True)


@pytest.mark.parametrize("bits", [2, 3, 4, 5, 6, 8])
def test_rounding_has_as_many_levels_as_the_bits_allow(bits):
    values = torch.linspace(-1, 1, 7 * 45).reshape(7, 45)
    found = in_bits(values, bits, 32)
    assert found.shape == values.shape
    for row in range(7):
        assert len(found[row, :32].unique()) <= 2**bits
    assert (found - values).abs().max() <= 2 * values.abs().max() / (2 ** (bits - 1) - 1)


@pytest.fixture
def run(tmp_path):
    (tmp_path / "run").mkdir()
    write_checkpoint(tmp_path / "run", make_trained(dim=64), step=5)
    (tmp_path / "a.txt").write_text("\n".join(f"{WORDS[5 + n]} {WORDS[9]} {WORDS[20 + n]}" for n in range(12)))
    return tmp_path


def test_the_command_prints_a_table_and_draws(run, capsys):
    options = [
        "--model",
        str(run / "run"),
        "--text",
        f"some={run / 'a.txt'}",
        "--lines",
        "6",
        "--out",
        str(run / "out"),
    ]
    assert main(["sweep-lm", *options, "--variant", "32/32", "4/8", "2/4"]) == 0
    assert "| 4/8 | " in capsys.readouterr().out
    result = json.loads((run / "out" / "sweep-lm.json").read_text())
    assert result["sentences"] == {"some": 6}
    assert [row["variant"] for row in result["rows"]] == ["32/32", "4/8", "2/4"]
    assert all(row["perplexity"]["some"] > 1 for row in result["rows"])
    assert (run / "out" / "sweep-lm.png").stat().st_size > 1000


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"--variant": "4"}, "expected TABLE/LAYERS"),
        ({"--variant": "9/8"}, "expected 2 to 8, 16 or 32, found 9"),
        ({"--text": "some"}, "expected NAME=FILE"),
        ({"--text": "some=empty.txt"}, "no sentences"),
        ({"--model": "nowhere"}, "nowhere"),
    ],
    ids=["no slash", "nine bits", "no name", "empty text", "no model"],
)
def test_what_cannot_be_measured_is_said(run, capsys, monkeypatch, change, message):
    monkeypatch.chdir(run)
    (run / "empty.txt").write_text("")
    options = {"--model": "run", "--text": "some=a.txt", "--variant": "4/8", "--out": "out"} | change
    assert main(["sweep-lm", *(part for option in options.items() for part in option)]) == 2
    assert message in capsys.readouterr().err
