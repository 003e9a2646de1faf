"""Hydra's own section names no code, and what does is refused before anything runs."""

from pathlib import Path

import pytest

from tests.train.programs import Programs
from vitx.config.hydra_section import refuse_code
from vitx.config.store import compose
from vitx.errors import UsageError

# What a file of options, `model/evil.yaml`, says of Hydra; each of these ran before it was refused
# or is one name away from it.
EVIL = {
    "callbacks": "callbacks: {a: {_target_: subprocess.Popen, args: [touch, MARK]}}",
    "launcher": "launcher: {_target_: subprocess.Popen}",
    "an alias of a launcher": "launcher: {_target_: logging.os.system}",
    "sweeper": "sweeper: {_target_: os.system}",
    "within the sweeper": "sweeper: {params: {_target_: os.system}}",
    "handler": (
        "job_logging: {version: 1, handlers: {a: {class: subprocess.Popen, args: [touch, MARK]}}}"
    ),
    "factory": "job_logging: {version: 1, formatters: {a: {'()': os.system, command: touch MARK}}}",
    "external": (
        "job_logging: {version: 1, handlers: "
        "{a: {class: logging.StreamHandler, stream: ext://os.environ}}}"
    ),
    "another file": (
        "job_logging: {version: 1, handlers: {a: {class: logging.FileHandler, filename: MARK}}}"
    ),
    "hydra's log": "hydra_logging: {version: 1, filters: {a: {'()': os.system}}}",
    "interpolated class": (
        "job_logging: {version: 1, handlers: {a: {class: '${oc.decode:subprocess.Popen}'}}}"
    ),
    "environment of a job": "job: {env_set: {LD_PRELOAD: /tmp/evil.so}}",
    "copies of variables": "job: {env_copy: [CANARY]}",
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CANARY", "canary-of-the-environment")
    (tmp_path / "conf" / "model").mkdir(parents=True)
    return tmp_path / "conf"


def write(folder: Path, said: str) -> None:
    lines = f"# @package _global_\ndefaults: [vit_ti16]\nhydra:\n  {said}\n"
    (folder / "model" / "evil.yaml").write_text(lines)


@pytest.mark.parametrize("name", EVIL)
def test_an_option_of_a_stranger_is_refused(name: str, folder: Path) -> None:
    write(folder, EVIL[name])
    searched = f"hydra.searchpath=['file://{folder}']"
    with pytest.raises(UsageError, match="hydra"):
        compose("train", ["model=evil", searched])
    assert not (folder.parent / "MARK").exists()


@pytest.mark.parametrize(
    "words",
    [
        (),
        *(
            pytest.param(words, marks=pytest.mark.slow)
            for words in (("-m", "seed=0,1"), ("--cfg", "job"), ("--cfg", "hydra"))
        ),
    ],
)
def test_nothing_runs_before_it_is_refused(
    words: tuple[str, ...], folder: Path, vitx: Programs
) -> None:
    for name in ("callbacks", "handler"):
        write(folder, EVIL[name])
        text = vitx.done("train", "--config-dir", str(folder), "model=evil", *words, code=2)
        assert "Traceback" not in text
        assert "hydra." in text
    assert sorted(path.name for path in folder.parent.iterdir() if "output" not in path.name) == [
        "conf"
    ]


def test_a_job_of_a_sweep_is_looked_at_by_itself(folder: Path, vitx: Programs) -> None:
    # The sweep as a whole has no callbacks: only its second job's option speaks of logging.
    write(folder, EVIL["handler"])
    words = ("-m", "model=vit_ti8,evil", "epochs=0st", "dataset.path=/nowhere")
    text = vitx.done("train", "--config-dir", str(folder), *words, "dataset=folder", code=2)
    assert "hydra.job_logging" in text
    assert not (folder.parent / "MARK").exists()


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("hydra.sweep.dir=x", "hydra.verbose=true"),
        ("+hydra.job.env_set.X=1",),
        ("hydra/job_logging=stdout",),
        ("hydra/job_logging=default",),
        ("hydra/hydra_logging=none",),
    ],
)
def test_what_vitx_needs_is_taken(words: tuple[str, ...]) -> None:
    compose("train", words)


@pytest.mark.parametrize("launcher", ["SlurmLauncher", "LocalLauncher"])
def test_a_launcher_of_a_cluster_runs_only_what_was_typed(launcher: str) -> None:
    target = f"hydra_plugins.hydra_submitit_launcher.submitit_launcher.{launcher}"
    plain = {"_target_": target, "timeout_min": 60, "setup": None, "additional_parameters": {}}
    refuse_code({"launcher": plain}, [])
    for name in ("setup", "python", "srun_args", "additional_parameters"):
        section = {"launcher": {**plain, name: ["touch MARK"]}}
        with pytest.raises(UsageError, match=f"hydra.launcher.{name} is taken from the command"):
            refuse_code(section, ["hydra.launcher.timeout_min=5"])
        refuse_code(section, [f"+hydra.launcher.{name}=[touch MARK]"])


@pytest.mark.parametrize("name", ["WANDB_API_KEY", "HF_TOKEN", "MY_PASSWORD", "PGPASSWORD"])
def test_a_secret_is_not_to_be_had_by_its_name(name: str, vitx: Programs, tmp_path: Path) -> None:
    typed = ("dataset=hub", f"dataset.path=${{oc.env:{name},none}}", f"run_dir={tmp_path}/run")
    text = vitx.done("train", *typed, code=2, **{name: "canary-value"})
    assert f"${{oc.env:{name}}}: the name is that of a secret" in text
    assert "canary-value" not in text
    assert not (tmp_path / "run").exists()


def test_other_variables_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATA", "/data")
    composed = compose("train", ["dataset.path=${oc.env:DATA}/x", "name=${oc.env:NONE,plain}"])
    assert (composed.dataset.path, composed.name) == ("/data/x", "plain")


def test_a_variable_whose_value_is_a_secret_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MIRROR", "https://user:canary-value@host/")
    with pytest.raises(Exception, match="holds a secret"):
        _ = compose("train", ["dataset.path=${oc.env:MIRROR}"]).dataset.path
