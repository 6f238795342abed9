"""SVG files as trees of elements with computed styles: safe parsing, and the cascade of CSS.

Entities are replaced only if they are plain text, as in files of Illustrator. No other file is opened.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from xml.etree import ElementTree as ET
from xml.parsers import expat

import cssselect2
import tinycss2

NAMESPACE = "http://www.w3.org/2000/svg"

MAX_DEPTH = 200
"""Largest depth of nested elements."""

MAX_TEXT = 10_000_000
"""Largest number of characters after the replacement of entities."""

MAX_ENTITY = 2000
"""Largest number of characters of an entity."""

RELEVANT = frozenset({
    "display", "visibility", "opacity", "color", "fill", "stroke", "stroke-width", "stroke-opacity", "transform",
    "transform-origin", "x", "y", "width", "height", "cx", "cy", "r", "rx", "ry", "d", "rotate", "scale", "translate",
    "offset-path", "zoom", "transform-box", "clip-path", "mask", "all",
})  # fmt: skip
"""CSS properties that change the strokes of a drawing."""

UNSUPPORTED = ("rotate", "scale", "translate", "offset-path", "zoom", "d", "transform-box")
"""CSS properties that must have the value that changes nothing."""

IGNORED_AT_RULES = ("charset", "font-face", "keyframes", "namespace", "page")


@dataclass
class Document:
    """Elements of an SVG file.

    Attributes:
        source: name of the file in messages.
        root: the outermost element; tags are local names, or empty for other namespaces.
        lines: line of each element.
        ids: elements by `id`.
        left_out: number of the parts that cannot be read, by name.
        rules: selectors and declarations of the style sheets.
    """

    source: str
    root: Any = None
    lines: dict[Any, int] = field(default_factory=dict)
    ids: dict[str, Any] = field(default_factory=dict)
    left_out: Counter[str] = field(default_factory=Counter)
    rules: cssselect2.Matcher = field(default_factory=cssselect2.Matcher)

    def where(self, element: Any) -> str:
        """Return file, line and name of an element."""
        return f"{self.source}, line {self.lines[element]}, <{element.tag}>"


def parse_document(text: bytes | str, source: str) -> Document:
    """Parse SVG and apply its style sheets: each property becomes an attribute of the element.

    Raises:
        ValueError: if the text is not XML, declares entities that are not plain text, is nested too deep, or has a
            style that cannot be read.
    """
    builder = _Builder(Document(source))
    parser = expat.ParserCreate(namespace_separator=" ")
    parser.StartElementHandler, parser.EndElementHandler = builder.start, builder.end
    parser.CharacterDataHandler, parser.EntityDeclHandler = builder.text, builder.entity
    parser.ProcessingInstructionHandler = builder.instruction
    builder.line = lambda: parser.CurrentLineNumber
    try:
        parser.Parse(text.encode() if isinstance(text, str) else text, True)
    except (expat.ExpatError, LookupError, UnicodeError) as error:
        raise ValueError(f"{source} is not SVG: {error}") from None
    document = builder.document
    if document.root.tag != "svg":
        raise ValueError(f"{document.where(document.root)}: the first element must be <svg>")
    for element in document.root.iter("style"):
        _read_sheet(document, element)
    for wrapped in cssselect2.ElementWrapper.from_xml_root(document.root).iter_subtree():
        element = wrapped.etree_element
        try:
            element.attrib.update(_computed(document, wrapped, element))
        except ValueError as error:
            raise ValueError(f"{document.where(element)}: {error}") from None
    return document


class _Builder:
    """Builds the tree from the events of the parser."""

    def __init__(self, document: Document):
        self.document, self.open, self.characters = document, list[Any](), 0
        self.line: Any = lambda: 0

    def entity(
        self, name: str, is_parameter: int, value: str | None, base: Any, system: str | None, *_: object
    ) -> None:
        """Refuse entities that refer to others or to files, which can grow without bound."""
        if is_parameter or value is None or any(mark in value for mark in "&<%") or len(value) > MAX_ENTITY:
            raise ValueError(
                f"{self.document.source}, line {self.line()}: entities are not supported, got {name!r}, which is no "
                "plain text"
            )

    def instruction(self, target: str, _: str) -> None:
        """Count style sheets in other files."""
        if target == "xml-stylesheet":
            self.document.left_out["<?xml-stylesheet?>"] += 1

    def start(self, tag: str, attributes: Mapping[str, str]) -> None:
        """Open an element."""
        space, _, name = tag.rpartition(" ")
        element = ET.Element(name if space in ("", NAMESPACE) else "", dict(attributes))
        self.document.lines[element] = self.line()
        if self.open:
            self.open[-1].append(element)
        else:
            self.document.root = element
        self.open.append(element)
        if len(self.open) > MAX_DEPTH:
            raise ValueError(f"{self.document.where(element)}: elements must be nested at most {MAX_DEPTH} deep")
        self._count(sum(map(len, attributes.values())))
        if element.tag and "id" in attributes:
            self.document.ids.setdefault(attributes["id"], element)

    def end(self, _: str) -> None:
        """Close an element."""
        self.open.pop()

    def text(self, text: str) -> None:
        """Add text to the open element; only that of style sheets is used."""
        self._count(len(text))
        if self.open[-1].tag == "style":
            self.open[-1].text = (self.open[-1].text or "") + text

    def _count(self, characters: int) -> None:
        self.characters += characters
        if self.characters > MAX_TEXT:
            raise ValueError(f"{self.document.source} must have at most {MAX_TEXT} characters with entities replaced")


def _read_sheet(document: Document, element: Any) -> None:
    """Add the rules of a `<style>` element."""
    if element.get("type", "text/css").strip() not in ("", "text/css") or element.get("media", "all") not in _SCREENS:
        document.left_out["<style>"] += 1
        return
    where = document.where(element)
    rules: list[Any] = tinycss2.parse_stylesheet(element.text or "", skip_comments=True, skip_whitespace=True)
    for rule in rules:
        if rule.type == "at-rule":
            if rule.lower_at_keyword not in IGNORED_AT_RULES:
                document.left_out[f"@{rule.lower_at_keyword}"] += 1
            continue
        if rule.type != "qualified-rule":
            raise ValueError(f"{where}: the style sheet must be CSS, got an error: {rule.message}")
        declarations = list(_declarations(document, tinycss2.serialize(rule.content)))
        try:
            selectors = cssselect2.compile_selector_list(rule.prelude)
        except cssselect2.SelectorError:
            if declarations:
                selector = tinycss2.serialize(rule.prelude).strip()
                raise ValueError(f"{where}: the selector {selector!r} is not supported. Remove the rule") from None
            continue
        for selector in selectors:
            if selector.pseudo_element is None:
                document.rules.add_selector(selector, declarations)


_NEUTRAL = ("none", "view-box")
_SCREENS = ("", "all", "screen")


def _declarations(document: Document, text: str) -> Iterator[tuple[str, str, bool]]:
    """Yield `(property, value, important)` of the properties that change strokes; invalid ones are counted."""
    for item in tinycss2.parse_declaration_list(text, skip_comments=True, skip_whitespace=True):
        if item.type == "declaration" and item.lower_name in RELEVANT:
            value = tinycss2.serialize([token for token in item.value if token.type != "comment"]).strip()
            yield item.lower_name, value, item.important
        elif item.type in ("error", "at-rule"):
            document.left_out["unreadable style"] += 1


def _computed(document: Document, wrapped: Any, element: Any) -> dict[str, str]:
    """Properties of an element by the cascade: style sheets by specificity, then its own style, then important ones."""
    declared = []
    for match in sorted(document.rules.match(wrapped), key=lambda match: match[:2]):
        declared += match[3]
    declared += _declarations(document, element.get("style", ""))
    computed = {}
    for name, value, _ in sorted(declared, key=lambda declaration: declaration[2]):
        if "var(" in value or name in UNSUPPORTED and value not in _NEUTRAL:
            raise ValueError(f"the style {name!r} is not supported with the value {value!r}")
        if name == "all":
            raise ValueError("the style 'all' is not supported")
        computed[name] = value
    return computed
