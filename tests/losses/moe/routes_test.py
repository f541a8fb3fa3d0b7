"""Routes of rows, and their edit distances, against textbooks in plain Python."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
from scipy.spatial.distance import cosine as cosine_distance

from losses import functional


def route(shares, mass):
    """Experts by layer, the greatest share first, until they have `mass`."""
    symbols = []
    for layer, row in enumerate(shares):
        total = 0.0
        for expert in np.argsort(-row):
            if total >= mass:
                break
            symbols.append((layer, int(expert)))
            total += row[expert]
    return symbols


def levenshtein(one, other):
    row = list(range(len(other) + 1))
    for i, x in enumerate(one, start=1):
        new = [i]
        for j, y in enumerate(other, start=1):
            new.append(min(row[j] + 1, new[-1] + 1, row[j - 1] + (x != y)))
        row = new
    return row[-1]


def test_distances_of_routes_and_votes_of_neighbours_are_the_textbooks():
    draw = np.random.default_rng(0)
    shares = draw.dirichlet(np.full(5, 0.4), size=(6, 3))
    there = np.array([True, True, True, False, True, True])
    routes = [route(x, 0.7) for x, counts in zip(shares, there, strict=True) if counts]
    pairs = [levenshtein(a, b) for i, a in enumerate(routes) for b in routes[:i]]
    renamed = shares[..., draw.permutation(5)]  # the same experts by other numbers
    arrays = [jnp.asarray(x, jnp.float32) for x in (shares, renamed)]
    distance = jax.jit(functional.route_distance)
    for x in arrays:
        np.testing.assert_allclose(distance(x, there), np.mean(pairs), rtol=1e-6)
    same = jnp.broadcast_to(arrays[0][:1], arrays[0].shape)
    assert distance(same, there) == 0.0

    embeddings = draw.normal(size=(6, 4, 5)) + 1.0
    consistency = []
    for row, counts in zip(embeddings, there, strict=True):
        turns = [1.0 - cosine_distance(a, b) for a, b in itertools.pairwise(row)]
        if counts:
            consistency.append(1.0 - np.mean(turns) / (max(turns) + 1e-8))
    found = jax.jit(functional.route_consistency)(np.float32(embeddings), there)
    np.testing.assert_allclose(found, np.mean(consistency), rtol=1e-5)

    features = draw.normal(size=(20, 3)) + 2.0 * np.eye(3)[np.arange(20) % 3]
    labels = (np.arange(20) % 3).astype(np.int32)
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    cosine = unit @ unit.T - 9.0 * np.eye(20)
    nearest = labels[np.argsort(-cosine, axis=1)[:, :4]]
    votes = np.array([np.argmax(np.bincount(x, minlength=3)) for x in nearest])
    share_right = jax.jit(functools.partial(functional.neighbor_accuracy, neighbors=4))
    for turned in (features, features @ np.linalg.qr(draw.normal(size=(3, 3)))[0]):
        accuracy = share_right(jnp.asarray(turned, jnp.float32), labels)
        np.testing.assert_allclose(accuracy, np.mean(votes == labels), rtol=1e-6)
