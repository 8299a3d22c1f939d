"""The atlas as one self-contained page: formulas in MathML, curves in SVG, light or dark as the screen."""

from __future__ import annotations

import math
import platform
import re
import unicodedata
from datetime import datetime, timezone
from html import escape
from itertools import groupby

import numpy  # versions and curves are the host's

from .. import backend
from .atlas import REACH, Curve, Entry, summary

CHAPTERS = {
    "ops/elementwise.py": "Elementwise",
    "ops/reduction.py": "Reductions",
    "ops/normalization.py": "Normalization",
    "ops/shaping.py": "Shaping",
    "ops/linalg.py": "Linear algebra",
    "ops/convolution.py": "Convolution",
    "ops/pooling.py": "Windows",
}


def page(entries: list[Entry]) -> str:
    """The whole page."""
    chapters: dict[str, list[Entry]] = {}
    for entry in entries:
        chapters.setdefault(_chapter(entry), []).append(entry)
    titles = sorted(chapters, key=[*CHAPTERS.values(), *chapters].index)
    contents = "".join(
        f"<p><b>{escape(title)}</b> {' '.join(map(_link, chapters[title]))}</p>\n" for title in titles
    )
    sections = "".join(_section(title, chapters[title]) for title in titles)
    measured = (
        f"Measured on {datetime.now(timezone.utc):%Y-%m-%d %H:%M} UTC with NumPy {numpy.__version__}, Python "
        f"{platform.python_version()}, device {backend.current_device().name}."
    )
    return PAGE.format(
        style=STYLE,
        summary=re.sub(r"(\d)e-(\d+)", r"\1·10<sup>−\2</sup>", escape(summary(entries))),
        measured=escape(measured),
        contents=contents,
        sections=sections,
        legend=LEGEND,
        y_bar=formula("ȳ"),
        vjp=formula("x̄ = (∂y/∂x)ᵀ ȳ"),
    )


def _chapter(entry: Entry) -> str:
    file = entry.place.rpartition(":")[0]
    return CHAPTERS.get(file, file)


def _section(title: str, entries: list[Entry]) -> str:
    drawn = [_card(entry) for entry in entries if entry.curves]
    others = [_card(entry) for entry in entries if not entry.curves]
    grids = "".join(f"<div class=cards>{''.join(cards)}</div>\n" for cards in (drawn, others) if cards)
    return f"<section><h2>{escape(title)}</h2>\n{grids}</section>\n"


def _link(entry: Entry) -> str:
    failing = " class=fails" if entry.failure else ""
    return f'<a{failing} href="#{escape(entry.name)}">{escape(entry.name)}</a>'


def _card(entry: Entry) -> str:
    rules = "".join(
        f"<li><span>{formula(rule.formula)}</span><span class=place>{escape(rule.place)}</span></li>"
        for rule in entry.rules
    )
    errors = "".join(f"<td>{_power(error)}</td>" for error in entry.errors)
    failure = f"<pre>{escape(entry.failure)}</pre>" if entry.failure else ""
    return (
        f'<article id="{escape(entry.name)}"{" class=fails" if entry.failure else ""}>'
        f"{plot(entry.curves) if entry.curves else ''}"
        f"<h3>{escape(entry.call)}</h3><p>{_prose(entry.summary)}</p><ul>{rules}</ul>"
        "<table><tr><th>defined for<th>error, order 1<th>order 2</tr>"
        f"<tr><td>{escape(entry.domain)}</td>{errors}</tr></table>{failure}</article>\n"
    )


def _prose(text: str) -> str:
    return re.sub("`(.+?)`", r"<code>\1</code>", escape(text))


def _power(error: float) -> str:
    """A number as 3·10⁻¹¹."""
    if error == 0 or not math.isfinite(error):
        return "0" if error == 0 else "∞"
    digit, exponent = f"{error:.0e}".split("e")
    return f"{digit}·10<sup>{int(exponent)}</sup>".replace("-", "−")


# Formulas -----------------------------------------------------------------------------------------------

BAR = "\u0304"  # combining macron, the mark of a gradient
TOKEN = re.compile(
    rf"(?P<word>[A-Za-z]+'s|[A-Za-z]{{2,}})|(?P<letter>[A-Za-zα-ω]{BAR}?)|(?P<number>[0-9½]+)"
    r"|(?P<above>\^\{[^}]*\})|(?P<below>_\{[^}]*\}|_[a-z]+)|(?P<space>\s+)|(?P<sign>.)"
)
FUNCTIONS = {"cos", "sin", "log", "exp", "sign", "mean"}


def formula(text: str) -> str:
    """A formula in MathML, that may be broken at its spaces. Letters are variables, and may have a bar,
    superscripts and subscripts; longer words are functions or text."""
    parts = re.split(r"\s+(?![^{]*\})", _marked(text))
    return " ".join(f"<math>{_terms(part)}</math>" for part in parts)


def _terms(part: str) -> str:
    """The terms of a part of a formula, each with what stands above and below it."""
    terms: list[str] = []
    for match in TOKEN.finditer(part):
        kind, token = match.lastgroup, match.group()
        if kind in ("below", "above"):
            script = f"<mrow>{_terms(token.strip('_^{}'))}</mrow>"
            tag = "msub" if kind == "below" else "msup"
            terms.append(f"<{tag}>{terms.pop()}{script}</{tag}>")
        elif kind != "space":
            terms.append(_term(kind, token))
    return "".join(terms)


def _term(kind: str | None, token: str) -> str:
    if token.endswith(BAR):
        return f'<mover accent="true"><mi>{token[0]}</mi><mo stretchy="false">¯</mo></mover>'
    if kind == "sign":
        return f'<mo stretchy="false" lspace="0" rspace="0">{escape(token)}</mo>'
    tag = {"letter": "mi", "number": "mn"}.get(kind) or ("mi" if token in FUNCTIONS else "mtext")
    return f"<{tag}>{escape(token)}</{tag}>"


def _marked(text: str) -> str:
    """Runs of superscripts as ^{...} and of subscripts as _{...}, and bars as marks of their own."""
    marked = ""
    for mark, run in groupby(text, _script):
        run = "".join(run)
        marked += (
            f"{mark}{{{unicodedata.normalize('NFKD', run)}}}" if mark else unicodedata.normalize("NFD", run)
        )
    return marked


def _script(letter: str) -> str:
    """ "^" for a superscript, "_" for a subscript, "" for what is neither."""
    kind = unicodedata.decomposition(letter).partition(" ")[0]
    return {"<super>": "^", "<sub>": "_"}.get(kind, "")


# Curves -------------------------------------------------------------------------------------------------

WIDTH, HEIGHT = 320, 170
JUMP = 30.0  # a curve steeper than that is broken: it jumps there
KINDS = ["y", "first", "second"]  # classes of the three curves


def plot(curves: list[Curve]) -> str:
    """A function and its first and second derivative in SVG."""
    values = numpy.concatenate([numpy.ravel(curve.values) for curve in curves])
    low, high = max(-REACH, values.min()) - 0.3, min(REACH, values.max()) + 0.3
    low, high = min(low, -0.5), max(high, 0.5)

    def at(x: float, y: float) -> str:
        return f"{(x + REACH) / (2 * REACH) * WIDTH:.1f},{(high - y) / (high - low) * HEIGHT:.1f}"

    ticks = [n for n in range(math.ceil(low), math.floor(high) + 1) if n]
    grid = [f'<path class=grid d="M{at(-REACH, n)} L{at(REACH, n)}"/>{_label(at(0, n), n)}' for n in ticks]
    across = [n for n in range(-int(REACH) + 1, int(REACH)) if n]
    grid += [f'<path class=grid d="M{at(n, low)} L{at(n, high)}"/>' for n in across]
    grid += [_label(at(n, 0), n, "under") for n in (-2, 2)]
    axes = f'<path class=axis d="M{at(-REACH, 0)} L{at(REACH, 0)} M{at(0, low)} L{at(0, high)}"/>'
    lines = "".join(
        f'<path class={kind} d="{_line(curve.x, curve.values[k], at, low, high)}"/>'
        for k, kind in enumerate(KINDS)
        for curve in curves
    )
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="y, its first and second derivative">'
        f"{''.join(grid)}{axes}{lines}</svg>"
    )


def _label(at: str, n: int, kind: str = "beside") -> str:
    x, y = at.split(",")
    return f'<text class={kind} x="{x}" y="{y}">{n}</text>'.replace(">-", ">−")


def _line(xs, ys, at, low: float, high: float) -> str:
    """The path of a curve; lifted where it jumps, and where it is far outside of the picture."""
    path, before = [], None
    margin = high - low
    for x, y in zip(xs, ys):
        inside = low - margin < y < high + margin
        drawn = before is not None and abs(y - before[1]) < JUMP * (x - before[0])
        if inside:
            path.append(("L" if drawn else "M") + at(x, y))
        before = (x, y) if inside else None
    return "".join(path)


# The page -----------------------------------------------------------------------------------------------

STYLE = """
:root { color-scheme: light dark;
  --paper: #fbfaf7; --card: #fff; --ink: #22252b; --soft: #6a707c; --line: #e4e1d9; --grid: #efede7;
  --y: #22252b; --first: #d1495b; --second: #2878b5; --fails: #c0182b; }
@media (prefers-color-scheme: dark) { :root {
  --paper: #15171b; --card: #1d2026; --ink: #e7e4dc; --soft: #979da9; --line: #31353d; --grid: #262a31;
  --y: #e7e4dc; --first: #ff7b87; --second: #62b3f0; --fails: #ff6b6b; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 1240px; padding: 3rem 1.5rem 5rem; background: var(--paper);
  color: var(--ink); font: 16px/1.5 Charter, "Bitstream Charter", "Iowan Old Style", Georgia, serif; }
h1 { font-size: 2.2rem; font-weight: 600; margin: 0; letter-spacing: -.01em; }
h2 { font-size: 1.35rem; font-weight: 600; margin: 3rem 0 1rem; }
h3, .place, nav a, pre, code { font-family: ui-monospace,"DejaVu Sans Mono", Menlo, Consolas, monospace; }
header p { max-width: 46rem; }
.lead { font-size: 1.15rem; }
.soft, th, .place { color: var(--soft); }
nav { border-block: 1px solid var(--line); padding: .4rem 0; }
nav p { margin: .35rem 0; line-height: 1.7; }
nav b { font-weight: 600; margin-right: .5rem; }
nav a { font-size: .8rem; margin-right: .55rem; color: var(--soft); text-decoration: none; }
nav a:hover { color: var(--second); text-decoration: underline; }
.cards { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(22rem, 100%), 1fr)); gap: 1rem;
  margin-bottom: 1rem; }
article { display: flex; flex-direction: column; background: var(--card); border: 1px solid var(--line);
  border-radius: 8px; padding: 1rem 1.1rem .8rem; overflow: hidden; scroll-margin-top: 1rem; }
article:target { border-color: var(--second); }
h3 { font-size: .95rem; font-weight: 600; margin: 0; overflow-wrap: anywhere; }
article p { margin: .2rem 0 .3rem; font-size: .95rem; }
ul { list-style: none; margin: .3rem 0 .6rem; padding: 0; }
li { display: flex; flex-wrap: wrap; justify-content: space-between; align-items: baseline; gap: 0 1rem;
  padding: .15rem 0; }
math { font-size: 1.12rem; }
.place { font-size: .72rem; margin-left: auto; }
table { width: 100%; border-collapse: collapse; margin-top: auto; border-top: 1px solid var(--line);
  font-size: .85rem; }
th { font-weight: 400; text-align: left; padding-top: .35rem; }
td { padding: 0; }
th:nth-child(n+2), td:nth-child(n+2) { text-align: right; white-space: nowrap; padding-left: .8rem; }
code { font-size: .85em; }
sup { line-height: 0; font-size: .75em; }
svg { display: block; width: calc(100% + 2.2rem); margin: -1rem -1.1rem .8rem; background: var(--card);
  border-bottom: 1px solid var(--line); }
svg path { fill: none; stroke-linejoin: round; }
.grid { stroke: var(--grid); }
.axis { stroke: var(--soft); stroke-opacity: .6; }
path.y, .key.y { stroke: var(--y); stroke-width: 2.2; }
path.first, .key.first { stroke: var(--first); stroke-width: 1.8; stroke-dasharray: 7 3.5; }
path.second, .key.second { stroke: var(--second); stroke-width: 2; stroke-dasharray: 0.1 4.2;
  stroke-linecap: round; }
svg text { fill: var(--soft); font-size: 9px; }
.beside { text-anchor: end; dominant-baseline: central; transform: translate(-3px, 0); }
.under { text-anchor: middle; transform: translate(0, 10px); }
.legend svg { display: inline-block; width: 2.4rem; height: .7rem; margin: 0 .35rem 0 0; border: 0;
  background: none; vertical-align: middle; }
.legend span { margin-right: 1.4rem; white-space: nowrap; }
article.fails { border-color: var(--fails); }
.fails h3, nav a.fails { color: var(--fails); font-weight: 600; }
pre { margin: .6rem 0 0; font-size: .75rem; color: var(--fails); white-space: pre-wrap;
  overflow-wrap: anywhere; }
"""

PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>tinygen: the atlas of gradients</title><style>{style}</style></head><body>
<header><h1>The atlas of gradients</h1>
<p class=lead>{summary}</p>
<p>Each primitive of tinygen turns inputs into an output <math><mi>y</mi></math>. Its rules turn the gradient
{y_bar} of a result with respect to the output into that with respect to an input, {vjp}. In them
<math><mi>S</mi></math> spreads what was reduced over the input’s shape, and [condition] is 1 where the
condition holds, 0 elsewhere.</p>
<p>An error is the largest difference between a derivative by these rules and central differences, on random
inputs where the primitive is defined and smooth, relative to the numbers compared. A check lets pass what
is up to 10<sup>−9</sup>.</p>
<p class=legend>{legend}</p>
<p class=soft>{measured}</p></header>
<nav>{contents}</nav>
{sections}
</body></html>
"""

LEGEND = "".join(
    f'<span><svg viewBox="0 0 40 10"><path class="{kind}" d="M1,5 H39"/></svg>{formula(symbol)}</span>'
    for kind, symbol in zip(KINDS, ("y = f(x)", "y′", "y″"))
)
