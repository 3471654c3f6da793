"""Readings and characters composed: what may be said for a pattern, and what is written for it."""

import itertools
import re
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from asr.bundle import Bundle
from lm.grammar.automaton import DEAD, CharAutomaton
from lm.grammar.errors import GrammarError
from lm.grammar.grammar import Grammar
from lm.grammar.readings import START, default_readings
from lm.grammar.spoken import SpokenAutomaton
from lm.grammar.syntax import parse
from lm.grammar.vocabulary import spoken_vocabulary
from lm.lexicon import Lexicon


def writes(pattern, said, /, **options):
    """The cheapest text, or None."""
    grammar = Grammar(pattern, **options)
    writings = grammar.write(said)
    assert bool(writings) == grammar.accepts(said)
    for writing in writings:
        assert grammar.fullmatch(writing.text)
        if not options:
            assert re.fullmatch(pattern, writing.text)
    return writings[0].text if writings else None


@pytest.mark.parametrize(
    ("pattern", "spoken", "text"),
    [
        (r"\d{3}-\d{4}", "five five five one two three four", "555-1234"),
        (r"\d{3}-\d{4}", "double five five twelve thirty four", "555-1234"),
        (r"\d{3}-\d{4}", "five five five dash one two three four", "555-1234"),
        (r"\d{3}-\d{4}", "five five one two three four", None),
        (r"\+1 \(\d{3}\) \d{3}-\d{4}", "plus one two one two five five five one two one two", "+1 (212) 555-1212"),
        (r"[A-Z]{3}\d{3}", "b x ray a four oh two", "BXA402"),
        (r"[A-Z0-9]{4}", "b o x nine", "B0X9"),
        (r"[A-Z0-9]{4}", "b o x zero", "BOX0"),
        (r"\d{4}", "one oh two zero", "1020"),
        (r"[a-z.]+@[a-z]+\.com", "john dot smith at gmail dot com", "john.smith@gmail.com"),
        (r"[a-z]+\d{2}@[a-z]+\.com", "info forty two at acme dot com", "info42@acme.com"),
        (r"\$\d+\.\d\d", "eighteen dollars and four cents", "$18.04"),
        (r"([1-9]|1[0-2]):[0-5]\d( [AP]M)?", "three p m", "3:00 PM"),
        (r"([1-9]|1[0-2]):[0-5]\d( [AP]M)?", "twelve oh five p m", "12:05 PM"),
        (r"([01]\d|2[0-3]):[0-5]\d", "three fifteen p m", "15:15"),
        (r"([01]\d|2[0-3]):[0-5]\d", "oh nine thirty", "09:30"),
        (r"([01]\d|2[0-3]):[0-5]\d", "nine thirty", "09:30"),
        (r"([01]\d|2[0-3]):[0-5]\d", "nine oh five", "09:05"),
        (r"\d{4}-\d\d-\d\d", "the fifth of may nineteen oh five", "1905-05-05"),
        (r"November \d\d?, \d{4}", "november twenty second twenty twenty six", "November 22, 2026"),
        (r"\d+°C", "twenty degrees celsius", "20°C"),
        (r"Turn (on|off) the (lights?|T\.?V\.?)", "turn off the t v", "Turn off the TV"),
        (r"(?i)stop", "stop", "stop"),
        (r"remind me to .+ at \d:\d\d", "remind me to call the dentist at three thirty", None),
        (r"remind me to .+ at \d:\d\d", "remind me to call at the desk at half past three", None),
        (r"one|1", "one", "one"),
        (r"", "", ""),
        (r"(um)?", "um um", None),
    ],
)
def test_what_is_written(pattern, spoken, text):
    if text is None and ".+" in pattern:
        text = {"three thirty": "remind me to call the dentist at 3:30"}.get(
            " ".join(spoken.split()[-2:]), "remind me to call at the desk at 3:30"
        )
    assert writes(pattern, spoken) == text


@pytest.mark.parametrize(
    ("entry", "spoken"),
    [
        ("Siobhán O'Brien-Smith", "siobhan o'brien smith"),
        ("Dr. Who", "doctor who"),
        ("AC/DC", "a c d c"),
        ("Ángel  Ruiz", "angel ruiz"),
        ("Route 66", "route sixty six"),
        ("O’Brien", "o'brien"),
        ("Zoe\N{COMBINING DIAERESIS}", "zoe"),
        ("İstanbul", "istanbul"),
        ("Jean–Luc", "jean luc"),
        ("Jean\N{NO-BREAK SPACE}Luc", "jean luc"),
        ("“The” End…", "the end"),
        ("WALL·E", "wall e"),
    ],
)
def test_entries_of_lists_are_written_as_they_are(entry, spoken):
    grammar = Grammar("play {what}", lists={"what": [entry, "nothing"]})
    if entry == "AC/DC":
        grammar = Grammar("play ({what}|[A-Z]{9})", lists={"what": [entry]})  # letters are spelt where a class spells
    assert [writing.text for writing in grammar.write(f"play {spoken}")][:1] == [f"play {entry}"]


@pytest.mark.parametrize("word", ["don’t", "Zoe\N{COMBINING DIAERESIS}", "İzmir"])
def test_a_pattern_may_hold_any_apostrophe_and_accent(word):
    assert writes(word, {"d": "don't", "Z": "zoe", "İ": "izmir"}[word[0]]) == word


def test_fillers_are_skipped_where_edits_allow():
    assert writes("call home", "um call home please", edits=2) == "call home"
    assert writes("call home", "um um call home please", edits=2) is None
    assert writes("call home", "um call home") is None


def test_plain_words_only():
    assert writes(r"\d|five", "five", spoken=False) == "five"
    assert writes(r"\d", "five", spoken=False) is None


def test_pieces_tell_which_words_wrote_what():
    (writing, *_) = Grammar(r"at \d:\d\d [AP]M").write("at half past three p m")
    assert writing.text == "at 3:30 PM"
    pieces = [(writing.text[p.start : p.end], p.first_word, p.last_word) for p in writing.pieces]
    assert pieces == [("at", 0, 1), ("3:30", 1, 4), ("P", 4, 5), ("M", 5, 6)]


def test_every_beginning_of_a_match_has_a_prefix_of_it():
    grammar = Grammar(r"\$\d+\.\d\d for (tea|toast)")
    words = "eighteen dollars and four cents for toast".split()
    stable = ""
    for count in range(len(words) + 1):
        shared, rest = grammar.automaton.prefix(words[:count])
        assert "$18.04 for toast".startswith(shared)
        assert shared.startswith(stable) or not shared
        stable = shared or stable
    assert shared + rest == "$18.04 for toast"


def test_following_words_are_those_that_lead_to_a_match():
    automaton = Grammar(r"(red|green) \d").automaton
    assert automaton.following(automaton.start) == ("green", "red")
    after = automaton.step(automaton.start, "red")
    assert {"five", "oh"} <= set(automaton.following(after))
    assert not {"hundred", "twenty", "red"} & set(automaton.following(after))


@pytest.mark.parametrize(
    "pattern",
    [r"(red|green) \d", r"\$\d+\.\d\d", r"[A-Z]{3}-?\d{3}", r"(1[0-2]|[1-9]):[0-5]\d [ap]m", r"[a-z]+@[a-z]+"],
)
def test_following_words_are_those_that_step_takes(pattern):
    automaton = Grammar(pattern, edits=1).automaton
    words, states = sorted(automaton.words()), [automaton.start]
    for state in states:
        if len(states) > 60:
            break
        after = {word: automaton.step(state, word) for word in words}
        assert automaton.following(state) == tuple(word for word in words if after[word] != DEAD)
        states += sorted({following for following in after.values() if following != DEAD} - set(states))[:10]
    assert len(states) > 1


def test_random_strings_are_accepted_exactly_where_they_can_be_written():
    """Against brute force: all ways to write the words, matched by Python."""
    rng = np.random.default_rng(3)
    words = {"one": ["1", "one"], "two": ["2", "two"], "a": ["a", "A"], "dash": ["-", "dash"]}
    patterns = [r"\d+", r"(one|2)-?", r"[12A-F]{2,3}", r"(a|1)*-2", r"\d-[AB]?", r"(one )*two"]
    for pattern, length in itertools.product(patterns, (1, 2, 3)):
        grammar = Grammar(pattern)
        for _ in range(15):
            said = rng.choice(list(words), length).tolist()
            joined = (
                "".join(part + glue for part, glue in zip(parts, (*glues, ""), strict=True))
                for parts in itertools.product(*(words[word] for word in said))
                for glues in itertools.product(("", " ", "-"), repeat=length - 1)
            )
            expected = any(re.fullmatch(pattern, text) for text in joined)
            if expected:
                assert grammar.accepts(" ".join(said)), (pattern, said)


def test_threads_share_a_grammar():
    grammar = Grammar(r"\d{3}-\d{4}( x\d+)?")
    said = [
        "five five five one two three four",
        "double five five twelve thirty four x nine nine",
        "nine hundred oh one",
    ]
    alone = [Grammar(grammar.pattern).accepts(words) for words in said]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(grammar.accepts, said * 50)) == alone * 50


def test_a_list_that_is_asked_for_again_and_again_never_fills_up(monkeypatch):
    monkeypatch.setattr("lm.grammar.automaton.MAX_STATES", 400)
    monkeypatch.setattr("lm.grammar.grammar._RENEWED_FROM_CHARS", 200)
    names = ["".join(letters) + "o" for letters in itertools.product("bcdfg", "aeiou", "klmn", "aeiou")]
    grammar = Grammar("call {name}", lists={"name": names})
    for name in names:
        assert grammar.accepts(f"call {name}")
        assert [writing.text for writing in grammar.write(f"call {name}")] == [f"call {name}"]
        assert grammar.fullmatch(f"call {name}")


def test_full_tables_start_anew(monkeypatch):
    said = ["one two three", "one hundred two", "x y z", "one two"]
    grammar = Grammar(r"\d{3}|[a-z]+( [a-z]+)*")
    expected = [grammar.accepts(words) for words in said]
    monkeypatch.setattr("lm.grammar.spoken._MOST_KNOWN", 2)
    again = Grammar(grammar.pattern)
    assert [again.accepts(words) for words in said * 2] == expected * 2


def test_saved_and_loaded(tmp_path):
    grammar = Grammar(
        "call {who} ☎?", lists={"who": ["Zoë", "Bob"]}, edits=1, flags=re.IGNORECASE, readings={"☎": ["now"]}
    )
    grammar.save(tmp_path / "call.json")
    again = Grammar.load(tmp_path / "call.json")
    for spoken in ("call zoe", "call bob now", "please call bob"):
        assert [w.text for w in again.write(spoken)] == [w.text for w in grammar.write(spoken)] != []


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"kind": "sottovoce-grammar", "version": 99}', "\x00"])
def test_files_that_are_no_grammars(tmp_path, content):
    (tmp_path / "x.json").write_text(content)
    with pytest.raises(GrammarError, match=r"x\.json"):
        Grammar.load(tmp_path / "x.json")


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"pattern": 5}, "expected a str"),
        ({"pattern": "a", "edits": 9}, "edits: expected a whole number from 0 to 5, found 9"),
        ({"pattern": "a", "flags": re.MULTILINE}, "flags: expected"),
        ({"pattern": "{who}"}, "who"),
        ({"pattern": "{who}", "lists": {"who": []}}, "lists"),
        ({"pattern": "{who}", "lists": {"who": "Bob"}}, "lists"),
        ({"pattern": "a", "readings": {"a": "b"}}, "readings"),
        ({"pattern": "a", "readings": {"a": None}}, "readings"),
        ({"pattern": "a", "readings": {1: ["b"]}}, "readings"),
        ({"pattern": "a", "readings": ["b"]}, "readings"),
        ({"pattern": "{who}", "lists": {"who": None}}, "lists"),
        ({"pattern": "{who}", "lists": ["who"]}, "lists"),
        ({"pattern": "a", "flags": "i"}, "flags: expected"),
    ],
)
def test_options_that_cannot_be_used(options, problem):
    with pytest.raises(GrammarError, match=problem):
        Grammar(**options)


def test_letters_that_nobody_can_say_are_told():
    assert Grammar("{word}", lists={"word": ["Жук", "ok"]}).unspeakable == ("жук",)


class OneByOne(SpokenAutomaton):
    """Every word goes through its letters, as if no place took any."""

    def _is_lettered(self, word):
        return False


@pytest.mark.parametrize("edits", [0, 1])
@pytest.mark.parametrize(
    "pattern",
    [
        r"[a-z]+[._-]?[a-z]*\d{0,2}@[a-z]+\.(com|org|net|edu)", r"[a-z]+", r"[A-Z][a-z]+", r"[a-zA-Z ]{1,12}",
        r"call [a-z ]+ now", r".*", r"\w+ \d+", r"(stop|[a-z]+ing)( [a-z]+)*", r"[b-z]+ [a-z]+", r"(?i)[a-z]+ at \d",
    ],
)  # fmt: skip
def test_any_word_is_as_its_letters(pattern, edits):
    """Where letters do not matter words share one step: it leads where their letters lead."""
    grammar = Grammar(pattern, edits=edits).automaton
    slow = OneByOne(CharAutomaton(parse(pattern), {}, pattern), grammar.readings, spoken_vocabulary(parse(pattern), {}),
                    edits=edits)  # fmt: skip
    words = "at ate stop dot com now call five um sing it's a ünder won't dash forty two oh underscore doing".split()
    words += ["mary", "banana", "hello", "in"]
    rng = np.random.default_rng(0)
    n_deep = 0
    for _ in range(150):
        fast_state, slow_state = grammar.start, slow.start
        for word in rng.choice(words, 6):
            fast_state, slow_state = grammar.step(fast_state, word), slow.step(slow_state, word)
            assert (fast_state == DEAD) == (slow_state == DEAD), word
            if fast_state == DEAD:
                break
            n_deep += 1
            assert grammar.following(fast_state) == slow.following(slow_state)
            assert grammar.is_final(fast_state) == slow.is_final(slow_state)
    assert n_deep > 20


def test_all_words_that_mean_something_are_known():
    readings = default_readings()
    lexicon = Lexicon.open(Bundle.open().file("lexicon.bin"))
    listed = map(lexicon.word, range(len(lexicon)))
    assert {word for word in listed if readings.after(START, word)} <= readings.all_words
