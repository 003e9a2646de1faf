"""A Hub on this machine that serves one dataset repository, `org/name`."""

from __future__ import annotations

import hashlib
import http.server
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager

REVISION = "a" * 40


def _tag(data: bytes) -> str:
    return f'"{hashlib.sha1(data, usedforsecurity=False).hexdigest()}"'


@contextmanager
def serving(files: dict[str, bytes]) -> Iterator[tuple[str, list[str]]]:
    """Serve files by their path in the repository; yields the address and what was asked for."""
    asked: list[str] = []
    folders = {name.partition("/")[0] for name in files if "/" in name}

    class Hub(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(f"{self.command} {self.path}")
            place = self.path.partition("?")[0]
            if "/tree/" in place:
                _, _, below = place.partition("/tree/")[2].partition("/")
                self.reply(json.dumps(self.listed(below)).encode())
            elif place.startswith("/api/datasets/org/name"):
                names = [{"rfilename": name} for name in files]
                self.reply(
                    json.dumps({"id": "org/name", "sha": REVISION, "siblings": names}).encode()
                )
            elif (name := place.partition("/resolve/")[2].partition("/")[2]) in files:
                self.reply(files[name], {"ETag": _tag(files[name]), "X-Repo-Commit": REVISION})
            else:
                self.reply(b"{}", {"X-Error-Code": "EntryNotFound"}, status=404)

        do_HEAD = do_GET  # noqa: N815 (the name is that of the base class)

        def listed(self, folder: str) -> list[dict[str, object]]:
            rows = [
                {"type": "file", "path": name, "size": len(data), "oid": "b" * 40}
                for name, data in files.items()
                if name.rpartition("/")[0] == folder
            ]
            below = [
                {"type": "directory", "path": name, "size": 0, "oid": "c" * 40} for name in folders
            ]
            return rows if folder else rows + below

        def reply(
            self, body: bytes, headers: dict[str, str] | None = None, status: int = 200
        ) -> None:
            self.send_response(status)
            for name, value in (headers or {}).items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", asked
        server.shutdown()
