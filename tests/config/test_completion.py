"""Completion, in the shells that do it."""

from __future__ import annotations

import os
import pty
import select
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from vitx.cli import VERBS
from vitx.config.completion import FILES, complete, script
from vitx.config.settings import groups, settings
from vitx.errors import UsageError

ROOT = Path(__file__).resolve().parents[2]
BASH = shutil.which("bash")
ZSH = shutil.which("zsh")
with_bash = pytest.mark.skipif(BASH is None, reason="bash is not installed")
with_zsh = pytest.mark.skipif(ZSH is None, reason="zsh is not installed")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["tr"], ["train"]),
        ([""], [*VERBS, "--help", "--version"]),
        (["completion", ""], ["bash", "zsh"]),
        (["train", "mod"], ["model=", "model."]),
        (["train", "model=deit3_m"], ["model=deit3_m"]),
        (["models", "xcit_s12_p8_"], ["xcit_s12_p8_384"]),
        (["train", "-m", "model=a,bit_r50"], [f"model=a,bit_r50{s}" for s in ("x1", "x3")]),
        (
            ["train", "optimizer.l"],
            ["optimizer.lr=", "optimizer.lr_batch=", "optimizer.layer_decay="],
        ),
        (["train", "logger.w"], ["logger.wandb."]),
        (["train", "precision=f"], ["precision=fp32", "precision=fp16"]),
        (["train", "dataset.mirror="], ["dataset.mirror=true", "dataset.mirror=false"]),
        (["train", "ema.decay="], ["ema.decay=null"]),
        (["train", "dataset.path=/tm"], [FILES]),
        (["train", "--cfg", ""], ["job", "hydra", "all"]),
        (["train", "--config-dir", "x"], [FILES]),
        (["train", "--multi"], ["--multirun"]),
        (["train", "zzz"], []),
        (["doctor", "dis"], ["distill"]),
        (["doctor", "mod"], ["model=", "model."]),
        (["doctor", "distill", "teacher.we"], ["teacher.weights="]),
        (["train", "zzz="], []),
        (["zzz", ""], []),
    ],
)
def test_candidates(words: list[str], expected: list[str]) -> None:
    assert sorted(complete(words, VERBS)) == sorted(expected)


def test_the_topics_of_help_are_offered() -> None:
    settings_of_section = [name for name in settings("train") if name.startswith("schedule.")]
    assert complete(["train", "--help", "sch"], VERBS) == ["schedule", *settings_of_section]


def test_the_options_of_a_further_folder_are_offered(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "mine.yaml").touch()
    assert complete(["train", "--config-dir", str(tmp_path), "model=min"], VERBS) == ["model=mine"]


def test_an_unknown_shell_is_refused() -> None:
    with pytest.raises(UsageError, match="expected bash or zsh; did you mean 'bash'"):
        script("bsh")


@pytest.fixture
def shell_environment(tmp_path: Path) -> dict[str, str]:
    """An environment in which `vitx` is this program."""
    program = tmp_path / "bin" / "vitx"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m vitx "$@"\n', encoding="utf-8")
    program.chmod(0o755)
    path = f"{program.parent}{os.pathsep}{os.environ['PATH']}"
    return {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT), "HOME": str(tmp_path)}


def _bash(environment: dict[str, str], pieces: list[str], breaks: str, cwd: Path) -> list[str]:
    code = (
        'eval "$(vitx completion bash)" || exit 9\n'
        'COMP_WORDBREAKS=$1; shift; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1))\n'
        "_vitx; printf '%s\\n' \"${COMPREPLY[@]}\"\n"
    )
    command = [str(BASH), "--norc", "-c", code, "bash", breaks, *pieces]
    done = subprocess.run(
        command, env=environment, cwd=cwd, capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stderr == ""
    return sorted(line for line in done.stdout.splitlines() if line)


CUT, WHOLE = " \t\n\"'><=;|&(:", " \t\n\"'><;|&("


@with_bash
@pytest.mark.parametrize(
    ("pieces", "breaks", "expected"),
    [
        (["vitx", "ev"], CUT, ["eval"]),
        (["vitx", "train", "sched"], CUT, ["schedule.", "schedule="]),
        (["vitx", "train", "schedule", "="], CUT, [*groups("train")["schedule"].options]),
        (["vitx", "train", "schedule", "=", "co"], CUT, ["constant", "cosine"]),
        (["vitx", "train", "schedule=co"], WHOLE, ["schedule=constant", "schedule=cosine"]),
        (["vitx", "train", "seed", "=", "1", "debug", "=", "fa"], CUT, ["fast"]),
        (["vitx", "train", "--cfg", "j"], CUT, ["job"]),
        (["vitx", "train", "dataset.path", "=", "sub"], CUT, ["sub dir", "sub.txt"]),
        (["vitx", "train", "dataset.path", "="], CUT, ["bin", "sub dir", "sub.txt"]),
        (
            ["vitx", "train", "dataset.path=sub"],
            WHOLE,
            ["dataset.path=sub dir", "dataset.path=sub.txt"],
        ),
        (["vitx", "train", "--config-dir", "sub"], CUT, ["sub dir", "sub.txt"]),
        (["vitx", "zzz", ""], CUT, []),
    ],
)
def test_bash_completes(
    shell_environment: dict[str, str],
    tmp_path: Path,
    pieces: list[str],
    breaks: str,
    expected: list[str],
) -> None:
    (tmp_path / "sub dir").mkdir()
    (tmp_path / "sub.txt").touch()
    assert _bash(shell_environment, pieces, breaks, tmp_path) == sorted(expected)


@with_bash
@pytest.mark.parametrize(
    ("typed", "became"),
    [
        ("vitx tra\t", "vitx train"),
        ("vitx train debug=f\t", "vitx train debug=fast"),
        ("vitx train debug=f\tbatch_s\t8", "vitx train debug=fast batch_size=8"),
        ("vitx train logger.wandb.gr\tx", "vitx train logger.wandb.group=x"),
        ("vitx train -m model=a,deit3_h\tseed=1", "vitx train -m model=a,deit3_h seed=1"),
        ("vitx train dataset.path=su\t", "vitx train dataset.path=sub.txt"),
        ("vitx train dataset.path=./sub.t\tseed=1", "vitx train dataset.path=./sub.txt seed=1"),
    ],
)
def test_a_terminal_with_bash_completes(
    shell_environment: dict[str, str], tmp_path: Path, typed: str, became: str
) -> None:
    (tmp_path / "sub.txt").touch()
    outer, inner = pty.openpty()
    with subprocess.Popen(
        [str(BASH), "--norc", "--noprofile", "-i"],
        env={**shell_environment, "TERM": "dumb", "INPUTRC": os.devnull, "PS1": ""},
        cwd=tmp_path,
        stdin=inner,
        stdout=inner,
        stderr=inner,
        start_new_session=True,
    ) as shell:
        os.close(inner)
        os.write(outer, b'eval "$(vitx completion bash)"; PS1=; echo REA""DY\n')
        _read_until(outer, "READY")
        # Then to the start of the line: print its words rather than run it.
        os.write(outer, typed.encode() + b"\x01printf '<%s>' \n")
        shown = "".join(f"<{word}>" for word in became.split())
        _read_until(outer, shown)
        os.write(outer, b"exit\n")
        shell.wait(timeout=20)
    os.close(outer)


def _read_until(terminal: int, text: str) -> None:
    seen = ""
    while text not in seen:
        ready, _, _ = select.select([terminal], [], [], 20)
        assert ready, f"expected {text!r} in {seen!r}"
        seen += os.read(terminal, 4096).decode(errors="replace")


_ZSH_TYPING = r"""
zmodload zsh/zpty
zpty shell 'zsh -f -i'
say() { zpty -w shell "$1" }
say 'PS1=; autoload -Uz compinit && compinit -u -d $HOME/.dump; eval "$(vitx completion zsh)"'
say 'finish() { print -r -- "<<$BUFFER>""> "; exit }; zle -N finish; bindkey "^X" finish'
say 'zle-line-init() { print REA""DY }; zle -N zle-line-init'
zpty -r shell line '*READY*'
zpty -n -w shell "$1"$'\t\x18'
zpty -r shell line '*>> *'
print -r -- "$line"
"""


@with_zsh
@pytest.mark.parametrize(
    ("typed", "became"),
    [
        ("vitx tra", "vitx train "),
        ("vitx train debug=f", "vitx train debug=fast "),
        ("vitx train batch_s", "vitx train batch_size="),
        ("vitx train logger.wandb.gr", "vitx train logger.wandb.group="),
        ("vitx train dataset.path=su", "vitx train dataset.path=sub.txt "),
    ],
)
def test_zsh_completes(
    shell_environment: dict[str, str], tmp_path: Path, typed: str, became: str
) -> None:
    (tmp_path / "sub.txt").touch()
    done = subprocess.run(
        [str(ZSH), "-f", "-c", _ZSH_TYPING, "zsh", typed],
        env={**shell_environment, "TERM": "dumb"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert f"<<{became}>>" in done.stdout, done.stdout + done.stderr
