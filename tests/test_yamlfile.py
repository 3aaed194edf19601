"""yamlfile: the traps of YAML 1.1 are closed, every value knows its line, every syntax error is one plain line."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from lossbench.errors import ConfigError
from lossbench.yamlfile import parse_yaml, read_yaml, scalar_hint

FILE = Path("suite.yaml")


def fails(text: str) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        parse_yaml(text, FILE)
    assert "\n" not in caught.value.message
    return caught.value


@pytest.mark.parametrize(
    "text", ["no", "off", "yes", "on", "y", "N", "010", "0x10", "1:30", "2020-01-01", ".nan", ".inf"]
)
def test_what_yaml_1_1_would_reinterpret_stays_a_string(text: str) -> None:
    assert parse_yaml(f"a: {text}", FILE).data == {"a": text}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-4", 1e-4), ("1E+3", 1e3), (".5", 0.5), ("1.", 1.0), ("-2.5e3", -2500.0), ("0", 0), ("-7", -7),
        ("40_000", 40_000), ("true", True), ("FALSE", False), ("", None), ("null", None), ("~", None), ("'1'", "1"),
    ],
)  # fmt: skip
def test_scalars_are_what_they_look_like(text: str, value: Any) -> None:
    data = parse_yaml(f"a: {text}", FILE).data["a"]
    assert data == value
    assert type(data) is type(value)


#: An alphabet of what means something in YAML. (Named, for speed: tables of all of Unicode take seconds to build.)
PUNCTUATED = "aZnyo01_.+ :#-'\"\\{}[],&*!|>%@`~?<=é漢"
plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**62), 2**62) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(PUNCTUATED, max_size=8),
    lambda inner: st.lists(inner, max_size=4)
    | st.dictionaries(st.text("abcdefg", min_size=1, max_size=4), inner, max_size=4),
    max_leaves=12,
)  # fmt: skip


@settings(deadline=None)
@given(plain)
def test_json_is_read_as_json_reads_it(value: Any) -> None:
    import json

    assert parse_yaml(json.dumps(value, ensure_ascii=False), FILE).data == value


@settings(deadline=None)
@given(plain)
def test_what_pyyaml_writes_is_read_back(value: Any) -> None:
    # PyYAML writes what YAML 1.1 needs quoted in quotes; nothing more is needed here. Floats such as 1e+16 it
    # writes with a dot, so that it reads them itself.
    assert parse_yaml(yaml.safe_dump(value, allow_unicode=True), FILE).data == value


@settings(deadline=None)
@given(st.floats(allow_nan=False, allow_infinity=False))
def test_every_repr_of_a_float_is_that_float(value: float) -> None:
    read = parse_yaml(f"a: {value!r}", FILE).data["a"]
    assert math.isclose(read, value, rel_tol=0, abs_tol=0)


def test_every_key_and_value_knows_its_line() -> None:
    document = parse_yaml("# comment\na: 1\nlosses:\n  - ce\n  - name: focal\n    gamma:\n      2\n", FILE)
    assert document.where(("a",)) == "suite.yaml:2"
    assert document.where(("losses",), key=True) == "suite.yaml:3"
    assert document.where(("losses", 0)) == "suite.yaml:4"
    assert document.where(("losses", 1, "gamma"), key=True) == "suite.yaml:6"
    assert document.where(("losses", 1, "gamma")) == "suite.yaml:7"
    # what is not in the file is told at its nearest ancestor
    assert document.where(("losses", 1, "alpha", 3)) == "suite.yaml:5"
    assert document.where(("seeds",)) == "suite.yaml:2"


def test_duplicate_keys_name_both_lines() -> None:
    error = fails("a: 1\nb:\n  c: 1\n  d: 2\n  c: 3\n")
    assert error.message == "suite.yaml:5: 'c' is given twice, first on line 3"


def test_aliases_and_merge_keys() -> None:
    text = "x: &base {a: 1, b: 2}\ny:\n  <<: *base\n  b: 3\nz: {<<: [*base, {c: 4}]}\nw: *base\n"
    data = parse_yaml(text, FILE).data
    assert data["y"] == {"a": 1, "b": 3}
    assert data["z"] == {"a": 1, "b": 2, "c": 4}
    assert data["w"] == data["x"]


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("a:\n\t- b", 2, "tab"),
        ("a:\n  b: 1\n\tc: 2", 3, "tab"),
        ("a: 1\nb: [1, 2\nc: 3", 2, "'[' is never closed"),
        ("a: 1\nb: {x: 1\nc: 3", 2, "'{' is never closed"),
        ("a: 1\nb: 'x\nc: 3", 2, "quote is never closed"),
        ("a: b: c", 1, "unexpected ':'"),
        ("a:\n  - 1\n - 2", 3, "indentation"),
        ("a: *x", 1, "'x' has no anchor"),
        ("a: &x [*x]", 1, "contains itself"),
        ("a: &x {<<: *x}", 1, "<<"),
        ("a: !!python/object/apply:os.system [ls]", 1, "tag '!!python/object/apply:os.system' is not supported"),
        ("a: 1\nb: !custom 1", 2, "tag '!custom' is not supported"),
        ("a: 1\n---\nb: 2", 2, "second document"),
        ("a: @x", 1, "cannot start with '@'"),
        ("a: 1\nb: \x01", 2, "U+0001"),
        ("[1]: 2", 1, "a key must be text"),
        ("true: 2", 1, "a key must be text"),
        ("a: !!int x", 1, "'x' is not a valid int"),
        ("a: 1e999", 1, "'1e999' is not a valid float"),
        ("a: " + "9" * 5000, 1, "is not a valid int"),
        ("a: - b", 1, "list item"),
        ('a: "\\q"', 1, "escape"),
        ("a: ]", 1, "unexpected ']'"),
    ],
)  # fmt: skip
def test_syntax_errors_are_one_plain_line(text: str, line: int, words: str) -> None:
    error = fails(text)
    assert error.message.startswith(f"suite.yaml:{line}: ")
    assert words in error.message


def test_alias_bombs_and_towers_of_brackets_are_refused() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]
    assert "20000" in fails("\n".join(lines)).message
    merges = ["m0: &m0 {k: 1}"]
    merges += [f"m{n}: &m{n} {{<<: [{', '.join([f'*m{n - 1}'] * 10)}]}}" for n in range(1, 9)]
    assert "<<" in fails("\n".join(merges)).message
    assert "nested too deeply" in fails("[" * 1000).message


@pytest.mark.parametrize("text", ["", "   \n", "# only a comment\n", "---\n"])
def test_empty_files(text: str) -> None:
    if text == "---\n":  # an empty document is null, and the suite says that it is no mapping
        assert parse_yaml(text, FILE).data is None
    else:
        assert fails(text).message == "suite.yaml: the file is empty"


def complaint(text: str) -> str:
    try:
        parse_yaml(text, FILE)
    except ConfigError as error:
        return error.message
    return "suite.yaml: fine"


@settings(deadline=None)
@given(st.text(PUNCTUATED + "\n\t\r\0\x85\u2028\ufeff", max_size=60))
def test_any_text_is_a_value_or_one_line(text: str) -> None:
    assert complaint(text).startswith("suite.yaml:")
    assert "\n" not in complaint(text)


@settings(deadline=None)
@given(st.lists(st.sampled_from(["a", ":", " ", "\n", "-", "[", "]", "{", "}", "'", '"', "&x", "*x", "<<", "|", "\t"])))
def test_any_punctuation_is_a_value_or_one_line(parts: list[str]) -> None:
    assert "\n" not in complaint("".join(parts))


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such file"):
        read_yaml(tmp_path / "none.yaml")
    with pytest.raises(ConfigError, match="is a folder"):
        read_yaml(tmp_path)
    latin = tmp_path / "latin.yaml"
    latin.write_bytes("a: café".encode("latin-1"))
    with pytest.raises(ConfigError, match="not UTF-8"):
        read_yaml(latin)


def test_byte_order_mark_and_windows_line_ends(tmp_path: Path) -> None:
    file = tmp_path / "windows.yaml"
    file.write_bytes(b"\xef\xbb\xbfa: 1\r\nb:\r\n  - x\r\n")
    document = read_yaml(file)
    assert document.data == {"a": 1, "b": ["x"]}
    assert document.where(("b", 0)) == f"{file}:3"


@pytest.mark.parametrize(
    ("value", "wanted", "hint"),
    [
        ("no", "bool", "write false instead of no"),
        ("On", "bool", "write true instead of On"),
        ("010", "int", "write 10: a number with leading zeros is ambiguous in YAML"),
        ("1:30", "int", "write a plain number: YAML reads a:b as base 60"),
        ("1e-4", "float", "remove the quotes around 1e-4"),
        (1000.0, "int", "write 1000"),
        (1.5, "int", None),
        ("streets", "list", "write [streets]"),
        ("adam", "Literal['sgd', 'adamw']", "did you mean 'adamw'?"),
        ("words", "float", None),
    ],
)
def test_scalar_hint(value: Any, wanted: str, hint: str | None) -> None:
    assert scalar_hint(value, wanted) == hint
