"""The public names and signatures are a contract: this page changes only together with the documentation."""

import inspect

import asr
from asr import errors


def test_exported_names():
    assert asr.__all__ == sorted(asr.__all__)
    all_errors = {name for name, value in vars(errors).items() if isinstance(value, type)}
    grammar = {"Capture", "Grammar", "GrammarError", "GrammarMatch", "GrammarTooLargeError"}
    others = {"Partial", "Recognizer", "Result", "Stream", "Word", "__version__"}
    assert set(asr.__all__) == all_errors | grammar | others
    assert all(hasattr(asr, name) for name in asr.__all__)


def test_every_error_is_an_asr_error_and_a_builtin_one():
    for name, error in vars(errors).items():
        if isinstance(error, type) and error is not asr.AsrError:
            assert issubclass(error, asr.AsrError), name
            assert issubclass(error, (ValueError, RuntimeError, ImportError)), name
    assert issubclass(asr.AudioFileNotFoundError, FileNotFoundError)
    assert issubclass(asr.BundleNotFoundError, FileNotFoundError)


def parameters(function):
    """Each parameter as `name`, `name=default`, or with `*` before it where it is keyword-only."""
    found = []
    for parameter in inspect.signature(function).parameters.values():
        star = "*" if parameter.kind is inspect.Parameter.KEYWORD_ONLY else ""
        default = "" if parameter.default is inspect.Parameter.empty else f"={parameter.default!r}"
        found.append(f"{star}{parameter.name}{default}")
    return found


def test_signatures():
    assert parameters(asr.Recognizer) == [
        "bundle=None",
        "*chunk_ms=None",
        "*n_threads=1",
        "*adapters=()",
        "*beam_size=None",
    ]
    options = ["*domain=None", "*grammar=None", "*on_reject='best'", "*phrases=None", "*chunk_ms=None"]
    assert parameters(asr.Recognizer.create_stream) == ["self", *options]
    assert parameters(asr.Recognizer.transcribe) == ["self", "audio", *options, "*on_progress=None"]
    assert parameters(asr.Stream.accept) == ["self", "samples", "sample_rate=16000"]
    assert parameters(asr.Stream.feed) == ["self", "samples", "sample_rate=16000"]
    assert parameters(asr.Stream.finish) == ["self"]
    grammar = ["pattern", "*spoken=True", "*lists=None", "*edits=0", "*flags=0", "*readings=None"]
    assert parameters(asr.Grammar) == grammar


def test_values():
    word = asr.Word("hush", 0.5, 0.75, 0.9)
    result = asr.Result((word, asr.Word("now", 0.75, 1.0, 0.7)), 1.5)
    assert result.text == "hush now"
    assert result.confidence == 0.8
    assert asr.Result((), 0.0).confidence == 0.0
    assert (result.accepted, result.match, result.groups, result.spoken) == (True, None, {}, "hush now")
    match = asr.GrammarMatch("Hush!", False, 0.25, {"what": asr.Capture("Hush", 0.5, 0.75, 0.2)}, "hash now")
    rejected = asr.Result((word,), 1.5, match)
    assert (rejected.text, rejected.spoken, rejected.confidence) == ("Hush!", "hush", 0.25)
    assert not rejected.accepted
    assert rejected.groups["what"].text == "Hush"
    assert asr.Partial("hush", "now").text == "hush now"
    assert asr.Partial("", "now").text == "now"
    assert not asr.Partial("hush", "").is_endpoint
