"""Train a masked autoregressive flow on images or on points in the plane, and look at what it has learned.

With no flags it learns the bundled 8x8 digits in a minute or two. Grey levels are dequantized and taken to
the real line by a logit, so that they have a density; figures are nats there, and bits per dimension of the
grey levels. In the plane (--data eight_gaussians and others) there are pictures of the density beside the
true one, and of the data on their way to the base, layer by layer.
"""

import math

import numpy as np
from _cli import DRAW, TEST, TRAIN, VALIDATE, Demo, cosine, natural, positive_int, positive_number

import tinygen as tg
from tinygen import data, optim, plots
from tinygen.backend import Generator, to_host, xp
from tinygen.data.toys import TOYS
from tinygen.models.flows import MAF, AutoregressiveFlow

PLANE = {
    "epochs": 125,
    "batch_size": 256,
    "hidden": 64,
    "batch_norm": "off",
    "learning_rate": 5e-3,
    "clip": 3.0,
}
IMAGES = {"batch_size": 100, "batch_norm": "on", "learning_rate": 1e-3, "clip": 1.0}
DEFAULTS = {
    "digits": {"epochs": 80, "hidden": 100, **IMAGES},
    **dict.fromkeys(TOYS, PLANE),
    "mnist": {"epochs": 24, "hidden": 512, **IMAGES},
    "fashion-mnist": {"epochs": 24, "hidden": 512, **IMAGES},
}
# How far the logit keeps from 0 and 1; 10⁻⁶ in the paper for MNIST.
LAMBDA = {"digits": 0.05, "mnist": 1e-6, "fashion-mnist": 1e-6}
# G. Papamakarios, T. Pavlakou and I. Murray, 2017, table 2: without labels, two layers of 1024 units.
PUBLISHED = {"mnist": {"in the paper, MAF (5)": -1300.5, "in the paper, MAF MoG (5)": -1100.3}}


# Images -------------------------------------------------------------------------------------------------


class Images:
    """Images as vectors of real numbers: dequantized, then through a logit."""

    def __init__(self, dataset, labels):
        self.levels, self.alpha = dataset.levels, LAMBDA[dataset.name]
        self.shape = dataset.train.images.shape[1:]
        self.inputs, self.labels = math.prod(self.shape), labels
        self.train, self.validation, self.test = dataset.train, dataset.validation, dataset.test
        self.name = dataset.name

    def batch(self, split, index, rng):
        """Vectors (N, D), log |det| of the logit (N,), and labels, if the model wants them."""
        unit = data.dequantize(xp.asarray(split.images[index]), self.levels, rng)
        y, log_det = data.to_logit(unit, self.alpha)
        return y.reshape(len(y), -1), log_det, xp.asarray(split.labels[index]) if self.labels else None

    def training_batch(self, index, rng):
        return self.batch(self.train, index, rng)

    def figures(self, log_p, log_det):
        """Of the test split, from its mean log-density and log-determinant."""
        log_p_of_levels = log_p + log_det - self.inputs * math.log(self.levels)
        bits = float(data.bits_per_dimension(log_p_of_levels, self.inputs))
        logit = f"log p(x) on {len(self.test)} test images, logit with lambda {self.alpha}, nats"
        return {logit: log_p, **PUBLISHED.get(self.name, {}), "bits per dimension of the grey levels": bits}

    def draw_pictures(self, demo, flow, rng):
        """samples.png; of a conditional model each column is of one label."""
        condition = xp.arange(100) % self.labels if self.labels else None
        unit, _ = data.from_logit(flow.sample(100, condition, rng), self.alpha)
        title = "Samples, each column of one label" if self.labels else "Samples"
        plots.save_images(demo.path("samples.png"), to_host(unit).reshape(100, *self.shape), 10, title=title)


# The plane ----------------------------------------------------------------------------------------------


class Plane:
    """Points in the plane, for training drawn anew in each step."""

    inputs, labels = 2, 0

    def __init__(self, points):
        self.density, self.name = points.density, points.name
        self.train, self.validation, self.test = points.train, points.validation, points.test

    def batch(self, split, index, rng):
        x = xp.asarray(split[index])
        return x, xp.zeros(len(x), x.dtype), None

    def training_batch(self, index, rng):
        x = self.density.sample(len(index), rng)
        return x, xp.zeros(len(x), x.dtype), None

    def figures(self, log_p, log_det):
        found = {f"-log p(x) on {len(self.test)} test points, nats": -log_p}
        if hasattr(self.density, "entropy"):
            found["the least that any model reaches, the entropy, nats"] = self.density.entropy()
        return found

    def draw_pictures(self, demo, flow, rng):
        """density.png and layers.png."""
        reach = 1.1 * float(abs(self.test).max())
        panels = {"test points": self.test[:5000]}
        if hasattr(self.density, "log_prob"):
            panels["true density"] = on_grid(self.density.log_prob, reach)
        panels["learned density"] = on_grid(flow.log_prob, reach)
        panels["samples"] = to_host(flow.sample(5000, rng=rng))
        save_panels(demo.path("density.png"), panels, reach, hues=None)

        x = self.test[:5000]
        hues = np.arctan2(x[:, 1], x[:, 0])  # by which a point is known again
        panels, z = {"data": x}, xp.asarray(x)
        for part in flow.flows:
            z, _ = part(z)
            if isinstance(part, AutoregressiveFlow):
                panels[f"after layer {len(panels)}"] = z.numpy()
        save_panels(demo.path("layers.png"), panels, reach, hues)


def on_grid(log_prob, reach):
    """A density in the plane at the middles of 200 x 200 cells, the lowest row first."""
    line = reach * ((2 * np.arange(200) + 1) / 200 - 1)
    points = np.stack(np.meshgrid(line, line), axis=-1).reshape(-1, 2).astype("float32")
    return np.exp(log_prob(tg.Tensor(points)).numpy()).reshape(200, 200)


def save_panels(path, panels, reach, hues):
    """Write panels beside each other: points (N, 2), or densities on a grid."""
    from matplotlib.figure import Figure

    figure = Figure((3 * len(panels), 3.3), layout="constrained")
    highest = max((panel.max() for panel in panels.values() if panel.shape[1] > 2), default=1)
    extent = (-reach, reach, -reach, reach)
    for axes, (title, panel) in zip(figure.subplots(1, len(panels)), panels.items()):
        if panel.shape[1] == 2:
            colors = {} if hues is None else {"c": hues, "cmap": "hsv"}
            axes.scatter(*panel.T, s=2, linewidths=0, alpha=0.6, **colors)
        else:
            axes.imshow(panel, extent=extent, origin="lower", cmap="viridis", vmin=0, vmax=highest)
        axes.set(title=title, xlim=extent[:2], ylim=extent[:2], aspect="equal", xticks=[], yticks=[])
    figure.savefig(path, dpi=130)


# The run ------------------------------------------------------------------------------------------------


@tg.no_grad()
def means(flow, of, split, rng):
    """The means of log p(x) and of the log-determinant of what made x, over a split."""
    totals = np.zeros(2)
    for start in range(0, len(split), 500):
        x, log_det, labels = of.batch(split, np.arange(start, min(start + 500, len(split))), rng)
        totals += [flow.log_prob(x, labels).sum().item(), to_host(log_det.sum()).item()]
    return (totals / len(split)).tolist()


def learning_rate(highest, steps):
    """Up to the highest during the first tenth of all steps, then down along a cosine.

    With gradients that are clipped, this keeps one step of training from throwing a point far out, as several
    layers of exp(−α) can."""
    falling = cosine(highest, steps)
    return lambda t: min(1.0, (t + 1) / (0.1 * steps)) * falling(t)


def main():
    demo = Demo(__doc__.partition("\n")[0], "maf", DEFAULTS)
    demo.add_by_data("--hidden", type=positive_int, what="units in each of a network's two hidden layers")
    demo.add("--layers", type=positive_int, default=5, what="autoregressive layers of the flow")
    demo.add_by_data("--batch-norm", choices=["on", "off"], what="batch normalization between layers")
    demo.add_by_data("--learning-rate", type=positive_number, what="of Adam at its highest")
    demo.add_by_data("--clip", type=positive_number, what="the largest norm of a gradient")
    demo.add("--components", type=natural, default=0, what="of a base that mixes normals; 0 is N(0, I)")
    demo.add("--conditional", action="store_true", default=False, what="p(x | label), for images")
    flags, dataset = demo.start()
    if flags.data in TOYS and flags.conditional:
        demo.parser.error(f"argument --conditional: expected images as --data, got {flags.data}")
    of = Plane(dataset) if flags.data in TOYS else Images(dataset, 10 if flags.conditional else 0)

    flow = MAF(
        of.inputs,
        [flags.hidden, flags.hidden],
        flags.layers,
        labels=of.labels,
        batch_norm=flags.batch_norm == "on",
        components=flags.components,
    )
    print(flow)
    steps = flags.epochs * max(len(of.train) // flags.batch_size, 1)
    optimizer = optim.Adam(flow.parameters(), lr=learning_rate(flags.learning_rate, steps))

    @tg.replay
    def descend(x, labels):
        loss = flow.loss(x, labels)
        optimizer.zero_grad()
        loss.backward()
        optim.clip_grad_norm(flow.parameters(), flags.clip)
        optimizer.step()
        return loss

    with demo.training(len(of.train), drop_last=True, model=flow, optimizer=optimizer) as run:
        for _ in run.epochs():
            flow.train()
            for step, index in run.batches():
                x, _, labels = of.training_batch(index, Generator(flags.seed, TRAIN, step))
                run.record(len(x), log_p=-descend(x, labels))
            flow.eval()
            validation, _ = means(flow, of, of.validation, Generator(flags.seed, VALIDATE))
            run.end_epoch(score=validation, validation=validation)

    best = tg.load(demo.path("best.npz"))
    flow.load_state_dict(best["model"])
    flow.eval()
    curves = {"training": run.history("log_p"), "validation": run.history("validation")}
    plots.save_curves(demo.path("curves.png"), curves, "epoch", "log p(x), nats")
    with tg.no_grad():
        of.draw_pictures(demo, flow, Generator(flags.seed, DRAW))
    figures = of.figures(*means(flow, of, of.test, Generator(flags.seed, TEST)))
    demo.finish({"epoch with the best log p(x) on validation": best["run"]["epoch"], **figures})


if __name__ == "__main__":
    main()
