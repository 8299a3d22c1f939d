"""What demos share that play several games side by side.

Games are kept by name, and by the same names the optimizers of their players, the critic's and the
generator's. All are in one run with one checkpoint. Each starts from weights by the seed, and in each step
draws from a generator of its own by (seed, step): so games with as many steps of the critic see the same data
and noise, and each comes to the same bits with or without the others.

Data are drawn anew in each step. An epoch is STEPS steps of each generator.
"""

from functools import partial

from _cli import TRAIN, cosine

import tinygen as tg
from tinygen.backend import Generator
from tinygen.models.adversarial import WGAN
from tinygen.optim import Adam, RMSProp

STEPS = 100


def optimizers(game, rate, epochs):
    """Of the critic and of the generator: the same for every game but WGAN, whose paper warns of momentum.
    Both rates fall to 0 until the last epoch ends."""
    steps = epochs * STEPS
    rates = cosine(rate, steps * game.critic_steps), cosine(rate, steps)
    kind = RMSProp if isinstance(game, WGAN) else partial(Adam, betas=(0.5, 0.9))
    return tuple(
        kind(player.parameters(), rate) for player, rate in zip((game.critic, game.generator), rates)
    )


def states_of(games, players):
    """Both players and both optimizers of each game, by name, for a checkpoint."""
    kept = {}
    for name, game in games.items():
        of_critic, of_generator = players[name]
        kept |= {name: game, f"{name}: critic": of_critic, f"{name}: generator": of_generator}
    return kept


def turns_of(games, players) -> dict:
    """By name, the step in which both players of a game take their turns, a function of data and noise."""

    def turns(game, optimizers):
        @tg.replay
        def take_turns(x, rng):
            with rng:
                game.iteration(x, optimizers)

        return take_turns

    return {name: turns(game, players[name]) for name, game in games.items()}


def train(demo, flags, games, players, images) -> None:
    """Let all games take their turns on images (N, H, W, C) drawn at random."""
    turns = turns_of(games, players)
    with demo.training(STEPS * flags.batch_size, **states_of(games, players)) as run:
        for _ in run.epochs():
            for step, _ in run.batches():
                for name, game in games.items():
                    rng = Generator(flags.seed, TRAIN, step)
                    index = rng.integers(0, len(images), game.critic_steps * flags.batch_size)
                    turns[name](images[index], rng)
            run.end_epoch()
