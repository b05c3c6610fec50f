"""Layer alignment: its losses by hand, and what is made of a student and the teacher's hidden states."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import contents
from torch import Tensor, nn

from modelbuild.deterministic import deterministic
from modelbuild.errors import RecipeError
from modelbuild.training import features, loop, positions
from modelbuild.training.batch import HIDDEN, Batch
from modelbuild.training.features import Alignment
from modelbuild.training.learner import Learner
from modelbuild.training.objective import Term
from modelbuild.training.positions import Meeting
from modelbuild.training.settings import Settings
from modelbuild.training.streams import Stream

# Two samples of three positions of two numbers, and which of them count: not the last of the second sample.
STUDENT = torch.tensor([[[1.0, 0], [0, 2], [2, 2]], [[0, 1], [3, 4], [9, 9]]])
TEACHER = torch.tensor([[[1.0, 0], [2, 0], [0, 3]], [[0, -1], [4, 3], [0, 9]]])
COUNTED = torch.tensor([[1.0, 1, 1], [1, 1, 0]])


# -- the losses


def test_l2_by_hand() -> None:
    # squares by position: 0, 8, 5 and 4, 2, 81; two numbers at each
    assert features.l2(STUDENT, TEACHER).item() == pytest.approx(100 / 12)
    assert features.l2(STUDENT, TEACHER, COUNTED).item() == pytest.approx(19 / 10)


def test_cosine_by_hand() -> None:
    # cosines: 1, 0, 1/sqrt 2 and -1, 24/25, 1/sqrt 2
    root = 1 / math.sqrt(2)
    assert features.cosine(STUDENT, TEACHER).item() == pytest.approx(1 - (2 * root + 24 / 25) / 6)
    assert features.cosine(STUDENT, TEACHER, COUNTED).item() == pytest.approx(1 - (root + 24 / 25) / 5)


def test_attention_by_hand() -> None:
    # sums of squares: [1, 4, 8], [1, 25, 162] and [1, 4, 9], [1, 25, 81]
    def half(a: list[int], b: list[int]) -> float:
        # for maps of length 1 half the squared distance is 1 - cosine
        return 1 - sum(x * y for x, y in zip(a, b, strict=True)) / math.hypot(*a) / math.hypot(*b)

    first = half([1, 4, 8], [1, 4, 9])
    all_of_it = (first + half([1, 25, 162], [1, 25, 81])) / 2
    assert features.attention(STUDENT, TEACHER).item() == pytest.approx(all_of_it, abs=1e-6)
    assert features.attention(STUDENT, TEACHER, COUNTED).item() == pytest.approx(first / 2, abs=1e-6)


def test_attention_is_the_same_for_other_widths_and_strengths() -> None:
    wide = torch.cat((3 * TEACHER, torch.zeros(2, 3, 4)), 2)
    assert features.attention(TEACHER, wide).item() == pytest.approx(0, abs=1e-6)


# One sample, two positions: two heads of the student, one of the teacher.
HEADS = torch.tensor([[[[1.0, 0], [0.5, 0.5]], [[0.5, 0.5], [0.5, 0.5]]]])
HEAD = torch.tensor([[[[1.0, 0], [0.25, 0.75]]]])


@pytest.mark.parametrize("teacher", [HEAD, HEAD[:, 0]])
def test_probabilities_by_hand_are_averaged_over_heads(teacher: Tensor) -> None:
    # maps [.75, .25, .5, .5] and [1, 0, .25, .75]; of the first position alone [.75, .25] and [1, 0]
    cosine = (0.75 + 0.125 + 0.375) / math.hypot(0.75, 0.25, 0.5, 0.5) / math.hypot(1, 0.25, 0.75)
    assert features.probabilities(HEADS, teacher).item() == pytest.approx(1 - cosine)
    first = features.probabilities(HEADS, teacher, torch.tensor([[1.0, 0]]))
    assert first.item() == pytest.approx(1 - 0.75 / math.hypot(0.75, 0.25))


def test_attention_to_other_positions_is_refused() -> None:
    with pytest.raises(RecipeError, match="Both must look at the same positions"):
        features.probabilities(torch.full((1, 2, 3, 3), 1 / 3), HEAD)


@pytest.mark.parametrize("loss", [features.l2, features.cosine, features.attention])
@pytest.mark.parametrize("counted", [None, COUNTED.double()])
def test_states_that_agree_cost_nothing_and_have_a_gradient(loss: Any, counted: Tensor | None) -> None:
    state = STUDENT.double().requires_grad_()
    value = loss(state, STUDENT.double(), counted)
    value.backward()
    assert value.item() == pytest.approx(0, abs=1e-12)
    assert state.grad is not None and state.grad.abs().max() < 1e-8


@pytest.mark.parametrize("loss", [features.l2, features.cosine, features.attention, features.probabilities])
def test_samples_that_are_all_padding_cost_nothing(loss: Any) -> None:
    state = torch.rand(2, 3, 3, requires_grad=True)
    value = loss(state, torch.rand(2, 3, 3), torch.zeros(2, 3))
    value.backward()
    assert value.item() == 0 and state.grad is not None and not state.grad.any()


@pytest.mark.parametrize("kind", ["l2", "cosine", "attention"])
@pytest.mark.parametrize(
    ("student", "teacher", "axes"),
    [
        ((2, 3, 4), (2, 3, 5), (2, 2)),
        ((2, 4, 3), (2, 3, 4), (1, 2)),
        ((2, 2, 5, 4), (2, 3, 2, 4), (1, 1)),  # pooled 5 -> 2
        ((2, 2, 2, 2), (2, 3, 5, 2), (1, 1)),
    ],
)
@pytest.mark.filterwarnings("ignore:There is a performance drop:UserWarning")
def test_gradients_are_those_of_the_loss(
    kind: str, student: tuple[int, ...], teacher: tuple[int, ...], axes: tuple[int, int]
) -> None:
    draw = torch.Generator().manual_seed(1)
    meeting = Meeting(student, teacher, axes, kind != "attention", draw).double()
    state = torch.randn(student, generator=draw, dtype=torch.float64).requires_grad_()
    target = torch.randn(teacher, generator=draw, dtype=torch.float64)
    weights = list(meeting.parameters())

    def loss(given: Tensor, *learnt: Tensor) -> Tensor:
        names = [name for name, _ in meeting.named_parameters()]
        a, b = torch.func.functional_call(meeting, dict(zip(names, learnt, strict=True)), (given, target))
        return features.KINDS[kind](a, b, None)

    assert torch.autograd.gradcheck(loss, (state, *weights))


def test_the_gradient_of_probabilities_is_that_of_the_loss() -> None:
    scores = torch.randn(2, 3, 4, 4, dtype=torch.float64, requires_grad=True)
    target = torch.randn(2, 2, 4, 4, dtype=torch.float64).softmax(-1)
    counted = torch.tensor([[1.0, 1, 1, 1], [1, 1, 0, 0]], dtype=torch.float64)
    for mask in (None, counted):
        assert torch.autograd.gradcheck(
            lambda each, by=mask: features.probabilities(each.softmax(-1), target, by), scores
        )


# -- alignment


class Net(nn.Module):
    """Tokens [n, 5] through `layers` of one width: tuples from the last but one, batch statistics, dropout."""

    output_names = ("y",)

    def __init__(self, width: int = 4, layers: int = 2) -> None:
        super().__init__()
        self.embed, self.drop = nn.Embedding(7, width), nn.Dropout(0.5)
        self.body = nn.ModuleList(nn.Linear(width, width) for _ in range(layers))
        self.norm, self.head = nn.BatchNorm1d(width), nn.Linear(width, 2)
        self.scores = nn.Softmax(-1)

    def forward(self, ids: Tensor, mask: Tensor, twice: Tensor | None = None) -> Tensor:
        x = self.drop(self.embed(ids))
        for layer in self.body:
            x = layer(x).tanh()
        if twice is not None:
            x = torch.cat((x, x), 1)
        self.scores((x @ x.transpose(1, 2))[:, None])
        found: Tensor = self.head(self.norm(x.mean(1)))
        return found


LAYERS = [f"deep.{index}" for index in range(4)]


def batch(width: int = 6, samples: int = 8, tokens: int = 5, **targets: Tensor) -> Batch:
    draw = torch.Generator().manual_seed(0)
    ids = torch.randint(0, 7, (samples, tokens), generator=draw)
    hidden = {HIDDEN + path: torch.randn(samples, tokens, width, generator=draw) for path in LAYERS}
    return Batch({"ids": ids, "mask": (ids > 2).long()}, {**hidden, **targets})


def aligned(
    spec: Mapping[str, Any], student: nn.Module, given: Batch, seed: int = 0, **more: Any
) -> Alignment:
    draw = torch.Generator().manual_seed(seed)
    return features.alignment(spec, student, LAYERS, given, draw, **more)


def values(made: Alignment, student: nn.Module, given: Batch) -> dict[str, float]:
    outputs = Learner(student, made.hooked, made.projections).eval()(given)
    return {term.name: term.value(outputs, given).item() for term in made.terms}


def test_every_pair_is_a_term_on_the_hidden_states_of_its_layers() -> None:
    made = aligned({"kind": "l2", "weight": 0.1}, Net(), batch())
    assert made.hooked == ("body.0", "body.1")
    assert [(term.name, term.weight, term.reads) for term in made.terms] == [
        ("layers.body.0", 0.1, "hidden.deep.1"),
        ("layers.body.1", 0.1, "hidden.deep.3"),
    ]
    assert [tuple(each.shape) for each in made.projections.parameters()] == [(6, 4), (6,)] * 2


@pytest.mark.parametrize("kind", ["l2", "cosine"])
@pytest.mark.parametrize("mask", [None, "mask"])
def test_a_term_is_the_loss_of_the_projected_state(kind: str, mask: str | None) -> None:
    student, given = Net(), batch()
    spec = {"kind": kind, "map": "last", **({"mask": mask} if mask else {})}
    made = aligned(spec, student, given)
    (found,) = values(made, student, given).values()
    state = Learner(student, ["body.1"]).eval()(given)["hidden.body.1"]
    (projection,) = [each for each in made.projections.modules() if isinstance(each, nn.Linear)]
    counted = None if mask is None else (given.inputs["ids"] > 2).float()
    wanted = features.KINDS[kind](projection(state), given.targets["hidden.deep.3"], counted)
    assert found == pytest.approx(wanted.item(), rel=1e-5) and found > 0.1


def test_without_a_word_it_is_l2_at_half_weight_evenly_spaced() -> None:
    made, said = (
        aligned({}, Net(), batch()),
        aligned({"kind": "l2", "weight": 0.5, "map": "even"}, Net(), batch()),
    )
    assert [(term.name, term.weight) for term in made.terms] == [
        (term.name, term.weight) for term in said.terms
    ]
    student = Net()
    assert values(made, student, batch()) == values(said, student, batch())


@pytest.mark.parametrize("kind", ["l2", "cosine", "attention"])
def test_states_of_one_width_need_nothing_learnt(kind: str) -> None:
    assert not list(aligned({"kind": kind}, Net(6), batch()).projections.parameters())


def test_the_position_axis_of_equal_states_is_that_of_the_tokens() -> None:
    student, given = Net(6), batch()
    made = aligned({"kind": "cosine", "map": "last"}, student, given)
    state = Learner(student, ["body.1"]).eval()(given)["hidden.body.1"]
    wanted = features.cosine(state, given.targets["hidden.deep.3"])
    assert values(made, student, given)["layers.body.1"] == pytest.approx(wanted.item())


def test_equal_states_of_which_nothing_tells_the_positions_can_still_be_subtracted() -> None:
    square = batch(5)  # as wide as there are tokens
    with pytest.raises(RecipeError, match=r"may be \[n, positions, width\]"):
        aligned({"kind": "cosine"}, Net(5), square)
    student = Net(5)
    made = aligned({"kind": "l2", "map": "last"}, student, square)
    state = Learner(student, ["body.1"]).eval()(square)["hidden.body.1"]
    wanted = nn.functional.mse_loss(state, square.targets["hidden.deep.3"])
    assert values(made, student, square)["layers.body.1"] == pytest.approx(wanted.item())


def test_the_mask_alone_tells_the_positions_where_it_is_named() -> None:
    given = batch()
    voice = Batch(
        {**given.inputs, "voice": torch.zeros(8, 6)}, given.targets
    )  # as long as the states are wide

    class Voiced(Net):
        def forward(self, ids: Tensor, mask: Tensor, voice: Tensor) -> Tensor:  # type: ignore[override]
            return super().forward(ids, mask)

    with pytest.raises(RecipeError, match="may be"):
        aligned({"kind": "cosine"}, Voiced(6), voice)
    assert len(aligned({"kind": "cosine", "mask": "mask"}, Voiced(6), voice).terms) == 2


def test_padding_does_not_count() -> None:
    student, given = Net(), batch()
    other = dict(given.targets)
    other["hidden.deep.3"] = given.targets["hidden.deep.3"] + (given.inputs["mask"] == 0)[:, :, None] * 9.0
    changed = Batch(given.inputs, other)
    masked, all_of_it = (
        aligned({"map": "last", **more}, student, given) for more in ({"mask": "mask"}, dict[str, str]())
    )
    assert values(masked, student, given) == values(masked, student, changed)
    assert values(all_of_it, student, given) != values(all_of_it, student, changed)


def test_states_kept_in_half_precision_are_widened() -> None:
    student, given = Net(), batch()
    halves = Batch(given.inputs, {name: each.half() for name, each in given.targets.items()})
    rounded = Batch(given.inputs, {name: each.half().float() for name, each in given.targets.items()})
    made = aligned({}, student, halves)
    assert values(made, student, halves) == values(made, student, rounded)
    (first, *_), outputs = made.terms, {"hidden.body.0": torch.zeros(8, 5, 4, dtype=torch.bfloat16)}
    assert first.value(outputs, halves).dtype == torch.float32


def test_squares_of_states_kept_in_half_precision_do_not_overflow() -> None:
    student, given = Net(), batch()
    strong = Batch(given.inputs, {name: (300 * each).half() for name, each in given.targets.items()})
    made = aligned({"kind": "attention"}, student, strong)
    assert values(made, student, strong) == pytest.approx(values(made, student, given), rel=1e-2)


def test_targets_shorter_than_the_batch_belong_to_its_first_samples() -> None:
    student, given = Net().eval(), batch()
    made = aligned({"mask": "mask"}, student, given)
    inputs = {name: each[:3] for name, each in given.inputs.items()}
    targets = {name: each[:3] for name, each in given.targets.items()}
    few = values(made, student, Batch(inputs, targets))
    assert values(made, student, Batch(given.inputs, targets)) == pytest.approx(few)
    assert few != pytest.approx(values(made, student, given))
    assert len(aligned({"mask": "mask"}, student, Batch(given.inputs, targets)).terms) == 2


def test_attention_of_the_teacher_is_told_by_its_rows() -> None:
    student = Net()
    rows = torch.randn(8, 3, 5, 5).softmax(-1)
    for kept in (rows, rows.half(), rows[:, 0]):
        given = batch(**{"hidden.deep.0": kept})
        made = aligned({"kind": "attention", "map": [["scores", "deep.0"]]}, student, given)
        outputs = Learner(student, made.hooked).eval()(given)
        wanted = features.probabilities(outputs["hidden.scores"], kept.float())
        assert made.terms[0].value(outputs, given).item() == pytest.approx(wanted.item(), rel=1e-4)


def test_a_square_image_is_no_attention() -> None:
    class Images(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = nn.Sequential(nn.Conv2d(1, 3, 3, padding=1), nn.ReLU())

        def forward(self, x: Tensor) -> Tensor:
            found: Tensor = self.body(x)
            return found

    student, state = Images(), torch.rand(4, 2, 6, 6)
    given = Batch({"x": torch.randn(4, 1, 6, 6)}, {"hidden.deep.0": state})
    made = aligned({"kind": "attention", "map": [["body.1", "deep.0"]]}, student, given)
    own, theirs = (each.flatten(2).transpose(1, 2) for each in (student(given.inputs["x"]), state))
    wanted = features.attention(own, theirs).item()
    assert values(made, student, given)["layers.body.1"] == pytest.approx(wanted, rel=1e-4)


def test_a_weight_of_0_asks_for_nothing() -> None:
    made = aligned({"weight": 0, "map": [["nowhere", "deep.9"]]}, Net(), batch())
    assert made.hooked == () and made.terms == [] and not list(made.projections.parameters())


def test_the_student_is_run_once_as_in_training_and_left_as_it_was() -> None:
    student, runs = Net().eval(), list[tuple[bool, bool]]()
    student.embed.register_forward_hook(lambda *_: runs.append((student.training, torch.is_grad_enabled())))
    before = {name: each.clone() for name, each in student.state_dict().items()}
    draws = torch.get_rng_state()
    aligned({}, student, batch())
    assert runs == [(True, False)] and not student.training
    assert all(torch.equal(before[name], each) for name, each in student.state_dict().items())
    assert torch.equal(draws, torch.get_rng_state())
    assert not student.body[0]._forward_hooks


def test_the_student_is_left_as_it_was_also_where_it_fails() -> None:
    student = Net().eval()
    with pytest.raises(RecipeError, match="forward failed"):
        aligned(
            {}, student, Batch({"ids": torch.full((2, 5), 99), "mask": torch.ones(2, 5)}, batch().targets)
        )
    assert not student.training and not student.body[0]._forward_hooks


def test_what_is_forced_in_training_is_forced_here() -> None:
    longer = {"hidden.deep.0": torch.randn(8, 1, 10, 10).softmax(-1), "teacher.t": torch.zeros(8)}
    spec = {"kind": "attention", "map": [["scores", "deep.0"]]}
    assert aligned(spec, Net(), batch(**longer), forced={"twice": "t"}).terms
    with pytest.raises(RecipeError, match="same positions"):
        aligned(spec, Net(), batch(**longer))


def test_projections_are_drawn_by_the_generator() -> None:
    def weights(seed: int) -> list[list[float]]:
        return [
            each.flatten().tolist() for each in aligned({}, Net(), batch(), seed).projections.parameters()
        ]

    assert weights(0) == weights(0) != weights(1)
    first, _, second, _ = weights(0)
    assert first != second


class Odd(nn.Module):
    """Layers whose states cannot be compared."""

    def __init__(self) -> None:
        super().__init__()
        self.flat, self.numbers, self.turned, self.single = (nn.Identity() for _ in range(4))

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        x = ids.float()
        self.numbers(ids), self.turned(x.T[:, :, None]), self.single(x[:, 0])
        found: Tensor = self.flat(x)
        return found


@pytest.mark.parametrize(
    ("spec", "told"),
    [
        ({"kind": "cosin"}, r'there is no kind "cosin". Did you mean "cosine"'),
        ({"map": [["embed", "deep.7"]]}, r'layer "deep.7" were kept. Did you mean "deep'),
        ({"map": [["nowhere", "deep.0"]]}, r'Net: it has no layer "nowhere"'),
        ({"map": [["head", "deep.0"]]}, r'student\'s "head" \[n, 2\] .* do not go together'),
        ({"mask": "msk"}, r'distil.layers.mask: there is no input "msk". Did you mean "mask"'),
    ],
)
def test_what_cannot_be_aligned_is_told(spec: dict[str, Any], told: str) -> None:
    with pytest.raises(RecipeError, match=told):
        aligned(spec, Net(), batch())


@pytest.mark.parametrize(
    ("spec", "told"),
    [
        ({"map": [["numbers", "t"]]}, r'"numbers" gives int64\[8, 5\] for 8 samples.*real numbers'),
        ({"map": [["turned", "t"]]}, r'"turned" gives float32\[5, 8, 1\] for 8 samples.*samples first'),
        ({"map": [["single", "t"]]}, r'"single" gives float32\[8\] for 8 samples'),
        ({"map": [["flat", "t"]], "kind": "attention"}, r"attention is a map over positions.*Use the kind"),
        ({"map": [["flat", "t"]], "mask": "mask"}, r"give no row of positions"),
    ],
)
def test_a_layer_that_gives_no_hidden_state_is_told(spec: dict[str, Any], told: str) -> None:
    with pytest.raises(RecipeError, match=told):
        aligned(spec, Odd(), batch(**{"hidden.t": torch.zeros(8, 5)}))


@pytest.mark.parametrize(
    ("mask", "told"),
    [
        (torch.ones(8, 3), r"\[n, 3\], and the layers give 5 positions"),
        (torch.ones(8, 5, 1), r"\[n, 5, 1\], and the layers give 5 positions"),
        (torch.ones(8), r"\[n\], and the layers give 5 positions"),
    ],
)
def test_a_mask_of_other_positions_is_told(mask: Tensor, told: str) -> None:
    given = batch()
    for kind, teacher in (("l2", "deep.0"), ("attention", "rows")):
        targets = {**given.targets, "hidden.rows": torch.full((8, 2, 5, 5), 0.2)}
        spec = {
            "kind": kind,
            "map": [["scores" if kind == "attention" else "body.0", teacher]],
            "mask": "mask",
        }
        with pytest.raises(RecipeError, match=told):
            aligned(spec, Net(), Batch({**given.inputs, "mask": mask}, targets))


def test_student_and_projections_learn_the_teacher_s_states() -> None:
    def trained(weight: float) -> tuple[float, list[str]]:
        with deterministic(0):
            student, given = Net(), batch(samples=16)
            made = aligned({"weight": 1.0}, student, given)
            before = sum(values(made, student, given).values())
            learner = Learner(student, made.hooked, made.projections)
            anchor = Term("label", 1e-9, lambda outputs, _: outputs["y"].square().mean())
            terms = [anchor, *(made.terms if weight else [])]
            settings = Settings.of({"steps": 60, "batch": 16, "lr": 0.03}, "here")
            loop.fit(learner, Stream(given.inputs, given.targets), None, terms, settings)
            learner.close()
            return sum(values(made, student, given).values()) / before, list(student.state_dict())

    (with_layers, names), (without, _) = trained(1.0), trained(0)
    assert with_layers < 0.8 < without
    assert names == list(Net().state_dict())


def test_an_interrupted_training_with_projections_ends_with_the_same_bytes(tmp_path: Path) -> None:
    shorter = {HIDDEN + path: torch.rand(16, 3, 6) for path in LAYERS}  # the student's five are pooled
    given = batch(samples=16, **shorter)
    spec, seen = {"map": "last", "weight": 1.0}, Batch(given.inputs, given.targets)
    settings = Settings.of({"steps": 20, "batch": 4, "ema": 0.9}, "here")

    def trained(*legs: dict[str, Any]) -> dict[str, bytes]:
        for leg in legs:
            with deterministic(0):
                student = Net()
                made = aligned(spec, student, seen)
                learner = Learner(student, made.hooked, made.projections)
                loop.fit(learner, Stream(given.inputs, given.targets), None, made.terms, settings, **leg)
        (windows,) = (each for name, each in learner.named_buffers() if "windows" in name)
        assert torch.equal(windows, positions.windows(5, 3))
        return contents(learner)

    state = tmp_path / "state"
    whole, legs = trained({}), trained({"until": 9, "state": state}, {"start": state})
    assert whole == legs and any(name.startswith("projections.") for name in whole)
