"""Train a variational autoencoder on images, and look at what it has learned.

With no flags it learns the bundled 8x8 digits in a minute or so. It prints the ELBO and the
importance-weighted bound on held-out images, in nats, and writes pictures: samples, reconstructions, a walk
through the latent plane, and the curves of both terms of the ELBO.
"""

import math
from statistics import NormalDist

import numpy as np
from _cli import DRAW, TEST, TRAIN, VALIDATE, Demo, mean_over, positive_int

import tinygen as tg
from tinygen import data, nn, optim, plots
from tinygen.backend import Generator, to_host, xp
from tinygen.models.latent.vae import VAE

DEFAULTS = {
    "digits": {"epochs": 150, "batch_size": 64, "hidden": 200, "latents": 8},
    "mnist": {"epochs": 20, "batch_size": 128, "hidden": 400, "latents": 20},
    "fashion-mnist": {"epochs": 20, "batch_size": 128, "hidden": 400, "latents": 20},
}
BOUND_SAMPLES = 500  # K of the importance-weighted bound
BOUND_IMAGES = 1000  # on how many test images it is measured


def mlp(shape, latents, hidden):
    """Two hidden layers each: an encoder to 2 · latents numbers, and a decoder to images of a shape."""
    size = math.prod(shape)
    encoder = nn.Sequential(
        nn.Flatten(),
        *(nn.Linear(size, hidden), nn.ReLU()),
        *(nn.Linear(hidden, hidden), nn.ReLU()),
        nn.Linear(hidden, 2 * latents),
    )
    decoder = nn.Sequential(
        *(nn.Linear(latents, hidden), nn.ReLU()),
        *(nn.Linear(hidden, hidden), nn.ReLU()),
        *(nn.Linear(hidden, size), nn.Reshape(shape)),
    )
    return encoder, decoder


def convolutional(shape, latents, hidden):
    """Two strided convolutions, each halving the image, and one hidden layer; the decoder mirrors them."""
    height, width, channels = shape
    small = (height // 4, width // 4, 32)
    encoder = nn.Sequential(
        *(nn.Conv2d(channels, 16, 4, stride=2, padding=1), nn.ReLU()),
        *(nn.Conv2d(16, 32, 4, stride=2, padding=1), nn.ReLU()),
        *(nn.Flatten(), nn.Linear(math.prod(small), hidden), nn.ReLU()),
        nn.Linear(hidden, 2 * latents),
    )
    decoder = nn.Sequential(
        *(nn.Linear(latents, hidden), nn.ReLU()),
        *(nn.Linear(hidden, math.prod(small)), nn.ReLU(), nn.Reshape(small)),
        *(nn.ConvTranspose2d(32, 16, 4, stride=2, padding=1), nn.ReLU()),
        nn.ConvTranspose2d(16, channels, 4, stride=2, padding=1),
    )
    return encoder, decoder


def observer(likelihood, levels):
    """What the model sees of uint8 images: for a Bernoulli likelihood pixels drawn anew at each visit, one
    with the probability of their intensity; for a Gaussian one the intensities."""
    if likelihood == "bernoulli":
        return lambda images, rng: data.binarize(xp.asarray(images), levels, rng)
    return lambda images, rng: data.to_unit(xp.asarray(images), levels)


@tg.no_grad()
def draw_pictures(demo, vae, images, observe, rng):
    """samples.png, reconstructions.png and latent_walk.png."""
    means = vae.decode(rng.normal((100, vae.latents))).mean
    title = "Samples: the mean of p(x|z), z ~ N(0, I)"
    plots.save_images(demo.path("samples.png"), means.numpy(), title=title)

    x = observe(images[:40], rng)
    pairs = np.stack([to_host(x), vae.decode(vae.encode(x).mean).mean.numpy()], axis=1)
    rows = pairs.reshape(4, 10, 2, *x.shape[1:]).swapaxes(1, 2).reshape(-1, *x.shape[1:])
    plots.save_images(
        demo.path("reconstructions.png"), rows, 10, title="Test images, and below each its reconstruction"
    )

    q = vae.encode(observe(images[:1000], rng))
    used = np.argsort(-q.mean.numpy().var(axis=0))[:2]  # where codes differ most from image to image
    quantiles = [NormalDist().inv_cdf((k + 0.5) / 16) for k in range(16)]
    codes = np.zeros((256, vae.latents), "float32")
    codes[:, used] = [(across, down) for down in quantiles for across in quantiles]
    walk = vae.decode(xp.asarray(codes)).mean
    title = f"A walk through the plane of z{used[0] + 1} and z{used[1] + 1}, at even quantiles of the prior"
    plots.save_images(demo.path("latent_walk.png"), walk.numpy(), 16, title=title)


def main():
    demo = Demo(__doc__.partition("\n")[0], "vae", DEFAULTS)
    demo.add_by_data("--hidden", type=positive_int, what="units in a hidden layer")
    demo.add_by_data("--latents", type=positive_int, what="dimensions of the latent code")
    demo.add("--networks", choices=["mlp", "conv"], default="mlp", what="of the encoder and the decoder")
    demo.add("--likelihood", choices=["bernoulli", "gaussian"], default="bernoulli", what="p(x|z)")
    flags, dataset = demo.start()

    networks = {"mlp": mlp, "conv": convolutional}[flags.networks]
    shape = dataset.train.images.shape[1:]
    vae = VAE(*networks(shape, flags.latents, flags.hidden), flags.latents, flags.likelihood)
    optimizer = optim.Adam(vae.parameters(), lr=1e-3)
    print(vae)

    train, test = dataset.train.images, dataset.test.images
    observe = observer(flags.likelihood, dataset.levels)

    def elbo(images, rng):
        return vae.elbo(observe(images, rng), rng)

    def tight_bound(images, rng):
        return vae.importance_weighted_bound(observe(images, rng), BOUND_SAMPLES, rng)

    @tg.replay
    def descend(x, rng):
        reconstruction, divergence = (term.mean() for term in vae.terms(x, rng))
        optimizer.zero_grad()
        (divergence - reconstruction).backward()
        optimizer.step()
        return {"reconstruction": reconstruction, "KL": divergence}

    with demo.training(len(train), model=vae, optimizer=optimizer) as run:
        for epoch in run.epochs():
            for step, index in run.batches():
                rng = Generator(flags.seed, TRAIN, step)
                x = observe(train[index], rng)
                run.record(len(x), **descend(x, rng))
            rng = Generator(flags.seed, VALIDATE, epoch)
            validation = mean_over(dataset.validation.images, elbo, 500, rng)
            run.end_epoch(score=validation, validation=validation)

    best = tg.load(demo.path("best.npz"))
    vae.load_state_dict(best["model"])
    curves = {
        "reconstruction, E log p(x|z)": run.history("reconstruction"),
        "−KL(q(z|x) ‖ p(z))": [-value for value in run.history("KL")],
        "ELBO, validation": run.history("validation"),
    }
    plots.save_curves(demo.path("curves.png"), curves, "epoch", "nats per image")
    draw_pictures(demo, vae, test, observe, Generator(flags.seed, DRAW))

    rng = Generator(flags.seed, TEST)
    few = test[:BOUND_IMAGES]
    demo.finish(
        {
            "epoch with the best ELBO on validation": best["run"]["epoch"],
            f"ELBO on {len(test)} test images, nats": mean_over(test, elbo, 500, rng),
            f"{BOUND_SAMPLES}-sample bound on {len(few)} of them, nats": mean_over(few, tight_bound, 20, rng),
        }
    )


if __name__ == "__main__":
    main()
