"""Request headers that enter the log."""

from __future__ import annotations

from runfold_server.writes.writes import WriteOrigin


def test_headers_that_enter_the_log_are_checked() -> None:
    good = {"traceparent": "00-" + "a" * 32 + "-" + "b" * 16 + "-01", "x-request-id": "abc"}
    assert WriteOrigin.from_headers(good.get) == WriteOrigin(correlation_id="abc", traceparent=good["traceparent"])
    assert WriteOrigin.from_headers({"traceparent": "x", "x-request-id": "a\tb"}.get) == WriteOrigin()
