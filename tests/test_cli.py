"""The command line in real processes: exit codes, one line on stderr, and what is imported."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import vitx
from vitx.cli import VERBS, main
from vitx.runtime.signals import HANDLED

ROOT = Path(__file__).resolve().parents[1]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}


def _python(*words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *words],
        env=ENVIRONMENT,
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )


def _vitx(*words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return _python("-m", "vitx", *words, cwd=cwd)


# A verb whose command does what the test says, in a process of its own.
_COMMAND = """
import sys, types
command = types.ModuleType("vitx.commands.train")
sys.modules["vitx.commands.train"] = command
def main(args):
    {body}
    return 0
command.main = main
from vitx.cli import main as run
sys.exit(run(["train", *sys.argv[1:]]))
"""


def _vitx_train_that(body: str, *words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return _python("-c", _COMMAND.format(body=body), *words, cwd=cwd)


def test_help_lists_the_verbs(tmp_path: Path) -> None:
    done = _vitx("--help", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert all(f"\n  {verb} " in done.stdout for verb in VERBS)


def test_no_words_show_the_help_and_are_an_error(tmp_path: Path) -> None:
    done = _vitx(cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == _vitx("--help", cwd=tmp_path).stdout


@pytest.mark.parametrize("words", [["--version"], ["train", "--version"]])
def test_version(words: list[str], tmp_path: Path) -> None:
    done = _vitx(*words, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, f"vitx {vitx.__version__}\n")


def test_help_behind_a_whole_command_line_is_the_page(tmp_path: Path) -> None:
    done = _vitx("train", "model=deit_ti", "precision=bf16", "--help", cwd=tmp_path)
    assert done.stdout == _vitx("train", "--help", cwd=tmp_path).stdout


@pytest.mark.parametrize("verb", ["train", "eval"])
@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_each_verb_has_a_manual_page(verb: str, flag: str, tmp_path: Path) -> None:
    done = _vitx(verb, flag, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert f"usage: vitx {verb} " in done.stdout
    assert "optimizer.lr_batch=" in _vitx("train", flag, "all", cwd=tmp_path).stdout


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["trian"], "vitx: no verb 'trian'; did you mean 'train'?"),
        (["zzz"], f"vitx: no verb 'zzz'; there are {', '.join(VERBS)}"),
        (["model=xcit_s12"], "vitx: expected a verb before model=xcit_s12; type vitx train "),
        (["--zzz"], "vitx: no verb '--zzz'"),
        (["completion"], "vitx completion: expected one shell; type vitx completion bash|zsh"),
        (["completion", "fish"], "vitx completion: completion fish: expected bash or zsh"),
        (["train", "--epochs", "3"], "vitx train: --epochs: settings are typed without dashes"),
        (["train", "experiment=zzz"], "vitx train: no option 'zzz' of experiment"),
        (["train", "+zzz=1"], "vitx train: zzz: no such setting"),
        (["train", "--help", "zzz"], "vitx train: --help zzz: no such setting or section"),
        (["train", "--cfg", "job", "optimizer.name=adamww"], "vitx train: optimizer.name=adamww: "),
        (["train", "--cfg", "job", "dataset.image_px=30"], "vitx train: model.name=xcit_nano"),
        (["train", "--cfg", "job", "runtime.device=tpu"], "vitx train: runtime.device=tpu: "),
        (["train", "modle=xcit_s12"], "vitx train: modle: no such setting; did you mean 'model'?"),
        (["eval", "weights=x"], "vitx eval: weights=x: expected one of auto, model, ema"),
        (["eval", "dataset=folder"], "vitx eval: dataset=folder: dataset.path is needed"),
    ],
)
def test_a_usage_error_is_one_line_and_code_2(words: list[str], line: str, tmp_path: Path) -> None:
    done = _vitx(*words, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(line)
    assert done.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("body", "code", "line"),
    [
        *(
            (f"from vitx.errors import {name}; raise {name}('why')", code, "vitx train: why\n")
            for name, code in [
                ("UsageError", 2),
                ("DataError", 3),
                ("StorageError", 4),
                ("NonFiniteError", 5),
                ("SweepError", 7),
                ("RunInUseError", 8),
                ("Preempted", 75),
                ("Interrupted", 130),
            ]
        ),
        ("raise KeyboardInterrupt", 130, "vitx train: interrupted\n"),
        (
            "\n    try: raise KeyboardInterrupt\n    except BaseException: [][0]",
            130,
            "vitx train: interrupted\n",
        ),
        ("open('/dev/full', 'w').write('x' * 99999)", 4, "vitx train: No space left on device"),
        ("import os; raise PermissionError(13, 'Permission denied', '/x')", 4, "vitx train: /x: P"),
        ("raise MemoryError", 4, "vitx train: out of memory; type a smaller "),
    ],
)
def test_an_end_has_its_code_and_its_line(body: str, code: int, line: str, tmp_path: Path) -> None:
    done = _vitx_train_that(body, cwd=tmp_path)
    assert done.returncode == code
    assert done.stderr.startswith(line)
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("body", ["[][0]", "open('/nowhere/at/all')", "raise BrokenPipeError"])
def test_a_bug_shows_its_traceback_and_asks_for_a_report(body: str, tmp_path: Path) -> None:
    done = _vitx_train_that(body, cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith("Traceback (most recent call last)")
    assert "this is a bug in vitx" in done.stderr.splitlines()[-1]


def test_a_closed_pipe_is_quiet(tmp_path: Path) -> None:
    body = "sys.stdin.read(); sys.stdout.write('x' * 10**6)"
    with subprocess.Popen(
        [sys.executable, "-c", _COMMAND.format(body=body)],
        env=ENVIRONMENT,
        cwd=tmp_path,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdin and process.stdout and process.stderr
        process.stdout.close()
        process.stdin.close()
        assert process.stderr.read() == b""
        assert process.wait(timeout=60) == 141


_HYDRA = (
    "import os, hydra; from vitx.config import store; store.register();"
    "from vitx.config.quoting import hydra_arguments; from vitx.config.words import split;"
    "os.environ['HYDRA_FULL_ERROR'] = '1';"
    "sys.argv[1:] = hydra_arguments('train', split('train', args));"
    "hydra.main(config_path=os.environ['CONF'], config_name='train', version_base='1.3')"
    "(lambda config: print(config.dataset.path, config.seed))()"
)


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["modle=xcit_s12"], "modle: no such setting; did you mean 'model'?"),
        (["seed=abc"], "seed=abc: expected a whole number"),
        (["name=é"], "name=é: 'é' can't stand there unquoted"),
        (["-m", "modle=a,b"], "modle: no such setting; did you mean 'model'?"),
        (["--config-dir", "nowhere"], "--config-dir: no such directory: "),
        (["--config-name", "nothing"], "--config-name nothing: no such configuration"),
        (["--config-path", "/nowhere"], "--config-path: no such directory: /nowhere"),
        (["--config-dir", "broken", "+extra=x"], ""),
    ],
)
def test_what_hydra_raises_is_one_line(
    words: list[str], line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(ENVIRONMENT, "CONF", str(ROOT / "conf"))
    (tmp_path / "broken" / "extra").mkdir(parents=True)
    (tmp_path / "broken" / "extra" / "x.yaml").write_text("seed: [1\n")
    done = _vitx_train_that(_HYDRA, *words, cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith(f"vitx train: {line}")
    assert done.stderr.count("\n") == 1


def test_paths_and_order_survive_the_whole_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(ENVIRONMENT, "CONF", str(ROOT / "conf"))
    words = ["dataset.path=/a b,/c=d['ü']", "-m", "seed=1,2"]
    done = _vitx_train_that(_HYDRA, *words, cwd=tmp_path)
    assert done.stderr == ""
    assert set(done.stdout.splitlines()) == {
        f"{path} {seed}" for path in ("/a b", "/c=d['ü']") for seed in (1, 2)
    }


def test_help_and_completion_answer_at_once(tmp_path: Path) -> None:
    def fastest(*words: str) -> float:
        seconds = []
        for _ in range(5):
            start = time.perf_counter()
            assert _vitx(*words, cwd=tmp_path).returncode == 0
            seconds.append(time.perf_counter() - start)
        return min(seconds)

    bare = min(_timed_bare(tmp_path) for _ in range(5))
    assert fastest("--help") - bare < 0.1
    assert fastest("train", "--help") < 0.7
    assert fastest("__complete", "train", "model=") < 0.5


def _timed_bare(cwd: Path) -> float:
    start = time.perf_counter()
    _python("-c", "pass", cwd=cwd)
    return time.perf_counter() - start


SCHEMA = [file.stem for file in (ROOT / "vitx/config/schema").glob("*.py")]


@pytest.mark.parametrize(
    ("code", "allowed"),
    [
        ("import vitx.cli", {"vitx", "vitx.cli", "vitx.errors"}),
        (
            "from vitx.cli import main; sys.argv[1:] = ['--help']; main()",
            {
                *("vitx", "vitx.cli", "vitx.errors", "vitx.streams"),
                *("vitx.runtime", "vitx.runtime.signals", "vitx.runtime.world"),
            },
        ),
        *(
            (
                f"from vitx.cli import main; main({words!r})",
                {
                    "vitx",
                    "vitx.cli",
                    "vitx.errors",
                    "vitx.paths",
                    "vitx.escapes",
                    "vitx.streams",
                    "vitx.redaction",
                    "vitx.config",
                    *(
                        f"vitx.config.{name}"
                        for name in (
                            *("schema", "settings", "words", "quoting", "screening", "hints"),
                            *("manual", "completion"),
                        )
                    ),
                    *(f"vitx.config.schema.{name}" for name in SCHEMA),
                },
            )
            for words in (
                ["train", "--help"],
                ["train", "+zzz=1"],
                ["__complete", "train", ""],
                ["completion", "bash"],
            )
        ),
    ],
)
def test_only_the_standard_library_is_imported(
    code: str, allowed: set[str], tmp_path: Path
) -> None:
    shown = (
        f"import sys; before = set(sys.modules); {code}\n"
        "new = set(sys.modules) - before\n"
        "print('\\nNEW', *(n for n in new if n.partition('.')[0] not in sys.stdlib_module_names))"
    )
    done = _python("-c", shown, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert set(done.stdout.rpartition("NEW")[2].split()) <= allowed


def test_configuration_never_imports_torch(tmp_path: Path) -> None:
    modules = sorted((ROOT / "vitx" / "config").glob("*.py"))
    imports = "; ".join(
        f"import vitx.config.{file.stem}" for file in modules if file.stem[0] != "_"
    )
    done = _python("-c", f"{imports}; import sys; print('torch' in sys.modules)", cwd=tmp_path)
    assert done.stdout == "False\n", done.stderr


def test_words_of_the_process_are_the_default(tmp_path: Path) -> None:
    code = "from vitx.cli import main; raise SystemExit(main())"
    done = _python("-c", code, "--version", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, f"vitx {vitx.__version__}\n")


def test_called_by_another_program_it_leaves_what_is_the_process_s_alone() -> None:
    before = [signal.getsignal(number) for number in HANDLED], sys.stdout, sys.stderr
    assert main(["--version"]) == 0
    assert ([signal.getsignal(number) for number in HANDLED], sys.stdout, sys.stderr) == before
