"""The part of YAML that a configuration may use, and where its values stand."""

from __future__ import annotations

import pytest

from keystead.config.document import MAX_BYTES, MAX_DEPTH, read
from keystead.config.problems import ConfigInvalid


def problems(text: str) -> list[str]:
    with pytest.raises(ConfigInvalid) as caught:
        read(text, "f")
    return [str(problem) for problem in caught.value.problems]


def test_scalars_follow_the_core_schema_of_yaml_1_2() -> None:
    cases = {
        "yes": "yes",
        "on": "on",
        "true": True,
        "False": False,
        "~": None,
        "": None,
        "null": None,
        "0600": 600,
        "0o600": 384,
        "0x1F": 31,
        "-7": -7,
        "1_000": "1_000",
        "1.5": 1.5,
        "1e3": 1000.0,
        "2026-11-24": "2026-11-24",
        "12:30": "12:30",
        "'0600'": "0600",
        '"true"': "true",
        ".nan": ".nan",
        "9" * 41: float("9" * 41),
    }
    for text, value in cases.items():
        tree = read(f"a: {text}\n", "f").tree
        assert tree == {"a": value}
        assert isinstance(tree, dict)
        assert type(tree["a"]) is type(value)


def test_names_of_fields_are_text_however_they_look() -> None:
    assert read("1: a\ntrue: b\nnull: c\n0600: d\n", "f").tree == {"1": "a", "true": "b", "null": "c", "0600": "d"}


def test_values_keep_line_and_column() -> None:
    document = read("a:\n- {b: 1, c: two}\n", "f")
    assert str(document.problem(("a", 0, "c"), "bad")) == "f:2:13: a[0].c: bad"
    assert str(document.problem(("a", 0, "c"), "bad", at_key=True)) == "f:2:10: a[0].c: bad"


def test_a_missing_field_is_reported_where_it_should_have_been() -> None:
    document = read("x: 1\na:\n- b: 1\n", "f")
    assert str(document.problem(("a", 0, "c"), "missing")) == "f:3:3: a[0].c: missing"


def test_every_duplicate_is_reported_with_the_line_of_the_first() -> None:
    assert problems("a: 1\nb: {c: 1, c: 2}\na: 2\na: 3\n") == [
        "f:2:11: b.c: is given twice; the first is in line 2",
        "f:3:1: a: is given twice; the first is in line 1",
        "f:4:1: a: is given twice; the first is in line 1",
    ]


def test_anchors_and_aliases_are_refused() -> None:
    said = "anchors and aliases are not supported; write the value out"
    assert problems("a: &x 1\nb: *x\n") == [f"f:1:4: a: {said}", f"f:2:4: b: {said}"]
    assert problems("a: &x [1]\n") == [f"f:1:4: a: {said}"]


def test_an_alias_bomb_is_refused_before_it_expands() -> None:
    levels = ["l0: &l0 [x,x,x,x,x,x,x,x,x]"]
    levels += [f"l{n}: &l{n} [{','.join([f'*l{n - 1}'] * 9)}]" for n in range(1, 30)]
    assert "anchors and aliases are not supported" in problems("\n".join(levels))[0]


def test_tags_are_refused() -> None:
    assert problems("a: !!str 3\n") == ["f:1:4: a: tags are not supported; write the plain value"]
    assert problems("a: !!python/object/apply:os.system [id]\n") == [
        "f:1:4: a: tags are not supported; write the plain value"
    ]
    assert problems("!!str a: 3\n") == ["f:1:1: a: anchors and tags are not supported; write the plain name"]


def test_a_list_cannot_be_the_name_of_a_field() -> None:
    assert problems("a:\n  ? [b]\n  : 1\n") == ["f:2:5: a: the name of a field has to be text"]


def test_nesting_is_bounded() -> None:
    deepest = "[" * MAX_DEPTH + "]" * MAX_DEPTH
    assert read(f"a: {deepest}", "f").tree is not None
    assert problems(f"a: [{deepest}]") == [f"f:1:{4 + MAX_DEPTH}: is nested more than {MAX_DEPTH} levels deep"]
    # Without the bound, the parser needs minutes for these.
    assert problems("[" * 500_000) == [f"f:1:{MAX_DEPTH + 2}: is nested more than {MAX_DEPTH} levels deep"]
    assert len(problems("{" * 500_000)) == 1


def test_size_is_bounded() -> None:
    assert read("# " + "x" * (MAX_BYTES - 8) + "\na: 1", "f").tree == {"a": 1}
    assert problems("# " + "x" * MAX_BYTES) == [f"f: is larger than {MAX_BYTES} bytes"]


def test_a_file_without_content_is_called_empty() -> None:
    for text in ("", "\n", "# only a comment\n", "---\n", "~\n"):
        assert problems(text) == ["f: is empty; it needs at least keys and endpoints"], text


def test_a_second_document_is_refused() -> None:
    assert problems("a: 1\n---\nb: 2\n") == ["f:2:1: holds several YAML documents; a configuration is one"]


def test_another_version_of_yaml_is_refused() -> None:
    assert problems("%YAML 1.1\n---\na: yes\n") == ["f:2:1: is read as YAML 1.2; take the %YAML line away"]
    assert read("%YAML 1.2\n---\na: yes\n", "f").tree == {"a": "yes"}


def test_a_tab_is_reported_with_the_remedy() -> None:
    assert problems("a:\n\t- b\n") == [
        "f:2:1: is not YAML: while scanning for the next token, found character '\\t' that cannot start any token; "
        "indent with spaces"
    ]


def test_broken_syntax_is_placed_and_the_content_is_not_quoted() -> None:
    assert problems("a: [1\n") == [
        "f:2:1: is not YAML: while parsing a flow sequence, expected ',' or ']', but got '<stream end>'"
    ]
    (said,) = problems("a: 'hunter2\n")
    assert "hunter2" not in said
    assert said.startswith("f:2:1: is not YAML: while scanning a quoted scalar")


def test_a_control_character_is_placed() -> None:
    assert problems("a: 1\nb: \x01\n") == ["f:2:4: character U+0001 is not allowed in YAML"]


def test_bytes_that_the_environment_could_not_decode_are_refused() -> None:
    assert problems("a: \udcff\n") == ["f:1:4: character U+DCFF is not allowed in YAML"]


def test_names_with_unusual_characters_are_quoted_and_cut_in_paths() -> None:
    document = read('"a b\\n": {"' + "y" * 80 + '": 1}', "f")
    problem = document.problem(("a b\n", "y" * 80), "bad")
    assert (problem.line, problem.column) == (1, 95)
    assert problem.path == '["a b\\n"]["' + "y" * 64 + '"]'
