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
        ('<path d="M1 1A1 1 0 0 0 2 2"/>', r"<path>: arcs \(A\) are not supported"),
        ('<path d="M1 1X2"/>', r"unknown command 'X'"),
        ('<path d="M1 1z5 5"/>', r"a number without a command in a path: '5'"),
        ('<path d="M1 1L#"/>', r"cannot read the path at '#'"),
        ('<path d="M1 1L1e999 0"/>', r"a number must be at most 1e\+09, got 1e999"),
        ('<g transform="scale(1e9)"><path d="M1 1L1e5 0"/></g>', r"<path>: positions must be at most 1e\+09"),
        ('\n<circle r="3"/>', r"line 2, <circle>: is not a stroke; supported are <path>"),
        ('<rect stroke="red"/>', r"<rect>: is not a stroke"),
        ('<polyline points="1 2 3"/>', r"<polyline>: 'points' must be pairs of numbers, got 3"),
        ('<line x1="two"/>', r"<line>: 'x1' must hold numbers, got 'two'"),
        ('<g transform="scale(2"/>', r"<g>: cannot read the transform 'scale\(2'"),
        ('<g transform="turn(2)"/>', r"<g>: cannot read the transform 'turn\(2\)'"),
        ('<g transform="matrix(2)"/>', r"<g>: cannot read the transform 'matrix\(2\)'"),
        ("<svg/>", r"<svg>: an <svg> inside another"),
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
    for text in (laughs, outside, outside.replace("ENTITY a", "ENTITY % a")):
        with pytest.raises(ValueError, match="line 1: entities are not supported, got 'a'"):
            svg.parse(text)
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
