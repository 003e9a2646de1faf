"""A repository of weights on loopback."""

from __future__ import annotations

import http.server
import json
import threading
from pathlib import Path

import pytest


class Hub:
    """A repository on loopback, as huggingface_hub asks for its files."""

    def __init__(self, files: dict[str, bytes]) -> None:
        hub = self
        self.asked: list[str] = []

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                hub.asked.append(self.path)
                content = files.get(self.path)
                body = content if content is not None else json.dumps({"error": "none"}).encode()
                self.send_response(200 if content is not None else 404)
                if content is None:
                    self.send_header("X-Error-Code", "EntryNotFound")
                self.send_header("X-Repo-Commit", "c" * 40)
                self.send_header("ETag", f'"{len(body)}"')
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                if self.command == "GET":
                    self.wfile.write(body)

            do_HEAD = do_GET  # noqa: N815 (the name is that of the base class)

            def log_message(self, *_: object) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Yield a function that serves files, and where the client keeps them."""
    import huggingface_hub.constants as constants

    started: list[Hub] = []

    def serve(files: dict[str, bytes]) -> Hub:
        started.append(Hub(files))
        endpoint = f"http://127.0.0.1:{started[-1].server.server_port}"
        monkeypatch.setattr(constants, "ENDPOINT", endpoint)
        template = endpoint + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
        return started[-1]

    yield serve
    for each in started:
        each.close()
