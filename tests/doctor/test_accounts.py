"""Logins are found where the clients find them, and never shown."""

import http.server
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.doctor.looking import plain
from vitx.config.schema import WandbMode
from vitx.doctor.accounts import check_hub, check_wandb
from vitx.doctor.findings import Grade

CANARY = "c0ffee" * 7


@pytest.fixture(autouse=True)
def nobody_is_logged_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (
        *("WANDB_API_KEY", "WANDB_IDENTITY_TOKEN_FILE", "WANDB_BASE_URL", "WANDB_CONFIG_DIR"),
        *("NETRC", "HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_HOME", "HF_TOKEN_PATH"),
    ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("no_proxy", "127.0.0.1")


def of_wandb(mode: str = "auto") -> list[str]:
    """Return all lines about W&B, which must not hold the canary."""
    planned = plain()
    planned.config.logger.wandb.mode = WandbMode[mode]
    lines = [line for finding in check_wandb(planned) for line in finding.lines()]
    assert CANARY not in "\n".join(lines)
    return lines


def write_netrc(folder: Path, host: str = "api.wandb.ai", mode: int = 0o600) -> Path:
    file = folder / ".netrc"
    file.write_text(f"machine {host}\n  login user\n  password {CANARY}\n")
    file.chmod(mode)
    return file


@pytest.mark.parametrize("mode", ["auto", "online"])
def test_asked_for_without_a_login(mode: str) -> None:
    first, second = of_wandb(mode)
    assert first.startswith(f"warning  wandb         logger.wandb.mode={mode}: there is no login")
    assert second.strip() == "type wandb login, or logger.wandb.mode=offline"


@pytest.mark.parametrize("mode", ["off", "offline"])
def test_not_asked_for(mode: str) -> None:
    (line,) = of_wandb(mode)
    assert line.startswith("ok ")
    assert line.endswith("no login")


def test_in_netrc(tmp_path: Path) -> None:
    file = write_netrc(tmp_path)
    assert of_wandb() == [f"ok       wandb         a login in {file}"]


def test_in_a_netrc_that_others_can_read(tmp_path: Path) -> None:
    file = write_netrc(tmp_path, mode=0o644)
    lines = of_wandb()
    assert lines[0].startswith(f"warning  wandb         others can read {file}")
    assert lines[1].strip() == f"type chmod 600 {file}"


def test_in_a_netrc_for_another_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_netrc(tmp_path)
    monkeypatch.setenv("WANDB_BASE_URL", f"https://user:{CANARY}@wandb.example.org")
    assert "there is no login" in of_wandb()[0]


def test_a_netrc_that_can_not_be_read_is_not_quoted(tmp_path: Path) -> None:
    (tmp_path / ".netrc").write_text(f"{CANARY}\n")
    assert f"{tmp_path}/.netrc can't be read at line " in of_wandb()[0]


def test_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_API_KEY", CANARY)
    assert of_wandb() == ["ok       wandb         a login in the environment (WANDB_API_KEY)"]


@pytest.fixture
def server() -> Iterator[str]:
    """A server that knows nobody; it remembers what it was sent."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            assert CANARY not in str(self.headers)
            self.send_error(404)

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listening:
        threading.Thread(target=listening.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{listening.server_port}"
        listening.shutdown()


def test_a_server_that_answers(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_BASE_URL", server)
    monkeypatch.setenv("WANDB_API_KEY", CANARY)
    (line,) = of_wandb("online")
    assert line.endswith(f"{server} answers")


def test_a_server_that_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("WANDB_API_KEY", CANARY)
    first, second = of_wandb("online")
    assert "http://127.0.0.1:9 can't be reached: " in first
    assert "logger.wandb.mode=offline" in second
    assert "reached" not in of_wandb("auto")[0]  # nobody asked


def test_hugging_face(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def said() -> str:
        (finding,) = check_hub(plain())
        assert finding.grade is Grade.ok
        assert CANARY not in finding.text
        return finding.text

    assert said().startswith("no login")
    file = tmp_path / ".cache/huggingface/token"
    file.parent.mkdir(parents=True)
    file.write_text(CANARY)
    assert said() == f"a login in {file}"
    monkeypatch.setenv("HF_TOKEN", CANARY)
    assert said() == "a login in the environment (HF_TOKEN)"
