"""The command `asr`: transcribe files, listen to the microphone, tell what a bundle holds.

Results go to stdout, everything else to stderr. Exit codes: 0 done, 1 the self-test failed, 2 something could not be
used (one line on stderr says what), 130 interrupted, 141 the reader of the output went away.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from asr import __version__
from asr.audio import read_raw_pcm
from asr.errors import AsrError, AudioError, OptionError
from asr.formats import FORMATS
from asr.microphone import microphone_blocks
from asr.recognizer import Recognizer
from asr.stream import Stream
from asr.types import Result, Seconds
from lm.grammar.errors import GrammarError
from lm.grammar.grammar import Grammar
from lm.grammar.lists import read_lists
from lm.phrases import Phrase, PhraseError, read_phrases

STDIN = "-"
SUFFIXES = {"text": ".txt", "json": ".json", "srt": ".srt", "vtt": ".vtt"}
PROGRESS_FROM_S = 30.0
PROGRESS_WIDTH, PROGRESS_NAME_WIDTH = 30, 40
EXIT_SELFTEST_FAILED, EXIT_UNUSABLE, EXIT_INTERRUPTED, EXIT_BROKEN_PIPE = 1, 2, 130, 141
EXAMPLES = r"""examples:
  asr transcribe talk.flac                         the text of one file
  asr transcribe note.wav --domain assistant       expect commands and questions; dictation: prose
  asr transcribe *.wav --format json               one JSON object a file, with word times
  asr transcribe pin.wav --grammar '\d{4}'         four digits, however they are said
  asr transcribe call.wav --grammar 'call {who}' --list who=contacts.txt --format json
  asr transcribe talk.mp3 --format srt > talk.srt  subtitles
  ffmpeg -i talk.mkv -f s16le -ac 1 -ar 16000 - | asr transcribe -
  asr transcribe talk.wav --phrases names.txt      expect these names and terms: text[TAB sounds like[TAB weight]]
  asr listen                                       the microphone, until Ctrl-C
  asr info                                         what the bundle holds, and whether it works"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code; no error that is not a bug leaves a traceback."""
    args = parse_args(argv)
    if isinstance(sys.stdout, io.TextIOWrapper):  # file names need not be text; escaped so, they are valid JSON too
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        code = run(args)
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or the flush at exit would fail again
        return EXIT_BROKEN_PIPE
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except GrammarError as error:
        print(f"asr: --grammar: {error}", file=sys.stderr)  # with the place, on lines of its own
        return EXIT_UNUSABLE
    except (AsrError, OSError) as error:
        _complain(error)
        return EXIT_UNUSABLE
    return code


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line; wrong usage exits with code 2, as argparse does."""
    parser = argparse.ArgumentParser(
        prog="asr",
        description="Speech recognition on your own machine.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"asr {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _add_transcribe(commands)
    _add_listen(commands)
    _add_info(commands)
    args = parser.parse_args(argv)
    if args.command == "transcribe" and args.format in ("srt", "vtt") and len(args.files) > 1 and args.output is None:
        parser.error(f"--format {args.format} with several files needs --output DIR")
    return args


def run(args: argparse.Namespace) -> int:
    """Carry out a parsed command and return its exit code."""
    return {"transcribe": transcribe, "listen": listen, "info": info}[args.command](args)


def transcribe(args: argparse.Namespace) -> int:
    """Transcribe every file; one that cannot be used is reported and does not keep the others from being done."""
    targets = _targets(args)
    recognizer = Recognizer(args.bundle, chunk_ms=args.chunk_ms, adapters=args.adapter, beam_size=args.beam_size)
    options = _stream_options(args)
    stream = recognizer.create_stream(**options)  # a wrong option is wrong for all files: say so once
    _report_unspeakable(stream)
    code = 0
    for file in args.files:
        try:
            result = _transcribe_file(recognizer, file, args.rate, options)
        except AudioError as error:
            _complain(error)
            code = EXIT_UNUSABLE
            continue
        _report_no_match(file, result)
        text = FORMATS[args.format](result, file)
        if file in targets:
            _write_whole(targets[file], text)
        else:
            is_prefixed = args.format == "text" and len(args.files) > 1
            print(f"{file}: {text}" if is_prefixed else text, end="", flush=True)
    return code


def listen(args: argparse.Namespace) -> int:
    """Print what the microphone hears: the utterance in progress is rewritten in place, a finished one stays."""
    recognizer = Recognizer(args.bundle, chunk_ms=args.chunk_ms, adapters=args.adapter, beam_size=args.beam_size)
    options = _stream_options(args)
    stream = recognizer.create_stream(**options)
    _report_unspeakable(stream)
    is_live = sys.stdout.isatty()
    pending = ""
    print("listening; Ctrl-C ends", file=sys.stderr)
    try:
        for block in microphone_blocks():
            partial = stream.accept(block)
            if partial.is_endpoint:
                text = partial.stable
                if options["grammar"] is not None:  # a match is complete; the next one is another stream's
                    result, stream = stream.finish(), recognizer.create_stream(**options)
                    _report_no_match("microphone", result)
                    text = result.text
                _print_line(text, is_live)
                pending = ""
            elif partial.text != pending:
                pending = partial.text
                _print_live(pending, is_live)
    finally:
        if pending:
            _print_line(pending, is_live)
    return 0


def info(args: argparse.Namespace) -> int:
    """Print what a bundle holds and whether it hears its own self-test clip rightly."""
    recognizer = Recognizer(args.bundle)
    facts = _facts(recognizer)
    print(json.dumps(facts, ensure_ascii=False) if args.json else _describe(facts))
    return 0 if facts["selftest"]["ok"] else EXIT_SELFTEST_FAILED


# --- command line ---------------------------------------------------------------------------------------------------


def _add_transcribe(commands: Any) -> None:
    parser = commands.add_parser("transcribe", help="transcribe audio files")
    parser.add_argument("files", nargs="+", metavar="FILE", help="audio file; - is raw 16-bit mono PCM on stdin")
    _add_stream_options(parser)
    parser.add_argument("--format", choices=sorted(FORMATS), default="text", help="default: text")
    parser.add_argument("--output", type=Path, metavar="DIR", help="write a file for each input to DIR, not to stdout")
    parser.add_argument("--rate", type=int, default=16000, metavar="HZ", help="sample rate of - (default: 16000)")


def _add_listen(commands: Any) -> None:
    _add_stream_options(commands.add_parser("listen", help="transcribe the microphone, live"))


def _add_info(commands: Any) -> None:
    parser = commands.add_parser("info", help="what a bundle holds; runs its self-test")
    parser.add_argument("bundle", nargs="?", metavar="BUNDLE", help="bundle folder (default: the embedded one)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def _add_stream_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--bundle", metavar="DIR", help="bundle folder (default: the embedded English one)")
    parser.add_argument("--domain", metavar="D", help="kind of speech: assistant, dictation, or an adapter's name")
    parser.add_argument(
        "--adapter", action="append", default=[], metavar="FILE", help="NAME.bin of `asr-lm adapt`: adds a domain"
    )
    parser.add_argument("--grammar", metavar="REGEX", help="what may be written, however it is said: docs/grammar.md")
    parser.add_argument(
        "--list", action="append", default=[], metavar="NAME=FILE", help="entries of {NAME} in the grammar, one a line"
    )
    parser.add_argument(
        "--on-reject", choices=["best", "empty"], default="best", help="text of speech that is no match (default: best)"
    )
    parser.add_argument(
        "--phrases", type=Path, metavar="FILE", help="likely phrases, one a line: text[TAB sounds like[TAB weight]]"
    )
    parser.add_argument("--chunk-ms", type=int, metavar="MS", help="audio encoded at once (default: the bundle's)")
    parser.add_argument(
        "--beam-size",
        type=int,
        metavar="N",
        help="readings searched side by side; fewer are faster (default: the bundle's)",
    )


def _stream_options(args: argparse.Namespace) -> dict[str, Any]:
    phrases = _phrases(args.phrases) if args.phrases else None
    grammar = _grammar(args.grammar, args.list)
    return {"domain": args.domain, "grammar": grammar, "on_reject": args.on_reject, "phrases": phrases}


def _phrases(path: Path) -> list[Phrase]:
    try:
        return read_phrases(path)
    except PhraseError as error:
        raise OptionError(f"--phrases: {error}") from None


def _grammar(pattern: str | None, lists: Sequence[str]) -> Grammar | None:
    if pattern is None:
        if lists:
            raise OptionError("--list: expected with --grammar, which names the list as {NAME}")
        return None
    try:
        entries = read_lists(lists)
    except GrammarError as error:
        raise OptionError(str(error)) from None
    return Grammar(pattern, lists=entries)


def _report_unspeakable(stream: Stream) -> None:
    for phrase, reason in stream.unspeakable:
        print(f"asr: --phrases: {phrase!r} is left out: {reason}", file=sys.stderr)


# --- transcribe -----------------------------------------------------------------------------------------------------


def _transcribe_file(recognizer: Recognizer, file: str, rate: int, options: dict[str, Any]) -> Result:
    if file != STDIN:
        progress = _Progress(file) if sys.stderr.isatty() else None
        try:
            return recognizer.transcribe(file, **options, on_progress=progress)
        finally:
            if progress is not None:
                progress.clear()
    stream = recognizer.create_stream(**options)
    for block in read_raw_pcm(sys.stdin.buffer, rate):
        stream.accept(block, rate)
    return stream.finish()


def _report_no_match(source: str, result: Result) -> None:
    if result.match is not None and not result.accepted:
        heard = result.match.free_text or "nothing"
        print(f"asr: {source}: no match of the grammar; heard: {heard}", file=sys.stderr)


def _targets(args: argparse.Namespace) -> dict[str, Path]:
    """Output file of each input; empty without --output."""
    if args.output is None:
        return {}
    targets: dict[str, Path] = {}
    owners: dict[Path, str] = {}
    for file in args.files:
        target = args.output / ("stdin" if file == STDIN else Path(file).stem)
        target = target.with_name(target.name + SUFFIXES[args.format])
        if owners.setdefault(target, file) != file:
            raise OptionError(f"--output: {owners[target]} and {file} would both be written to {target}")
        targets[file] = target
    args.output.mkdir(parents=True, exist_ok=True)
    return targets


def _write_whole(path: Path, text: str) -> None:
    """Write a file through a temporary name, so that it is there whole or not at all."""
    temporary = path.with_name(path.name + ".part")
    temporary.write_text(text, encoding="utf-8", errors="backslashreplace")
    os.replace(temporary, path)


class _Progress:
    """A bar on stderr, for recordings long enough to wait for."""

    def __init__(self, file: str) -> None:
        self._name = Path(file).name[:PROGRESS_NAME_WIDTH]
        self._shown = ""

    def __call__(self, done_s: Seconds, total_s: Seconds | None) -> None:
        if total_s is None or total_s < PROGRESS_FROM_S:
            return
        share = min(done_s / total_s, 1.0)
        bar = "#" * round(share * PROGRESS_WIDTH)
        line = f"{self._name} [{bar:<{PROGRESS_WIDTH}}] {share:4.0%}"
        if line != self._shown:
            self._shown = line
            print(f"\r{line}", end="", file=sys.stderr, flush=True)

    def clear(self) -> None:
        if self._shown:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)


# --- listen ---------------------------------------------------------------------------------------------------------


def _print_live(text: str, is_live: bool) -> None:
    if is_live:
        room = shutil.get_terminal_size().columns - 1
        print(f"\r\x1b[K{text[-room:]}", end="", flush=True)


def _print_line(text: str, is_live: bool) -> None:
    print(f"\r\x1b[K{text}" if is_live else text, flush=True)


# --- info -----------------------------------------------------------------------------------------------------------


def _facts(recognizer: Recognizer) -> dict[str, Any]:
    bundle, manifest = recognizer.bundle, recognizer.bundle.manifest
    heard = recognizer.transcribe(bundle.file(manifest.selftest.audio)).text
    expected = manifest.selftest.text
    return {
        "name": manifest.name,
        "language": manifest.language,
        "path": str(bundle.path),
        "license": manifest.license,
        "words": recognizer.n_words,
        "domains": list(recognizer.domains),
        "chunk_ms": list(manifest.encoder.chunk_ms),
        "default_chunk_ms": manifest.encoder.default_chunk_ms,
        "bytes": bundle.size_bytes,
        "files": {name: entry.bytes for name, entry in manifest.files.items()},
        "quantization": dict(manifest.quantization),
        "provenance": dict(manifest.provenance),
        "selftest": {"ok": heard == expected, "expected": expected, "heard": heard},
    }


def _describe(facts: dict[str, Any]) -> str:
    test = facts["selftest"]
    chunks = ", ".join(f"{size}*" if size == facts["default_chunk_ms"] else str(size) for size in facts["chunk_ms"])
    rows = [
        ("name", f"{facts['name']} ({facts['language']})"),
        ("folder", facts["path"]),
        ("licence", facts["license"]),
        ("words", f"{facts['words']:,}"),
        ("domains", ", ".join(facts["domains"]) or "none"),
        ("chunks", f"{chunks} ms (* default)"),
        ("size", f"{facts['bytes'] / 1e6:.1f} MB"),
        *((f"  {name}", f"{size / 1e6:.2f} MB") for name, size in facts["files"].items()),
        *((f"quantised {key}", str(value)) for key, value in facts["quantization"].items()),
        *((f"from {key}", str(value)) for key, value in facts["provenance"].items()),
        ("self-test", "ok" if test["ok"] else f"failed: expected {test['expected']!r}, heard {test['heard']!r}"),
    ]
    width = max(len(name) for name, _ in rows)
    return "\n".join(f"{name:<{width}}  {value}" for name, value in rows)


def _complain(error: Exception) -> None:
    """One line on stderr."""
    print("asr: " + " ".join(str(error).split()), file=sys.stderr)
