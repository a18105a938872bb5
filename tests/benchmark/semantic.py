"""How often a semantic cache would be wrong: embedding alone, guards alone, both, on labelled pairs.

Positives: GPTCache's pairs (`shared/data/semcache` beside the checkout, or below $TURNOUT_DATA) and our paraphrases.
Negatives: our hard ones, and each `similar` of GPTCache looked up among all origins but its own, where whatever is
served counts as false. That data holds the same sentence many times over, so some of these are not: `lookup` tells how
often, with its own origin among them, another would have been served. No pair is dropped.
"""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from app.cache.semantic.embedding import MAX_TOKENS, MiniLm
from app.cache.semantic.guards import Features, disagreement, features

ROOT = Path(__file__).resolve().parents[2]
THRESHOLDS = [round(0.70 + 0.02 * step, 2) for step in range(15)]
DEFAULT = 0.86
PICTURE = ROOT / "docs" / "images" / "semantic-precision-recall.png"


class Pair(NamedTuple):
    """Two prompts, whether they mean the same, how near they are and whether the guards let them."""

    group: str
    same: bool
    similarity: float
    agreed: bool


class Texts:
    """Vectors and features of texts, each made once; one too long to embed is near nothing."""

    def __init__(self) -> None:
        self._model = MiniLm()
        self._vectors: dict[str, Any] = {}
        self._features: dict[str, Features] = {}

    def take(self, texts: Sequence[str]) -> None:
        short = [text for text in dict.fromkeys(texts) if self._model.tokens(text) <= MAX_TOKENS]
        self._vectors.update(zip(short, self._model.embed(short), strict=True))
        self._features.update({text: features(text) for text in texts})

    def similarity(self, a: str, b: str) -> float:
        if a not in self._vectors or b not in self._vectors:
            return -1.0
        return float(self._vectors[a] @ self._vectors[b])

    def pair(self, group: str, same: bool, a: str, b: str) -> Pair:
        agreed = disagreement(self._features[a], self._features[b]) is None
        return Pair(group, same, self.similarity(a, b), agreed)


def pairs() -> tuple[list[Pair], list[tuple[bool, Pair]]]:
    """All labelled pairs, and for each query of GPTCache whether its nearest origin is its own."""
    gptcache = _gptcache()
    written = {name: _lines(name) for name in ("hard_negatives", "paraphrases")}
    texts = Texts()
    texts.take([text for each in gptcache for text in each.values()])
    texts.take([each[side] for lines in written.values() for each in lines for side in ("a", "b")])
    found = [
        texts.pair(f"{name} {each['split']}", name == "paraphrases", each["a"], each["b"])
        for name, lines in written.items()
        for each in lines
    ]
    lookups = []
    for place, each in enumerate(gptcache):
        query = each["similar"]
        found.append(texts.pair("gptcache", True, query, each["origin"]))
        near = [(texts.similarity(query, other["origin"]), index) for index, other in enumerate(gptcache)]
        _, other = max(entry for entry in near if entry[1] != place)
        found.append(texts.pair("gptcache cross", False, query, gptcache[other]["origin"]))
        _, first = max(near)
        own = gptcache[first]["origin"] == each["origin"]
        lookups.append((own, texts.pair("lookup", own, query, gptcache[first]["origin"])))
    return found, lookups


def served(pair: Pair, how: str, threshold: float) -> bool:
    """Whether it would be a hit."""
    return (how == "guards" or pair.similarity >= threshold) and (how == "embedding" or pair.agreed)


def rates(found: Sequence[Pair], how: str, threshold: float) -> tuple[int, float, float]:
    """Hits, the share of true pairs served, the share of hits that are false."""
    hits = [pair for pair in found if served(pair, how, threshold)]
    true = sum(pair.same for pair in hits)
    return len(hits), true / max(1, sum(pair.same for pair in found)), (len(hits) - true) / max(1, len(hits))


def run() -> dict[str, float]:
    """Print the table, draw the picture; the figures at the default threshold."""
    found, lookups = pairs()
    print(f"{'':10} {'at':>5} {'hits':>6} {'recall':>7} {'false':>7}")
    for how in ("embedding", "guards", "both"):
        for threshold in THRESHOLDS if how != "guards" else THRESHOLDS[:1]:
            hits, recall, false = rates(found, how, threshold)
            print(f"{how:10} {threshold:5.2f} {hits:6} {recall:7.3f} {false:7.4f}")
    results = {}
    for group in sorted({pair.group for pair in found}):
        of_group = [pair for pair in found if pair.group == group]
        for how in ("embedding", "guards", "both"):
            results[f"{group}, {how}, served %"] = 100 * sum(served(p, how, DEFAULT) for p in of_group) / len(of_group)
    looked = [pair for _, pair in lookups]
    for name, chosen in (("all", found), ("lookup", looked), ("ours, held", [p for p in found if "held" in p.group])):
        hits, recall, false = rates(chosen, "both", DEFAULT)
        results |= {f"{name}: hits": hits, f"{name}: recall %": 100 * recall, f"{name}: false %": 100 * false}
    _draw(found)
    return results


def _draw(found: Sequence[Pair]) -> None:
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        print("no picture: matplotlib is not installed")
        return
    figure = Figure(figsize=(6, 4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for how, mark in (("embedding", "o"), ("both", "s")):
        points = [rates(found, how, threshold)[1:] for threshold in THRESHOLDS]
        axes.plot([recall for recall, _ in points], [1 - false for _, false in points], marker=mark, label=how)
    axes.set_xlabel("recall of true paraphrases")
    axes.set_ylabel("precision of hits")
    axes.legend()
    PICTURE.parent.mkdir(exist_ok=True)
    figure.savefig(PICTURE, dpi=110)


def _gptcache() -> list[dict[str, str]]:
    folder = Path(os.environ.get("TURNOUT_DATA", ROOT.parent / "shared" / "data"))
    path = folder / "semcache" / "gptcache_mock_data.json.gz"
    if not path.is_file():
        print(f"no {path.name}: without it")
        return []
    loaded: list[dict[str, str]] = json.loads(gzip.decompress(path.read_bytes()))
    return loaded


def _lines(name: str) -> list[dict[str, str]]:
    path = ROOT / "tests" / "data" / f"semcache_{name}.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()]
