"""Stochastic variational inference: fit a guide q to the posterior p by maximising the evidence lower bound.

    ELBO = E_q[ -V(e) - log q(e) ],      V(e) = U(z(e)) - log |dz / de|,      e = transport(n),  n ~ Normal(0, I)

U is the model's potential and z(e) the map of `bayesunmix.inference.truncated_normal`: the guide starts next to
Laplace. Three devices keep the gradient's noise small; none biases it.

- The gradient goes through the draws alone, log q with its parameters held (Roeder et al. 2017): it vanishes draw by
  draw where q = p.
- Draws come in pairs n, -n.
- A mini-batch of pixels estimates U with its own tangent at the start exchanged for that of all pixels,
  U_b(e) - [U_b(0) + e . dU_b(0)] + [U(0) + e . dU(0)]: what is left to chance is how the *change* of the potential
  differs between pixels (Johnson and Zhang 2013).

The ELBO on a fixed set of draws, over all pixels, judges convergence: when a round of steps gains less than its paired
error, the step size is cut; after the last cut, the fit is done. Parameters are averaged over the second half of each
round (Polyak and Juditsky 1992).

References
----------
Kingma, D. P., Welling, M., arXiv:1312.6114. Roeder, G., Wu, Y., Duvenaud, D., Adv. Neural Inf. Process. Syst. 30
(2017). Johnson, R., Zhang, T., Adv. Neural Inf. Process. Syst. 26 (2013). Polyak, B. T., Juditsky, A. B., SIAM J.
Control Optim. 30 (1992) 838, doi:10.1137/0330046.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
from numpyro.optim import Adam

from bayesunmix.inference.compilation import Program
from bayesunmix.inference.guides import Guide, Parameters
from bayesunmix.inference.minibatch import PixelData, batch_size, draw_batch
from bayesunmix.inference.truncated_normal import Coordinates, to_z

FloatArray = npt.NDArray[np.float64]
Potential = Callable[[jax.Array, Any], jax.Array]

PAIRS = 2
ROUND_STEPS = 50
MOST_ROUNDS = 30
STEP_SIZES = (0.02, 0.006, 0.002)
# Draws that the ELBO is judged on, and the gain in nats that is worth another round.
JUDGED = 32
LEAST_GAIN = 0.1


@dataclass(frozen=True)
class FittedGuide:
    """A guide and how well it was fitted.

    Attributes
    ----------
    parameters
        Of the guide.
    elbo : float
        Evidence lower bound on the fixed draws, in nats, up to the constants of the potential.
    history : (round + 1,)
        ELBO at the start and after every round.
    converged : bool
        False when the rounds ran out.
    """

    parameters: Parameters
    elbo: float
    history: FloatArray
    converged: bool


class _TangentTarget(NamedTuple):
    """What compiled programs get anew on each call; a JAX pytree."""

    at: Coordinates
    data: Any
    value: jax.Array  # V at e = 0, over all pixels
    slope: jax.Array  # its gradient there


@dataclass(frozen=True)
class Variational:
    """A guide over the posterior of a model: fits it, draws from it, and weighs the draws.

    Attributes
    ----------
    potential : (z, data) -> scalar
    guide : Guide
    at : Coordinates
    data : PixelData
        Arrays of JAX.
    """

    potential: Potential
    guide: Guide
    at: Coordinates
    data: Any

    def fit(self, seed: int, progress: Callable[[float], None] | None = None) -> FittedGuide:
        """Maximise the ELBO.

        Parameters
        ----------
        seed : int
        progress : callable, optional
            Told the share of the rounds that is done.
        """
        dim = len(self.at.mean)
        for_start, for_judge, for_steps = jax.random.split(jax.random.PRNGKey(seed), 3)
        parameters = self.guide.initial(dim, for_start)
        half = jax.random.normal(for_judge, (JUDGED // 2, dim))
        judged = jnp.concatenate([half, -half])
        tangent = _potential_at(self.potential)(jnp.zeros(dim), self.at, self.data)
        target = _TangentTarget(self.at, self.data, *tangent)
        ratios = self.log_ratios(parameters, judged)
        history, cuts = [float(ratios.mean())], 0
        for number, key in enumerate(jax.random.split(for_steps, MOST_ROUNDS)):
            tried = self._climb(parameters, key, jnp.asarray(STEP_SIZES[cuts]), target)
            gained = self.log_ratios(tried, judged) - ratios
            error = float(gained.std() / np.sqrt(len(gained)))
            better = bool(np.isfinite(gained).all() and gained.mean() > 0.0)
            if better:
                parameters, ratios = tried, ratios + gained
            if not better or gained.mean() < max(LEAST_GAIN, error):
                cuts += 1
            history.append(float(ratios.mean()))
            if progress is not None:
                progress(max((number + 1) / MOST_ROUNDS, cuts / len(STEP_SIZES)))
            if cuts == len(STEP_SIZES):
                break
        return FittedGuide(parameters, history[-1], np.array(history), cuts == len(STEP_SIZES))

    def draws(self, parameters: Parameters, n_draws: int, seed: int) -> tuple[FloatArray, FloatArray]:
        """Independent draws: z, shape (draw, dim), and the normal draws that they were transported from."""
        noise = jax.random.normal(jax.random.PRNGKey(seed), (n_draws, len(self.at.mean)))
        at, guide = self.at, self.guide
        z = Program(jax.vmap(lambda n: to_z(at, guide.transport(parameters, n)[0])[0]))(noise)
        return np.asarray(z), np.asarray(noise)

    def log_ratios(self, parameters: Parameters, noise: jax.Array | FloatArray) -> FloatArray:
        """Log of posterior over guide at transported draws, up to a constant; their mean is the ELBO."""
        pieces = np.split(np.asarray(noise), range(JUDGED, len(noise), JUDGED))
        return np.concatenate([self._some_ratios(parameters, piece) for piece in pieces])

    def _some_ratios(self, parameters: Parameters, noise: FloatArray) -> FloatArray:
        """Ratios of at most `JUDGED` draws: one compiled program serves the rounds and the final draws."""
        padded = np.zeros((JUDGED, noise.shape[1]))
        padded[: len(noise)] = noise
        return np.asarray(self._ratios(parameters, jnp.asarray(padded), self.at, self.data))[: len(noise)]

    @cached_property
    def _climb(self) -> Callable[..., Parameters]:
        return Program(partial(_round, self.potential, self.guide, batch_size(self.data)))

    @cached_property
    def _ratios(self) -> Callable[..., jax.Array]:
        return Program(partial(_log_ratios, self.potential, self.guide))


def _log_ratios(
    potential: Potential,
    guide: Guide,
    parameters: Parameters,
    noise: jax.Array,
    at: Coordinates,
    data: object,
) -> jax.Array:
    def one(n: jax.Array) -> jax.Array:
        e, log_slope = guide.transport(parameters, n)
        z, log_jacobian = to_z(at, e)
        return log_jacobian - potential(z, data) + 0.5 * (n @ n) + log_slope

    ratios: jax.Array = jax.lax.map(one, noise)
    return ratios


def _potential_at(potential: Potential) -> Callable[..., tuple[jax.Array, jax.Array]]:
    """Value and gradient of V over e."""

    def value(e: jax.Array, at: Coordinates, data: object) -> jax.Array:
        z, log_jacobian = to_z(at, e)
        return potential(z, data) - log_jacobian

    return Program(jax.value_and_grad(value))


def _round(
    potential: Potential,
    guide: Guide,
    size: int | None,
    parameters: Parameters,
    key: jax.Array,
    step_size: jax.Array,
    target: _TangentTarget,
) -> Parameters:
    """Take some steps; returns the mean of the parameters over the second half of them."""
    optimiser = Adam(lambda _: step_size)

    def step(state: tuple[Any, Parameters], scanned: tuple[jax.Array, jax.Array]) -> tuple[Any, None]:
        optimiser_state, total = state
        number, key = scanned
        gradient = elbo_gradient(
            potential=potential,
            guide=guide,
            size=size,
            parameters=optimiser.get_params(optimiser_state),
            key=key,
            target=target,
        )
        optimiser_state = optimiser.update(gradient, optimiser_state)
        late = (number >= ROUND_STEPS // 2).astype(float)
        now = optimiser.get_params(optimiser_state)
        return (optimiser_state, jax.tree.map(lambda a, b: a + late * b, total, now)), None

    keys = jax.random.split(key, ROUND_STEPS)
    start = (optimiser.init(parameters), jax.tree.map(jnp.zeros_like, parameters))
    (_, total), _ = jax.lax.scan(step, start, (jnp.arange(ROUND_STEPS), keys))
    mean: Parameters = jax.tree.map(lambda a: a / (ROUND_STEPS - ROUND_STEPS // 2), total)
    return mean


def elbo_gradient(
    potential: Potential,
    guide: Guide,
    size: int | None,
    parameters: Parameters,
    key: jax.Array,
    target: _TangentTarget,
) -> Parameters:
    """Unbiased estimate of the gradient of -ELBO from one mini-batch and a few pairs of draws."""
    for_batch, for_draws = jax.random.split(key)
    half = jax.random.normal(for_draws, (PAIRS, len(target.at.mean)))
    noise = jnp.concatenate([half, -half])
    e = jax.vmap(lambda n: guide.transport(parameters, n)[0])(noise)
    slopes = _potential_slopes(potential=potential, size=size, e=e, key=for_batch, target=target)

    def surrogate(free: Parameters) -> jax.Array:
        moving = jax.vmap(lambda n: guide.transport(free, n)[0])(noise)
        log_q = jax.vmap(partial(guide.log_density, jax.lax.stop_gradient(parameters)))(moving)
        return (slopes * moving).sum(axis=1).mean() + log_q.mean()

    gradient: Parameters = jax.grad(surrogate)(parameters)
    return gradient


def _potential_slopes(
    potential: Potential,
    size: int | None,
    e: jax.Array,
    key: jax.Array,
    target: _TangentTarget,
) -> jax.Array:
    """Unbiased estimates of the gradient of V at several e, shape (draw, dim)."""
    value_and_gradient = _potential_at(potential)
    if size is None:
        exact: jax.Array = jax.lax.map(lambda one: value_and_gradient(one, target.at, target.data)[1], e)
        return exact
    batch: PixelData = draw_batch(target.data, size, key)
    places = jnp.concatenate([e, jnp.zeros((1, e.shape[1]))])
    slopes: jax.Array = jax.lax.map(lambda one: value_and_gradient(one, target.at, batch)[1], places)
    return slopes[:-1] - slopes[-1] + target.slope
