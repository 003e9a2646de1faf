"""A configuration from a stranger is data, in a run directory as in a folder of options."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.security.hostile import CANARY, as_run, configs
from tests.train.programs import Programs
from vitx.config.resolve import load_run_config
from vitx.errors import StorageError


@pytest.fixture
def base(finished: Path) -> dict:
    return yaml.safe_load((finished / "config.yaml").read_text())


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A command of a hostile file that ran would leave MARK here."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CANARY", CANARY)
    yield
    assert not list(tmp_path.rglob("MARK*"))


@pytest.mark.timeout(600)
@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_hostile_configurations_are_read_as_data_or_refused(
    seed: int, base: dict, tmp_path: Path
) -> None:
    file, refused, read = tmp_path / "config.yaml", 0, 0
    for content in configs(base, 90 if seed == 0 else 600, seed=seed):
        file.write_bytes(content)
        try:
            config = load_run_config(file)
        except StorageError as error:
            refused += 1
            assert CANARY not in str(error)
            assert len(str(error).splitlines()) == 1 or "config that vitx" in str(error)
        else:
            read += 1
            assert CANARY not in repr(config)
    assert refused > 70
    assert read >= (2 if seed == 0 else 50)  # whatever is sound after all


def test_what_the_program_does_with_them(
    finished: Path, base: dict, vitx: Programs, tmp_path: Path
) -> None:
    contents = list(configs(base, 90))
    laughs, tag = contents[0], next(each for each in contents if b"apply:os.system" in each)
    for words, content in (
        (("eval", "run="), laughs),
        (("train", "resume="), tag),
        (("distill", "run_dir=new", "teacher.weights="), laughs),
    ):
        run = as_run(tmp_path / f"run-{words[0]}", content, like=finished)
        text = vitx.done(*words[:-1], words[-1] + str(run), code=4)
        assert "Traceback" not in text
        assert f"{run}/config.yaml can't be read as the config of a run" in text
        assert not (tmp_path / "new").exists()


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_no_hostile_configuration_ends_in_a_traceback(
    finished: Path, base: dict, vitx: Programs, tmp_path: Path
) -> None:
    """Those that are read too: what they ask for is carried out or refused."""
    file, tried = tmp_path / "config.yaml", 0
    for number, content in enumerate(configs(base, 330, seed=2)):
        file.write_bytes(content)
        try:
            load_run_config(file)
        except StorageError:
            continue
        run = as_run(tmp_path / f"run-{number}", content, like=finished)
        (run / "result.json").unlink()
        for words in (("eval", f"run={run}"), ("train", f"resume={run}")):
            program = vitx(*words)
            assert program.wait() in (0, 2, 3, 4), (words, program.text)
            assert CANARY not in program.text
            tried += 1
    assert tried > 20
