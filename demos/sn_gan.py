"""Train a GAN with spectral normalization in every layer of its discriminator on images.

With no flags it learns the bundled 8x8 digits in a minute and a half. The discriminator is Lipschitz by its
weights, and no second-order derivative is needed. It makes five steps before each one of the generator, as in
most of the paper's settings: with one it stayed too weak here, and the samples collapsed.
"""

from _cli import Demo
from _games import Images, add_flags, mlp, play

from tinygen.models.adversarial import SNGAN
from tinygen.models.adversarial.sn_gan import OBJECTIVES

# A batch holds 5 minibatches, one for each step of the discriminator.
SMALL = {"epochs": 1000, "batch_size": 5 * 64, "latents": 10, "hidden": 256, "learning_rate": 2e-3}
LARGE = {"epochs": 40, "batch_size": 5 * 64, "latents": 32, "hidden": 256, "learning_rate": 1e-3}
DEFAULTS = {"digits": SMALL, "mnist": LARGE, "fashion-mnist": LARGE}


def main():
    demo = Demo(__doc__.partition("\n")[0], "sn_gan", DEFAULTS)
    add_flags(demo)
    demo.add("--objective", choices=list(OBJECTIVES), default="hinge", what="the losses of both players")
    flags, dataset = demo.start()
    images = Images(dataset)
    players = mlp(images.shape, flags.latents, flags.hidden)
    game = demo.make(SNGAN, *players, flags.latents, objective=flags.objective, critic_steps=5)
    optimizers = game.optimizers(flags.learning_rate, (0.0, 0.9))
    demo.finish(play(demo, flags, game, optimizers, images))


if __name__ == "__main__":
    main()
