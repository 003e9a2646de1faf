"""Runs over several machines without a common disk, of which some are killed or cut off."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from tests.machines.conftest import Machines
from tests.machines.lab import Machine
from tests.machines.torchrun import BY_NAME, BY_NUMBER, ENDS_S, ended, said, torchrun
from tests.train.programs import until
from tests.train.tiny import EVERYTHING, LOADERS_FORK, TINY, logged, read, total, train

pytestmark = LOADERS_FORK


EXACT = (
    *(*TINY, *EVERYTHING, "dataset.path=../pictures", "run_dir=run"),
    *("runtime.exact_world=true", "runtime.micro_batch=2", "epochs=20ep", "checkpoint.every=2st"),
)
STEP_TIMEOUT_S = 6
# Beside what ranks wait for each other: what one that met the consequence gives the cause, and
# what two cores need to end four interpreters.
MARGIN_S = 20.0

MEET = """
import os
from vitx.runtime.group import join
world = join(setup_timeout_s=30, step_timeout_s=30)
print(world.gather(world.rank), os.environ["GLOO_SOCKET_IFNAME"])
world.close()
"""


@pytest.fixture(scope="module")
def exact(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """What that run comes to on one process, when nothing happens to it."""
    folder = tmp_path_factory.mktemp("exact") / "run"
    train(*EXACT, f"dataset.path={pictures}", f"run_dir={folder}")
    return total(folder)


def test_machines_whose_names_mean_loopback_find_each_other(machines: Machines) -> None:
    two = machines(2)
    env = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "1", "MASTER_ADDR": "node0", "MASTER_PORT": "9"}
    commands = [
        each.start(sys.executable, "-W", "ignore", "-c", MEET, RANK=str(number), **env)
        for number, each in enumerate(two)
    ]
    assert ended(commands) == ["[0, 1] eth0\n"] * 2


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("how", [BY_NUMBER, BY_NAME])
def test_a_run_over_three_machines_needs_no_common_disk(
    how: tuple[str, ...], machines: Machines, pictures: Path, tmp_path: Path
) -> None:
    train(*TINY, f"dataset.path={pictures}", f"run_dir={tmp_path / 'start'}", "epochs=1ep")
    three = machines(3)
    three[0].put(tmp_path / "start", "start")
    words = ("dataset.path=../pictures", "batch_size=12", "run_dir=run", "model.weights=../start")
    texts = ended(torchrun(three, "train", *TINY, *words, how=how))

    result = read(three[0].work / "run/result.json")
    assert result["count"] == 21
    assert result["top1"] > 60
    assert read(three[0].work / "run/run.json")["world_size"] == 3
    assert [list(each.work.iterdir()) for each in three[1:]] == [[], []]
    assert [text for text in texts[1:] if "epoch" in text] == []


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize(("count", "each"), [(4, 1), (2, 2)])
def test_weights_are_those_of_one_process(
    count: int, each: int, exact: str, machines: Machines
) -> None:
    several = machines(count)
    ended(torchrun(several, "train", *EXACT, each=each))

    assert total(several[0].work / "run") == exact
    assert read(several[0].work / "run/run.json")["world_size"] == 4
    assert [file for other in several[1:] for file in other.work.iterdir()] == []


def kill(machine: Machine) -> None:
    machine.let_go()


def cut_off(machine: Machine) -> None:
    machine.pull_cable()


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("lose", [kill, cut_off])
def test_a_lost_machine_ends_the_run_and_two_go_on(
    lose: Callable[[Machine], None], exact: str, machines: Machines
) -> None:
    four = machines(4)
    run = four[0].work / "run"
    timeout = f"runtime.step_timeout_s={STEP_TIMEOUT_S}"
    commands = torchrun(four, "train", *EXACT, timeout)
    until(lambda: logged(run) >= 4 or not commands[0].running(), ENDS_S, what="some steps")
    lose(four[3])

    left = four[:3] if lose is kill else four
    for text in ended(commands[: len(left)], code=1, timeout_s=STEP_TIMEOUT_S + MARGIN_S):
        assert "another process of this run was lost or did not answer" in said(text)
        assert "exitcode  : 6" in text
        assert "Traceback" not in text.partition("vitx train:")[0]
    assert [each.processes() for each in four] == [set()] * 4
    assert not (run / "result.json").exists()

    ended(torchrun(four[:2], "train", *EXACT))
    assert total(run) == exact
    assert read(run / "run.json")["sessions"] == 2


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_other_data_on_one_machine_are_refused(machines: Machines) -> None:
    two = machines(2)
    (picture,) = two[1].on_disk("pictures").glob("train/bee/03.png")
    Image.new("RGB", (12, 12)).save(picture)
    commands = torchrun(two, "train", *EXACT)

    for text in ended(commands, code=1):
        assert "the dataset on node1 is not the one on node0" in said(text)
        assert "exitcode  : 3" in text
    assert [list(each.work.iterdir()) for each in two] == [[], []]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_teacher_is_needed_on_the_first_machine_alone(
    machines: Machines, pictures: Path, tmp_path: Path
) -> None:
    train(*TINY, f"dataset.path={pictures}", f"run_dir={tmp_path / 'teacher'}")
    two = machines(2)
    two[0].put(tmp_path / "teacher", "teacher")
    words = ("dataset.path=../pictures", "run_dir=run", "teacher=run", "teacher.weights=../teacher")
    ended(torchrun(two, "distill", *TINY, *words))

    assert read(two[0].work / "run/result.json")["count"] == 21
    assert list(two[1].work.iterdir()) == []


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_an_interface_that_leads_nowhere_is_given_up_in_time(machines: Machines) -> None:
    two = machines(2)
    commands = torchrun(two, "train", *EXACT, "runtime.setup_timeout_s=15", GLOO_SOCKET_IFNAME="lo")

    for text in ended(commands, code=1, timeout_s=ENDS_S):
        assert "did not meet" in said(text)
        assert "GLOO_SOCKET_IFNAME" in said(text)
