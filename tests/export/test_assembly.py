"""Bundles put together from parts, all of them or some on top of a bundle that there is."""

import json
import shutil

import pytest

pytest.importorskip("torch")

from asr.bundle import Bundle  # noqa: E402
from asr.errors import OptionError  # noqa: E402
from export.assembly import NEEDED, Parts, assemble  # noqa: E402
from export.bundle import copy_bundle  # noqa: E402
from export.cli import main  # noqa: E402


def contents(bundle):
    return {name: bundle.file(name).read_bytes() for name in bundle.manifest.files}


def settings_of_tiny(tiny_bundle, tmp_path):
    manifest = json.loads((tiny_bundle / "manifest.json").read_text())
    path = tmp_path / "settings.json"
    path.write_text(json.dumps(manifest))
    return path


@pytest.fixture
def parts_of_tiny(tiny_bundle, tmp_path):
    """What the tiny bundle is made of."""
    return {
        "encoder": tiny_bundle / "encoder.onnx",
        "lexicon": tiny_bundle / "lexicon.bin",
        "ngram": tiny_bundle / "ngram.bin",
        "card": tiny_bundle / "README.md",
        "selftest": tiny_bundle / "selftest.flac",
        "selftest_text": Bundle.open(tiny_bundle).manifest.selftest.text,
        "settings": settings_of_tiny(tiny_bundle, tmp_path),
    }


def test_all_parts_make_the_bundle(tiny_bundle, parts_of_tiny, tmp_path):
    tiny, made = Bundle.open(tiny_bundle), assemble(tmp_path / "made", Parts(**parts_of_tiny))
    assert contents(made) == contents(tiny)
    assert made.manifest.decoding == tiny.manifest.decoding
    assert made.manifest.quantization["encoder"]["weights"] == "int8 per column"


@pytest.mark.parametrize("left_out", NEEDED)
def test_without_a_base_every_part_is_needed(parts_of_tiny, tmp_path, left_out):
    with pytest.raises(OptionError, match=f"bundle: {left_out} missing"):
        assemble(tmp_path / "made", Parts(**{**parts_of_tiny, left_out: None}))
    assert not (tmp_path / "made").exists()


def test_what_is_not_given_is_the_base_s(tiny_bundle, tmp_path):
    tiny = Bundle.open(tiny_bundle)
    (tmp_path / "card.md").write_text("# another card\n")
    made = assemble(tmp_path / "made", Parts(card=tmp_path / "card.md"), tiny)
    assert made.manifest.files.keys() == tiny.manifest.files.keys()
    changed = {name for name, content in contents(made).items() if content != contents(tiny)[name]}
    assert changed == {"README.md"}
    assert made.manifest.endpoint == tiny.manifest.endpoint


def test_a_language_model_takes_the_other_s_place_with_its_adapters(tmp_path):
    english = Bundle.open()
    folder = tmp_path / "lm"
    folder.mkdir()
    for name in ("lm.bin", "lm.onnx"):
        shutil.copy(english.file(name), folder / name)
    (folder / "adapters").mkdir()
    for suffix in (".bin", ".onnx_adapter"):
        shutil.copy(english.file(f"adapters/assistant{suffix}"), folder / "adapters")
    only = {"domains": {"assistant": english.manifest.domains["assistant"]}}
    lighter = copy_bundle(english, tmp_path / "lighter", files={}, without=[
        name for name in english.manifest.files if name.startswith("adapters/dictation")
    ], **only)  # fmt: skip
    made = assemble(tmp_path / "made", Parts(lm=folder), lighter)
    assert {name for name in made.manifest.files if name.startswith("adapters/")} == {
        "adapters/assistant.bin", "adapters/assistant.onnx_adapter",
    }  # fmt: skip
    assert made.manifest.quantization["encoder"] == english.manifest.quantization["encoder"]
    assert made.manifest.quantization["lm"]["embedding"] == "4 bits, a scale for 32"


def test_the_command(tiny_bundle, tmp_path, capsys):
    command = ["bundle", "--base", str(tiny_bundle), "--out", str(tmp_path / "made")]
    assert main([*command, "--ngram", str(tiny_bundle / "ngram.bin")]) == 0
    assert "wrote" in capsys.readouterr().out
    assert contents(Bundle.open(tmp_path / "made")) == contents(Bundle.open(tiny_bundle))
    assert main([*command, "--selftest-text", "stop"]) == 2
    assert "clip and its text go together" in capsys.readouterr().err
    assert main(["bundle", "--out", str(tmp_path / "no")]) == 2
    assert "encoder, lexicon, ngram, settings" in capsys.readouterr().err
