"""Who may import whom: the table of docs/architecture.md, file by file, and what a plain import loads."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ROOMS = ("asr", "lm", "export", "benchmarks", "tests", "examples", "scripts")
OPTIONAL = {"soundfile", "soxr", "onnxruntime", "sentencepiece", "kenlm", "torch", "torchaudio", "onnx", "sounddevice"}
# Which of OPTIONAL and of ROOMS a room's files may import at all; the most specific folder counts.
ALLOWED = {
    "lm": {"lm", "sentencepiece"},
    "lm/train": {"lm", "torch", "onnx"},
    "asr": {"asr", "lm"},
    "asr/nn": {"asr", "lm", "torch"},
    "asr/train": {"asr", "lm", "torch", "torchaudio", "soundfile", "soxr"},
    "export": {
        "export",
        "asr",
        "lm",
        "torch",
        "torchaudio",
        "onnx",
        "onnxruntime",
        "sentencepiece",
        "kenlm",
        "soundfile",
    },
}
ALLOWED_IN_FILE = {
    "asr/audio.py": {"soundfile", "soxr"},
    "asr/onnx_encoder.py": {"onnxruntime"},
    "asr/microphone.py": {"sounddevice"},
    "asr/train/kokoro.py": {"onnxruntime"},
    "lm/g2p.py": {"onnxruntime"},
    "lm/kenlm_model.py": {"kenlm"},
    "lm/onnx_lm.py": {"onnxruntime"},
}
NEVER_AT_IMPORT = {"torch", "torchaudio", "sentencepiece", "kenlm", "onnx"}
SOURCES = sorted(p for room in ("asr", "lm", "export") for p in (ROOT / room).rglob("*.py"))


def imports(tree, *, whole_file=True):
    """Dotted names of imported modules; without `whole_file` only those that run when the module is imported."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif whole_file or not (isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) or for_types_only(node)):
            yield from imports(node, whole_file=whole_file)


def for_types_only(node):
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def room_of(name):
    parts = name.split("/")
    return next(folder for folder in ("/".join(parts[:2]), parts[0]) if folder in ALLOWED)


def subroom(module):
    """The folder of the table that a module of ours belongs to."""
    folder = "/".join(module.split(".")[:2])
    return folder if folder in ALLOWED else module.split(".")[0]


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_imports_obey_the_table(path):
    name = path.relative_to(ROOT).as_posix()
    room = room_of(name)
    allowed = ALLOWED[room] | ALLOWED_IN_FILE.get(name, set())
    found = set(imports(ast.parse(path.read_text(encoding="utf-8"))))
    tops = {module.split(".")[0] for module in found}
    assert not (tops & (OPTIONAL | set(ROOMS))) - allowed
    if room in ("asr", "lm"):
        assert not {module for module in found if subroom(module) in ("asr/nn", "asr/train", "lm/train")} or is_cli(
            name
        )
    if room == "asr/nn":
        assert not {module for module in found if subroom(module) == "asr/train"}


def is_cli(name):
    """A command of a room may start its training part, inside a function."""
    return name == "lm/train_cli.py"


@pytest.mark.parametrize(
    "name", ["lm/kenlm_model.py", "lm/cli.py", "lm/train_cli.py", "asr/microphone.py", "asr/train/kokoro.py"]
)
def test_optional_packages_wait_until_they_are_needed(name):
    path = ROOT / name
    if not path.exists():
        pytest.skip("not in this tree")
    at_import = set(imports(ast.parse(path.read_text(encoding="utf-8")), whole_file=False))
    assert not {module for module in at_import if module.split(".")[0] in OPTIONAL or subroom(module) == "lm/train"}


def test_nothing_imports_tests_or_benchmarks():
    for path in SOURCES:
        tops = {module.split(".")[0] for module in imports(ast.parse(path.read_text(encoding="utf-8")))}
        assert not tops & {"tests", "benchmarks", "examples", "scripts"}, path


def test_a_plain_import_loads_no_workshop_package():
    code = "import asr, asr.cli, lm, sys; print(*sorted({name.split('.')[0] for name in sys.modules}))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert not NEVER_AT_IMPORT & set(run.stdout.split())


def test_importing_the_engine_does_not_load_onnxruntime():
    code = "import asr, sys; print('onnxruntime' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert run.stdout.strip() == "False"


def test_a_recognizer_does_without_openssl_and_grammars():
    code = "import asr, sys; asr.Recognizer(); print(*{'_hashlib', 'ssl', 'lm.grammar.grammar'} & set(sys.modules))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert run.stdout.split() == []
