"""Command `asr-lm`: word list, lexicon and language models, from text to files, and questions to them."""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from lm.arpa import write_arpa
from lm.arrayfile import MAGIC
from lm.console import progress, say, say_report
from lm.corpus import CorpusReport, Exclusion, Source, parse_source, read_corpus, read_lines, read_recipe
from lm.counts import TrigramCounter
from lm.kenlm_model import KenlmScorer
from lm.kneser_ney import estimate
from lm.lexicon_cli import add_g2p_parser, add_lexicon_parser
from lm.ngram import NgramModel, NgramScorer
from lm.pack import BIGRAM_BYTES, BIGRAM_WORDS, TRIGRAM_BYTES, fixed_bytes, write_ngram
from lm.perplexity import Perplexity, measure_perplexity
from lm.prune import drop_rare_words, prune
from lm.query_cli import add_query_parsers
from lm.scorer import Scorer
from lm.train_cli import add_train_parsers, is_checkpoint, neural_perplexity
from lm.vocabulary import choose_words, read_dictionary_words, read_words, words_sha256, write_words

EXAMPLES = """examples:
  asr-lm vocabulary --recipe recipes/ngram-english.toml --text-dir TEXT --dictionary cmudict.dict --output words.txt
  asr-lm ngram --recipe recipes/ngram-english.toml --text-dir TEXT --words words.txt --output ngram.bin --size-mb 6
  asr-lm ngram --source mail.txt=3 --source books.txt.xz --words words.txt --output ngram.bin --arpa lm.arpa
  asr-lm lexicon --words words.txt --counts counts.tsv --cmudict cmudict.dict --g2p g2p.onnx --output lexicon.bin
  asr-lm pronounce --help
  asr-lm tokens --recipe recipes/lm-english.toml --text-dir TEXT --words words.txt --out tokens
  asr-lm train --recipe recipes/lm-english.toml --tokens tokens --run runs/shared
  asr-lm adapt --trunk runs/shared/final --text mine.txt --name clinic --out adapters/clinic
  asr-lm perplexity --words words.txt --model ngram.bin heldout.txt.xz
  asr-lm perplexity --words words.txt --model runs/shared/final --adapter adapters/clinic heldout.txt.xz
  asr-lm query '(he|she)' --trunk BUNDLE --prefix 'the nurse said that '
  asr-lm audit --trunk BUNDLE --adapter clinic/clinic.bin --text mine.txt
"""


def parse_args(args: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line; exits with a message where it cannot be understood."""
    parser = argparse.ArgumentParser(
        prog="asr-lm",
        description="Word lists, lexicons and language models, n-gram and neural, from plain text.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True)
    corpus = _corpus_options()
    vocabulary = commands.add_parser("vocabulary", parents=[corpus], help="choose the words that are known")
    vocabulary.add_argument("--output", type=Path, required=True, help="word list to write, one word a line")
    vocabulary.add_argument("--counts", type=Path, help="also write word, count and weighted count, tab-separated")
    vocabulary.add_argument("--size", type=int, default=130_000, help="words to keep (%(default)s)")
    vocabulary.add_argument("--dictionary", type=Path, help="CMUdict-format file; its words need to be seen only once")
    ngram = commands.add_parser("ngram", parents=[corpus], help="count, smooth, prune and pack a trigram")
    ngram.add_argument("--words", type=Path, required=True, help="word list")
    ngram.add_argument("--output", type=Path, required=True, help="ngram.bin to write")
    ngram.add_argument("--arpa", type=Path, help="also write the pruned model as an ARPA file")
    ngram.add_argument("--size-mb", type=float, default=6.0, help="size of the output in megabytes (%(default)s)")
    ngram.add_argument(
        "--lower-order",
        choices=("continuation", "tokens", "average"),
        default="average",
        help="what bigrams and unigrams count: contexts (Kneser-Ney), words, or the mean of both (%(default)s)",
    )
    perplexity = commands.add_parser("perplexity", help="measure a model on text")
    perplexity.add_argument("--words", type=Path, required=True, help="word list")
    perplexity.add_argument("--model", type=Path, required=True, help="ngram.bin, ARPA or KenLM file, or checkpoint")
    perplexity.add_argument("--application", help="network of a checkpoint that has one for each application")
    perplexity.add_argument("--adapter", type=Path, help="folder of an adapter that the checkpoint is to wear")
    perplexity.add_argument("text", type=Path, nargs="+", help="text files, one utterance a line (.txt or .txt.xz)")
    for command, job in ((vocabulary, _vocabulary), (ngram, _ngram), (perplexity, _perplexity)):
        command.set_defaults(run=job)
    add_lexicon_parser(commands)
    add_g2p_parser(commands)
    add_train_parsers(commands)
    add_query_parsers(commands)
    return parser.parse_args(args)


def _corpus_options() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(add_help=False)
    options.add_argument("--recipe", type=Path, help="TOML file of source weights")
    options.add_argument("--text-dir", type=Path, default=Path(), help="folder that the recipe's names are in")
    options.add_argument("--source", action="append", default=[], metavar="PATH[=WEIGHT]", help="one more text file")
    options.add_argument(
        "--exclude",
        type=Path,
        action="append",
        default=[],
        metavar="FILE",
        help="text to keep out of training: drops every line that shares six words in a row with it",
    )
    return options


def run(options: argparse.Namespace) -> None:
    """Do what the command line asked for."""
    options.run(options)


def main() -> None:
    """Entry point of `asr-lm`."""
    options = parse_args()
    try:
        run(options)
    except (OSError, ValueError, ImportError) as error:
        sys.exit(f"asr-lm: {error}")


def _sources(options: argparse.Namespace) -> list[Source]:
    sources = read_recipe(options.recipe, options.text_dir) if options.recipe else []
    sources += [parse_source(text) for text in options.source]
    if not sources:
        raise ValueError("no text: give --recipe with --text-dir, or --source PATH")
    return sources


def _utterances(options: argparse.Namespace, report: CorpusReport) -> Iterator[tuple[Source, list[str]]]:
    exclusion = Exclusion(words for path in options.exclude for words in read_lines(path))
    yield from progress(read_corpus(_sources(options), exclusion, report))


def _vocabulary(options: argparse.Namespace) -> None:
    report = CorpusReport()
    by_source: dict[float, Counter[str]] = {}
    for source, words in _utterances(options, report):
        by_source.setdefault(source.weight, Counter()).update(words)
    counts: Counter[str] = Counter()
    weighted: Counter[str] = Counter()
    for weight, part in by_source.items():
        counts.update(part)
        for word, count in part.items():
            weighted[word] += weight * count  # type: ignore[assignment]  # Counter's values are int by name only
    dictionary = read_dictionary_words(options.dictionary) if options.dictionary else frozenset()
    words = choose_words(counts, weighted, size=options.size, dictionary=dictionary)
    write_words(options.output, words)
    if options.counts:
        rows = (f"{word}\t{counts[word]}\t{weighted[word]:g}\n" for word in words[3:])
        options.counts.write_text("".join(rows), encoding="utf-8")
    say_report(report)
    share = sum(weighted[word] for word in words) / max(sum(weighted.values()), 1)
    say(f"{len(words):,} words of {len(counts):,} seen, {share:.2%} of the text -> {options.output}")


def _ngram(options: argparse.Namespace) -> None:
    words = read_words(options.words)
    fixed = fixed_bytes(len(words))
    budget = int(options.size_mb * 1e6) - fixed
    if budget < 0:
        raise ValueError(f"--size-mb {options.size_mb:g}: {len(words):,} words alone need {fixed / 1e6:.2f} MB")
    report = CorpusReport()
    counter = TrigramCounter(words)
    for source, utterance in _utterances(options, report):
        counter.add(utterance, source.weight)
    say_report(report)
    counts = counter.finish()
    say(f"{counts.key.size:,} different trigrams; smoothing and pruning")
    full = drop_rare_words(estimate(counts, len(words), options.lower_order), BIGRAM_WORDS)
    model = prune(full, budget=budget, bigram_cost=BIGRAM_BYTES, trigram_cost=TRIGRAM_BYTES).model
    write_ngram(options.output, model, words)
    if options.arpa:
        write_arpa(options.arpa, model, words)
    say(f"{model.bigram_key.size:,} bigrams and {model.trigram_key.size:,} trigrams -> {options.output}")


def _perplexity(options: argparse.Namespace) -> None:
    words = read_words(options.words)
    if is_checkpoint(options.model):
        found = neural_perplexity(options.model, options.adapter, options.application, words, options.text)
    else:
        found = _scorer_perplexity(options, words)
    print("perplexity\tunknown\twords\ttext")
    for path, result in zip(options.text, found, strict=True):
        print(f"{result.value:.2f}\t{result.unknown_rate:.2%}\t{result.words}\t{path.name}", flush=True)


def _scorer_perplexity(options: argparse.Namespace, words: Sequence[str]) -> Iterator[Perplexity]:
    if options.adapter or options.application:
        raise ValueError(f"--adapter and --application are for neural checkpoints; {options.model} is none")
    scorer = _scorer(options.model, words)
    ids = {word: number for number, word in enumerate(words)}
    return (measure_perplexity(scorer, ids, read_lines(path)) for path in options.text)


def _scorer(path: Path, words: Sequence[str]) -> Scorer:
    if path.is_dir():
        raise ValueError(f"{path}: expected ngram.bin, an ARPA or KenLM file, or the folder of a checkpoint or run")
    with path.open("rb") as file:
        packed = file.read(len(MAGIC)) == MAGIC
    if not packed:
        return KenlmScorer(path, words)
    model = NgramModel.open(path)
    if model.words_sha256 != words_sha256(words):
        raise ValueError(f"{path} was built over another word list than the one given by --words")
    return NgramScorer(model)


if __name__ == "__main__":
    main()
