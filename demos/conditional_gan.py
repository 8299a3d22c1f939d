"""Train a conditional GAN on images, and ask it for one label or another.

With no flags it learns the bundled 8x8 digits in a minute. Both networks are told the label. samples.png
has a column for each, and a classifier of the same images says in how many samples it sees the label that was
asked for.
"""

from _cli import Demo
from _games import Images, adam_pair, add_flags, mlp, play

from tinygen.models.adversarial import GAN

DEFAULTS = {
    "digits": {"epochs": 800, "batch_size": 64, "latents": 10, "hidden": 128, "learning_rate": 1e-3},
    "mnist": {"epochs": 40, "batch_size": 64, "latents": 32, "hidden": 256, "learning_rate": 2e-4},
    "fashion-mnist": {"epochs": 40, "batch_size": 64, "latents": 32, "hidden": 256, "learning_rate": 2e-4},
}
DROPOUT = 0.1  # in the discriminator, which otherwise learns the few training images by heart


def main():
    demo = Demo(__doc__.partition("\n")[0], "conditional_gan", DEFAULTS)
    add_flags(demo)
    flags, dataset = demo.start()
    images, labels = Images(dataset), int(dataset.train.labels.max()) + 1
    players = mlp(images.shape, flags.latents, flags.hidden, labels, DROPOUT)
    game = GAN(*players, flags.latents, labels)
    demo.finish(play(demo, flags, game, adam_pair(game, flags.learning_rate), images))


if __name__ == "__main__":
    main()
