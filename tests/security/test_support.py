"""The tools of the security tests work: a page of a foreign origin runs, and another user really is another."""

import http.server
import os
import threading
from collections.abc import Iterator

import pytest

from tests.support.browser.browser import in_browser
from tests.support.services.other_user import as_other_user


class _Open(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("access-control-allow-origin", "*")
        self.end_headers()
        self.wfile.write(self.headers["host"].encode())

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def open_port() -> Iterator[int]:
    """The port of a server on loopback that lets every page read it."""
    server = http.server.HTTPServer(("127.0.0.1", 0), _Open)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server.server_port
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_page_runs_its_script_in_an_origin_of_its_own() -> None:
    assert in_browser("return [location.hostname, window.isSecureContext]") == ["127.0.0.1", True]


def test_the_browser_itself_does_not_keep_a_page_from_loopback(open_port: int) -> None:
    url = f"http://127.0.0.1:{open_port}/"
    assert in_browser(f"return (await fetch('{url}')).text()") == f"127.0.0.1:{open_port}"


def test_a_name_can_stand_for_loopback(open_port: int) -> None:
    script = f"return (await fetch('http://evil.example:{open_port}/')).text()"
    assert in_browser(script, hosts={"evil.example": "127.0.0.1"}) == f"evil.example:{open_port}"


def test_another_user_is_not_this_one() -> None:
    done = as_other_user("import os; print(os.getuid())")
    assert done.stdout.strip() == "65534" != str(os.getuid()), done.stderr
