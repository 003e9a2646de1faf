"""Configurations that a stranger could leave in a run directory."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from vitx.checkpoint.manifest import sha256_of

CANARY = "canary-of-the-environment"

# Each tries to write MARK, or to show the variable CANARY.
_LINES = (
    "seed: !!python/object/apply:os.system ['touch MARK']",
    "seed: !!python/object/new:os.system ['touch MARK']",
    "seed: !!python/object:pathlib.Path {}",
    "seed: !!python/name:os.system",
    "seed: !!python/module:os",
    "seed: !!python/tuple [1, 2]",
    "seed: !!binary aGVsbG8=",
    "seed: !!set {a, b}",
    "seed: !!timestamp 2001-99-99",
    "seed: !custom {a: 1}",
    "name: ${oc.env:CANARY}",
    "name: '${oc.env:CANARY}'",
    "name: ${oc.decode:'${oc.env:CANARY}'}",
    "name: ${oc.create:${oc.env:CANARY}}",
    "name: ${hydra:runtime.cwd}",
    "name: ${vitx.sweep_dir:}",
    "name: ${now:%Y}",
    "name: ${run_dir}",
    "name: '\\${oc.env:CANARY}'",
    "hydra: {callbacks: {a: {_target_: os.system, command: touch MARK}}}",
    "hydra: {launcher: {_target_: os.system}}",
    "hydra: {job_logging: {handlers: {a: {class: os.system, command: touch MARK}}}}",
    "_target_: os.system",
    "defaults: [train, {override /hydra/launcher: submitit_slurm}]",
    "unknown: 1",
    "model: {_target_: os.system, _args_: ['touch MARK']}",
    "model: {args: {_target_: os.system, _args_: ['touch MARK']}}",
    "model: {args: {pretrained: true}}",
    "model: {args: {checkpoint_path: MARK.pth}}",
    "model: {args: {pretrained_cfg: {file: MARK.pth}}}",
    "model: {args: {norm_layer: os.system}}",
    "model: {args: {embed_dim: 1000000000000}}",
    "model: {args: {depth: -1}}",
    "model: {args: {embed_dim: {a: [b]}}}",
    "model: {name: 'local-dir:.'}",
    "model: {name: 'os.system'}",
    "model: {name: '../../../etc/passwd'}",
    "dataset: {path: /nowhere}",
    'dataset: {path: "a\\0b"}',
    "dataset: {kind: os.system}",
    "dataset: {image_px: 100000000}",
    "optimizer: {name: os.system}",
    "schedule: {kind: {_target_: os.system}}",
    "teacher: {name: x, weights: MARK}",
    "seed: 99999999999999999999999999999999999999",
    "seed: .nan",
    "seed: -1",
    "batch_size: .inf",
    "batch_size: 0",
    "epochs: 99999999999999999999ep",
    "epochs: 2001-01-01",
    "name: 2001-01-01 00:00:00",
    "name: &a [*a]",
    "name: &a x\nseed: *a",
    "<<: {seed: 1}",
    "? [a, b]\n: 1",
    "1: 2",
    "null: 2",
    "- a",
    "just a text",
    "",
    "---\n---\n",
    "%YAML 9.9\n---\na: 1",
    "{" * 2000,
    "[" * 2000 + "]" * 2000,
    "a: " * 50,
    "name: " + "x" * (2 << 20),
    "seed: " + "9" * 5000,
    "name: \0",
    "name: \x1b]0;title\x07",
    "name: \u202e\u2066",
    "'seed: 1",
    "\tseed: 1",
    "a: b: c",
    "*undefined",
)


def _laughs() -> str:
    lines = ["a0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol, lol]"]
    for n in range(1, 10):
        lines.append(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]")
    return "\n".join(lines)


def _bytes() -> Iterator[bytes]:
    yield _laughs().encode()
    yield ("model:\n  args:\n    " + _laughs().replace("\n", "\n    ")).encode()
    yield "name: ü".encode("utf-16")
    yield "name: ü".encode("latin-1")
    yield b"\xef\xbb\xbfseed: 1"
    yield bytes(range(256))
    yield b"\0" * 1000
    yield b"\x80PNG"


_VALUES: tuple[Any, ...] = (
    *(None, True, -1, 0, 1 << 70, 1e308, float("nan"), float("-inf"), "", "x", "../../MARK"),
    *("a\0b", "${oc.env:CANARY}", "/dev/zero", "x" * 5000, [], ["a"], [[1]], {}, {"a": 1}),
    *({"_target_": "os.system", "_args_": ["touch MARK"]}, [{"_target_": "os.system"}]),
    *("~", "\x1b[2J", "hf-hub:a/b", "{}", "!!python/name:os.system", 10**400),
)


def configs(base: dict[str, Any], count: int, *, seed: int = 0) -> Iterator[bytes]:
    """Yield that many contents of config.yaml, all but the first of them made from a sound one."""
    draw = random.Random(seed)
    made = [*_bytes(), *map(str.encode, _LINES), *(_laid_over(base, line) for line in _LINES)]
    yield from made[:count]
    leaves = list(_leaves(base))
    for _ in range(count - len(made)):
        changed = yaml.safe_load(yaml.safe_dump(base))
        for path in draw.sample(leaves, draw.choice((1, 1, 2))):
            place = changed
            for name in path[:-1]:
                place = place[name]
            place[path[-1]] = draw.choice(_VALUES)
        yield yaml.safe_dump(changed, allow_unicode=True).encode()


def _laid_over(base: dict[str, Any], line: str) -> bytes:
    """Return the sound configuration with the sections of a line put before it."""
    key = line.partition(":")[0]
    rest = {name: value for name, value in base.items() if name != key}
    return f"{line}\n{yaml.safe_dump(rest)}".encode(errors="surrogatepass")


def _leaves(node: dict[str, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for name, value in node.items():
        if isinstance(value, dict) and value:
            yield from _leaves(value, (*path, name))
        else:
            yield (*path, name)


def as_run(folder: Path, content: bytes, *, like: Path) -> Path:
    """Make a run directory out of links to another's files and a configuration of its own."""
    folder.mkdir()
    (folder / "config.yaml").write_bytes(content)
    for name in ("run.json", "result.json", "metrics.jsonl"):
        (folder / name).write_bytes((like / name).read_bytes())
    for file in like.glob("checkpoints/*/*"):
        to = folder / file.relative_to(like)
        to.parent.mkdir(parents=True, exist_ok=True)
        to.hardlink_to(file)
    return folder


def sign(file: Path) -> None:
    """Put the size and the sum of a file of a checkpoint into the manifest beside it."""
    manifest = file.with_name("manifest.json")
    told = json.loads(manifest.read_text())
    told["files"][file.name] = {"bytes": file.stat().st_size, "sha256": sha256_of(file)}
    del told["sha256"]
    text = json.dumps(told, sort_keys=True, separators=(",", ":"))
    told["sha256"] = hashlib.sha256(text.encode()).hexdigest()
    manifest.unlink()  # it may be a link to that of another
    manifest.write_text(json.dumps(told))
