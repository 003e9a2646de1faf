"""The table of faults: what it says, what it ends with, and that a broken promise is found."""

from pathlib import Path

import pytest

from tests.train.programs import Programs
from vitx.cli import main
from vitx.torture import table
from vitx.torture.bench import Bench
from vitx.torture.identity import read
from vitx.torture.inflicting import Row, Verdict, inflict, inflict_all
from vitx.torture.table import FAULTS, Fault
from vitx.torture.verdicts import Broken, Facts, Lacking, demand

QUICK = "only=in-use,environment"


def named(name: str) -> Fault:
    return next(fault for fault in FAULTS if fault.name == name)


def failing(bench: Bench) -> Facts:
    demand(2 > 3, "order", "disorder")
    return {}


def lacking(bench: Bench) -> Facts:
    raise Lacking("no right to mount")


def mistaken(bench: Bench) -> Facts:
    return {"one": 1 / 0}


def test_faults_are_inflicted_and_told(vitx: Programs, tmp_path: Path) -> None:
    text = vitx.done("torture", QUICK, "devices=1", "seed=3")

    first, _, second, _, last = text.splitlines()
    assert first.startswith("pass     in-use ")
    assert second.startswith("pass     environment ")
    assert last.startswith("2 passed, 0 failed, 0 skipped in ")
    report = read(tmp_path / "torture.json")
    assert report["settings"]["seed"] == 3
    assert [row["verdict"] for row in report["rows"]] == ["pass", "pass"]
    assert report["rows"][0]["facts"]["exit_code"] == 8
    assert report["rows"][0]["again"] == "vitx torture only=in-use devices=1 seed=3"


def test_what_can_come_of_a_fault(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    rows = [
        inflict(Fault(story.__name__, "what is done", story), bench)
        for story in (failing, lacking, mistaken)
    ]
    assert [row.verdict for row in rows] == [Verdict.failed, Verdict.skipped, Verdict.failed]
    assert (rows[0].expected, rows[0].came) == ("order", "disorder")
    assert rows[1].came == "no right to mount"
    assert rows[2].expected == "no error of torture itself"
    assert "ZeroDivisionError" in rows[2].came


def test_a_failure_is_told_and_ends_with_1(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(table, "FAULTS", (Fault("failing", "what is done", failing),))
    assert main(["torture", f"folder={tmp_path / 'here'}"]) == 1
    said = capsys.readouterr().out
    assert said.startswith("fail     failing ")
    assert "expected order" in said
    assert "came     disorder" in said
    assert "vitx torture only=failing" in said
    assert said.endswith(f"what they left is in {tmp_path / 'here'}\n")
    assert read(tmp_path / "torture.json")["rows"][0]["verdict"] == "fail"


def test_other_bytes_are_noticed(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    with bench.at("other") as place:
        place.finish("seed=7")
        with pytest.raises(Broken, match="the sha256 of an undisturbed run"):
            place.same()


def test_what_waits_goes_on_beside_the_others(tmp_path: Path) -> None:
    order: list[str] = []
    faults = [
        Fault("slow", "", lambda _: {"at": order.append("slow")}, beside=True),
        Fault("quick", "", lambda _: {"at": order.append("quick")}),
    ]
    rows: list[Row] = list(inflict_all(faults, Bench(tmp_path)))
    assert [row.name for row in rows] == ["quick", "slow"]
    assert {*order} == {"slow", "quick"}


@pytest.mark.parametrize(
    ("typed", "code", "said"),
    [
        ("only=kil", 2, "did you mean"),
        ("only=nothing*", 2, "no such fault"),
        ("kills=0", 2, "kills=0: expected 1 or more"),
        ("devices=0", 2, "devices=0: expected 1 or more"),
        ("report=/proc/nowhere/x.json", 4, "/proc/nowhere"),
    ],
)
def test_what_can_not_be_carried_out(
    typed: str, code: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["torture", typed]) == code
    assert said in capsys.readouterr().err


def test_a_folder_with_files_is_left_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("mine")
    assert main(["torture", f"folder={tmp_path}", "only=paths"]) == 4
    assert "holds files" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_every_fault_has_a_name_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["torture", "list"]) == 0
    names = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
    assert names == [fault.name for fault in FAULTS]
    assert len({*names}) == len(names)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_hundred_kills_and_every_other_fault(vitx: Programs, tmp_path: Path) -> None:
    program = vitx("torture", "kills=100")
    assert program.wait(1000) == 0, program.text
    rows = {row["name"]: row for row in read(tmp_path / "torture.json")["rows"]}
    assert {*rows} == {fault.name for fault in FAULTS}
    assert rows["kill"]["facts"]["kills"] == 100
    assert rows["kill"]["facts"]["acknowledged_steps_lost"] == 0
