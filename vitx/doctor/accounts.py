"""Logins: whether and where they are found. What they are is read by nobody here."""

from __future__ import annotations

import configparser
import netrc
import os
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from vitx.config.schema import WandbMode
from vitx.doctor.findings import Finding, fine, warning
from vitx.doctor.planned import Planned

_WANDB = "https://api.wandb.ai"
_ANSWERS_S = 5.0


def check_wandb(planned: Planned) -> Iterator[Finding]:
    """Look for a login of W&B; where it is asked for online, whether its server answers."""
    mode, server = planned.config.logger.wandb.mode, _wandb_server()
    found, remarks = _wandb_login(server)
    login = f"a login in {found}" if found else "no login"
    yield from remarks
    if mode is WandbMode.off:
        yield fine("wandb", f"not asked for; {login}")
    elif mode is WandbMode.offline:
        yield fine("wandb", f"offline; {login}")
    elif not found:
        text = f"logger.wandb.mode={mode.name}: there is no login, so it stays offline"
        yield warning("wandb", text, "type wandb login, or logger.wandb.mode=offline")
    elif mode is WandbMode.online and (why := _unreachable(server)):
        yield warning(
            "wandb",
            f"{login}; {server} can't be reached: {why}; the run goes on offline",
            "see to the network or WANDB_BASE_URL, or type logger.wandb.mode=offline",
        )
    else:
        yield fine("wandb", login + (f", {server} answers" if mode is WandbMode.online else ""))


def check_hub(_: Planned) -> Iterator[Finding]:
    """Look for a login of Hugging Face."""
    variables = [name for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN") if os.environ.get(name)]
    home = Path(os.environ.get("HF_HOME") or Path.home() / ".cache" / "huggingface")
    file = Path(os.environ.get("HF_TOKEN_PATH") or home / "token")
    if variables:
        yield fine("huggingface", f"a login in the environment ({variables[0]})")
    elif file.is_file() and file.stat().st_size:
        yield fine("huggingface", f"a login in {file}")
    else:
        yield fine("huggingface", "no login; what is public needs none")


def _wandb_server() -> str:
    if server := os.environ.get("WANDB_BASE_URL"):
        return _without_user(server)
    folder = Path(os.environ.get("WANDB_CONFIG_DIR") or Path.home() / ".config" / "wandb")
    settings = configparser.ConfigParser(interpolation=None)
    try:
        settings.read(folder / "settings", encoding="utf-8")
    except (configparser.Error, UnicodeDecodeError):
        return _WANDB
    return _without_user(settings.get("default", "base_url", fallback=_WANDB))


def _without_user(url: str) -> str:
    parts = urllib.parse.urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


def _wandb_login(server: str) -> tuple[str, list[Finding]]:
    """Return where the client finds a login, empty if nowhere, and what is wrong on the way."""
    for name in ("WANDB_API_KEY", "WANDB_IDENTITY_TOKEN_FILE"):
        if os.environ.get(name):
            return f"the environment ({name})", []
    named = os.environ.get("NETRC")
    homes = [Path.home() / ".netrc", Path.home() / "_netrc"]
    file = next((path for path in ([Path(named)] if named else homes) if path.is_file()), None)
    if file is None:
        return "", []
    try:
        found = netrc.netrc(file).authenticators(urllib.parse.urlsplit(server).hostname or server)
    except netrc.NetrcParseError as error:
        # Its message quotes the file.
        why = f"{file} can't be read at line {error.lineno}"
        return "", [warning("wandb", why, "mend the file, or type wandb login")]
    except OSError as error:
        return "", [warning("wandb", f"{file} can't be read: {error.strerror}")]
    if found is None:
        return "", []
    remarks = []
    if file.stat().st_mode & 0o077:
        remarks = [warning("wandb", f"others can read {file}", f"type chmod 600 {file}")]
    return str(file), remarks


def _unreachable(server: str) -> str:
    """Return why a server gives no answer; empty where it gives one. No login is sent."""
    if not server.startswith(("http://", "https://")):
        return "expected a URL that begins with https://"
    try:
        with urllib.request.urlopen(server, timeout=_ANSWERS_S):  # noqa: S310 (checked above)
            return ""
    except urllib.error.HTTPError:
        return ""  # an answer is one
    except (OSError, ValueError) as error:
        return str(getattr(error, "reason", error)).partition("\n")[0]
