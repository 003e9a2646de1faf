"""No secret of the environment is in a file that a run writes, or on the screen."""

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.train.programs import Programs
from vitx.cli import _report
from vitx.commands.record import recorded
from vitx.config.screening import screen
from vitx.config.words import split
from vitx.errors import UsageError
from vitx.redaction import is_secret_name, redacted
from vitx.runs import RunDir

NAMES = (
    *("WANDB_API_KEY", "HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "AWS_SECRET_ACCESS_KEY"),
    *("AWS_ACCESS_KEY_ID", "AWS_SESSION_TOKEN", "GITHUB_TOKEN", "OPENAI_API_KEY", "SLACK_PAT"),
    *("DATABASE_PASSWORD", "PGPASSWORD", "MYSQL_PWD", "SSH_PASSPHRASE", "SESSION_COOKIE"),
)
# Forty letters, as W&B's keys have; `/` and `+` are written otherwise in an address.
CANARIES = {
    name: f"canary/{number:02d}+" + "0123456789abcdef" * 2 for number, name in enumerate(NAMES)
}
LOGIN = "proxy-user:canary-p%40ss"
ADDRESSES = {
    "HTTPS_PROXY": f"http://{LOGIN}@127.0.0.1:9/",
    "MIRROR_URL": f"https://{LOGIN}@localhost/simple",
}
QUIET = {
    "WANDB_ERROR_REPORTING": "false",
    "TOKENIZERS_PARALLELISM": "false",
    "SSH_AUTH_SOCK": "/dev/null",
}


def spellings() -> Iterator[bytes]:
    yield from (b"canary", base64.b64encode(b"canary")[:7])
    for text in (*CANARIES.values(), LOGIN, "canary-p@ss"):
        yield from (each.encode() for each in (text, quote(text), quote(text, safe="")))
        for shift in range(3):  # wherever it begins among what is encoded with it
            whole = base64.b64encode(b"\0" * shift + text.encode())
            yield whole[4 if shift else 0 : len(whole) - 4]
        yield text.encode("utf-16-le")


def hits(folder: Path, *texts: str) -> list[str]:
    """Return where a canary is, over all files below a folder and some texts."""
    files = {str(file): file.read_bytes() for file in folder.rglob("*") if file.is_file()}
    spelt = tuple(spellings())
    found = [*files.items(), *((f"text {n}", text.encode()) for n, text in enumerate(texts))]
    return [f"{where}: {each!r}" for where, data in found for each in spelt if each in data]


ENVIRONMENT = {**CANARIES, **ADDRESSES, **QUIET}


def test_no_file_and_no_line_of_a_mirrored_run_holds_a_secret(
    short: tuple[str, ...], vitx: Programs, tmp_path: Path
) -> None:
    words = (*short, "logger.wandb.mode=offline", "run_dir=run")
    text = vitx.done("train", *words, **ENVIRONMENT)
    assert list(tmp_path.glob("run/wandb/offline-run-*/*.wandb"))
    assert hits(tmp_path, text) == []
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert set(record["environment"]) == {
        *("torch", "device", "threads", "precision", "cpu_capability", "micro_batch", "processes"),
        "strategy",
    }


@pytest.mark.slow
def test_nor_of_one_that_fails_or_of_a_sweep(
    short: tuple[str, ...], vitx: Programs, tmp_path: Path
) -> None:
    texts = [
        # Fails when it has trained a step: the run directory stays.
        vitx.done("train", *short, "run_dir=bad", "optimizer.lr=1e30", code=5, **ENVIRONMENT),
        vitx.done("train", *short, "-m", "seed=0,1", "epochs=1st", **ENVIRONMENT),
    ]
    (written,) = tmp_path.glob("runs/sweeps/*/multirun.yaml")
    assert written.stat().st_mode & 0o007 == 0
    assert list(tmp_path.glob("runs/sweeps/*/1-seed=1/run.json"))
    assert (tmp_path / "bad" / "run.json").is_file()
    assert hits(tmp_path, *texts) == []


def test_the_search_finds_what_it_is_for(tmp_path: Path) -> None:
    key = CANARIES["HF_TOKEN"]
    for text in (key, quote(key, safe=""), base64.b64encode(b"key=" + key.encode()).decode()):
        assert hits(tmp_path, text)


KEY = CANARIES["WANDB_API_KEY"]


WORDS = (
    f"+logger.wandb.key={KEY}",
    f"logger.wandb.api_key={KEY}",
    f"logger.wandb.entity='{KEY}'",
    f"logger.wandb.project='of {KEY}'",
    f"+model.args.key={{token: '{KEY}'}}",
    f"seed={KEY}",
    f"run_dir=x{KEY}",
    f"modle='{KEY}'",
    f"{KEY}=1",
    f"hydra.job.name='{KEY}'",
    f"dataset.path=https://{LOGIN}@localhost/data",
)


@pytest.mark.parametrize("word", WORDS)
def test_a_key_among_the_words_is_refused_and_not_repeated(
    word: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    for words in ((word,), ("-m", word, "seed=0,1"), ("--cfg", "job", word)):
        with pytest.raises(UsageError, match="would be written down") as refused:
            screen("train", split("train", words))
        assert "canary" not in str(refused.value)


def test_the_program_refuses_it_before_it_writes(vitx: Programs, tmp_path: Path) -> None:
    for words in ((WORDS[2],), ("-m", WORDS[2], "seed=0,1")):
        text = vitx.done("train", *words, "epochs=1st", code=2, **ENVIRONMENT)
        assert "logger.wandb.entity: it holds the value of WANDB_API_KEY" in text
        assert hits(tmp_path, text) == []
    assert not (tmp_path / "runs").exists()


def test_a_key_in_a_file_of_options_is_refused(vitx: Programs, tmp_path: Path) -> None:
    (tmp_path / "conf" / "logger").mkdir(parents=True)
    file = tmp_path / "conf" / "logger" / "mine.yaml"
    file.write_text(f"wandb: {{mode: offline, entity: '{KEY}'}}\n")
    words = ("--config-dir", "conf", "logger=mine", "run_dir=run")
    text = vitx.done("train", *words, code=2, **ENVIRONMENT)
    file.unlink()
    assert "logger.wandb.entity holds the value of WANDB_API_KEY" in text
    assert hits(tmp_path, text) == []


def test_argv_is_recorded_without_secrets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", KEY)
    typed = (f"name={KEY}", f"dataset.path=https://{LOGIN}@localhost/x", "seed=1")
    with recorded(RunDir(tmp_path), verb="train", argv=typed, seed=0) as record:
        pass
    assert record["argv"] == ["name=<HF_TOKEN>", "dataset.path=https://...@localhost/x", "seed=1"]


def test_a_traceback_is_shown_without_secrets(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", KEY)
    assert _report(ZeroDivisionError(f"{KEY} \x1b[2J"), ["train"]) == 1
    said = capfd.readouterr().err
    assert "ZeroDivisionError: <HF_TOKEN> \\x1b[2J" in said
    assert "canary" not in said


@pytest.mark.parametrize(
    "name",
    [
        *("PATH", "HOME", "PWD", "OLDPWD", "GIT_AUTHOR_NAME", "XAUTHORITY", "KEYBOARD", "MONKEY"),
        *("TOKENIZERS_PARALLELISM", "PASSENGER", "LS_COLORS", "SLURM_JOB_ID", "VITX_RUNS"),
    ],
)
def test_names_that_only_resemble_secrets(name: str) -> None:
    assert not is_secret_name(name)


def test_short_values_and_paths_are_no_secrets(tmp_path: Path) -> None:
    environment = {"MY_TOKEN": "false", "KEY_FILE": str(tmp_path), "A_KEY": "longer than that"}
    text = f"seed=false {tmp_path} longer than that"
    assert redacted(text, environment) == f"seed=false {tmp_path} <A_KEY>"
