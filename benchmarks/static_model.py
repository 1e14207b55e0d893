"""A static embedding model trained on the spot: a real encoder where no weights are at hand.

``static_model.py FOLDER --data-dir DIR`` trains one on NTREX-128 and saves it.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from hybrid_bench.errors import DataError

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

__all__ = ["ntrex_pairs", "train"]


def ntrex_pairs(data_dir: Path) -> list[tuple[str, str]]:
    """Translations from NTREX-128: each English sentence with its translation into every other language there.

    Raises:
        DataError: If there are none.
    """
    files = sorted((data_dir / "ntrex-128").glob("newstest2019-ref.*.txt"))
    if not files:
        raise DataError(f"no translations to train on: put NTREX-128's files into {data_dir / 'ntrex-128'}")
    source = data_dir / "ntrex-128" / "newstest2019-src.eng.txt"
    english = (source if source.is_file() else files[0]).read_text(encoding="utf-8").splitlines()
    pairs = []
    for file in files:
        translated = file.read_text(encoding="utf-8").splitlines()
        pairs += [(a, b) for a, b in zip(english, translated, strict=True) if a != b]
    return pairs


def train(
    pairs: Sequence[tuple[str, str]], *, dimension: int = 384, vocabulary: int = 32_000, steps: int = 60, seed: int = 0
) -> SentenceTransformer:
    """Train a static embedding model with in-batch negatives, from nothing.

    Args:
        pairs: Texts that should be near each other.
        dimension: Of the embeddings.
        vocabulary: Size of the byte-pair vocabulary, which is learnt from the texts.
        steps: Batches of 256 pairs.
        seed: Same seed, same model.
    """
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss
    from sentence_transformers.sentence_transformer.modules import StaticEmbedding
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.train_from_iterator(
        (text for pair in pairs for text in pair),
        trainers.BpeTrainer(vocab_size=vocabulary, special_tokens=["[UNK]"], show_progress=False),
    )
    torch.manual_seed(seed)
    module = StaticEmbedding(tokenizer, embedding_dim=dimension)
    model = SentenceTransformer(modules=[module], device="cpu")
    loss = MultipleNegativesRankingLoss(model)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    rng = np.random.default_rng(seed)
    for _ in range(steps):
        batch = [pairs[row] for row in rng.integers(0, len(pairs), 256)]
        features = [module.preprocess([pair[side] for pair in batch]) for side in (0, 1)]
        optimizer.zero_grad()
        loss(features, torch.empty(0)).backward()
        optimizer.step()
    return model.eval()


def main() -> None:
    """Train and save a model."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="where the model is saved")
    parser.add_argument("--data-dir", type=Path, required=True, help="folder that has ntrex-128/")
    parser.add_argument("--dimension", type=int, default=384)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    try:
        pairs = ntrex_pairs(options.data_dir)
    except DataError as error:
        parser.exit(1, f"{parser.prog}: {error}\n")
    model = train(pairs, dimension=options.dimension, steps=options.steps, seed=options.seed)
    model.save(str(options.folder))


if __name__ == "__main__":
    main()
