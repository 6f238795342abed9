"""SVG files: positions by hand, curves against circles and parabolas, and refused files."""

import numpy as np
import pytest

from sketch.data import svg
from sketch.data.strokes import to_polylines

HEAD = '<svg xmlns="http://www.w3.org/2000/svg">'


def strokes(body, head=HEAD):
    return to_polylines(svg.parse(f"{head}{body}</svg>"))


def same(result, expected):
    assert len(result) == len(expected)
    for line, places in zip(result, expected, strict=True):
        np.testing.assert_allclose(line, places, atol=1e-5)


def test_every_straight_command_absolute_and_relative():
    same(strokes('<path d="M1 2L3 4 5 6H7V8Z"/>'), [[[1, 2], [3, 4], [5, 6], [7, 6], [7, 8], [1, 2]]])
    same(strokes('<path d="m1,2l2,2 2 2h2v2z"/>'), [[[1, 2], [3, 4], [5, 6], [7, 6], [7, 8], [1, 2]]])
    # Several pairs after a move are lines; numbers need no blanks between them; a move begins another stroke.
    same(strokes('<path d="M1-2.5.5 1e1m1 1-3-4"/>'), [[[1, -2.5], [0.5, 10]], [[1.5, 11], [-1.5, 7]]])
    # After a closed outline the pen is where that began.
    same(strokes('<path d="M1 1h2v2zl-1 0"/>'), [[[1, 1], [3, 1], [3, 3], [1, 1]], [[1, 1], [0, 1]]])


def test_shapes_and_the_order_of_strokes():
    body = '<line x1="1" x2="2px" y2="3"/><polyline points="0,0 1,0, 1 1"/><polygon points="0 0 2 0 2 2"/>'
    same(strokes(body), [[[1, 0], [2, 3]], [[0, 0], [1, 0], [1, 1]], [[0, 0], [2, 0], [2, 2], [0, 0]]])


@pytest.mark.parametrize("path", ["M1 0C1 K K 1 0 1S-1 K -1 0", "m1 0c0 K -J 1 -1 1s-1-J-1-1"])
def test_cubic_curves_follow_a_half_circle(path):
    # Two of the usual approximations of a quarter of a circle, whose radius is right to 0.03 %.
    k = 0.5522847498
    (line,) = strokes(f'<path d="{path.replace("K", str(k)).replace("J", str(1 - k))}"/>')
    np.testing.assert_allclose(line[[0, -1]], [[1, 0], [-1, 0]], atol=1e-6)
    np.testing.assert_allclose(np.hypot(*line.T), 1.0, atol=5e-4)
    middles = (line[1:] + line[:-1]) / 2  # lines between points are inside the circle, but not by much
    assert np.hypot(*middles.T).min() > 1 - 0.002 * 1.8 and len(line) < 40


def test_quadratic_curves_follow_a_parabola():
    # From (0, 0) to (2, 0) with control point (1, 2): y = x (2 - x), and its mirrored continuation.
    for path in ("M0 0Q1 2 2 0T4 0", "M0 0q1 2 2 0t2 0", "M0 0Q1 2 2 0Q3-2 4 0"):
        (line,) = strokes(f'<path d="{path}"/>')
        x = line[:, 0]
        np.testing.assert_allclose(line[:, 1], np.where(x < 2, x * (2 - x), (x - 2) * (x - 4)), atol=1e-5)
    # Without a curve before, the control point is where the pen is.
    (line,) = strokes('<path d="M0 0L1 0T3 1"/>')
    np.testing.assert_allclose(line[1:, 1], (line[1:, 0] - 1) / 2, atol=1e-6)


def test_transforms_of_groups_come_before_those_around_them():
    body = '<g transform="translate(10 20)"><g transform="scale(2,3)"><path d="M1 1L2 2"/></g></g><path d="M1 1L0 0"/>'
    same(strokes(body), [[[12, 23], [14, 26]], [[1, 1], [0, 0]]])
    same(strokes('<path transform="matrix(0 1 -1 0 5 6)" d="M1 2L3 4"/>'), [[[3, 7], [1, 9]]])
    same(strokes('<path transform="rotate(90 1 1), scale(2)" d="M1 1L0 1"/>'), [[[0, 2], [0, 0]]])
    same(strokes('<path transform="skewX(45)" d="M1 2L0 0"/>'), [[[3, 2], [0, 0]]])


def test_what_is_not_drawn_is_left_out():
    body = """<title>cat</title><defs><path d="M0 0L1 1"/></defs><g display="none"><circle r="1"/></g>
    <rect width="9" height="9" fill="white"/><x:thing xmlns:x="urn:x"><path d="M0 0L1 1"/></x:thing>
    <path d="M5 5L6 6"/>"""
    same(strokes(body), [[[5, 5], [6, 6]]])
    same(strokes('<path d="M0 0M5 5L6 6M7 7"/>'), [[[5, 5], [6, 6]]])
    same(strokes('<path d="M5 5L6 6"/>', head="<svg>"), [[[5, 5], [6, 6]]])
    doctype = '<!DOCTYPE svg PUBLIC "-//W3C//DTD SVG 1.1//EN" "http://www.w3.org/Graphics/SVG/1.1/DTD/svg11.dtd">'
    same(strokes('<path d="M5 5L6 6"/>', head=doctype + HEAD), [[[5, 5], [6, 6]]])


@pytest.mark.parametrize(
    "body, message",
    [
        ('<path d="L1 1"/>', r"line 1, <path>: a path must begin with M, got 'L'"),
        ('<path d="M1 1L2"/>', r"<path>: command 'L' of a path needs 2 numbers, got 2"),
        ('<path d="M1 1A1 1 0 2 0 2 2"/>', r"<path>: command 'A' of a path needs 7 numbers, got 1 1 0"),
        ('<path d="M1 1X2"/>', r"unknown command 'X'"),
        ('<path d="M1 1z5 5"/>', r"a number without a command in a path: '5'"),
        ('<path d="M1 1L#"/>', r"cannot read the path at '#'"),
        ('<path d="M1 1L1e999 0"/>', r"a number must be at most 1e\+09, got 1e999"),
        ('<g transform="scale(1e9)"><path d="M1 1L1e5 0"/></g>', r"<path>: positions must be at most 1e\+09"),
        ('\n<circle r="-3"/>', r"line 2, <circle>: 'r' must not be negative, got '-3'"),
        ('<rect stroke="red"/>', r"has no strokes"),
        ('<text>cat</text><rect width="9" height="9"/>', r"has no strokes \(left out: 1 <text>, 1 filled <rect>\)"),
        ('<circle r="1em"/>', r"<circle>: the unit of a length must be one of px, .* got '1em'"),
        ('<circle r="10%"/>', r"<circle>: a percentage needs a viewBox or a size of <svg>, got '10%'"),
        ('<g id="a"><use href="#a"/></g>', r"<g>: <use> must not contain itself|cycle through '#a'"),
        (
            '<path style="transform: rotate3d(1,1,1,9deg)" d="M1 1L2 2"/>',
            r"<path>: cannot read the transform 'rotate3d",
        ),
        ('<path style="transform: translate(50%)" d="M1 1L2 2"/>', r"<path>: cannot read the transform 'translate"),
        ('<path style="stroke: var(--ink)" d="M1 1L2 2"/>', r"<path>: the style 'stroke' is not supported"),
        ('<path style="rotate: 20deg" d="M1 1L2 2"/>', r"<path>: the style 'rotate' is not supported"),
        ('<path style="transform-box: fill-box" d="M1 1L2 2"/>', r"<path>: the style 'transform-box' is not supported"),
        ("<style>g:hover > {display: none}</style>", r"<style>: the selector 'g:hover >' is not supported"),
        ('<polyline points="1 2 3"/>', r"<polyline>: 'points' must be pairs of numbers, got 3"),
        ('<line x1="two"/>', r"<line>: 'x1' must hold numbers, got 'two'"),
        ('<g transform="scale(2"/>', r"<g>: cannot read the transform 'scale\(2'"),
        ('<g transform="turn(2)"/>', r"<g>: cannot read the transform 'turn\(2\)'"),
        ('<g transform="matrix(2)"/>', r"<g>: cannot read the transform 'matrix\(2\)'"),
        (
            '<svg width="0" height="1" viewBox="0 0 1 1"/>',
            r"<svg>: an inner <svg> must have .* size, got 0 x 1",
        ),
        ('<path d=""/>', r"has no strokes"),
        ("<path", r"is not SVG: not well-formed"),
    ],
)
def test_errors_name_the_file_and_the_element(body, message, tmp_path):
    path = tmp_path / "cat.svg"
    path.write_text(f"{HEAD}{body}</svg>")
    with pytest.raises(ValueError, match="cat.svg.*" + message):
        svg.read(path)


def test_entities_and_other_files_are_refused(tmp_path):
    laughs = '<!DOCTYPE svg [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;">]>' + HEAD + "<title>&b;</title></svg>"
    outside = '<!DOCTYPE svg [<!ENTITY a SYSTEM "file:///etc/passwd">]>' + HEAD + "<title>&a;</title></svg>"
    for text, name in ((laughs, "b"), (outside, "a"), (outside.replace("ENTITY a", "ENTITY % a"), "a")):
        with pytest.raises(ValueError, match=f"line 1: entities are not supported, got '{name}'"):
            svg.parse(text)
    with pytest.raises(ValueError, match="must have at most .* characters with entities replaced|amplification"):
        entity = f'<!DOCTYPE svg [<!ENTITY a "{"x" * 2000}">]>'
        svg.parse(f"{entity}{HEAD}<title>{'&a;' * 6000}</title></svg>")
    with pytest.raises(ValueError, match="must be nested at most 200 deep"):
        svg.parse(HEAD + "<g>" * 100_000)
    groups = "".join(f'<g id="g{n}">{f"""<use href="#g{n - 1}"/>""" * 10}</g>' for n in range(1, 9))
    with pytest.raises(ValueError, match="must have at most .* elements with <use> replaced"):
        svg.parse(f'{HEAD}<path id="g0" d="M0 0L1 1"/>{groups}</svg>')
    with pytest.raises(ValueError, match="first element must be <svg>"):
        svg.parse("<html/>")
    with pytest.raises(ValueError, match="is not SVG"):
        svg.parse(b"\x89PNG\r\n")
    with pytest.raises(FileNotFoundError, match="there is no file"):
        svg.read(tmp_path / "none.svg")
    path = tmp_path / "large.svg"
    path.write_bytes(b" " * (svg.MAX_BYTES + 1))
    with pytest.raises(ValueError, match="large.svg must have at most .* bytes"):
        svg.read(path)


LINE = '<path d="M5 5L6 6"/>'


def test_a_width_in_any_unit_is_a_stroke():
    for width in ("0.1em", "1%", "2mm"):
        same(strokes(f'<path stroke="black" stroke-width="{width}" d="M5 5L6 6"/>'), [[[5, 5], [6, 6]]])


@pytest.mark.parametrize(
    "hidden",
    [
        '<g style="display:none">X</g>', '<g style="visibility: hidden">X</g>', '<g visibility="hidden">X</g>',
        '<g opacity="0">X</g>', '<g style="stroke-opacity: 0; fill: none">X</g>', '<g class="off">X</g>',
        '<g id="layer">X</g>', '<g class="a b"><g>X</g></g>', '<g style="stroke: transparent; fill: none">X</g>',
        '<g stroke-width="0" fill="none">X</g>', '<g stroke="#0000" fill="none">X</g>',
    ],
)  # fmt: skip
def test_what_a_style_hides_is_left_out_and_counted(hidden):
    sheet = (
        "<style>.off {display: none} #layer {fill: none; stroke: none !important} .a.b > g {visibility: hidden}</style>"
    )
    body = hidden.replace("X", '<path d="M0 0L9 9"/>')
    drawing = svg.parse_drawing(f'<svg stroke="black">{sheet}{body}{LINE}</svg>')
    same(to_polylines(drawing.strokes), [[[5, 5], [6, 6]]])
    assert sum(drawing.left_out.values()) == 1 and next(iter(drawing.left_out)).startswith("hidden <")


@pytest.mark.parametrize(
    "style",
    ['style="fill:none;stroke:#000"', 'stroke="black"', 'class="ink"', 'style="stroke:url(#gradient)"', 'color="red"'],
)
def test_a_stroke_is_stated_by_attribute_style_class_or_group(style):
    sheet = '<style type="text/css"><![CDATA[ .ink, [color] { stroke: currentColor } ]]></style>'
    rectangle = '<rect x="1" y="2" width="3" height="4"/>'
    expected = [[[1, 2], [4, 2], [4, 6], [1, 6], [1, 2]]]
    same(strokes(f"{sheet}{rectangle.replace('<rect', f'<rect {style}')}"), expected)
    same(strokes(f"{sheet}<g {style}>{rectangle}</g>"), expected)
    # What is only filled is no stroke next to a stroke.
    drawing = svg.parse_drawing(f"{HEAD}{sheet}<g {style}>{rectangle}</g><circle r='3'/></svg>")
    assert drawing.left_out == {"filled <circle>": 1}


def test_circles_ellipses_arcs_and_rounded_rectangles_follow_their_equations():
    (circle,) = strokes('<circle cx="3" cy="4" r="2"/>')
    np.testing.assert_allclose(np.hypot(*(circle - [3, 4]).T), 2.0, atol=1e-5)
    np.testing.assert_allclose(circle[[0, -1]], [[5, 4], [5, 4]], atol=1e-5)
    middles = (circle[1:] + circle[:-1]) / 2 - [3, 4]
    assert np.hypot(*middles.T).min() > 2 * (1 - 0.007) and len(circle) < 40
    (ellipse,) = strokes('<ellipse cx="3" cy="4" rx="2" ry="6"/>')
    np.testing.assert_allclose(np.hypot(*((ellipse - [3, 4]) / [2, 6]).T), 1.0, atol=1e-5)
    # A half circle through (1, -1) or (1, 1); flags need no separators; a radius too small is enlarged.
    for path, y in (("M0 0A1 1 0 0 1 2 0", -1), ("M0 0a1,1,0,002,0", 1), ("M0 0a.1.1 0 012 0", -1)):
        (arc,) = strokes(f'<path d="{path}"/>')
        np.testing.assert_allclose(np.hypot(*(arc - [1, 0]).T), 1.0, atol=1e-5)
        assert np.sign(arc[1:-1, 1]).tolist() == [y] * (len(arc) - 2)
    same(strokes('<path d="M0 0A0 1 0 0 1 2 0"/>'), [[[0, 0], [2, 0]]])
    (rounded,) = strokes('<rect width="10" height="6" rx="2" stroke="black"/>')
    assert (
        rounded.min() >= -1e-5
        and np.hypot(*(rounded - [8, 2]).T)[(rounded > [8, -1]).all(1) & (rounded[:, 1] < 2)].max() < 2.01
    )


def test_uses_symbols_and_inner_viewports_are_placed():
    definitions = (
        '<defs><path id="p" d="M0 0L1 2"/><symbol id="s" viewBox="0 0 2 2"><path d="M0 0L2 2"/></symbol></defs>'
    )
    link = 'xmlns:x="http://www.w3.org/1999/xlink" x:href'
    same(strokes(f'{definitions}<use {link}="#p" x="3" transform="scale(2)"/>'), [[[6, 0], [8, 4]]])
    same(strokes(f'{definitions}<use href="#s" x="1" y="1" width="10" height="10"/>'), [[[1, 1], [11, 11]]])
    inner = '<svg x="10" y="20" width="50%" height="40" viewBox="1 1 4 4"><path d="M1 1L5 5"/></svg>'
    same(strokes(inner, head='<svg viewBox="0 0 80 80">'), [[[10, 20], [50, 60]]])
    drawing = svg.parse_drawing(f'{HEAD}<use href="#none"/><use href="other.svg#a"/>{LINE}</svg>')
    assert drawing.left_out == {"<use> of #none": 1, "<use> of other.svg#a": 1}
    same(
        strokes(f'<switch><foreignObject requiredExtensions="x"/><g>{LINE}</g><g>{LINE}</g></switch>'),
        [[[5, 5], [6, 6]]],
    )


def test_lengths_have_units_and_transforms_of_styles_too():
    same(
        strokes('<line x1="25.4mm" x2="1in" y2="50%" y1="3pt"/>', head='<svg viewBox="0 0 9 8">'), [[[96, 4], [96, 4]]]
    )
    style = "transform: translate(100px, 50px) rotate(0.25turn) scale(2)"
    same(strokes(f'<g style="{style}"><path d="M1 0L2 0"/></g>'), [[[100, 52], [100, 54]]])
    same(
        strokes('<path style="transform-origin: 1px 1px; transform: rotate(90deg)" d="M1 1L2 1"/>'), [[[1, 1], [1, 2]]]
    )


def test_plain_text_entities_are_replaced_as_in_files_of_illustrator():
    head = """<!DOCTYPE svg PUBLIC "-//W3C//DTD SVG 1.1//EN" "http://www.w3.org/Graphics/SVG/1.1/DTD/svg11.dtd" [
    <!ENTITY ns_svg "http://www.w3.org/2000/svg"> <!ENTITY st0 "fill:none;stroke:#000;">]><svg xmlns="&ns_svg;">"""
    same(strokes('<rect style="&st0;" width="1" height="1"/>', head), [[[0, 0], [1, 0], [1, 1], [0, 1], [0, 0]]])


def test_other_elements_are_left_out_and_counted_by_name():
    drawing = svg.parse_drawing(f"{HEAD}<text>a<tspan>b</tspan></text><image/><image/><new/>{LINE}</svg>")
    same(to_polylines(drawing.strokes), [[[5, 5], [6, 6]]])
    assert drawing.left_out == {"<text>": 1, "<image>": 2, "<new>": 1}
    assert drawing.note == "2 <image>, 1 <new>, 1 <text>"
    sheet = "@import 'a.css'; @media print {g {display: none}} path {*zoom: 1; fill: none; stroke: red}"
    drawing = svg.parse_drawing(f"{HEAD}<style>{sheet}</style>{LINE}</svg>")
    assert drawing.left_out == {"@import": 1, "@media": 1, "unreadable style": 1}
