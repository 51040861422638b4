"""The new head: what the pretrained backbone's features are turned into.

features (B, F) -> [norm] -> (linear -> activation -> dropout) for each hidden width -> dropout -> linear -> (B, K)
"""

from collections import OrderedDict
from collections.abc import Sequence

from torch import nn

from ft.errors import one_of, require

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "tanh": nn.Tanh,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "sigmoid": nn.Sigmoid,
    "leaky_relu": nn.LeakyReLU,
}
NORMS: dict[str, type[nn.Module]] = {"none": nn.Identity, "batch": nn.BatchNorm1d, "layer": nn.LayerNorm}


def make_head(
    num_features: int,
    num_outputs: int,
    *,
    hidden: Sequence[int],
    activation: str,
    drop_rate: float,
    norm: str,
) -> nn.Sequential:
    """Builds a head.

    Args:
        num_features: ``F``, the width of the pooled features.
        num_outputs: ``K``.
        hidden: Widths of the hidden layers; none for a linear head.
        activation: After each hidden layer: one of ``ACTIVATIONS``.
        drop_rate: In ``[0, 1)``: after each hidden layer, and before the last layer. Always a module, never timm's
            functional dropout, so that it can be found and changed.
        norm: On the features: ``none``, ``batch`` or ``layer``.

    Raises:
        UserError: A value is out of its range.
    """
    one_of(activation, ACTIVATIONS, "model.head.activation")
    one_of(norm, NORMS, "model.head.norm")
    require(0 <= drop_rate < 1, "model.head.drop_rate", "must be in [0, 1)", drop_rate)
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    if norm != "none":
        layers["norm"] = NORMS[norm](num_features)
    width = num_features
    for number, size in enumerate(hidden):
        require(isinstance(size, int) and size >= 1, "model.head.hidden", "must list widths of at least 1", hidden)
        layers[f"hidden{number}"] = nn.Linear(width, size)
        layers[f"activation{number}"] = ACTIVATIONS[activation]()
        if number < len(hidden) - 1:
            layers[f"drop{number}"] = nn.Dropout(drop_rate)
        width = size
    layers["drop"] = nn.Dropout(drop_rate)
    layers["fc"] = nn.Linear(width, num_outputs)
    return nn.Sequential(layers)
