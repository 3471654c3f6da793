"""Bundles with a neural language model: domains, adapters of the user's own, and manifests that do not fit."""

import hashlib
import shutil
from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch")
onnx = pytest.importorskip("onnx")

import asr  # noqa: E402
from asr.bundle import Bundle, DomainInfo  # noqa: E402
from asr.cli import main  # noqa: E402
from asr.language import Language  # noqa: E402
from export.language_model import write_language_model  # noqa: E402
from lm.arrayfile import open_array_file, write_array_file  # noqa: E402
from lm.lexicon_build import extend_lexicon  # noqa: E402
from lm.neural import KIND, NeuralModel  # noqa: E402
from lm.pieces import BEGIN, Pieces  # noqa: E402
from lm.train.checkpoint import TrainedModel  # noqa: E402
from lm.train.fofe import Adapter, AdapterConfig, LanguageModel  # noqa: E402
from lm.train.recipe import LanguageModelConfig  # noqa: E402
from lm.train.runtime import write_runtime_adapter  # noqa: E402
from lm.vocabulary import SPECIAL_WORDS  # noqa: E402
from tests.conftest import RATE_HZ, SPOKEN  # noqa: E402

WORDS = ("<unk>", "<s>", "</s>", *SPOKEN)
CONFIG = LanguageModelConfig(vocabulary_size=len(WORDS) - 1, context=3, window=2, dim=4, hidden=6, layers=1)


def write_adapter(folder, name, trunk, words):
    """An adapter that finds some words a thousand times more likely than the model does."""
    adapter = Adapter(AdapterConfig(name, 2, (0, 1)), CONFIG)
    with torch.no_grad():
        adapter.bias[[WORDS.index(word) for word in words]] = 7.0
    write_runtime_adapter(adapter, trunk, folder)


@pytest.fixture(scope="module")
def language(tmp_path_factory):
    """Folder of a model that knows nothing, with an adapter that expects cats and one that expects spots."""
    folder = tmp_path_factory.mktemp("language")
    model = LanguageModel(CONFIG)
    with torch.no_grad():
        model.embedding.zero_()
        model.bias.fill_(-np.log(len(WORDS)))
    write_language_model(TrainedModel(model, WORDS, np.zeros(1, np.float32)), folder)
    trunk = NeuralModel.open(folder / "lm.bin").trunk
    write_adapter(folder, "assistant", trunk, ["cat"])
    write_adapter(folder, "mine", trunk, ["tack"])
    return folder


@pytest.fixture
def bundle(make_bundle, language, tmp_path):
    """Bundle with the domains "assistant", which wears an adapter, and "dictation", which has only other weights."""
    parts = tmp_path / "parts"
    files = {name: language / name for name in ("lm.onnx", "lm.bin")}
    files |= {f"adapters/assistant.{kind}": language / f"assistant.{kind}" for kind in ("bin", "onnx_adapter")}
    files |= {name: parts / name for name in ("encoder.onnx", "lexicon.bin", "ngram.bin", "selftest.flac")}
    domains = {
        "assistant": DomainInfo("adapters/assistant.bin", 0.9, 1.0, 0.0),
        "dictation": DomainInfo("", 0.0, 0.5, 0.1),
    }
    return make_bundle(files=files, neural_share=0.5, domains=domains)


@pytest.mark.parametrize("domain", [None, "assistant", "dictation"])
def test_every_domain_hears(bundle, speak, domain):
    recognizer, speech = asr.Recognizer(bundle), speak("stop spot it's pin cat")
    assert recognizer.domains == ("assistant", "dictation")
    assert recognizer.transcribe((speech.samples, RATE_HZ), domain=domain).text == speech.text


@pytest.mark.parametrize("domain", [None, "assistant"])
def test_a_narrow_beam_hears_clear_speech_and_is_every_domains(bundle, speak, domain):
    recognizer, speech = asr.Recognizer(bundle, beam_size=2), speak("stop spot cat")
    assert recognizer.transcribe((speech.samples, RATE_HZ), domain=domain).text == speech.text
    assert recognizer._language.decoding(domain).beam_size == 2


def test_a_domain_decides_what_is_not_clear(bundle, language, speak):
    """Between "cat" and "tack", mixed half and half, the adapter's favourite wins."""
    recognizer = asr.Recognizer(bundle, adapters=[language / "mine.bin"])
    both = (speak("cat").samples + speak("tack").samples) / 2
    heard = {domain: recognizer.transcribe((both, RATE_HZ), domain=domain).text for domain in ("assistant", "mine")}
    assert heard == {"assistant": "cat", "mine": "tack"}


def test_the_model_may_serve_some_domains_only(bundle, edit_manifest, speak):
    edit_manifest(bundle, lambda manifest: manifest.update(neural_share=0.0))
    recognizer, speech = asr.Recognizer(bundle), speak("stop cat")
    for domain in (None, "assistant"):
        assert recognizer.transcribe((speech.samples, RATE_HZ), domain=domain).text == speech.text


@pytest.fixture
def piece_bundle(make_bundle, tmp_path):
    """Bundle whose language model spells: all pieces are as likely, and the n-gram has half of the probability."""
    parts, folder = tmp_path / "parts", tmp_path / "pieces"
    folder.mkdir()
    texts = (*SPECIAL_WORDS, BEGIN, *sorted(set("".join(SPOKEN)) - {BEGIN}), BEGIN + "spot")
    pieces = Pieces(texts, (0.0,) * 3 + (-2.0,) * (len(texts) - 3))
    model = LanguageModel(replace(CONFIG, vocabulary_size=len(texts)))
    with torch.no_grad():
        model.embedding.zero_()
        model.bias.fill_(-np.log(len(texts)))
    write_language_model(TrainedModel(model, texts, np.zeros(0, np.float32), pieces), folder)
    pieces.write(folder / "pieces.bin")
    files = {name: folder / name for name in ("lm.onnx", "lm.bin", "pieces.bin")}
    files |= {name: parts / name for name in ("encoder.onnx", "lexicon.bin", "ngram.bin", "selftest.flac")}
    return make_bundle(files=files, neural_share=0.5)


def test_a_model_of_pieces_hears_too_and_scores_words_that_no_list_holds(piece_bundle, speak):
    recognizer, speech = asr.Recognizer(piece_bundle), speak("stop spot it's pin cat")
    assert recognizer.transcribe((speech.samples, RATE_HZ)).text == speech.text
    language = Language(Bundle.open(piece_bundle))
    longer = extend_lexicon(language.lexicon, {"pots": {(5, 6): 0.0}}, np.array([-5.0]))
    assert language.n_scored_words(longer) == len(longer)
    scorer = language.scorer(None, longer)
    unlisted, listed = scorer.step(scorer.start(), len(longer) - 1)[1], scorer.step(scorer.start(), 3)[1]
    assert -np.inf < unlisted < listed
    assert unlisted == pytest.approx(np.log(0.5) - 5 * np.log(len(language.pieces)), abs=0.02)  # half-precision bias


def test_pieces_of_another_model(piece_bundle, edit_manifest):
    other = Pieces((*SPECIAL_WORDS, BEGIN), (0.0, 0.0, 0.0, -1.0))
    other.write(piece_bundle / "pieces.bin")
    raw = (piece_bundle / "pieces.bin").read_bytes()
    entry = {"sha256": hashlib.sha256(raw).hexdigest(), "bytes": len(raw)}
    edit_manifest(piece_bundle, lambda manifest: manifest["files"].update({"pieces.bin": entry}))
    with pytest.raises(asr.BundleFileError, match=r"over the pieces of pieces\.bin, found another"):
        asr.Recognizer(piece_bundle)


def test_domains_that_are_not_there(bundle, tiny_bundle):
    recognizer = asr.Recognizer(bundle)
    with pytest.raises(asr.OptionError, match="expected one of assistant, dictation, found 'medical'"):
        recognizer.create_stream(domain="medical")
    with pytest.raises(asr.OptionError, match="this bundle has none, found 'assistant'"):
        asr.Recognizer(tiny_bundle).create_stream(domain="assistant")


def test_adapters_that_cannot_be_used(bundle, tiny_bundle, language, tmp_path):
    copy = shutil.copytree(language, tmp_path / "copy")
    with pytest.raises(asr.OptionError, match="no neural language model"):
        asr.Recognizer(tiny_bundle, adapters=[language / "mine.bin"])
    with pytest.raises(asr.OptionError, match="name that is taken"):
        asr.Recognizer(bundle, adapters=[language / "assistant.bin"])
    with pytest.raises(asr.OptionError, match="nowhere"):
        asr.Recognizer(bundle, adapters=[tmp_path / "nowhere.bin"])
    (copy / "mine.bin").write_bytes(b"text")
    with pytest.raises(asr.OptionError, match="not an array file"):
        asr.Recognizer(bundle, adapters=[copy / "mine.bin"])
    write_adapter(copy, "foreign", "0" * 64, ["cat"])
    with pytest.raises(asr.OptionError, match="made for the language model 0000"):
        asr.Recognizer(bundle, adapters=[copy / "foreign.bin"])


def test_the_command_takes_domains_and_adapters(bundle, language, capsys):
    clip = str(bundle / "selftest.flac")
    options = ["transcribe", clip, "--bundle", str(bundle), "--adapter", str(language / "mine.bin")]
    assert main([*options, "--domain", "mine"]) == 0
    assert capsys.readouterr().out == "stop spot it's pin\n"
    assert main([*options, "--domain", "other"]) == 2
    assert "expected one of assistant, dictation, mine" in capsys.readouterr().err
    assert main(["info", str(bundle)]) == 0
    assert "assistant, dictation" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m.update(neural_share=1.5), "neural_share: expected 0 to 1, found 1.5"),
        (lambda m: m["domains"]["assistant"].update(neural_share=-1.0), r"domains\['assistant'\].neural_share"),
        (lambda m: m["domains"]["assistant"].update(lm_weight=-1.0), "lm_weight is -1.0"),
        (lambda m: m["domains"]["assistant"].update(adapter="../x.bin"), "not a plain path"),
        (lambda m: m["domains"]["assistant"].update(wings=2), "unknown key 'wings'"),
        (lambda m: m["domains"]["dictation"].pop("word_score"), "'word_score' is missing"),
        (lambda m: m.update(domains=[]), "domains: expected an object"),
    ],
)
def test_manifests_whose_domains_are_wrong(bundle, edit_manifest, change, message):
    edit_manifest(bundle, change)
    with pytest.raises(asr.BundleManifestError, match=message):
        asr.Recognizer(bundle)


@pytest.mark.parametrize("name", ["lm.onnx", "lm.bin", "ngram.bin", "adapters/assistant.onnx_adapter"])
def test_language_files_that_are_missing(bundle, edit_manifest, name):
    (bundle / name).unlink()
    edit_manifest(bundle, lambda manifest: manifest["files"].pop(name))
    with pytest.raises(asr.BundleFileError, match=f"expected an entry for {name}"):
        asr.Recognizer(bundle)


def test_a_model_alone_needs_no_ngram(bundle, edit_manifest, speak):
    def change(manifest):
        manifest["files"].pop("ngram.bin")
        manifest.update(neural_share=1.0, domains={})

    (bundle / "ngram.bin").unlink()
    edit_manifest(bundle, change)
    speech = speak("pin cat stop")
    assert asr.Recognizer(bundle).transcribe((speech.samples, RATE_HZ)).text == speech.text


def rewrite(path, change):
    """Write `lm.bin` again with changed arrays."""
    file = open_array_file(path, kind=KIND)
    arrays = {name: array.copy() for name, array in file.arrays.items()}
    change(arrays)
    write_array_file(path, kind=KIND, arrays=arrays, meta=file.meta)


def one_word_more(folder):
    rewrite(folder / "lm.bin", lambda arrays: arrays.update(unknown_log_share=np.zeros(2, np.float16)))


def too_large_weights(folder):
    """Finite weights whose products are not."""
    rewrite(folder / "lm.bin", lambda arrays: arrays["layer_bias.0"].fill(3e38))
    rewrite(folder / "lm.bin", lambda arrays: arrays["weight.1"].fill(127))
    rewrite(folder / "lm.bin", lambda arrays: arrays["weight_scale.1"].fill(1.0))


def doubled_output(folder):
    """A graph that gives twice as many numbers as an embedding has."""
    model = onnx.load(folder / "lm.onnx", load_external_data=False)
    model.graph.node[-1].output[0] = "half"
    model.graph.node.append(onnx.helper.make_node("Concat", ["half", "half"], ["predicted"], axis=1))
    model.graph.output[0].type.tensor_type.shape.dim[1].dim_value *= 2
    (folder / "lm.onnx").write_bytes(model.SerializeToString())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (one_word_more, f"expected the {len(WORDS)} words of lexicon.bin, found {len(WORDS) - 1} .* and 2 without"),
        (too_large_weights, "lm.onnx: does not fit .*lm.bin: .*NaN or infinity"),
        (doubled_output, r"lm.onnx: does not fit .*lm.bin: expected an output of shape \(1, 4\), found \(1, 8\)"),
    ],
)
def test_models_that_do_not_fit_are_refused_when_they_are_opened(bundle, edit_manifest, change, message):
    change(bundle)

    def update(manifest):
        for name in ("lm.onnx", "lm.bin"):
            data = (bundle / name).read_bytes()
            manifest["files"][name] = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}

    edit_manifest(bundle, update)
    with pytest.raises(asr.BundleFileError, match=message):
        asr.Recognizer(bundle)
