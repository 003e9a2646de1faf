"""A run directory whose files were made to mislead, checksums and all."""

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.security.hostile import as_run, sign
from tests.train.programs import Programs
from vitx.errors import StorageError, VitxError
from vitx.runs import RunDir

VALUES: tuple[Any, ...] = (
    *(None, True, -1, 1 << 70, "NaN", "x", "../x", "\x1b[2J", "a\0b", 1e400),
    *([], [None], [{"a": 1}], {}, {"a": 1}, "x" * 5000, 0, 10**400),
)
TEXTS = (
    *("", "{", "null", "[]", "1", '"x"', "{}", '{"a": NaN}', "\0", "[" * 100_000, "9" * 5000),
    *('{"a":' * 50_000, '{"schema": 1}', '{"steps": []}', "\ufeff{}", "{'a': 1}"),
)


def places(node: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    items = node.items() if isinstance(node, dict) else enumerate(node)
    for key, value in items:
        yield (*path, key)
        if isinstance(value, (dict, list)):
            yield from places(value, (*path, key))


def changed(data: dict[str, Any], draw: random.Random) -> str:
    data = json.loads(json.dumps(data))
    *above, last = draw.choice(list(places(data)))
    node: Any = data
    for key in above:
        node = node[key]
    if isinstance(node, dict) and draw.random() < 0.3:
        del node[last]
    else:
        node[last] = draw.choice(VALUES)
    return json.dumps(data)


@pytest.fixture
def copy(finished: Path, tmp_path: Path) -> Path:
    run = as_run(tmp_path / "run", (finished / "config.yaml").read_bytes(), like=finished)
    (run / "result.json").unlink()
    return run


def replace(file: Path, text: str) -> None:
    """Put a text into a file, and its sum into the manifest beside it."""
    file.unlink(missing_ok=True)
    file.write_text(text)
    if file.name == "state.json":
        sign(file)


NAMES = {"run.json": "run.json", "result.json": "result.json"}
NAMES |= {name: f"checkpoints/step-00000002/{name}" for name in ("state.json", "manifest.json")}


@pytest.mark.parametrize("name", ["run.json", "result.json"])
def test_records_are_read_or_refused(name: str, finished: Path, tmp_path: Path) -> None:
    run, draw, refused = RunDir(tmp_path), random.Random(0), 0
    sound = json.loads((finished / name).read_text())
    for text in (*TEXTS, *(changed(sound, draw) for _ in range(300))):
        (tmp_path / name).write_text(text)
        try:
            (run.read_record if name == "run.json" else run.read_result)()
        except StorageError:
            refused += 1
    assert refused > 50


def test_the_program_refuses_a_hostile_state(copy: Path, vitx: Programs) -> None:
    replace(copy / NAMES["state.json"], '{"train": {}, "callbacks": [], "optimizer": 1}')
    for words in (("train", f"resume={copy}"), ("eval", f"run={copy}", "checkpoint=best")):
        text = vitx.done(*words, code=4)
        assert "is not as vitx writes it" in text
        assert "Traceback" not in text


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", NAMES)
def test_no_hostile_file_ends_in_a_traceback(
    name: str, copy: Path, finished: Path, vitx: Programs, tmp_path: Path
) -> None:
    draw = random.Random(name)
    sound = json.loads((finished / NAMES[name]).read_text())
    for number, text in enumerate((*TEXTS, *(changed(sound, draw) for _ in range(20)))):
        run = as_run(tmp_path / f"{number}", (copy / "config.yaml").read_bytes(), like=finished)
        if name != "result.json":
            (run / "result.json").unlink()
        replace(run / NAMES[name], text)
        for words in (("eval", f"run={run}", "checkpoint=best"), ("train", f"resume={run}")):
            program = vitx(*words)
            assert program.wait() in (0, 2, 3, 4), (words, text[:2000], program.text)
            assert "\x1b" not in program.text


def test_a_refusal_is_always_of_storage(copy: Path) -> None:
    (copy / "run.json").write_text("[" * 100_000)
    with pytest.raises(VitxError) as refused:
        RunDir(copy).read_record()
    assert refused.value.exit_code == 4
