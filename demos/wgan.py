"""Train a Wasserstein GAN, its critic's weights clipped, on images.

With no flags it learns the bundled 8x8 digits in a minute. The critic makes five steps before each one
of the generator, and after each its weights are brought back into [−c, c]. The published learning rate and
bound are for large networks and long runs; the defaults here are larger.
"""

from _cli import Demo, positive_number
from _games import Images, add_flags, mlp, play

from tinygen.models.adversarial import WGAN

# A batch holds 5 minibatches, one for each step of the critic.
DEFAULTS = {
    "digits": {"epochs": 1500, "batch_size": 5 * 64, "latents": 10, "hidden": 128, "learning_rate": 5e-4},
    "mnist": {"epochs": 40, "batch_size": 5 * 64, "latents": 32, "hidden": 256, "learning_rate": 2e-4},
    "fashion-mnist": {
        "epochs": 30,
        "batch_size": 5 * 64,
        "latents": 64,
        "hidden": 512,
        "learning_rate": 2e-4,
    },
}


def main():
    demo = Demo(__doc__.partition("\n")[0], "wgan", DEFAULTS)
    add_flags(demo)
    demo.add("--bound", type=positive_number, default=0.1, what="c, of the critic's weights")
    flags, dataset = demo.start()
    images = Images(dataset)
    game = demo.make(WGAN, *mlp(images.shape, flags.latents, flags.hidden), flags.latents, c=flags.bound)
    optimizers = game.optimizers(flags.learning_rate)
    demo.finish(play(demo, flags, game, optimizers, images))


if __name__ == "__main__":
    main()
