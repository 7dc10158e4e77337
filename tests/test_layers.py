"""The rooms of the package: no module imports what lies above it, and each has a size that can be read."""

import ast
import functools
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from tests.conftest import ROOT

# From the lowest to the highest. A room may import itself and the rooms before it; of two on the same line,
# neither may import the other.
ORDER = (
    ("errors", "terminals", "words"),
    ("config",),
    ("data", "sinkhorn"),
    ("method", "localization", "video"),
    ("training", "evaluation", "refinement"),
    ("evaluator",),
    ("runs",),
    ("localizer",),
    ("report",),
    ("commands",),
)
LEVEL = {room: level for level, rooms in enumerate(ORDER) for room in rooms}

MODULES = sorted((ROOT / "case_jax").rglob("*.py"))
ABOVE = sorted([*(ROOT / "experiments").rglob("*.py"), *(ROOT / "benchmarks").rglob("*.py")])


def name_of(path: Path) -> str:
    """The dotted name of a module."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def room_of(module: str) -> str | None:
    """The room of a module of the package, None for the package itself."""
    return ".".join(module.split(".")[1:2]) or None


@functools.cache
def nodes_of(path: Path) -> list[ast.AST]:
    """The syntax of a module without what only a type checker sees."""

    def walk(node: ast.AST) -> Iterator[ast.AST]:
        yield node
        for child in ast.iter_child_nodes(node):
            if not (isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test)):
                yield from walk(child)

    return list(walk(ast.parse(path.read_text())))


def imports_of(path: Path) -> set[str]:
    """Modules that a module imports, wherever in its text, with the names imported from packages."""
    found = set()
    for node in nodes_of(path):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: imports by a relative name"
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def test_every_room_has_a_place_in_the_order():
    rooms = {room_of(name_of(path)) for path in MODULES} - {None}
    assert rooms == set(LEVEL)


def test_a_module_imports_only_from_its_room_and_those_below():
    for path in MODULES:
        room = room_of(name_of(path))
        for module in imports_of(path):
            other = room_of(module)
            if module.partition(".")[0] != "case_jax" or other not in LEVEL or other == room:
                continue
            assert room is not None, f"the package's __init__ imports {module} at once"
            assert LEVEL[other] < LEVEL[room], f"{path}: {module} lies above {room}"


def test_the_package_knows_nothing_of_experiments_benchmarks_or_tests():
    for path in MODULES:
        packages = {module.partition(".")[0] for module in imports_of(path)}
        assert not packages & {"experiments", "benchmarks", "tests"}, path


def test_only_commands_read_flags_and_print():
    for path in MODULES:
        if room_of(name_of(path)) == "commands":
            continue
        for module in imports_of(path):
            assert not module.startswith("absl.flags"), f"{path}: reads flags"
            assert module.partition(".")[0] != "rich", f"{path}: draws on a terminal"
        calls = [node.func for node in nodes_of(path) if isinstance(node, ast.Call)]
        names = {call.id for call in calls if isinstance(call, ast.Name)}
        assert "print" not in names, f"{path}: prints"


def test_no_file_is_longer_than_400_lines():
    lengths = {str(path): len(path.read_text().splitlines()) for path in [*MODULES, *ABOVE]}
    assert {path: length for path, length in lengths.items() if length > 400} == {}


# Readers in `data` are numpy only; these modules of it put features on devices or make batches.
WITH_JAX = {"packed", "samplers", "host_batches", "dataset"}


def test_numpy_rooms_do_not_load_jax():
    numpy_rooms = {"errors", "config", "localization", "evaluation", "data"}
    modules = [name_of(path) for path in MODULES if room_of(name_of(path)) in numpy_rooms]
    modules = [m for m in modules if m.rpartition(".")[2] not in WITH_JAX]
    assert len(modules) > 25
    program = (
        "import importlib, json, sys\n"
        "loaded = {}\n"
        "for name in sys.argv[1:]:\n"
        "    importlib.import_module(name)\n"
        "    loaded[name] = bool({'jax', 'jaxlib', 'flax'} & set(sys.modules))\n"
        "print(json.dumps(loaded))"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program, *modules], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert ended.returncode == 0, ended.stderr
    assert [name for name, loads in json.loads(ended.stdout).items() if loads][:1] == []
