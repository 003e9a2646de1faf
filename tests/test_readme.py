"""What README.md tells people to type works, and shows what really comes out."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import datasets
import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from vitx.cli import VERBS, main
from vitx.config.schema import ModelConfig
from vitx.config.screening import screen
from vitx.config.settings import option_values
from vitx.config.words import split
from vitx.models.build import Fit, build_model

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / "README.md"
COMPOSED = ("train", "distill", "eval")
_MEASURED = r"^(run|tried|memory|time|disk) .*"
_FOUND = r"^(?:ok|warning|problem) +(\w+(?: \w+)?)  .*"
TINY_BLOCKS = {"embed_dim": 48, "depth": 2, "num_heads": 3}


@dataclass(frozen=True)
class Command:
    """A command of a ```console block, and the lines shown below it."""

    words: tuple[str, ...]
    shown: tuple[str, ...]

    @property
    def verb(self) -> str:
        return self.words[1] if len(self.words) > 1 else ""

    @property
    def args(self) -> list[str]:
        return list(self.words[2:])

    @property
    def complaint(self) -> str:
        """The error that is shown, or nothing. To be stopped is none."""
        titles = ("vitx: ", f"vitx {self.verb}: ")
        errors = [line for line in self.shown if line.startswith(titles)]
        return next((line for line in errors if ": stopped by " not in line), "")

    @property
    def only_shows(self) -> bool:
        return bool({"--help", "-h", "--cfg", "-c", "--version"} & set(self.words))

    def __str__(self) -> str:
        return " ".join(self.words)


def console(text: str) -> list[Command]:
    """Return the commands of every ```console block; a backslash continues a line."""
    found: list[Command] = []
    for block in re.findall(r"^```console\n(.*?)^```$", text, re.DOTALL | re.MULTILINE):
        for part in re.split(r"^\$ ", block.replace("\\\n", " "), flags=re.MULTILINE)[1:]:
            typed, *shown = part.rstrip("\n").split("\n")
            found.append(Command(tuple(shlex.split(typed, comments=True)), tuple(shown)))
    return found


COMMANDS = console(README.read_text(encoding="utf-8")) if README.exists() else []
OURS = [command for command in COMMANDS if Path(command.words[0]).name == "vitx"]

pytestmark = pytest.mark.skipif(not README.exists(), reason="there is no README.md yet")


def each(commands: list[Command]) -> list[object]:
    """Return the commands as cases, or a case that is visibly skipped where there is none."""
    nothing = pytest.param(None, marks=pytest.mark.skip(reason="README.md has none"))
    return [pytest.param(command, id=str(command)) for command in commands] or [nothing]


def in_order(shown: tuple[str, ...], printed: str) -> None:
    """Look for every line that is shown, `...` standing for any number of others."""
    lines = iter(printed.splitlines())
    for line in shown:
        if line.strip() != "...":
            assert line.rstrip() in (each.rstrip() for each in lines), line


def test_there_are_commands() -> None:
    assert OURS
    assert all(c.verb in VERBS or c.only_shows or c.complaint for c in OURS)


@pytest.mark.parametrize(
    "command", each([c for c in OURS if c.verb in COMPOSED and not c.complaint])
)
def test_it_composes(command: Command, capsys: pytest.CaptureFixture[str]) -> None:
    if not command.only_shows:
        screen(command.verb, split(command.verb, command.args))
    args = [word for word in command.args if word not in ("-m", "--multirun")]
    if not command.only_shows:
        # Of a sweep, its first job.
        args = [re.sub(r"^([\w.]+=[\w.]+),[\w.,]+$", r"\1", word) for word in args]
        args += ["--cfg", "job"]
    assert main([command.verb, *args]) == 0
    printed = capsys.readouterr().out
    if "--cfg" in args:
        assert isinstance(yaml.safe_load(printed), dict)
    if command.only_shows:
        in_order(command.shown, printed)


@pytest.mark.parametrize("command", each([c for c in OURS if c.complaint]))
def test_the_mistake_is_answered_as_shown(
    command: Command, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    composed = ["--cfg", "job"] if command.verb in COMPOSED else []
    code = main([*command.words[1:], *composed])
    answer = capsys.readouterr().err
    if code == 0:  # It shows only when it is done.
        done = run(command.words[1:], tmp_path)
        code, answer = done.returncode, done.stderr
    assert code in range(2, 9)
    assert answer.splitlines() == [*command.shown]


@pytest.mark.parametrize(
    "command", each([c for c in OURS if c.verb not in COMPOSED and not c.complaint])
)
def test_other_verbs_print_what_is_shown(
    command: Command,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    if command.verb == "import":
        write_weights(Path(command.args[0]))
    assert main(list(command.words[1:])) == 0
    shown, printed = command.shown, capsys.readouterr().out
    if command.verb == "doctor":  # what is found depends on the machine; the names stand
        shown = tuple(match[1] for line in shown if (match := re.fullmatch(_FOUND, line)))
        assert shown
        printed = re.sub(_FOUND, r"\1", printed, flags=re.MULTILINE)
    if command.verb == "check":  # what depends on the machine and the moment, by its name alone
        shown = tuple(re.sub(_MEASURED, r"\1", line) for line in shown)
        printed = re.sub(_MEASURED, r"\1", printed, flags=re.MULTILINE)
    in_order(shown, printed)


def write_weights(file: Path) -> None:
    """Write weights of an architecture under its name, in the layout of DeiT's releases."""
    with torch.device("meta"):
        fit = Fit(num_classes=1000, channels=3, image_px=224)
        state = build_model(ModelConfig(name=file.stem), fit).state_dict()
    torch.save({"model": {name: torch.zeros(each.shape) for name, each in state.items()}}, file)


def make_targets(text: str) -> list[str]:
    """Return what is asked of make in console blocks and between backticks."""
    asked = [" ".join(c.words) for c in console(text)] + re.findall(r"`([^`\n]+)`", text)
    words = [shlex.split(each)[1:] for each in asked if each.startswith("make ")]
    return [word for line in words for word in line if re.fullmatch(r"[a-z][a-z-]*", word)]


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md"])
def test_make_has_every_target_that_is_named(name: str) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))
    named = make_targets((ROOT / name).read_text(encoding="utf-8"))
    assert named
    assert set(named) <= targets


def test_continuous_integration_does_what_contributors_are_told() -> None:
    text = README.read_text(encoding="utf-8")
    (section,) = re.findall(r"^## Contributing\n(.*?)(?=^## |\Z)", text, re.DOTALL | re.MULTILINE)
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    calls = re.findall(r"^make (.+)$", script, re.MULTILINE)
    assert [target for call in calls for target in call.split()] == make_targets(section)


def test_the_reader_of_blocks() -> None:
    """The parser above, on what it has to tell apart."""
    text = "```\n$ no\n```\n\n```console\n$ vitx train \\\n  a=1  # why\nout\n$ make x\n```\n"
    assert console(text) == [
        Command(("vitx", "train", "a=1"), ("out",)),
        Command(("make", "x"), ()),
    ]
    with pytest.raises(AssertionError):
        in_order(("b", "a"), "a\nb")
    in_order(("a", "...", "c"), "a\nb\nc\n")


def run(words: tuple[str, ...] | list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    program = Path(sys.executable).with_name("vitx")
    return subprocess.run(
        [program, *words], cwd=folder, capture_output=True, text=True, timeout=300
    )


def small_data(command: Command, folder: Path) -> list[str]:
    """Make small data of the layout that a command names; return the settings that name them."""
    words = dict(word.partition("=")[::2] for word in command.args if "=" in word)
    option = words.get("dataset", "digits")
    if option == "digits":
        return []
    values = option_values("dataset", option) | words
    where, draw = folder / f"data-{option}", np.random.default_rng(0)
    if not where.exists():
        pixels = draw.integers(0, 256, (160, 20, 20, 3), dtype=np.uint8)
        pictures = [Image.fromarray(each) for each in pixels]
        for split_name, part in (("train", slice(0, 128)), ("test", slice(128, 160))):
            labels = [number % 4 for number in range(160)][part]
            if option == "folder":
                for number, (picture, label) in enumerate(zip(pictures[part], labels, strict=True)):
                    (where / split_name / f"c{label}").mkdir(parents=True, exist_ok=True)
                    picture.save(where / split_name / f"c{label}" / f"{number}.png")
                continue
            image = values.get("dataset.image_column", "image")
            label = values.get("dataset.label_column", "label")
            rows = datasets.Dataset.from_dict(
                {image: pictures[part], label: labels},
                features=datasets.Features(
                    {image: datasets.Image(), label: datasets.ClassLabel(num_classes=4)}
                ),
            )
            (where / "data").mkdir(parents=True, exist_ok=True)
            rows.to_parquet(where / "data" / f"{split_name}-00000-of-00001.parquet")
    return [f"dataset.path={where}"]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_commands_run(tmp_path: Path) -> None:
    """In order, in one folder, ten steps of a tiny model, with pictures made here."""
    tiny = [f"model.args.{name}={size}" for name, size in TINY_BLOCKS.items()]
    replaced = ("dataset.path=", "epochs=", "batch_size=", "stop_at=")
    for command in OURS:
        if command.verb not in COMPOSED or command.only_shows or command.complaint:
            continue
        args = [word for word in command.args if not word.startswith(replaced)]
        stopped = any(word.startswith("stop_at=") for word in command.args)
        if command.verb == "train" and not any(word.startswith("resume=") for word in args):
            args += ["debug=fast", *tiny, *small_data(command, tmp_path)]
            args += ["stop_at=3st"] if stopped else []
        newest = sorted(tmp_path.glob("runs/*/config.yaml"), key=lambda p: p.stat().st_mtime)
        for number, word in enumerate(args):
            name, _, value = word.partition("=")
            if name in ("run", "resume") and not (tmp_path / value).exists():
                args[number] = f"{name}={newest[-1].parent}"
        done = run([command.verb, *args], tmp_path)
        assert done.returncode == (75 if stopped else 0), f"{command}\n{done.stderr}"
