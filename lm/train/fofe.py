"""Language models over FOFE codes: z_t = a * z_{t-1} + e_t, a sum of embeddings that forgets (Zhang et al., 2015).

    the last 8 words -> embeddings (tied) -> codes -> hidden layers -> projection -> embeddings (tied) + bias -> softmax

After "Application-Agnostic Language Modeling for On-Device ASR" (Nussbaum-Thom et al., ACL 2023): one network for all
applications, one each (AD-FOFE) or a gated mixture (M-FOFE); and small low-rank adapters (Hu et al., 2021) on a shared
one, fitted to it afterwards or trained along with it (the form `adapted`). The context ends after `C` words, so all
codes of a batch are a few additions: nothing is recurrent in training.

Shape letters: N predicted words, C context, D embedding, H hidden, V vocabulary, A applications.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lm.train.recipe import LanguageModelConfig
from lm.train.recurrent import Recurrent
from lm.vocabulary import START_ID

NEVER = -30.0
"""Output bias of `<s>`, which no word is followed by."""


def fofe_codes(embedded: Tensor, factors: Sequence[float], window: int) -> Tensor:
    """Codes of contexts.

    The first factor's code is taken at the newest word and at the `window - 1` words before; of the other factors only
    the newest is: through a linear layer, more of them could say nothing new, as a * z_{t-1} = z_t - e_t.

    Args:
        embedded: (C, N, D), oldest word first.
        factors: Forgetting factors.
        window: Codes of the first factor.

    Returns:
        (N, (window + len(factors) - 1) * D): newest first.
    """
    words = embedded.unbind(0)
    codes = []
    for number, factor in enumerate(factors):
        code, kept = words[0], [words[0]]
        for word in words[1:]:
            code = torch.add(word, code, alpha=factor)
            kept.append(code)
        codes += kept[: -window - 1 : -1] if number == 0 else [code]
    return torch.cat(codes, dim=-1)


@dataclass(frozen=True, slots=True)
class AdapterConfig:
    """A low-rank change of a shared model's layers, and of its output bias."""

    name: str
    rank: int = 6
    targets: tuple[int, ...] = (0, 1, 2, 3)
    """Layers that are changed: 0 is the first hidden one, the number of hidden layers the projection."""
    bias: bool = True


class Adapter(nn.Module):
    """The weights of an adapter; a new one changes nothing."""

    def __init__(self, config: AdapterConfig, model: LanguageModelConfig) -> None:
        super().__init__()
        self.config = config
        sizes = layer_sizes(model)
        if config.rank < 1 or not all(0 <= target < len(sizes) for target in config.targets):
            raise ValueError(f"adapter: expected rank >= 1 and layers 0 to {len(sizes) - 1}, found {config}")
        down = {
            str(t): nn.Parameter(torch.randn(config.rank, sizes[t][0]) / sizes[t][0] ** 0.5) for t in config.targets
        }
        up = {str(t): nn.Parameter(torch.zeros(sizes[t][1], config.rank)) for t in config.targets}
        self.down, self.up = nn.ParameterDict(down), nn.ParameterDict(up)
        self.bias = nn.Parameter(torch.zeros(model.vocabulary_size)) if config.bias else None

    def change(self, layer: int, inputs: Tensor) -> Tensor | None:
        """What is added to the output of a layer with these inputs (N, I), or None: (N, O)."""
        key = str(layer)
        return inputs @ self.down[key].T @ self.up[key].T if key in self.down else None


def code_size(config: LanguageModelConfig) -> int:
    """Size of the codes that the first layer sees."""
    return (config.window + len(config.factors) - 1) * config.dim


def layer_sizes(config: LanguageModelConfig) -> list[tuple[int, int]]:
    """Inputs and outputs of the layers of one network, the projection last."""
    widths = [code_size(config), *[config.hidden] * config.layers, config.dim]
    return list(zip(widths, widths[1:], strict=False))


def _linear(n_inputs: int, n_outputs: int) -> nn.Linear:
    layer = nn.Linear(n_inputs, n_outputs)
    nn.init.normal_(layer.weight, std=(2 / n_inputs) ** 0.5)
    nn.init.zeros_(layer.bias)
    return layer


class SubNetwork(nn.Module):
    """Hidden layers, residual where sizes agree, then a projection: (N, I) -> (N, O)."""

    def __init__(self, sizes: Sequence[tuple[int, int]], activation: str) -> None:
        super().__init__()
        self.layers = nn.ModuleList(_linear(*size) for size in sizes)
        self._activation = F.relu if activation == "relu" else F.gelu

    def forward(self, x: Tensor, adapter: Adapter | None = None) -> Tensor:
        """(N, I) -> (N, O); `adapter` changes the layers it has weights for."""
        last = len(self.layers) - 1
        for number, layer in enumerate(self.layers):
            y = layer(x)
            change = adapter.change(number, x) if adapter else None
            y = y if change is None else y + change
            if number < last:
                y = self._activation(y)
            x = x + y if 0 < number < last else y
        return x


class LanguageModel(nn.Module):
    """A FOFE model of any form; what differs between forms is what happens between the codes and the output."""

    def __init__(self, config: LanguageModelConfig) -> None:
        super().__init__()
        self.config = config
        V, A = config.vocabulary_size, len(config.applications)
        self.embedding = nn.Parameter(torch.randn(V, config.dim) * config.dim**-0.5)
        self.bias = nn.Parameter(torch.zeros(A if config.knows_applications else 1, V))
        with torch.no_grad():
            self.bias[:, START_ID] = NEVER
        sizes = layer_sizes(config)
        n_networks = {"separate": A, "mixture": config.experts}.get(config.form, 1)
        self.networks = nn.ModuleList(
            Recurrent(config.dim, config.hidden, config.layers)
            if config.form == "lstm"
            else SubNetwork(sizes, config.activation)
            for _ in range(n_networks)
        )
        gate_sizes = [*sizes[:-1], (config.hidden, config.experts)]
        self.gate = SubNetwork(gate_sizes, config.activation) if config.form == "mixture" else None
        own = config.applications if config.form == "adapted" else ()
        every = tuple(range(len(sizes)))
        self.adapters = nn.ModuleList(Adapter(AdapterConfig(name, config.rank, every, False), config) for name in own)

    def predict(
        self, embedded: Tensor, application: int, adapter: Adapter | None = None, starts: Tensor | None = None
    ) -> Tensor:
        """The embedding that the next word should have.

        Args:
            embedded: (C, N, D) embeddings of the context, oldest first.
            application: Its number; matters to the forms `separate` and `adapted` only.
            adapter: For the form `shared`.
            starts: (N,) bool, for the form `lstm`: contexts before the first word of an utterance, whose others follow;
                if it is left out, each is one.

        Returns:
            (N, D), to be multiplied with the embeddings.
        """
        if self.config.form == "lstm":
            begins = torch.ones(embedded.shape[1], dtype=torch.bool) if starts is None else starts
            states: Tensor = self.networks[0](embedded[-1], begins)
            return states
        codes = fofe_codes(embedded, self.config.factors, self.config.window)
        if self.gate is None:
            network = self.networks[application if self.config.form == "separate" else 0]
            own = self.adapters[application] if self.config.form == "adapted" else adapter
            predicted: Tensor = network(codes, own)
            return predicted
        shares = self.gate(codes).softmax(-1)  # (N, M)
        opinions = torch.stack([network(codes) for network in self.networks], dim=1)  # (N, M, D)
        return torch.einsum("nm,nmd->nd", shares, opinions)

    def bias_row(self, application: int) -> int:
        """Which row of `bias` an application uses."""
        return application if self.config.knows_applications else 0

    def output_bias(self, application: int, adapter: Adapter | None = None) -> Tensor:
        """The output bias `(V,)` in use."""
        bias = self.bias[self.bias_row(application)]
        return bias + adapter.bias if adapter is not None and adapter.bias is not None else bias

    def forward(self, contexts: Tensor, application: int = 0, adapter: Adapter | None = None) -> Tensor:
        """Contexts (C, N) int64, oldest word first -> logits (N, V), whose softmax is over the next word."""
        predicted = self.predict(F.embedding(contexts, self.embedding), application, adapter)
        return torch.addmm(self.output_bias(application, adapter), predicted, self.embedding.T)

    def set_unigrams(self, counts: Tensor) -> None:
        """Start from the frequencies `(V,)` of words: the output bias becomes their log-probabilities."""
        counts = counts.double() + 0.5
        with torch.no_grad():
            self.bias[:] = (counts / counts.sum()).log().float()
            self.bias[:, START_ID] = NEVER
