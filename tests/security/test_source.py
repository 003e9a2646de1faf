"""No module of vitx can make objects out of a file, or run a text."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[2] / "vitx"
MODULES = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
NAMES = {"eval", "exec", "compile", "__import__"}
CALLS = {
    "torch.load": "weights_only",
    "torch.hub": None,
    "torch.jit.load": None,
    "torch.package": None,
    "torch.distributed.checkpoint": None,
    "torch.serialization": None,
    "np.load": "allow_pickle",
    "numpy.load": "allow_pickle",
    "yaml.load": "Loader",
    "yaml.unsafe_load": None,
    "yaml.full_load": None,
    "hydra.utils.instantiate": None,
    "subprocess.getoutput": None,
    "os.system": None,
    "os.popen": None,
}
# The reader of foreign weights runs as a program of its own, with limits, and unpickles with
# torch's restricted reader; it reads JAX's arrays without pickles. A saved configuration is parsed
# by a subclass of YAML's safe loader. Whether each is called so is what the tests below look at.
ALLOWED = {
    ("models/foreign_reader.py", "pickle"),  # for the error that torch raises
    ("models/foreign_reader.py", "torch.load"),
    ("models/foreign_reader.py", "torch.serialization"),
    ("models/foreign_reader.py", "np.load"),
    ("config/plain_data.py", "yaml.load"),
}


def dotted(node: ast.expr) -> str:
    match node:
        case ast.Attribute(value=value, attr=name):
            return f"{dotted(value)}.{name}"
        case ast.Name(id=name):
            return name
    return "?"


def uses(tree: ast.AST) -> Iterator[str]:
    """Yield everything of the lists above that a module imports or calls, under its own name."""
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=names):
                yield from (each.name.partition(".")[0] for each in names)
                yield from (each.name for each in names)
            case ast.ImportFrom(module=str(module), names=names):
                yield module.partition(".")[0]
                yield from (f"{module}.{each.name}" for each in names)
            case ast.Call(func=ast.Name(id=name)):
                yield name
            case ast.Attribute():
                yield dotted(node)


def found_in(file: Path) -> set[str]:
    known = MODULES | NAMES | CALLS.keys()
    return known & set(uses(ast.parse(file.read_text(encoding="utf-8"))))


def test_only_the_named_exceptions_can_unpickle_or_run_a_text() -> None:
    files = sorted(PACKAGE.rglob("*.py"))
    assert len(files) > 100
    found = {(str(file.relative_to(PACKAGE)), name) for file in files for name in found_in(file)}
    assert found == ALLOWED


@pytest.mark.parametrize(
    "line",
    [
        "import pickle",
        "from pickle import loads",
        "import torch; torch.load('x')",
        "from torch import load",
        "import torch.hub",
        "import yaml; yaml.unsafe_load(x)",
        "eval('1')",
        "from hydra.utils import instantiate",
        "import joblib",
    ],
)
def test_the_scan_finds_what_it_is_for(line: str, tmp_path: Path) -> None:
    (tmp_path / "module.py").write_text(line)
    assert found_in(tmp_path / "module.py")


def keywords(file: str, name: str) -> list[dict[str, str]]:
    """Return the keywords of every call of a function in a file."""
    tree = ast.parse((PACKAGE / file).read_text(encoding="utf-8"))
    return [
        {each.arg or "**": ast.unparse(each.value) for each in node.keywords}
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and dotted(node.func) == name
    ]


def test_the_exceptions_are_called_in_their_restricted_way() -> None:
    (load,) = keywords("models/foreign_reader.py", "torch.load")
    assert load["weights_only"] == "True"
    (arrays,) = keywords("models/foreign_reader.py", "np.load")
    assert arrays["allow_pickle"] == "False"
    (parse,) = keywords("config/plain_data.py", "yaml.load")
    assert parse == {"Loader": "_PlainLoader"}


def test_nobody_imports_the_reader_of_foreign_weights() -> None:
    for file in PACKAGE.rglob("*.py"):
        imported = set(uses(ast.parse(file.read_text(encoding="utf-8"))))
        assert not any("foreign_reader" in name for name in imported), file
