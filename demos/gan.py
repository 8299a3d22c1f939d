"""Train a generative adversarial network on images, with one objective or another.

With no flags it learns the bundled 8x8 digits in less than a minute. --objective chooses the losses: those of
Goodfellow et al. 2014, non-saturating or minimax, of least squares, or of a hinge. Nothing in these games
says how far the players are from the end, so the Fréchet distance of samples to the training images is drawn
over time, beside the losses. It may grow again while the losses stay as they are.
"""

from _cli import Demo
from _games import Images, adam_pair, add_flags, mlp, play

from tinygen.models.adversarial import GAN, LSGAN, HingeGAN

DEFAULTS = {
    "digits": {"epochs": 400, "batch_size": 64, "latents": 10, "hidden": 128, "learning_rate": 1e-3},
    "mnist": {"epochs": 40, "batch_size": 64, "latents": 32, "hidden": 256, "learning_rate": 2e-4},
    "fashion-mnist": {"epochs": 40, "batch_size": 64, "latents": 32, "hidden": 256, "learning_rate": 2e-4},
}
OBJECTIVES = ["non-saturating", "minimax", "lsgan", "hinge"]


def make_game(demo, flags, shape):
    """The game of the objective that the flags name."""
    players = demo.make(mlp, shape, flags.latents, flags.hidden, dropout=flags.dropout)
    if flags.objective in ("lsgan", "hinge"):
        if flags.smoothing:
            demo.parser.error("argument --smoothing: expected 0 where no targets are probabilities")
        return demo.make({"lsgan": LSGAN, "hinge": HingeGAN}[flags.objective], *players, flags.latents)
    return demo.make(GAN, *players, flags.latents, objective=flags.objective, smoothing=flags.smoothing)


def main():
    demo = Demo(__doc__.partition("\n")[0], "gan", DEFAULTS)
    add_flags(demo)
    demo.add("--objective", choices=OBJECTIVES, default="non-saturating", what="the losses of both players")
    demo.add("--smoothing", type=float, default=0.0, what="one-sided label smoothing")
    demo.add("--dropout", type=float, default=0.0, what="in the discriminator")
    flags, dataset = demo.start()
    images = Images(dataset)
    game = make_game(demo, flags, images.shape)
    demo.finish(play(demo, flags, game, adam_pair(game, flags.learning_rate), images))


if __name__ == "__main__":
    main()
