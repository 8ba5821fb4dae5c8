"""Which Host and Origin headers are allowed."""

import pytest

from runfold_server.security.callers import Callers

NOBODY_ELSE = Callers()
LISTED = Callers(("runfold.example", "*.internal.example", "odd.example:8080"), ("https://notebooks.example",))


@pytest.mark.parametrize(
    "host",
    ["localhost", "LOCALHOST:5000", "app.localhost", "127.0.0.1:5000", "127.9.9.9", "[::1]:5000", "0.0.0.0:5000",
     "10.1.2.3", "172.31.0.1:80", "192.168.0.9:5000", "[fd00::1]", "[fc00::1]:5000"],
)  # fmt: skip
def test_loopback_and_private_addresses_are_taken(host: str) -> None:
    assert NOBODY_ELSE.allows_host(host)


@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:5000", "10.evil.example", "192.168.evil.example", "127.0.0.1.evil.example",
     "localhost.evil.example", "172.32.0.1", "8.8.8.8", "[2001:db8::1]", "", ":5000", "127.0.0.1@evil.example",
     "evil.example/127.0.0.1", "localhost:port", "[::1", "127.0.0.1, evil.example", "runfold.example"],
)  # fmt: skip
def test_other_names_and_addresses_are_not(host: str) -> None:
    assert not NOBODY_ELSE.allows_host(host)


def test_the_address_that_a_request_was_sent_to_can_not_be_a_rebound_name() -> None:
    assert NOBODY_ELSE.allows_host("203.0.113.7:5000", server="203.0.113.7")
    assert not NOBODY_ELSE.allows_host("203.0.113.8:5000", server="203.0.113.7")


def test_listed_names_are_taken_and_only_those() -> None:
    for host in ("runfold.example", "RUNFOLD.example:443", "a.internal.example", "odd.example:8080"):
        assert LISTED.allows_host(host), host
    for host in ("xrunfold.example", "internal.example", "odd.example:8081"):
        assert not LISTED.allows_host(host), host


@pytest.mark.parametrize(
    ("origin", "host", "taken"),
    [
        ("http://127.0.0.1:5000", "127.0.0.1:5000", True),
        ("http://localhost", "localhost", True),
        ("https://runfold.example", "runfold.example", True),
        ("https://runfold.example", "10.0.0.7:5000", True),  # a listed name behind a proxy
        ("https://notebooks.example", "127.0.0.1:5000", True),
        ("http://127.0.0.1:5001", "127.0.0.1:5000", False),
        ("http://localhost:5000", "127.0.0.1:5000", False),
        ("http://notebooks.example", "127.0.0.1:5000", False),
        ("https://evil.example", "127.0.0.1:5000", False),
        ("null", "127.0.0.1:5000", False),
        ("", "127.0.0.1:5000", False),
        ("file://", "127.0.0.1:5000", False),
        ("http://evil.example@127.0.0.1:5000", "127.0.0.1:5000", False),
    ],
)  # fmt: skip
def test_only_pages_of_the_servers_own_origin_and_of_listed_ones_write(origin: str, host: str, taken: bool) -> None:
    assert LISTED.allows_origin(origin, host) is taken
