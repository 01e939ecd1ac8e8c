"""The import rules between the folders of mmindex, read off the source by AST."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from dicom_bytes import write_numbered

import mmindex

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "mmindex"

# A module imports what stands before it, or what stands beside it in its own folder.
# "" is mmindex/__init__.py: the public API that the command line is written against.
ORDER = (
    *("closing", "own_lock", "errors", "image_numbers", "frame_table", "tile_positions", "model"),
    *("attributes", "dicom_json"),
    *("scan", "index", "sources", "decode", "update", "read", "render", "encaps", "export"),
    *("", "serve", "cli", "__main__"),
)

# What a folder knows nothing of, though it stands before.
APART = {
    "index": ("scan",),
    "sources": ("index",),
    "decode": ("index", "sources"),
    "update": ("decode",),
}

ONLY_IMPORTERS = {
    "lmdb": ("mmindex.index.lmdb",),
    "pydicom": (
        *("mmindex.decode", "mmindex.read", "mmindex.serve"),
        *("mmindex.dicom_json", "mmindex.update.attribute_values"),
    ),
    "starlette": ("mmindex.serve",),
    "uvicorn": ("mmindex.serve",),
    "click": ("mmindex.cli",),
    "watchfiles": ("mmindex.update.watch",),
    "pyarrow": ("mmindex.export.parquet",),
    "zarr": ("mmindex.export.zarr",),
    "obstore": ("mmindex.sources.object_store", "mmindex.sources.stores"),
}

# What an extra brings is imported where it is used, inside a function.
EXTRAS = {
    *("imagecodecs", "pylibjpeg", "openjpeg", "PIL", "dask", "distributed"),
    *("starlette", "uvicorn", "httptools", "uvloop", "obstore", "watchfiles", "pyarrow", "zarr"),
}
LOADED_WITH_AN_EXTRA = ("mmindex.serve", "mmindex.export.zarr")  # modules of nothing else

# scan is pure functions of a buffer: it computes, it does not read, log or run anything.
SCAN_FORBIDS = (
    *("asyncio", "concurrent", "multiprocessing", "queue", "subprocess", "threading"),
    *("fileinput", "glob", "io", "os", "pathlib", "shutil", "tempfile"),
    *("http", "select", "socket", "sqlite3", "urllib"),
    *("logging", "signal", "time", "warnings"),
)

MOST_LINES = 400


def module_name(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def walk_imports(
    module: str, source: str, *, is_package: bool = False
) -> Iterator[tuple[int, str]]:
    """Yield (line, dotted name) of every import, also of those inside functions."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parts = module.split(".")
                kept = len(parts) - node.level + is_package
                base = ".".join([*parts[:kept], *([base] if base else [])])
            yield from ((node.lineno, f"{base}.{alias.name}") for alias in node.names)


def step(dotted_name: str) -> str:
    """Return the entry of ORDER that `mmindex.<step>.<...>` belongs to."""
    part = [*dotted_name.split("."), ""][1]
    return part if part in ORDER else ""


def find_violations(module: str, source: str, *, is_package: bool = False) -> list[str]:
    found = []
    here = step(module)
    for line, name in walk_imports(module, source, is_package=is_package):
        top = name.partition(".")[0]
        place = f"{module}, line {line}"
        if top == "mmindex":
            if step(name) != here and ORDER.index(step(name)) > ORDER.index(here):
                found.append(f"{place}: {here or 'mmindex'} comes before {name}")
            if step(name) in APART.get(here, ()):
                found.append(f"{place}: {here} knows nothing of {step(name)}")
            continue
        owners = ONLY_IMPORTERS.get(top)
        if owners and not any(
            module == owner or module.startswith(owner + ".") for owner in owners
        ):
            found.append(f"{place}: only {owners[0]} imports {top}")
        if here == "scan" and (
            top in SCAN_FORBIDS or top not in {*sys.stdlib_module_names, "numpy"}
        ):
            found.append(f"{place}: scan is pure functions of a buffer, so no {top}")
    return found


MODULES = sorted(PACKAGE.rglob("*.py"))


@pytest.mark.parametrize("path", MODULES, ids=module_name)
def test_module_imports_only_steps_before_it(path):
    """No module imports a later step, nor a dependency that belongs to another module."""
    source = path.read_text(encoding="utf-8")
    is_package = path.name == "__init__.py"
    assert find_violations(module_name(path), source, is_package=is_package) == []


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("mmindex.model", "from mmindex.scan.tags import PIXEL_DATA"),
        ("mmindex.scan.native", "from mmindex.index import record"),
        ("mmindex.scan.native", "from mmindex import index"),
        ("mmindex.scan.native", "from ..read import archive"),
        ("mmindex.update.build", "def build():\n    from mmindex.read import Archive"),
        ("mmindex.read.archive", "import mmindex.cli.commands.frame"),
        ("mmindex.read.archive", "import mmindex"),
        ("mmindex", "from mmindex.cli import main"),
        ("mmindex.index.record", "from mmindex.scan.tags import PIXEL_DATA"),
        ("mmindex.decode.frame", "from mmindex.sources.file import FileSource"),
        ("mmindex.update.build", "import lmdb"),
        ("mmindex.update.build", "from pydicom.pixels import get_decoder"),
        ("mmindex.update.build", "import click"),
        ("mmindex.scan.instance", "from pathlib import Path"),
        ("mmindex.scan.instance", "import PIL.Image"),
    ],
)
def test_forbidden_import_is_found(module, source):
    """The rules see absolute, relative and local imports of the wrong thing."""
    assert len(find_violations(module, source)) == 1


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("mmindex.model", "from mmindex.errors import FormatError"),
        ("mmindex.update.build", "from mmindex.scan import scan_instance"),
        ("mmindex.update.build", "from . import store"),
        ("mmindex.index.lmdb.environment", "import lmdb"),
        ("mmindex.decode.by_pydicom", "from pydicom.pixels import get_decoder"),
        ("mmindex.cli.commands.frame", "import click, mmindex"),
        ("mmindex.scan.instance", "import struct, zlib, numpy"),
    ],
)
def test_permitted_import_is_left_alone(module, source):
    """The rules let through what the layout allows."""
    assert find_violations(module, source) == []


def find_extras_at_the_top(source: str) -> list[str]:
    """Return the packages of extras that a module imports when it is imported itself."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        is_typing = isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        if is_typing or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            node.body = [ast.Pass()]
    tops = {name.partition(".")[0] for _, name in walk_imports("", ast.unparse(tree))}
    return sorted(tops & EXTRAS)


@pytest.mark.parametrize("path", MODULES, ids=module_name)
def test_extras_are_imported_where_they_are_used(path):
    """A module can be imported without them; those that are of nothing else may need theirs."""
    module = module_name(path)
    if not module.startswith(LOADED_WITH_AN_EXTRA):
        assert find_extras_at_the_top(path.read_text(encoding="utf-8")) == []


def test_extras_at_the_top_are_found():
    """Imports of a function or for types do not count, all others do."""
    assert find_extras_at_the_top("import dask.array\ntry:\n    import PIL\nexcept E: ...") == [
        "PIL",
        "dask",
    ]
    assert find_extras_at_the_top("def read():\n    from PIL import Image") == []
    assert find_extras_at_the_top("if TYPE_CHECKING:\n    import zarr\nimport numpy") == []


def find_circle(imports: dict[str, set[str]]) -> list[str]:
    """Return modules that import each other in a circle, first and last the same; none if none."""
    done: set[str] = set()

    def walk(module: str, way: list[str]) -> list[str]:
        if module in way:
            return [*way[way.index(module) :], module]
        if module not in done:
            for imported in sorted(imports.get(module, ())):
                if found := walk(imported, [*way, module]):
                    return found
            done.add(module)
        return []

    return next((found for module in sorted(imports) if (found := walk(module, []))), [])


def read_imports() -> dict[str, set[str]]:
    """Return what each module imports of mmindex when it runs, also inside functions."""
    names = {module_name(path): path for path in MODULES}
    imports: dict[str, set[str]] = {}
    for module, path in names.items():
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
                node.body = [ast.Pass()]
        found = walk_imports(module, ast.unparse(tree), is_package=path.name == "__init__.py")
        dotted = [name for _, name in found if name.startswith("mmindex.")]
        imports[module] = {
            name if name in names else name.rpartition(".")[0] for name in dotted
        } & names.keys() - {module}
    return imports


def test_no_module_imports_itself_by_way_of_others():
    """There is no circle, not even through imports inside functions."""
    assert find_circle(read_imports()) == []


def test_a_circle_is_found():
    """The search sees a circle of two and of three, and none where there is none."""
    assert find_circle({"a": {"b"}, "b": {"a"}}) == ["a", "b", "a"]
    assert find_circle({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == ["b", "c", "b"]
    assert find_circle({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == []


@pytest.mark.parametrize("path", MODULES, ids=module_name)
def test_module_is_short_enough_to_read(path):
    """A module that grows past about 400 lines wants a second room."""
    lines = len(path.read_text(encoding="utf-8").splitlines())
    assert lines <= MOST_LINES, f"{path.relative_to(ROOT)} has {lines} lines: split it in two"


def test_importing_mmindex_is_light():
    """`import mmindex` loads no pixel decoder and no command line."""
    script = (
        "import sys; before = set(sys.modules); import mmindex; "
        "print(*sorted({name.partition('.')[0] for name in set(sys.modules) - before}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    loaded = set(done.stdout.split())
    assert "mmindex" in loaded
    assert loaded.isdisjoint({"click", "dask", "distributed", "PIL", "pydicom", "pylibjpeg"})


# What one stored frame by its UID is written without, unless click or lmdb import it.
NOT_FOR_A_FRAME = {
    *("dataclasses", "copy", "locale", "difflib", "heapq", "bisect", "mmap", "hashlib", "json"),
    *("logging", "pathlib", "tempfile", "shutil", "string", "textwrap", "decimal", "random"),
    *("asyncio", "concurrent", "multiprocessing", "queue", "selectors", "socket", "subprocess"),
    *("numpy", "pydicom", "imagecodecs", "pylibjpeg", "PIL"),
}


def list_modules(*arguments: str) -> set[str]:
    """Return the modules that a process has imported when it ends."""
    end = "import sys; print(*sorted(sys.modules), file=sys.stderr)"
    script = f"import atexit; atexit.register(exec, {end!r}, {{}}); import sys; {arguments[0]}"
    command = [sys.executable, "-c", script, *arguments[1:]]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, check=True)
    return set(done.stderr.decode().split())


def test_one_stored_frame_is_written_with_few_imports(tmp_path):
    """By its UID from an index: no dataclasses, codecs, scan or other command."""
    write_numbered(tmp_path, 1)
    mmindex.build(tmp_path)
    with mmindex.open(tmp_path) as archive:
        (uid,) = archive
    given = list_modules("import click, lmdb")
    command = "from mmindex.__main__ import run; run()"
    loaded = list_modules(command, "frame", str(tmp_path), "1", "--instance", uid) - given
    assert "mmindex.cli.commands.frame" in loaded
    assert {name.partition(".")[0] for name in loaded}.isdisjoint(NOT_FOR_A_FRAME)
    ours = {name for name in loaded if name.startswith("mmindex.")}
    others = ("mmindex.scan.", "mmindex.update.", "mmindex.decode", "mmindex.serve")
    assert [name for name in ours if name.startswith(others)] == []
    assert len({name for name in ours if name.startswith("mmindex.cli.commands.")}) == 1
