"""Request headers that enter the log."""

from __future__ import annotations

from runfold_server.writes.writes import Origin


def test_headers_that_enter_the_log_are_checked() -> None:
    good = {"traceparent": "00-" + "a" * 32 + "-" + "b" * 16 + "-01", "x-request-id": "abc"}
    assert Origin.of(good.get) == Origin(correlation_id="abc", traceparent=good["traceparent"])
    assert Origin.of({"traceparent": "x", "x-request-id": "a\tb"}.get) == Origin()
