"""Train a Wasserstein GAN with gradient penalty on images.

With no flags it learns the bundled 8x8 digits in less than two minutes. The critic makes five steps before
each one of the generator, and in each the norm of its gradient is drawn to 1, by second-order derivatives.
The critic's loss, unlike that of a GAN, says something: with its sign changed it estimates what remains of
the distance.
"""

from _cli import Demo, positive_number
from _games import Images, add_flags, mlp, play

from tinygen.models.adversarial import WGANGP

# A batch holds 5 minibatches, one for each step of the critic.
SMALL = {"epochs": 1000, "batch_size": 5 * 64, "latents": 10, "hidden": 256, "learning_rate": 2e-3}
LARGE = {"epochs": 40, "batch_size": 5 * 64, "latents": 32, "hidden": 256, "learning_rate": 1e-3}
DEFAULTS = {"digits": SMALL, "mnist": LARGE, "fashion-mnist": LARGE}


def main():
    demo = Demo(__doc__.partition("\n")[0], "wgan_gp", DEFAULTS)
    add_flags(demo)
    demo.add("--penalty", type=positive_number, default=10.0, what="λ, the weight of the gradient penalty")
    flags, dataset = demo.start()
    images = Images(dataset)
    players = mlp(images.shape, flags.latents, flags.hidden)
    game = demo.make(WGANGP, *players, flags.latents, penalty=flags.penalty)
    optimizers = game.optimizers(flags.learning_rate)
    demo.finish(play(demo, flags, game, optimizers, images))


if __name__ == "__main__":
    main()
