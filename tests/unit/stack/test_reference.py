"""The reference page says what the program does now."""

from __future__ import annotations

from pathlib import Path

from runfold_projections.core.rejection import RejectionCode
from runfold_schemas.errors import Reason
from runfold_stack.reference import api_page
from runfold_stack.reference.pages import CODES, PAGE, REASONS, reference

ROOT = Path(__file__).parents[3]


def test_every_reason_and_code_is_explained() -> None:
    assert set(REASONS) == set(Reason)
    ours = [codes for codes in RejectionCode.__subclasses__() if codes.__module__.startswith("runfold_projections.")]
    assert set(CODES) == {code for codes in ours for code in codes}


def test_the_page_is_up_to_date() -> None:
    assert (ROOT / PAGE).read_text(encoding="utf-8") == reference(), "run `make docs`"


def test_the_api_page_and_the_document_are_up_to_date() -> None:
    assert (ROOT / api_page.PAGE).read_text(encoding="utf-8") == api_page.api_page(), "run `make docs`"
    assert (ROOT / api_page.LOG_DOCUMENT).read_text(encoding="utf-8") == api_page.asyncapi_text(), "run `make docs`"
    assert (ROOT / api_page.DOCUMENT).read_text(encoding="utf-8") == api_page.openapi_text(), "run `make docs`"
