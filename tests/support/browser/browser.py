"""A real browser for tests: runs a script on a page of a foreign origin and returns what the script returned.

The browser is `RUNFOLD_CHROME`, else an installed Chromium or Chrome, else the npm package `@sparticuz/chromium`, which
`chromium_from_npm` fetches once into the user's cache.
"""

import http.server
import json
import os
import queue
import shutil
import signal
import subprocess
import tempfile
import threading
from collections.abc import Mapping
from contextlib import contextmanager
from typing import Any

from tests.support.browser.chromium_from_npm import chromium_from_npm

_FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    # A page on loopback that calls loopback: without this, newer releases wait for a permission that nobody grants.
    "--disable-features=LocalNetworkAccessChecks,BlockInsecurePrivateNetworkRequests",
)
_PAGE = """<!doctype html><meta charset=utf-8><title>foreign page</title><script>
(async () => {
  let answer;
  try { answer = {value: await (async () => { %s })()}; }
  catch (error) { answer = {error: String(error)}; }
  await fetch("/result", {method: "POST", body: JSON.stringify(answer)});
})();
</script>"""


def browser() -> str:
    """Return the path of a Chromium."""
    named = os.environ.get("RUNFOLD_CHROME")
    found = named or next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    return found or str(chromium_from_npm())


def in_browser(script: str, *, timeout: float = 60.0, hosts: Mapping[str, str] | None = None) -> Any:
    """Run the body of an async JavaScript function on a page of its own origin, http://127.0.0.1:<port>/.

    `hosts` maps host names to addresses, as a hostile DNS server would. AssertionError if the script throws.
    """
    answers: queue.Queue[dict[str, Any]] = queue.Queue()
    with _page(_PAGE % script, answers) as url, tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        rules = ",".join(f"MAP {name} {address}" for name, address in (hosts or {}).items())
        process = subprocess.Popen(
            [browser(), *_FLAGS, f"--user-data-dir={profile}", f"--host-resolver-rules={rules}", url],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            answer = answers.get(timeout=timeout)
        except queue.Empty:
            raise AssertionError(f"the page's script did not end within {timeout:g} s") from None
        finally:
            # Its renderers too: they go on writing into the profile.
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    assert "error" not in answer, f"the page's script failed: {answer['error']}"
    return answer.get("value")


@contextmanager
def _page(html: str, answers: "queue.Queue[dict[str, Any]]") -> Any:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = html.encode()
            self.send_response(200)
            self.send_header("content-type", "text/html; charset=utf-8")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_POST(self) -> None:
            answers.put(json.loads(self.rfile.read(int(self.headers["content-length"]))))
            self.send_response(204)
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
