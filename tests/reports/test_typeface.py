"""Text on paper: every line fits, what is cut shows it, and each character has a font or its code point."""

from __future__ import annotations

from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_audit.reports import typeface
from otel_audit.reports.typeface import BOLD, MONO, SANS, displayable, fit, runs, width, wrap

faces = st.sampled_from([SANS, BOLD, MONO])
words = st.text(st.characters(codec="utf-8"), max_size=120) | st.text("ab \u0301Wé中אﷺ\u202e", max_size=400)


@given(words, faces, st.floats(min_value=20, max_value=300))
def test_a_line_never_needs_more_room_than_it_has(text: str, face: str, room: float) -> None:
    assert width(fit(text, room, face, 7), face, 7) <= room


@given(words, faces, st.integers(min_value=1, max_value=4))
def test_wrapped_lines_fit_and_are_no_more_than_asked(text: str, face: str, lines: int) -> None:
    wrapped = wrap(text, 100, face, 7, lines)

    assert len(wrapped) <= lines
    assert all(width(line, face, 7) <= 100 for line in wrapped)


def test_a_short_word_before_a_long_one_has_no_line_of_its_own() -> None:
    assert wrap("POST /api/" + "x" * 40, 100, SANS, 7, 3)[0].startswith("POST /api/xxx")


@given(words)
def test_what_wrapping_drops_is_marked_by_an_ellipsis(text: str) -> None:
    wrapped = wrap(text, 100, SANS, 7, 3)

    whole = displayable(text.strip()).replace(" ", "")
    shown = "".join(wrapped).replace(" ", "")
    assert shown == whole or (shown.endswith("…") and whole.startswith(shown[:-1]))


@given(words)
def test_each_character_shown_has_a_font_that_can_draw_it(text: str) -> None:
    for font, piece in runs(displayable(text), SANS):
        assert all(typeface._has(font, character) for character in piece)


def test_the_page_of_the_settings_names_each_font_that_is_looked_for_in_order() -> None:
    page = (Path(__file__).parents[2] / "docs" / "settings.md").read_text(encoding="utf-8")
    debian = "/usr/share/fonts/truetype/"

    named = [line.split("`")[3] for line in page.splitlines() if line.startswith("| `fonts-")]

    assert named == [path.removeprefix(debian) for path in typeface._SYSTEM if path.startswith(debian)]


def test_a_short_text_is_left_as_it_is() -> None:
    assert fit("GET", 40, SANS, 7) == "GET"
    assert wrap("", 40, SANS, 7, 2) == []


def test_a_flood_of_combining_characters_costs_neither_time_nor_room() -> None:
    line = fit("x" + "\u0301" * 1_000_000, 100, SANS, 7)

    assert len(line) < 200
    assert line.endswith("…")


def test_line_breaks_are_shown_as_such() -> None:
    assert displayable("a\nb\r\tc") == r"a\nb\r\tc"


def test_words_that_are_written_from_right_to_left_are_turned_without_a_library(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(typeface, "find_spec", lambda name: None)

    assert runs("user דנה כהן 7", SANS) == [(SANS, "user ןהכ הנד 7")]


def test_python_bidi_orders_the_line_where_it_is_installed() -> None:
    pytest.importorskip("bidi")

    assert runs("user דנה כהן 7", SANS) == [(SANS, "user 7 ןהכ הנד")]


def test_a_name_from_right_to_left_leaves_what_follows_in_its_place() -> None:
    pytest.importorskip("bidi")

    assert runs("דנה · otel-audit 7", SANS) == [(SANS, "הנד · otel-audit 7")]
    assert runs("1  דנה", SANS) == [(SANS, "1  הנד")]


def test_arabic_letters_are_joined_where_the_library_for_it_is_installed() -> None:
    pytest.importorskip("bidi")
    pytest.importorskip("arabic_reshaper")

    [(_font, drawn)] = runs("محمد", SANS)

    assert all("\ufe70" <= letter <= "\ufeff" for letter in drawn)


def test_a_common_arabic_name_is_written_with_letters_that_the_font_has() -> None:
    pytest.importorskip("bidi")
    pytest.importorskip("arabic_reshaper")

    [(font, drawn)] = runs("عبد الله", SANS)

    assert font == SANS
    assert "\ufdf2" not in drawn


def test_arabic_is_drawn_unjoined_where_only_python_bidi_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("bidi")

    def spec_of(name: str) -> ModuleSpec | None:
        return None if name == "arabic_reshaper" else find_spec(name)

    monkeypatch.setattr(typeface, "find_spec", spec_of)

    assert runs("محمد", SANS) == [(SANS, "محمد"[::-1])]


def test_fonts_of_the_system_are_used_where_they_can_be(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    unusable = tmp_path / "outlines.ttc"
    unusable.write_bytes(b"no font at all")
    usable = tmp_path / "another.ttf"
    usable.write_bytes((Path(typeface.__file__).parent / "fonts" / "DejaVuSansMono.ttf").read_bytes())
    monkeypatch.setattr(typeface, "_SYSTEM", (str(tmp_path / "absent.ttf"), str(unusable), str(usable)))

    assert list(typeface._load_system_fonts()) == ["OTelAudit-another"]
