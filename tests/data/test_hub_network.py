import http.server
import json
import os
import subprocess
import sys
import textwrap
import threading

import pytest

from tests.data.hub_stub import serving


def run_script(script, *arguments, **environment):
    inherited = {
        name: value for name, value in os.environ.items() if not name.startswith(("HF_", "HTTP"))
    }
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(script), *map(str, arguments)],
        capture_output=True,
        text=True,
        env=inherited | environment,
        timeout=100,
    )


LOAD = """
    import sys
    def watch(event, args):
        if event in ("socket.connect", "socket.getaddrinfo", "socket.sendto"):
            print("NETWORK", event, args)
            raise RuntimeError("no network here")
    if sys.argv[2] == "blocked":
        sys.addaudithook(watch)
    from vitx.config.schema import DatasetConfig, DatasetKind
    from vitx.data.sources import load_splits
    from vitx.errors import DataError
    try:
        splits = load_splits(DatasetConfig(kind=DatasetKind.hub, path=sys.argv[1]))
        print(len(splits.train), len(splits.val))
    except DataError as error:
        print(error)
    print("torch" in sys.modules)
"""


def test_a_local_directory_needs_no_network_and_says_nothing(tmp_path, table, hub):
    hub(tmp_path / "x", train=table([0, 1] * 5), val=table([0, 1]))
    done = run_script(LOAD, tmp_path / "x", "blocked", HF_HOME=str(tmp_path / "home"))
    assert (done.stdout, done.stderr) == ("10 2\nFalse\n", "")


def test_the_watch_sees_a_repository_on_the_hub(tmp_path):
    # Shows that the test above can fail.
    done = run_script(
        LOAD, "org/name", "blocked", HF_HOME=str(tmp_path), HF_ENDPOINT="http://127.0.0.1:9"
    )
    assert "NETWORK socket" in done.stdout


def test_no_network(tmp_path):
    done = run_script(LOAD, "org/name", "free", HF_HOME=str(tmp_path), HF_HUB_OFFLINE="1")
    assert done.stderr == ""
    message = done.stdout.splitlines()[0]
    assert message.startswith("dataset.path=org/name: Couldn't reach 'org/name' on the Hub")
    assert message.endswith("set dataset.path=<local copy>")


@pytest.mark.parametrize(
    ("status", "code", "message"),
    [
        (404, "RepoNotFound", "Dataset 'org/name' doesn't exist on the Hub or cannot be accessed"),
        (401, "GatedRepo", "is a gated dataset on the Hub. You must be authenticated"),
        (403, "GatedRepo", "is a gated dataset on the Hub. Visit the dataset page"),
    ],
)
def test_refusals_of_the_hub(tmp_path, status, code, message):
    class Hub(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            body = json.dumps({"error": code}).encode()
            self.send_response(status)
            self.send_header("X-Error-Code", code)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        do_HEAD = do_GET  # noqa: N815 (the name is that of the base class)

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        endpoint = f"http://127.0.0.1:{server.server_port}"
        done = run_script(LOAD, "org/name", "free", HF_HOME=str(tmp_path), HF_ENDPOINT=endpoint)
        server.shutdown()
    assert done.stderr == ""
    first, *_ = done.stdout.splitlines()
    assert message in first
    assert first.endswith("log in where it is private, or set dataset.path=<local copy>")


CARD = """---
dataset_info:
  features:
  - name: image
    dtype: image
  - name: label
    dtype:
      class_label:
        names:
          '0': cat
          '1': dog
  splits:
  - name: train
    num_bytes: 100
    num_examples: 10
  - name: val
    num_bytes: 100
    num_examples: 2
  download_size: 5368709120
  dataset_size: 200
---
"""
ASK = """
    from vitx.config.schema import DatasetConfig, DatasetKind
    from vitx.data.hub import to_download
    from vitx.data.sources import load_splits
    config = DatasetConfig(kind=DatasetKind.hub, path="org/name")
    print(to_download(config))
    {load}
    print(to_download(config) or "here")
"""
LOAD_IT = """splits = load_splits(config)
    print(len(splits.train), len(splits.val), *splits.classes)"""


def test_a_repository_is_downloaded_and_before_that_only_looked_up(tmp_path, table, hub):
    hub(tmp_path / "x", train=table([0, 1] * 5, names=["cat", "dog"]), val=table([0, 1]))
    files = {f"data/{file.name}": file.read_bytes() for file in (tmp_path / "x/data").iterdir()}
    card = {"README.md": CARD.encode()}
    with serving(card | files) as (address, asked):
        home = {"HF_HOME": str(tmp_path / "home"), "HF_ENDPOINT": address}
        looked = run_script(ASK.format(load=""), **home)
        assert looked.stderr == ""
        assert looked.stdout == "org/name, 5 GiB\norg/name, 5 GiB\n"
        assert not [line for line in asked if ".parquet" in line]
        loaded = run_script(ASK.format(load=LOAD_IT), **home)
    assert (loaded.stderr, loaded.stdout) == ("", "org/name, 5 GiB\n10 2 cat dog\nhere\n")
