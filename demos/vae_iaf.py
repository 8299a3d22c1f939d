"""Train a variational autoencoder with an inverse autoregressive flow for its posterior, beside a plain one.

Both have the same networks, but for the flow, and see the same images with the same noise. It prints the ELBO
and the importance-weighted bound of both on held-out images, in nats, and writes pictures: draws from the
posteriors of some images, samples of both models, and the curves of both ELBOs. With no flags it learns the
bundled 8x8 digits in a minute or two.
"""

import numpy as np
from _cli import DRAW, TEST, TRAIN, VALIDATE, Demo, cosine, mean_over, positive_int
from vae import BOUND_IMAGES, BOUND_SAMPLES, mlp, observer

import tinygen as tg
from tinygen import nn, optim, plots
from tinygen.backend import Generator
from tinygen.models.flows import IAF
from tinygen.models.latent.iaf_vae import IAFVAE
from tinygen.models.latent.vae import VAE
from tinygen.training import batch_count

DEFAULTS = {
    "digits": {"epochs": 150, "batch_size": 64, "hidden": 200, "latents": 2, "units": 64},
    "mnist": {"epochs": 20, "batch_size": 128, "hidden": 400, "latents": 20, "units": 320},
    "fashion-mnist": {"epochs": 20, "batch_size": 128, "hidden": 400, "latents": 20, "units": 320},
}
CONTEXT = 32  # numbers that the encoder tells the flow
ELBO_DRAWS = 20  # of z for each test image: posteriors differ by less than a single draw is uncertain


def build(shape, flags):
    """The plain model and the one with a flow, which start from the same weights."""
    tg.seed(flags.seed)
    plain = VAE(*mlp(shape, flags.latents, flags.hidden), flags.latents)
    tg.seed(flags.seed)
    encoder, decoder = mlp(shape, flags.latents, flags.hidden)
    encoder.layers = (*encoder.layers[:-1], nn.Linear(flags.hidden, 2 * flags.latents + CONTEXT))
    flow = IAF(flags.latents, [flags.units], flags.layers, context=CONTEXT)
    return {"plain": plain, "IAF": IAFVAE(encoder, decoder, flow)}


@tg.no_grad()
def draw_pictures(demo, models, images, observe, rng):
    """samples.png and posteriors.png."""
    codes = rng.normal((50, models["plain"].latents))
    rows = [model.decode(codes).mean.numpy().reshape(5, 10, *images.shape[1:]) for model in models.values()]
    samples = np.concatenate(rows).reshape(100, *images.shape[1:])
    plots.save_images(demo.path("samples.png"), samples, 10, title="Means of p(x|z): plain above, IAF below")

    x = observe(images[:6], rng)
    draws = {}
    for name, model in models.items():
        z, _ = model.draw_posterior(x, 1500, rng)
        draws[name] = z.numpy().reshape(1500, 6, -1)
    save_posteriors(demo.path("posteriors.png"), draws)


def save_posteriors(path, draws):
    """Write for each model and image draws z ~ q(z|x), in the two elements of z that are most correlated."""
    from matplotlib.figure import Figure

    figure = Figure((12, 2.2 * len(draws)), layout="constrained")
    for row, (name, z) in zip(figure.subplots(len(draws), 6), draws.items()):
        for k, axes in enumerate(row):
            correlation = np.triu(abs(np.corrcoef(z[:, k].T)), 1)
            i, j = np.unravel_index(correlation.argmax(), correlation.shape)
            axes.scatter(z[:, k, i], z[:, k, j], s=1, linewidths=0)
            axes.set(title=f"{name}: image {k + 1}, z{i + 1} and z{j + 1}", xticks=[], yticks=[])
            axes.title.set_fontsize(9)
    figure.savefig(path, dpi=130)


def main():
    demo = Demo(__doc__.partition("\n")[0], "vae_iaf", DEFAULTS)
    demo.add_by_data("--hidden", type=positive_int, what="units in a hidden layer")
    demo.add_by_data("--latents", type=positive_int, what="dimensions of the latent code")
    demo.add_by_data("--units", type=positive_int, what="units in the hidden layer of a flow's network")
    demo.add("--layers", type=positive_int, default=4, what="of the flow")
    flags, dataset = demo.start()

    models = build(dataset.train.images.shape[1:], flags)
    lr = cosine(2e-3, flags.epochs * batch_count(len(dataset.train), flags.batch_size))
    optimizers = {name: optim.Adam(model.parameters(), lr) for name, model in models.items()}
    print("\n".join(map(repr, models.values())))

    train, test = dataset.train.images, dataset.test.images
    observe = observer("bernoulli", dataset.levels)

    def elbo(model):
        return lambda images, rng: model.elbo(observe(images, rng), rng)

    def tight_bound(model):
        return lambda images, rng: model.importance_weighted_bound(observe(images, rng), BOUND_SAMPLES, rng)

    def training_step(model, optimizer):
        @tg.replay
        def descend(x, rng):
            loss = model.loss(x, rng)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            return loss

        return descend

    descend = {name: training_step(model, optimizers[name]) for name, model in models.items()}
    states = {**models, **{f"{name} optimizer": optimizer for name, optimizer in optimizers.items()}}
    with demo.training(len(train), **states) as run:
        for epoch in run.epochs():
            for step, index in run.batches():
                losses = {}
                for name in models:
                    rng = Generator(flags.seed, TRAIN, step)  # the same noise for each
                    losses[name] = descend[name](observe(train[index], rng), rng)
                run.record(len(index), **{name: -loss for name, loss in losses.items()})
            validation = {
                f"{name}, validation": mean_over(
                    dataset.validation.images, elbo(model), 500, Generator(flags.seed, VALIDATE, epoch)
                )
                for name, model in models.items()
            }
            run.end_epoch(score=sum(validation.values()), **validation)  # one epoch, good for both

    best = tg.load(demo.path("best.npz"))
    figures = {"epoch with the best ELBOs on validation": best["run"]["epoch"]}
    for name, model in models.items():
        model.load_state_dict(best[name])
        rng, few = Generator(flags.seed, TEST), test[:BOUND_IMAGES]
        of_draws = [mean_over(test, elbo(model), 500, rng) for _ in range(ELBO_DRAWS)]
        figures[f"{name}: ELBO on {len(test)} test images, nats"] = sum(of_draws) / ELBO_DRAWS
        bound = mean_over(few, tight_bound(model), 20, rng)
        figures[f"{name}: {BOUND_SAMPLES}-sample bound on {len(few)} of them, nats"] = bound
    curves = {f"{name}, validation": run.history(f"{name}, validation") for name in models}
    plots.save_curves(demo.path("curves.png"), curves, "epoch", "ELBO, nats per image")
    draw_pictures(demo, models, test, observe, Generator(flags.seed, DRAW))
    demo.finish(figures)


if __name__ == "__main__":
    main()
