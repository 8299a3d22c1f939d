"""The atlas measures every primitive, finds the wrong ones, and is written as text and as a page."""

import re
import subprocess
import sys
import unicodedata
from html.parser import HTMLParser
from xml.etree import ElementTree

import numpy as np
import pytest
from numpy.testing import assert_allclose

import tinygen as tg
from tinygen import ops
from tinygen.autodiff import registry
from tinygen.gradients import atlas
from tinygen.gradients.__main__ import main
from tinygen.gradients.page import formula, page, plot


@pytest.fixture(scope="module")
def whole():
    """All of tinygen's primitives, each on a few examples."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(atlas, "EXAMPLES", 4)
        return atlas.survey()


def planted(rule, domain="real", **arguments):
    """A primitive with that rule for eˣ."""

    @tg.primitive(domain=domain)
    def planted(x):
        """eˣ."""
        return np.exp(x)

    planted.vjp("x", rule, formula="x̄ = ȳ y", **arguments)
    return planted


def only(primitive):
    (entry,) = atlas.survey([primitive])
    return entry


# Entries ------------------------------------------------------------------------------------------------


def test_every_primitive_is_there_and_passes(whole):
    assert [entry.name for entry in whole] == list(registry)
    for entry in whole:
        assert not entry.failure
        assert all(0 <= error < 1e-9 for error in entry.errors), entry
        assert entry.summary and entry.domain
        assert all(rule.formula and re.fullmatch(r"ops/\w+\.py:\d+", rule.place) for rule in entry.rules)


def test_an_entry():
    entry = only(ops.log)
    assert (entry.name, entry.call, entry.domain) == ("log", "log(x)", "positive")
    assert entry.summary == "The natural logarithm of x."
    (rule,) = entry.rules
    assert (rule.parameter, rule.formula) == ("x", "x̄ = ȳ / x")
    file, line = rule.place.split(":")
    source = open(f"{tg.__path__[0]}/{file}", encoding="utf-8").read().splitlines()
    assert source[int(line) - 1].startswith("log.vjp")


def test_what_a_call_looks_like(whole):
    calls = {entry.name: entry.call for entry in whole}
    assert calls["multiply"] == "multiply(a, b)"
    assert calls["sum"] == "sum(x, *, axis, keepdims)"
    assert calls["stack"] == "stack(*xs, axis)"


@pytest.mark.parametrize("name", ["divide", "where", "unstack", "matmul", "conv2d", "slogdet", "standardize"])
def test_measured_on_each_device(name, device, monkeypatch):
    monkeypatch.setattr(atlas, "EXAMPLES", 12)
    entry = only(registry[name])
    assert not entry.failure and 0 < max(entry.errors) < 1e-9


def test_curves_on_each_device(device):
    (curve,) = only(ops.tanh).curves
    y = np.tanh(curve.x)
    for computed, exact in zip(curve.values, [y, 1 - y * y, -2 * y * (1 - y * y)]):
        assert isinstance(computed, np.ndarray)
        assert_allclose(computed, exact, rtol=1e-12, atol=1e-14)


def test_curves_lie_in_the_domain(whole):
    curves = {entry.name: entry.curves for entry in whole}
    assert [(curve.x.min() > 0) for curve in curves["reciprocal"]] == [False, True]
    assert curves["log"][0].x.min() > 0 and curves["log1p"][0].x.min() > -1
    assert all(np.isfinite(curve.values).all() for parts in curves.values() for curve in parts)
    one_number = {"absolute", "tanh", "elu", "leaky_relu", "clip", "relu", "sign", "softplus"}
    assert one_number <= {name for name, parts in curves.items() if parts}
    assert not any(curves[name] for name in ["add", "sum", "cumsum", "stack", "inverse", "reshape"])


# Wrong primitives ---------------------------------------------------------------------------------------


def test_a_wrong_rule_fails():
    entry = only(planted(lambda g, out: 1.001 * g * out))
    assert "planted" in entry.failure and "order 1" in entry.failure
    assert 1e-4 < entry.errors[0] < 1.1e-3


def test_a_rule_wrong_at_second_order_fails():
    entry = only(planted(lambda g, out: g * ops.raw(out)))
    assert "order 2" in entry.failure
    assert entry.errors[0] < 1e-9 < 1e-3 < entry.errors[1]


@pytest.mark.parametrize(
    "primitive, expected",
    [
        (planted(lambda g: g.nonsense), "nonsense"),
        (planted(lambda g: g[None]), "expected its input's"),
        (planted(lambda g, out: g * out, domain=None), "declares no domain"),
        (planted(lambda g, out: g * out, domain="unheard of"), "unheard of"),
    ],
)
def test_what_cannot_be_measured_fails(primitive, expected):
    entry = only(primitive)
    assert expected in entry.failure
    assert entry.errors == (np.inf, np.inf)


def test_a_primitive_without_a_rule_fails():
    @tg.primitive(domain="real")
    def ruleless(x):
        return 2 * x

    assert "has no rule" in only(ruleless).failure


# Text ---------------------------------------------------------------------------------------------------


def test_text(whole):
    text = atlas.text(whole)
    assert all(_columns(line) <= 106 for line in text.splitlines())
    for entry in whole:
        assert f"\n{entry.name} " in text
        assert all(rule.formula in text for rule in entry.rules)
    assert text.endswith("All pass.") and f"{len(registry)} primitives" in text


def _columns(line):
    return sum(not unicodedata.combining(letter) for letter in line)


def test_text_of_a_failing_primitive():
    text = atlas.text([only(ops.exp), only(planted(lambda g, out: 2 * g * out))])
    assert text.count("FAILS") == 1 and re.search("planted .* FAILS", text)
    assert "derivative of order 1" in text
    assert text.endswith("1 fail: planted.")


# The page -----------------------------------------------------------------------------------------------


class Tags(HTMLParser):
    """Checks that tags close in the order of opening, and collects ids and links."""

    unclosed = ("meta", "th", "br")

    def __init__(self, text):
        super().__init__()
        self.open, self.ids, self.links = [], [], []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.ids += [attributes["id"]] if "id" in attributes else []
        self.links += [attributes["href"]] if "href" in attributes else []
        assert "src" not in attributes and tag not in ("link", "script")
        if tag not in self.unclosed:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        pass

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_the_page_is_whole_and_stands_alone(whole):
    text = page(whole)
    tags = Tags(text)
    assert sorted(tags.ids) == sorted(registry)
    assert sorted(tags.links) == sorted(f"#{name}" for name in registry)
    assert "http" not in text and "url(" not in text
    assert text.count('<svg viewBox="0 0 320') == sum(bool(entry.curves) for entry in whole)


def test_a_failure_is_shown_on_the_page():
    text = page([only(planted(lambda g, out: 2 * g * out))])
    assert '<article id="planted" class=fails>' in text
    assert "derivative of order 1" in text and "&lt;" not in text.split("<pre>")[0]


def test_no_formula_loses_a_sign(whole):
    """What is typeset is what the rule says, each formula by its letters."""
    for entry in whole:
        for rule in entry.rules:
            tree = ElementTree.fromstring(f"<p>{formula(rule.formula)}</p>")
            typeset = "".join(tree.itertext()).replace("¯", "\u0304")
            assert _plain(typeset) == _plain(re.sub(r"_\{(.*?)\}", r"\1", rule.formula))


def _plain(text):
    text = "".join(text.replace("_", "").split())
    return unicodedata.normalize("NFKD", text)


@pytest.mark.parametrize(
    "text, expected",
    [
        ("x", "<math><mi>x</mi></math>"),
        ("ȳ", '<math><mover accent="true"><mi>y</mi><mo stretchy="false">¯</mo></mover></math>'),
        ("b²", "<math><msup><mi>b</mi><mrow><mn>2</mn></mrow></msup></math>"),
        ("x_i", "<math><msub><mi>x</mi><mrow><mi>i</mi></mrow></msub></math>"),
        ("xₙ", "<math><msub><mi>x</mi><mrow><mi>n</mi></mrow></msub></math>"),
        ("log x", "<math><mi>log</mi></math> <math><mi>x</mi></math>"),
        ("x's shape", "<math><mtext>x&#x27;s</mtext></math> <math><mtext>shape</mtext></math>"),
    ],
)
def test_typesetting(text, expected):
    assert formula(text) == expected


def test_plots_stay_inside(whole):
    for entry in whole:
        if entry.curves:
            tree = ElementTree.fromstring(re.sub(r"class=(\w+)", r'class="\1"', plot(entry.curves)))
            paths = [path for path in tree if path.get("class") in ("y", "first", "second")]
            assert len(paths) == 3 * len(entry.curves) and all("nan" not in p.get("d") for p in paths)


def test_a_jump_is_no_line():
    """The derivative of |x| goes from −1 to 1 at once; that of the clipped line from 0 to 1 and back."""
    svg = plot(only(ops.absolute).curves)
    assert svg.count("class=first") == 2
    (first,) = re.findall('class=first d="([^"]*)"', plot(only(registry["clip"]).curves))
    assert first.count("M") == 3


# The command --------------------------------------------------------------------------------------------


@pytest.fixture
def few(monkeypatch):
    """As if tinygen had two primitives."""
    primitives = {"exp": ops.exp, "log": ops.log}
    monkeypatch.setattr(atlas, "registry", primitives)
    return primitives


def test_the_command(few, capsys, tmp_path):
    assert main(["--html", str(tmp_path / "atlas.html")]) == 0
    out = capsys.readouterr().out
    assert "2 primitives, 2 gradients" in out and "x̄ = ȳ / x" in out
    assert "The natural logarithm" in (tmp_path / "atlas.html").read_text(encoding="utf-8")


def test_the_command_fails_where_a_primitive_does(few, capsys):
    few["planted"] = planted(lambda g, out: -g * out)
    assert main([]) == 1
    assert "1 fail: planted." in capsys.readouterr().out


@pytest.mark.parametrize("path", ["nowhere/atlas.html", "."])
def test_what_cannot_be_written_is_told_before_anything_is_measured(path, capsys):
    with pytest.raises(SystemExit) as left:
        main(["--html", path])
    assert left.value.code == 2
    captured = capsys.readouterr()
    assert f"--html: expected a file in a folder that exists, got {path}" in captured.err and not captured.out


def test_without_hypothesis_there_is_one_clear_sentence():
    code = (
        "import sys; sys.modules['hypothesis'] = None; from tinygen.gradients.__main__ import main; main([])"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert ran.returncode == 2
    assert ran.stderr.endswith("needs hypothesis, which draws the inputs: pip install 'tinygen[test]'\n")
    assert "Traceback" not in ran.stderr


@pytest.mark.thorough
def test_the_command_as_a_user_runs_it(tmp_path):
    command = [sys.executable, "-m", "tinygen.gradients", "--html", str(tmp_path / "atlas.html")]
    ran = subprocess.run(command, capture_output=True, text=True)
    assert ran.returncode == 0 and "All pass." in ran.stdout
