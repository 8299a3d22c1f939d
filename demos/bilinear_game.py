"""Play the game v(a, b) = ab by gradient steps: a wants it small, b wants it large, and neither wins.

The only equilibrium is (0, 0), and no gradient step leads there. Steps that both players make at once spiral
out by a factor √(1 + η²) each; steps in turn go round on an ellipse for ever. A generator and a discriminator
near an equilibrium play much the same game.
"""

import argparse

import numpy as np
from _cli import Study, positive_int, positive_number

from tinygen import plots
from tinygen.backend import to_host, xp
from tinygen.models.adversarial.theory import (
    alternating_step,
    bilinear_growth,
    bilinear_invariant,
    simultaneous_step,
    trajectory,
)


def product(a, b):
    """v(a, b) = ab."""
    return a * b


def step_size(text):
    """The type of a flag: a finite number above 0 and below 2, from where on steps in turn diverge."""
    value = positive_number(text)
    if value >= 2:
        raise argparse.ArgumentTypeError(f"expected less than 2, where steps in turn diverge, got {text}")
    return value


def main():
    study = Study(__doc__.partition("\n")[0], "bilinear_game")
    study.add("--steps", type=positive_int, default=60, what="steps of each rule")
    study.add("--learning-rate", type=step_size, default=0.2, what="the step size η")
    flags = study.start()
    lr = flags.learning_rate

    start = xp.asarray(1.0), xp.asarray(0.0)
    rules = {"in turn, b first": alternating_step, "simultaneous": simultaneous_step}
    paths = {
        name: to_host(trajectory(step, product, *start, lr, flags.steps)) for name, step in rules.items()
    }
    radii = {name: np.hypot(*path.T) for name, path in paths.items()}
    lines = {name: tuple(path.T) for name, path in paths.items()}
    plane = plots.Panel(f"v = ab from (1, 0), η = {lr:g}", lines, {}, "a", "b", equal=True)
    steps = np.arange(flags.steps + 1)
    lines = {name: (steps, radius) for name, radius in radii.items()}
    lines["theory, (1 + η²) to the power t/2"] = steps, bilinear_growth(lr) ** steps
    distance = plots.Panel("Distance from the equilibrium", lines, {}, "step t", "√(a² + b²)")
    plots.save_panels(study.path("paths.png"), [plane, distance])

    bounded, grown = radii.values()
    held = bilinear_invariant(*paths["in turn, b first"].T, lr)
    study.finish(
        {
            "simultaneous: growth of the distance in a step": float(
                (grown[-1] / grown[0]) ** (1 / flags.steps)
            ),
            "theory: √(1 + η²)": bilinear_growth(lr),
            "in turn: the largest distance": float(bounded.max()),
            "theory: at most 1 / √(1 − η/2), the ellipse's longer half axis": (1 - lr / 2) ** -0.5,
            "in turn: the largest change of a² + b² + η ab, 1 at the start": float(abs(held - held[0]).max()),
            "theory: none": 0.0,
        }
    )


if __name__ == "__main__":
    main()
