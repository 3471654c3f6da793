"""Streams with a grammar, over the tiny bundle of tones; and over the English one where it is installed."""

import contextlib
import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import asr
from asr import grammar_search
from asr.bundle import default_bundle_path
from asr.decoder import PathWord, Reading
from asr.rejection import Evidence, RejectionWeights, acceptance

RATE_HZ = 16000
ORDER = asr.Grammar(r"(?P<verb>Stop|Spot) (?P<what>cat|tack)( and (?P<also>pin|tack))?", readings={"and": ["it's"]})


@pytest.fixture(scope="module")
def recognizer(tiny_bundle):
    return asr.Recognizer(tiny_bundle)


def transcribe(recognizer, speech, grammar, **options):
    return recognizer.transcribe((speech.samples, RATE_HZ), grammar=grammar, **options)


@pytest.mark.parametrize(("verb", "what"), list(itertools.product(("stop", "spot"), ("cat", "tack"))))
def test_writes_what_was_said(recognizer, speak, verb, what):
    speech = speak(f"{verb} {what}")
    result = transcribe(recognizer, speech, ORDER)
    assert result.accepted
    assert result.text == f"{verb.capitalize()} {what}"
    assert result.spoken == speech.text
    assert result.match.free_text == speech.text
    assert 0.5 < result.confidence <= 1
    for name, (_, start, end) in zip(("verb", "what"), speech.spans, strict=True):
        capture = result.groups[name]
        assert capture.start == pytest.approx(start, abs=0.06)
        assert capture.end == pytest.approx(end, abs=0.06)
        assert 0 < capture.confidence <= 1
    assert "also" not in result.groups


def test_repeated_group_gives_a_list(recognizer, speak):
    grammar = asr.Grammar(r"(?:(?P<animal>cat|tack) ?)+")
    result = transcribe(recognizer, speak("cat tack cat"), grammar)
    assert [capture.text for capture in result.groups["animal"]] == ["cat", "tack", "cat"]
    starts = [capture.start for capture in result.groups["animal"]]
    assert starts == sorted(starts)


@pytest.mark.parametrize("said", ["pin pin pin", "cat stop", "stop cat stop cat"])
@pytest.mark.parametrize("on_reject", ["best", "empty"])
def test_rejects_what_does_not_match(recognizer, speak, said, on_reject):
    result = transcribe(recognizer, speak(said), ORDER, on_reject=on_reject)
    assert not result.accepted
    assert result.confidence < 0.5
    assert result.match.free_text == said
    if on_reject == "empty":
        assert result.text == ""
        assert result.words == ()
    elif result.text:
        assert ORDER.fullmatch(result.text)


def test_silence_is_rejected(recognizer):
    for n_samples in (0, RATE_HZ):
        stream = recognizer.create_stream(grammar="cat|stop")
        stream.accept(np.zeros(n_samples, np.float32))
        result = stream.finish()
        assert (result.accepted, result.text) == (False, "")


def test_a_grammar_that_may_be_silent_accepts_silence(recognizer):
    result = recognizer.transcribe((np.zeros(RATE_HZ, np.float32), RATE_HZ), grammar="(cat)?")
    assert (result.accepted, result.text) == (True, "")


@settings(max_examples=15)
@given(cuts=st.lists(st.integers(0, 4 * RATE_HZ), max_size=12).map(sorted))
def test_slicing_changes_nothing(recognizer, speak, cuts):
    samples = speak("spot tack").samples
    whole = recognizer.create_stream(grammar=ORDER)
    whole.accept(samples)
    sliced = recognizer.create_stream(grammar=ORDER)
    for part in np.split(samples, cuts):
        sliced.accept(part)
    assert sliced.finish() == whole.finish()


def test_partials_are_beginnings_of_the_match(recognizer, speak):
    stream = recognizer.create_stream(grammar=ORDER, chunk_ms=320)
    samples = np.concatenate([speak("stop tack").samples, np.zeros(4 * RATE_HZ, np.float32)])
    partials = [stream.accept(part) for part in np.split(samples, range(1600, len(samples), 1600))]
    stable = ""
    for partial in partials:
        assert "Stop tack".startswith(partial.text)
        assert partial.stable.startswith(stable)
        stable = partial.stable
    assert partials[-1].text == "Stop tack"
    assert partials[-1].is_endpoint
    assert not any(partial.is_endpoint for partial in partials if partial.text != "Stop tack")
    assert stream.finish().text == "Stop tack"


def test_a_pause_does_not_end_the_utterance(recognizer, speak):
    pause = np.zeros(3 * RATE_HZ, np.float32)
    samples = np.concatenate([speak("stop").samples, pause, speak("cat").samples, pause])
    result = recognizer.transcribe((samples, RATE_HZ), grammar=ORDER)
    assert result.text == "Stop cat"


def test_part_of_a_sentence_may_be_free(recognizer, speak):
    grammar = asr.Grammar(r"stop (?P<rest>.+) pin")
    result = transcribe(recognizer, speak("stop cat it's spot pin"), grammar)
    assert result.accepted
    assert result.groups["rest"].text == "cat it's spot"


def test_words_that_no_list_holds_are_spelt_from_the_grammar_alone(recognizer, speak):
    result = transcribe(recognizer, speak("cat"), asr.Grammar("cat|{name}", lists={"name": ["Xolo"]}))
    assert result.text == "cat"  # the tiny bundle cannot pronounce "Xolo"; the rest goes on


def test_streams_with_and_without_grammars_do_not_meet(recognizer, speak):
    speech = speak("stop cat")
    streams = [recognizer.create_stream(grammar=grammar) for grammar in (ORDER, None, "stop tack", ORDER)]
    for part in np.array_split(speech.samples, 7):
        for stream in streams:
            stream.accept(part)
    first, free, other, last = (stream.finish() for stream in streams)
    assert (first.text, free.text, last.text) == ("Stop cat", "stop cat", "Stop cat")
    assert first == last
    assert not other.accepted
    assert free.accepted
    assert free.match is None


@pytest.mark.parametrize("search", ["numpy", "native"])
def test_both_searches_agree(recognizer, speak, monkeypatch, search):
    monkeypatch.setenv("SOTTOVOCE_SEARCH", search)
    for grammar in (ORDER, asr.Grammar(r"stop .+")):
        assert transcribe(recognizer, speak("stop tack"), grammar).text.lower() == "stop tack"


@pytest.mark.parametrize("held", [5, 10**6])
@pytest.mark.parametrize("block", [1600, 100_000])
def test_what_the_quick_search_misses_the_thorough_one_finds(recognizer, speak, monkeypatch, held, block):
    speech = speak("stop tack")
    expected = transcribe(recognizer, speech, ORDER)
    readings = grammar_search.GrammarSearch.readings
    monkeypatch.setattr(grammar_search, "HELD_FRAMES", held)
    monkeypatch.setattr(
        grammar_search.GrammarSearch,
        "readings",
        lambda self, count: [] if type(self) is grammar_search.GrammarSearch else readings(self, count),
    )
    stream = recognizer.create_stream(grammar=ORDER)
    for start in range(0, len(speech.samples), block):
        stream.accept(speech.samples[start : start + block])
    result = stream.finish()
    assert (result.text, result.words) == (expected.text, expected.words)
    assert result.confidence == pytest.approx(expected.confidence, abs=1e-6)  # a wider beam adds up more


def test_a_match_that_is_accepted_asks_for_no_thorough_search(recognizer, speak, monkeypatch):
    monkeypatch.setattr(grammar_search.LateSearch, "readings", lambda self, count: pytest.fail("was asked"))
    assert transcribe(recognizer, speak("stop cat"), ORDER).accepted


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"grammar": "cat", "on_reject": "guess"}, "on_reject: expected one of best, empty, found 'guess'"),
        ({"grammar": "[^\\x00-\\uffff]"}, "none of its words can be spoken"),
    ],
)
def test_options_that_cannot_be_used(recognizer, options, problem):
    with pytest.raises(asr.OptionError, match=problem):
        recognizer.create_stream(**options)


def test_a_wrong_pattern_says_where(recognizer):
    with pytest.raises(asr.GrammarError, match="column 4") as caught:
        recognizer.create_stream(grammar=r"cat(?=s)")
    assert "^" in str(caught.value)


def test_better_evidence_is_more_convincing():
    weights = RejectionWeights()
    good, bad = (Evidence(score=score, free_score=0.0, n_frames=100) for score in (-1.0, -300.0))
    assert acceptance(weights, good) > 0.5 > acceptance(weights, bad) >= 0


@pytest.mark.skipif(not default_bundle_path().is_dir(), reason="the English bundle is not installed")
def test_english_speech_that_is_no_number_is_rejected():
    recognizer = asr.Recognizer()
    clip = recognizer.bundle.file(recognizer.bundle.manifest.selftest.audio)
    result = recognizer.transcribe(clip, grammar=r"\d{3}-\d{4}")
    assert not result.accepted
    words = recognizer.bundle.manifest.selftest.text
    assert recognizer.transcribe(clip, grammar=asr.Grammar("{line}|no", lists={"line": [words]})).text == words


@pytest.mark.skipif(not default_bundle_path().is_dir(), reason="the English bundle is not installed")
@pytest.mark.parametrize("order", [1, -1])
def test_a_digit_is_said_in_one_way(order):
    stream = asr.Recognizer().create_stream(grammar="[A-Z0-9]{3}")
    words = {}
    with contextlib.suppress(IndexError):
        for number in itertools.count():
            words[stream._constraint.spell(number)] = number
    said = [("zero", "oh", "b"), ("zero", "o", "b")][::order]
    readings = [Reading([PathWord(words[word], 0, 9, -1.0, 0.0) for word in reading], -5.0) for reading in said]
    assert [candidate.writing.text for candidate in stream._candidates(readings)] == ["0OB", "00B"]
    alone = [Reading(reading.words[1:2] * 3, -5.0) for reading in readings]
    assert [candidate.writing.text for candidate in stream._candidates(alone)] == ["000"]
