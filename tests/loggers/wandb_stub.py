"""A W&B server on the loopback interface, as far as the W&B client asks it for one run."""

from __future__ import annotations

import json
import threading
from contextlib import AbstractContextManager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class WandbStub(AbstractContextManager["WandbStub"]):
    """Keeps one run: its fields, its history lines in order and its summary.

    Args:
        fault: how all requests under a path end: `{"/graphql": 500}` answers 500, and the status
            0 never answers.
    """

    def __init__(self, fault: dict[str, int] | None = None) -> None:
        self.fault = fault or {}
        self.run: dict[str, Any] = {}
        self.rows: list[dict[str, Any]] = []
        self.summary: dict[str, Any] = {}
        self.closing = threading.Event()
        self._server = _Server(("127.0.0.1", 0), _handler_of(self))
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))

    def __enter__(self) -> WandbStub:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.closing.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    @property
    def steps(self) -> list[int]:
        return [row["step"] for row in self.rows]

    def status_of(self, path: str) -> int:
        return next((code for part, code in self.fault.items() if part in path), 200)

    def answer(self, path: str, body: bytes) -> dict[str, Any]:
        if path.endswith("/file_stream"):
            self._take_files(json.loads(body).get("files", {}))
        elif path == "/graphql":
            request = json.loads(body)
            return {"data": self._query(request["operationName"], request["variables"])}
        elif path.endswith("/wandb-summary.json"):
            self.summary = json.loads(body)
        return {}

    def _take_files(self, files: dict[str, Any]) -> None:
        if history := files.get("wandb-history.jsonl"):
            lines = [json.loads(line) for line in history["content"]]
            self.rows[history["offset"] : history["offset"] + len(lines)] = lines
        if summary := files.get("wandb-summary.json"):
            self.summary |= json.loads(summary["content"][-1])

    def _query(self, name: str, given: dict[str, Any]) -> dict[str, Any]:
        entity = {"id": "E", "name": given.get("entity") or "team"}
        project = {"id": "P", "name": given.get("project"), "entity": entity}
        if name == "RunResumeStatus":
            return {"model": project | {"bucket": self._bucket()}}
        if name == "UpsertBucket":
            self.run |= {key: value for key, value in given.items() if value is not None}
            fields = ("name", "displayName", "config")
            bucket = {key: self.run.get(key) for key in fields} | {"id": "B", "project": project}
            return {"upsertBucket": {"bucket": bucket, "inserted": True}}
        if name == "CreateRunFiles":
            files = [{"name": f, "uploadUrl": f"{self.url}/upload/{f}"} for f in given["files"]]
            return {"createRunFiles": {"runID": "B", "uploadHeaders": [], "files": files}}
        return {}

    def _bucket(self) -> dict[str, Any] | None:
        if not self.run:
            return None
        return {
            "id": "B",
            "name": self.run["name"],
            "displayName": self.run.get("displayName"),
            "summaryMetrics": json.dumps(self.summary),
            "historyLineCount": len(self.rows),
            "logLineCount": 0,
            "eventsLineCount": 0,
            "historyTail": json.dumps([json.dumps(row) for row in self.rows[-1:]]),
            "eventsTail": "[]",
            "config": "{}",
            "tags": [],
            "wandbConfig": '{"t": 1}',
        }


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *request: object) -> None:
        """Say nothing: a client that is killed resets its connection."""


def _handler_of(stub: WandbStub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            status = stub.status_of(self.path)
            if status == 0:
                stub.closing.wait()
                self.close_connection = True
                return
            answer = stub.answer(self.path, body) if status == 200 else {"error": "as asked"}
            content = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_PUT = do_POST  # noqa: N815

        def log_message(self, *message: object) -> None:
            pass

    return Handler
