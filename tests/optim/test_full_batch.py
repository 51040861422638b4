"""gd, cg and lbfgs: the right objective, the right minimum, on a problem whose answer scikit-learn knows."""

from itertools import pairwise

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from torch import nn

from ft.optim.conjugate_gradient import ConjugateGradient
from ft.optim.full_batch import evaluate, l2_terms
from ft.optim.groups import default_groups, one_group
from ft.optim.lbfgs import LBFGS

C = 1.0


@pytest.fixture(scope="module")
def problem():
    """600 digits as vectors, and the loss scikit-learn reaches: mean cross entropy + 1/2 lambda |W|^2."""
    x, y = load_digits(return_X_y=True)
    x, y = x[:600] / 16, y[:600]
    decay = 1 / (C * len(x))
    model = LogisticRegression(C=C, tol=1e-10, max_iter=10_000).fit(x, y)
    logits = torch.tensor(model.decision_function(x))
    best = F.cross_entropy(logits, torch.tensor(y)) + 0.5 * decay * float((model.coef_**2).sum())
    inputs, targets = torch.tensor(x, dtype=torch.float32), torch.tensor(y)
    # Batches of different sizes: the objective has to weigh them.
    pairs = [(inputs[:250], targets[:250]), (inputs[250:], targets[250:])]
    return pairs, decay, float(best)


def objective(layer, pairs, decay):
    groups = default_groups(
        dict(layer.named_parameters()),
        [("head", [name for name, _ in layer.named_parameters()])],
        lr=1.0,
        weight_decay=decay,
        layer_decay=1.0,
        head_lr_scale=1.0,
    )
    l2 = l2_terms(groups)

    def closure():
        layer.zero_grad()
        return evaluate(pairs, 600, lambda x, y: F.cross_entropy(layer(x), y), l2)

    return groups, closure


def minimise(make, problem, steps):
    pairs, decay, _ = problem
    torch.manual_seed(0)
    layer = nn.Linear(64, 10)
    groups, closure = objective(layer, pairs, decay)
    optimizer = make(one_group(groups, name="test"))
    for _ in range(steps):
        optimizer.step(closure)
    return float(closure())


def cg(params, **changes):
    options = {"lr": 1.0, "max_iter": 20, "restart": 50, "tolerance": 1e-7, "max_evaluations": 20}
    return ConjugateGradient(params, **{**options, **changes})


def lbfgs(params, **changes):
    return LBFGS(params, **{"lr": 1.0, "max_iter": 20, "history_size": 20, "tolerance": 1e-7, **changes})


@pytest.mark.parametrize("make", [cg, lbfgs])
def test_it_reaches_the_loss_of_scikit_learn(make, problem):
    assert minimise(make, problem, 10) == pytest.approx(problem[2], rel=1e-3)


def test_conjugate_gradient_beats_gradient_descent_by_far(problem):
    descent = minimise(lambda params: torch.optim.SGD(params, lr=1.0), problem, 200)
    conjugate = minimise(lambda params: cg(params, max_iter=200), problem, 1)
    assert conjugate - problem[2] < 0.01 * (descent - problem[2])


def test_on_a_quadratic_it_ends_after_as_many_steps_as_there_are_unknowns():
    """Exact line searches make it the linear method, which needs n steps; ours are strong-Wolfe, so a few more."""
    generator = torch.Generator().manual_seed(0)
    factor = torch.randn(6, 6, generator=generator, dtype=torch.float64)
    matrix, vector = factor @ factor.T + torch.eye(6), torch.randn(6, generator=generator, dtype=torch.float64)
    unknown = nn.Parameter(torch.zeros(6, dtype=torch.float64))

    def closure():
        unknown.grad = None
        loss = 0.5 * unknown @ matrix @ unknown - vector @ unknown
        loss.backward()
        return loss

    cg([unknown], max_iter=25).step(closure)
    assert torch.allclose(unknown, torch.linalg.solve(matrix, vector), atol=1e-4)


def test_every_step_goes_down(problem):
    pairs, decay, _ = problem
    layer = nn.Linear(64, 10)
    groups, closure = objective(layer, pairs, decay)
    optimizer = cg(one_group(groups, name="cg"), max_iter=1)
    losses = [optimizer.step(closure) for _ in range(15)]
    assert all(later < earlier for earlier, later in pairwise(losses))


def test_the_objective_does_not_depend_on_how_it_is_batched(problem):
    pairs, decay, _ = problem
    layer = nn.Linear(64, 10)
    _, split = objective(layer, pairs, decay)
    whole = torch.cat([x for x, _ in pairs]), torch.cat([y for _, y in pairs])
    _, at_once = objective(layer, [whole], decay)
    assert float(split()) == pytest.approx(float(at_once()), rel=1e-6)
    gradient = layer.weight.grad.clone()
    split()
    assert torch.allclose(layer.weight.grad, gradient, atol=1e-7)


def test_weight_decay_is_in_the_loss_and_not_on_biases():
    layer = nn.Linear(2, 1)
    _, closure = objective(layer, [(torch.zeros(600, 2), torch.zeros(600, dtype=torch.long))], 0.5)
    with torch.no_grad():
        layer.weight.fill_(2.0)
        layer.bias.fill_(7.0)
    assert float(closure()) == pytest.approx(0.5 * 0.5 * 8)


@pytest.mark.parametrize("make", [cg, lbfgs])
def test_history_is_dropped_when_the_open_set_changes(make, problem):
    pairs, decay, _ = problem
    layer = nn.Sequential(nn.Linear(64, 12), nn.Linear(12, 10))
    groups, closure = objective(layer, pairs, decay)
    optimizer = make(one_group(groups, name="test"), max_iter=3)
    layer[0].requires_grad_(False)
    frozen = layer[0].weight.clone()
    first = float(closure())
    optimizer.step(closure)
    assert torch.equal(layer[0].weight, frozen)
    layer[0].requires_grad_(True)
    for _ in range(3):
        optimizer.step(closure)
    assert not torch.equal(layer[0].weight, frozen)
    assert float(closure()) < first


@pytest.mark.parametrize("make", [cg, lbfgs])
def test_its_state_can_be_saved_and_goes_on_alike(make, problem):
    pairs, decay, _ = problem
    states = []
    for interrupted in (False, True):
        torch.manual_seed(0)
        layer = nn.Linear(64, 10)
        groups, closure = objective(layer, pairs, decay)
        optimizer = make(one_group(groups, name="test"), max_iter=3)
        optimizer.step(closure)
        if interrupted:
            saved = optimizer.state_dict()
            optimizer = make(one_group(groups, name="test"), max_iter=3)
            optimizer.load_state_dict(saved)
        optimizer.step(closure)
        states.append(layer.weight.detach().clone())
    assert np.array_equal(*[state.numpy() for state in states])
