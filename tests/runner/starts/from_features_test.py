"""Heads in closed form, against scikit-learn's naive Bayes."""

import fiddle as fdl
import jax
import numpy as np
import pytest
from sklearn.naive_bayes import GaussianNB

import models
from runner import data, starts
from runner.errors import UserError
from runner.starts import class_moments
from runner.starts.class_moments import ClassMoments
from tests.runner.starts.contexts import context

CLASSES = 4


def examples(count=60, features=5):
    draw = np.random.default_rng(0)
    y = draw.integers(0, CLASSES - 1, count)  # none of the last
    x = draw.normal(size=(count, features)) * 0.3 + 1e3 + y[:, None]
    return x, y


def moments(x, y):
    rows = [x[y == k] for k in range(CLASSES)]
    means = np.stack([r.mean(0) if len(r) else np.zeros(x.shape[1]) for r in rows])
    return ClassMoments(
        counts=np.bincount(y, minlength=CLASSES).astype(float),
        means=means,
        squares=np.stack([((r - means[k]) ** 2).sum(0) for k, r in enumerate(rows)]),
    )


def naive_bayes(x, y, smoothing):
    """Log-probabilities of scikit-learn's, its variances made one for all classes."""
    model = GaussianNB(var_smoothing=0.0).fit(x, y)
    shared = model.class_prior_ @ model.var_ + smoothing * x.var(axis=0).mean()
    model.var_[:] = shared
    return model.predict_log_proba


def log_softmax(scores):
    return (
        scores
        - np.log(np.exp(scores - scores.max(1, keepdims=True)).sum(1))[:, None]
        - scores.max(1, keepdims=True)
    )


def test_the_linear_head_is_naive_bayes_of_one_variance_however_it_is_merged():
    x, y = examples()
    wanted = naive_bayes(x, y, 1e-2)(x)
    parts = [moments(x[i::3], y[i::3]) for i in range(3)]
    for found in (moments(x, y), parts[0] + parts[1] + parts[2]):
        kernel, bias = class_moments.naive_bayes(found, smoothing=1e-2)
        known = (x @ kernel.T + bias)[:, :-1]  # of the classes with examples
        np.testing.assert_allclose(log_softmax(known), wanted, atol=1e-5)
        assert np.isfinite([*kernel[-1], bias[-1]]).all()


def test_class_sums_are_means_of_balanced_classes():
    x = np.random.default_rng(0).normal(size=(12, 3))
    y = np.arange(12) % CLASSES
    kernel, bias = class_moments.class_sums(moments(x, y))
    np.testing.assert_allclose(kernel, x.reshape(3, CLASSES, 3).mean(0))
    assert not bias.any()


@pytest.mark.slow  # compiles a trunk over eight devices
def test_a_student_starts_as_naive_bayes_of_what_its_head_reads():
    dataset = data.Part(data=data.Digits(), num_rows=100).load()
    plain = fdl.Partial(models.ConvNet, num_classes=10, widths=(4,), groups=2)
    with pytest.raises(UserError, match=r"with a bias: models\.BiasedHead"):
        starts.NaiveBayes().load(context(plain, dataset))
    ctx = context(fdl.Partial(models.BiasedHead, model=plain), dataset)
    loaded = starts.NaiveBayes(smoothing=1e-2).load(ctx)
    state = jax.device_get(loaded.state())
    model = ctx.modules.student(state.params["student"], state.variables["student"])
    rows = dataset.rows(np.arange(100))
    hidden = np.float64(
        jax.jit(lambda x: model.trunk({"images": x}).hidden)(rows["images"])
    )
    wanted = naive_bayes(hidden, rows["targets"], 1e-2)(hidden)
    found = log_softmax(np.float64(model.head(np.float32(hidden))))
    np.testing.assert_allclose(found, wanted, atol=2e-3)
    assert loaded.summary == "start: fresh; head: NaiveBayes of 100 rows"
