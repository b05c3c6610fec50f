"""The acoustic model: its sentences, its teacher, what it learns and by what it is judged."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import hibari
import numpy as np
import onnxruntime
import pytest
import torch

import modelbuild
from modelbuild import dataset, network
from modelbuild.dataset import DataSet
from modelbuild.errors import RecipeError
from modelbuild.recipes import export
from modelbuild.recipes.onnx_teacher import OnnxTeacher
from modelbuild.runtimes import base
from modelbuild.training import loop, objective
from modelbuild.training.learner import Learner
from modelbuild.training.settings import Settings
from modelbuild.training.streams import Stream
from modelbuild.zoo import acoustic, speech
from modelbuild.zoo import speech_losses as losses
from modelbuild.zoo import speech_metrics as metrics
from modelbuild.zoo.acoustic import PADDING, Acoustic

torch.set_num_threads(1)
Arrays = dict[str, np.ndarray[Any, Any]]
TEXT = Path(modelbuild.__file__).parent / "zoo" / "wordnet" / "sentences.tsv"
MODEL = Path(hibari.__file__).parent / "assets" / "hibari.onnx"
LOSS = "modelbuild.zoo.speech_losses:acoustic_loss"
SMALL = {"width": 8, "depth": 1, "kernel": 3}


@pytest.fixture(scope="module")
def heard() -> Arrays:
    return speech.load("test", TEXT, limit=6)


@pytest.fixture(scope="module")
def said(heard: Arrays) -> Arrays:
    return speech.through(OnnxTeacher(MODEL, "the teacher").run, {"ids": heard["ids"]})


def untrained(**args: int) -> Acoustic:
    torch.manual_seed(0)
    module = Acoustic(**{**SMALL, **args}).eval()
    torch.nn.init.normal_(module.text.length.weight, std=0.3)  # durations that differ
    return module


def spoken(module: Acoustic, ids: np.ndarray[Any, Any]) -> Arrays:
    with torch.no_grad():
        return {name: value.numpy() for name, value in network.run(module, [torch.tensor(ids)]).items()}


# -- data


def test_sentences_are_numbers_between_two_silences_filled_up_with_padding(heard: Arrays) -> None:
    ids = heard["ids"]
    assert ids.shape == (6, speech.PHONEMES) and ids.dtype == np.int64
    for row in ids:
        (ends,) = np.nonzero(row == PADDING)
        assert row[0] == 0 == row[ends[0] - 1] and (row[: ends[0]] < PADDING).all()
        assert (row[ends[0] :] == PADDING).all() and ends[0] > 20


def test_parts_are_disjoint_complete_and_always_the_same() -> None:
    parts = {part: speech._sentences(part, TEXT) for part in ("train", *speech.SIZES)}
    assert {part: len(parts[part]) for part in speech.SIZES} == speech.SIZES
    everything = [sentence for part in parts.values() for sentence in part]
    assert len(everything) == len(set(everything)) == 2166
    assert parts["test"] == speech._sentences("test", TEXT)


def test_what_phonology_says_of_a_word(tmp_path: Path) -> None:
    """In "speech fits Paul" s, p, ʧ, f and t are voiceless, the vowels and l voiced; marks are unsettled, and d."""
    lines = [f"noun.act\texample\tspeech fits Paul again and again {letter}" for letter in "abcdefgh"]
    (tmp_path / "text").write_text("\n".join(lines * 30), encoding="utf-8")
    found = speech.load("train", tmp_path / "text", limit=1)
    _, vocabulary = speech._pronunciation()
    letters = {number: letter for letter, number in vocabulary.items()}
    pairs = zip(found["ids"][0].tolist(), found["label.voiced"][0].tolist(), strict=True)
    told = [(letters.get(number, ""), label) for number, label in pairs]
    voiced = "".join(letter for letter, label in told if label == speech.VOICED)
    voiceless = "".join(letter for letter, label in told if label == speech.VOICELESS)
    assert voiced.startswith("iɪɔl") and voiceless.startswith("spʧftsp")  # noqa: RUF001
    rest = {letter for letter, label in told if label == speech.UNSETTLED}
    assert rest >= {"", " ", "ˈ", "ɡ", "d"} and not rest & {*"spʧftiɪɔlən"}  # noqa: RUF001


def test_another_part_is_refused() -> None:
    with pytest.raises(RecipeError, match=r'part "tset" is not one of .*Did you mean "test"'):
        speech.load("tset", TEXT)


def test_without_the_package_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "hibari.g2p", None)
    with pytest.raises(RecipeError, match=r"pip install 'modelbuild\[examples\]'"):
        speech.load("test", TEXT)


def test_a_sentence_of_more_phonemes_than_fit_is_refused() -> None:
    with pytest.raises(RecipeError, match=r"and 10 fit\. Raise phonemes"):
        speech.load("test", TEXT, phonemes=10, limit=1)


def test_a_text_without_sentences_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("noun.act\tgloss\tthe act of looking for something to read\n", "utf-8")
    with pytest.raises(RecipeError, match=r'has 0 sentences .* none is left for "test"'):
        speech.load("test", tmp_path / "text")


# -- the teacher


def test_the_teachers_answers_have_fixed_shapes_and_end_where_it_ends(said: Arrays) -> None:
    shapes = {name: array.shape for name, array in said.items()}
    assert shapes == {
        "frames": (6,), "durations": (6, 96), "unrounded": (6, 96),
        "spectrum": (6, 448, 64), "pitch": (6, 448), "voiced": (6, 448),
    }  # fmt: skip
    assert np.array_equal(said["durations"].sum(1), said["frames"]) and said["frames"].min() > 80
    for row, end in enumerate(said["frames"]):
        for name in ("spectrum", "pitch", "voiced"):
            assert not said[name][row, end:].any()
        assert said["spectrum"][row, end - 1].any()
    assert (said["pitch"][said["voiced"] > 0] > 40).all() and said["pitch"].min() == 0


def test_its_durations_are_rounded_to_steps(heard: Arrays, said: Arrays) -> None:
    real = heard["ids"] != PADDING
    assert np.array_equal(said["durations"] > 0, real)
    assert np.array_equal(said["durations"], 2 * np.maximum(np.rint(said["unrounded"] / 2), 1) * real)
    assert (said["unrounded"] != said["durations"])[real].all()


def test_bands_are_means_of_bins() -> None:
    envelope = np.arange(601.0)[:, None] * np.array([[1.0, 2.0]])
    found = speech._banded(envelope)
    assert found.shape == (2, 64)
    assert found[0, :24].tolist() == [*range(23), 23] and found[0, 24] == 24.5  # bins 24 and 25
    assert found[0, -1] == np.arange(555, 601).mean() and np.allclose(found[1], 2 * found[0])


def test_a_frame_is_voiced_where_pulses_are_louder_than_the_rest_below_1_khz() -> None:
    pulses, noise, free = np.full((601, 4), -9.0), np.full((601, 4), -2.0), np.full((601, 4), -9.0)
    pulses[:50] = [-1.0, -3.0, -1.0, -1.0]  # louder than the noise, softer, and two more that are louder
    free[:50, 2] = 0.0  # than the noise, but not than the free part
    pitch = np.array([[100.0, 100.0, 100.0, 30.0]])  # and no pulses in the last

    def run(feeds: Any, names: Sequence[str]) -> list[Any]:
        assert feeds["ids"].tolist() == [[0, 51, 0]] and feeds["speed"].tolist() == [1]
        steps = np.array([[1.0, 1.0, 0.0]])
        return [pulses[None], noise[None], free[None], pitch, steps, steps]

    ids = np.array([[0, 51, 0, PADDING]])
    found = speech.through(run, {"ids": ids}, frames=5)
    assert found["voiced"].tolist() == [[1, 0, 0, 0, 0]] and found["pitch"].tolist() == [
        [100, 100, 100, 0, 0]
    ]
    assert found["durations"].tolist() == [[2, 2, 0, 0]]


def test_a_sentence_that_lasts_too_long_is_refused(heard: Arrays) -> None:
    with pytest.raises(RecipeError, match=r"sentence 0 lasts \d+ frames of 12\.5 ms, and 40 fit"):
        speech.through(OnnxTeacher(MODEL, "the teacher").run, {"ids": heard["ids"][:1]}, frames=40)


# -- the network


def test_outputs_are_in_the_teachers_shapes_and_end_where_they_say(heard: Arrays, said: Arrays) -> None:
    outputs = spoken(untrained(), heard["ids"])
    assert tuple(outputs) == Acoustic.output_names
    for name, array in outputs.items():
        assert array.shape == said[name].shape, name
    assert outputs["frames"].dtype == np.int64 and len(set(outputs["frames"].tolist())) > 1
    assert np.array_equal(outputs["durations"].sum(1), outputs["frames"])
    assert np.array_equal(outputs["durations"] > 0, heard["ids"] != PADDING)
    for row, end in enumerate(outputs["frames"]):
        for name in ("spectrum", "pitch", "voiced"):
            assert not outputs[name][row, end:].any() and outputs[name][row, end - 1].any()


def test_an_answer_does_not_depend_on_how_far_a_sample_is_filled_up(heard: Arrays) -> None:
    module, ids = untrained(depth=2), heard["ids"][:2]
    longer = np.pad(ids, ((0, 0), (0, 9)), constant_values=PADDING)
    filled, alone = spoken(module, longer), spoken(module, ids[:1, : int((ids[0] != PADDING).sum())])
    end = int(alone["frames"][0])
    assert filled["frames"][0] == end
    for name in ("spectrum", "pitch", "voiced"):
        assert np.allclose(filled[name][0], alone[name][0], rtol=1e-5, atol=1e-5), name
    # Nor on how long the outputs are.
    short = Acoustic(**SMALL | {"depth": 2}, frames=end).eval()
    short.load_state_dict(module.state_dict())
    assert np.allclose(
        spoken(short, ids[:1])["spectrum"][0], alone["spectrum"][0, :end], rtol=1e-5, atol=1e-5
    )


def test_a_phoneme_is_repeated_as_often_as_it_lasts() -> None:
    regulator = acoustic.Regulator(2)
    torch.nn.init.zeros_(regulator.place.weight)
    torch.nn.init.zeros_(regulator.place.bias)
    hidden = torch.tensor([[[1.0, 0.1], [2.0, 0.2], [3.0, 0.3]]])
    spread, present = regulator.spread(hidden, torch.tensor([[2.0, 1.0, 0.0]]), 5)
    assert torch.equal(spread[0, :, 0], torch.tensor([1.0, 1.0, 2.0, 0.0, 0.0]))
    assert torch.equal(spread[0, :, 1], torch.tensor([0.1, 0.1, 0.2, 0.0, 0.0]))
    assert present.tolist() == [[1, 1, 1, 0, 0]]


def test_a_step_knows_where_in_its_phoneme_it_is() -> None:
    regulator = acoustic.Regulator(3)
    with torch.no_grad():
        regulator.place.weight.copy_(torch.eye(3))
        regulator.place.bias.zero_()
    spread, _ = regulator.spread(torch.zeros(1, 2, 3), torch.tensor([[2.0, 1.0]]), 4)
    due = [[0.25, 0.1, 0.4], [0.75, 0.3, 0.4], [0.5, 0.1, 0.2]]
    assert torch.allclose(spread[0, :3], torch.tensor(due)) and spread.isfinite().all()


def test_durations_are_rounded_and_a_phoneme_lasts_a_step_at_least() -> None:
    regulator, hidden = acoustic.Regulator(2), torch.zeros(1, 4, 2)
    predicted = torch.tensor([[acoustic.FEWEST, 1.49, 1.51, 0.0]])
    assert regulator(hidden, predicted, 6)[2].tolist() == [[1, 1, 2, 0]]


def test_what_is_too_long_is_cut_off(heard: Arrays) -> None:
    outputs = spoken(untrained(frames=40), heard["ids"])
    assert outputs["spectrum"].shape == (6, 40, 64) and set(outputs["frames"].tolist()) == {40}


def test_given_durations_are_followed_and_those_not_given_are_learnt(heard: Arrays, said: Arrays) -> None:
    durations = torch.tensor(said["durations"])
    found = network.named(untrained(), untrained()(torch.tensor(heard["ids"]), durations=durations))
    assert found["frames"].tolist() == said["frames"].tolist()
    assert found["spectrum"].shape[1] == said["frames"].max()
    assert found["durations"].requires_grad and (found["durations"] % 1 != 0).any()
    assert found["durations"].shape[1] == int((heard["ids"] != PADDING).sum(1).max())


def test_it_starts_from_the_mean_of_the_teacher(heard: Arrays, said: Arrays) -> None:
    """Standardisation is undone inside: before any training the distance is that of the means, not of zeros."""
    means = {**said, "spectrum": np.zeros_like(said["spectrum"]) + np.array(acoustic.MEAN)}
    known = metrics.log_spectral_distance(means, said).mean()
    zeros = metrics.log_spectral_distance({**said, "spectrum": np.zeros_like(said["spectrum"])}, said).mean()
    module = untrained()
    torch.nn.init.zeros_(module.voice.head.weight)
    torch.nn.init.zeros_(module.voice.head.bias)
    start = metrics.as_the_prototype(module, heard["ids"], said)["log_spectral_distance"]
    assert start == pytest.approx(known, rel=1e-4) and known < 0.75 * zeros
    assert spoken(module, heard["ids"])["pitch"].max() == pytest.approx(np.exp(acoustic.LOG_PITCH_MEAN))
    assert not any("scale" in name or "offset" in name for name in Acoustic(**SMALL).state_dict())


def test_it_has_a_third_of_a_million_parameters() -> None:
    assert network.parameters(Acoustic()) == 308677


# -- its way to the runtimes


@pytest.fixture(scope="module")
def targets(tmp_path_factory: pytest.TempPathFactory, heard: Arrays) -> dict[str, Path]:
    """What a platform is made from: the student, the evaluation data and the ONNX file."""
    folders = {name: tmp_path_factory.mktemp(name) for name in ("student", "evaluation", "onnx")}
    network.save(
        folders["student"], untrained(), {"module": "modelbuild.zoo.acoustic:Acoustic", "args": SMALL}
    )
    dataset.write(folders["evaluation"], DataSet({"ids": heard["ids"]}, {}))
    export.export(folders, {"export": {"opset": 18, "dynamic": {"batch": [1, 64]}}}, folders["onnx"])
    return folders


def test_the_onnx_file_takes_any_batch_and_gives_the_same(heard: Arrays, targets: dict[str, Path]) -> None:
    session = onnxruntime.InferenceSession(targets["onnx"] / "model.onnx", providers=["CPUExecutionProvider"])
    due = spoken(untrained(), heard["ids"])
    for count in (1, 5):
        found = session.run([*due], {"ids": heard["ids"][:count]})
        for (name, array), values in zip(due.items(), found, strict=True):
            assert values.dtype == array.dtype and np.allclose(values, array[:count], rtol=1e-5, atol=1e-4), (
                name
            )


@pytest.mark.parametrize(
    ("precision", "apart"),
    [({"precision": "float32"}, 1e-4), ({"precision": "mixed", "keep_float32": ["text", "regulator"]}, 0.1)],
)
def test_core_ml_lays_out_the_same_frames(
    precision: dict[str, Any], apart: float, heard: Arrays, targets: dict[str, Path], tmp_path: Path
) -> None:
    """In float16 too, as long as what decides how long a phoneme lasts stays in float32."""
    coreml, options = base.find("coreml"), {"deployment_target": "iOS17", **precision}
    params = {"options": options, "module": "modelbuild.zoo.acoustic:Acoustic", "args": SMALL}
    coreml.convert(targets, tmp_path, {**params, "export": {"opset": 18, "dynamic": {"batch": [1, 64]}}})
    found = coreml.run(tmp_path, {"ids": heard["ids"]}, {"options": options}).outputs
    due = spoken(untrained(), heard["ids"])
    assert np.array_equal(found["durations"], due["durations"]) and np.array_equal(
        found["frames"], due["frames"]
    )
    assert np.abs(found["spectrum"] - due["spectrum"]).max() < apart


# -- losses


def as_tensors(arrays: Arrays) -> dict[str, torch.Tensor]:
    return {name: torch.tensor(array) for name, array in arrays.items()}


def teachers(**changed: Any) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """Outputs of a student and of a teacher of 2 frames in 3 that agree, and what is `changed` in the student's."""
    teacher = {
        "spectrum": torch.ones(1, 3, 64), "pitch": torch.tensor([[100.0, 0.0, 0.0]]), "frames": torch.tensor([2]),
        "voiced": torch.tensor([[1.0, 0.0, 0.0]]), "durations": torch.tensor([[2.0, 0.0]]),
        "unrounded": torch.tensor([[2.4, 0.0]]),
    }  # fmt: skip
    sure = torch.tensor([[50.0, -50.0, 0.0]])
    outputs = {**teacher, "voiced": sure, "durations": teacher["unrounded"], **changed}
    return outputs, teacher


def test_the_loss_of_a_student_that_agrees_is_next_to_nothing() -> None:
    assert losses.acoustic_loss(*teachers(), {}).item() == pytest.approx(0.01, abs=1e-6)  # the root of 1e-4


@pytest.mark.parametrize(
    ("changed", "due"),
    [
        (
            {"spectrum": torch.tensor([1.0, 4.0, 9.0])[None, :, None].expand(1, 3, 64)},
            0.5,
        ),  # one frame of two
        ({"durations": torch.tensor([[4.4, 9.0]])}, 0.3),  # a step, of one phoneme
        ({"pitch": torch.tensor([[100.0 * np.exp(0.25), 300.0, 300.0]])}, 0.5),  # a deviation, of one frame
        ({"voiced": torch.tensor([[0.0, -50.0, 7.0]])}, 0.1 * np.log(2) / 2),  # no idea of one frame of two
    ],
)
def test_each_part_of_the_loss_by_hand(changed: dict[str, torch.Tensor], due: float) -> None:
    """And what lies past the end of the teacher's frames and phonemes counts nothing."""
    agreed = losses.acoustic_loss(*teachers(), {}).item()
    assert losses.acoustic_loss(*teachers(**changed), {}).item() - agreed == pytest.approx(due, abs=0.006)


def test_parts_have_weights_of_their_own() -> None:
    outputs, teacher = teachers(durations=torch.tensor([[4.4, 9.0]]))
    weights = {"spectrum": 0.0, "pitch": 0.0, "voiced": 0.0}
    assert losses.acoustic_loss(outputs, teacher, {}, durations=2.0, **weights).item() == pytest.approx(2)


def test_the_loss_has_a_gradient_wherever_there_is_something_to_learn() -> None:
    outputs, teacher = teachers()
    leaves = {
        name: value.clone().requires_grad_()
        for name, value in outputs.items()
        if value.dtype.is_floating_point
    }
    leaves["durations"].data += 0.1
    leaves["pitch"].data += 5
    losses.acoustic_loss({**outputs, **leaves}, teacher, {}).backward()  # type: ignore[no-untyped-call]
    for name in ("spectrum", "pitch", "voiced", "durations"):
        gradient = leaves[name].grad
        assert gradient is not None and gradient.isfinite().all(), name
    assert leaves["durations"].grad[0, 0] > 0 and leaves["durations"].grad[0, 1] == 0
    assert leaves["pitch"].grad[0, 0] > 0 and not leaves["pitch"].grad[0, 1:].any()
    assert not leaves["voiced"].grad[0, 2].any()


def test_what_phonology_has_to_teach_by_hand() -> None:
    outputs = {
        "voiced": torch.tensor([[3.0, 1.0, -2.0, 5.0, 9.0]]),
        "durations": torch.tensor([[2.0, 1.0, 1.0, 0.0]]),
    }
    truth = {
        "label.voiced": torch.tensor([[1, 0, 2, 2]])
    }  # mean log-odds of 2, which is due; -2, which is due
    assert losses.voicing_loss(outputs, truth, {}).item() == pytest.approx(np.log1p(np.exp(-2)))


def test_a_few_steps_bring_the_student_nearer(heard: Arrays, said: Arrays) -> None:
    settings = Settings.of({"steps": 12, "batch": 6, "lr": 0.01, "clip": 1.0}, "speech")
    terms = objective.soft_terms({"kind": LOSS, "weight": 1.0}, dict.fromkeys(said, True), "speech")
    targets = {f"teacher.{name}": torch.tensor(array) for name, array in said.items()}
    module = untrained(width=16)
    before = metrics.as_the_prototype(module, heard["ids"], said)
    learner = Learner(module, forced={"durations": "durations"})
    loop.fit(learner, Stream({"ids": torch.tensor(heard["ids"])}, targets), None, terms, settings)
    after = metrics.as_the_prototype(module.eval(), heard["ids"], said)
    assert after["log_spectral_distance"] < 0.9 * before["log_spectral_distance"]
    assert after["duration_error"] < 0.9 * before["duration_error"]


# -- metrics


def told(durations: Sequence[int], frames: int = 8, **arrays: Any) -> Arrays:
    """One sample: durations in frames; for spectrum, pitch and voicing a number a frame, 0 where none is given."""
    found = {"durations": np.array([durations], np.float32), "frames": np.array([sum(durations)])}
    for name in ("spectrum", "pitch", "voiced"):
        values = np.zeros(frames)
        values[: len(arrays.get(name, ()))] = arrays.get(name, ())
        found[name] = np.repeat(values[None, :, None], 64, 2) if name == "spectrum" else values[None]
    return found


def test_who_repeats_the_teacher_is_at_no_distance(said: Arrays) -> None:
    for metric in (
        metrics.log_spectral_distance,
        metrics.duration_error,
        metrics.pitch_error,
        metrics.length_error,
    ):
        assert metric(said, said).tolist() == [0] * 6, metric.__name__


def test_log_spectral_distance_is_in_decibels() -> None:
    due, own = told([2], spectrum=[0, 0]), told([2], spectrum=[np.log(10) / 20 * 6, 0])
    assert metrics.log_spectral_distance(own, due).tolist() == pytest.approx([3])  # 6 dB in one frame of two


def test_frames_are_paired_by_their_place_in_the_phoneme() -> None:
    """A student that speaks the second phoneme at half the pace says the same."""
    due, own = told([2, 2], spectrum=[1, 2, 3, 4]), told([2, 4], spectrum=[1, 2, 3, 3, 4, 4])
    assert metrics.log_spectral_distance(own, due).tolist() == [0]
    slow, fast = ({name: array[0] for name, array in side.items()} for side in (own, due))
    assert metrics._paired(fast, slow).tolist() == [0, 1, 2, 2, 3, 3]


def test_what_lies_past_the_end_counts_nowhere() -> None:
    due, own = (
        told([2], spectrum=[1, 1], pitch=[90, 90], voiced=[1, 1]),
        told([2], spectrum=[1, 1], pitch=[90, 90], voiced=[1, 1]),
    )
    own["spectrum"][:, 2:], own["pitch"][:, 2:], own["voiced"][:, 2:] = 9, 900, 1
    assert metrics.log_spectral_distance(own, due).tolist() == metrics.pitch_error(own, due).tolist() == [0]


def test_a_student_that_was_cut_off_is_held_to_its_last_frame() -> None:
    due, own = told([4, 4], spectrum=[1] * 8), told([4, 20], spectrum=[1] * 8)
    assert metrics.log_spectral_distance(own, due).tolist() == [0]


def test_durations_are_in_milliseconds_a_phoneme() -> None:
    due, own = told([4, 2, 0]), told([2, 2, 0])
    assert metrics.duration_error(own, due).tolist() == [12.5]
    assert metrics.length_error(own, due).tolist() == pytest.approx([1 / 3])


def test_pitch_is_compared_where_both_are_voiced() -> None:
    due = told([4], pitch=[100, 100, 100, 100], voiced=[1, 1, 0, 1])
    own = told([4], pitch=[200, 100, 500, 500], voiced=[2.5, 0.1, 3, -1])
    assert metrics.pitch_error(own, due).tolist() == pytest.approx([600])  # an octave in one frame of two
    assert metrics.pitch_error(told([4], pitch=[100] * 4, voiced=[-1] * 4), due).tolist() == [metrics.OCTAVE]


def test_voicing_is_what_most_frames_of_a_settled_phoneme_are() -> None:
    truth = {
        "label.voiced": np.array([[speech.VOICED, speech.VOICELESS, speech.UNSETTLED, speech.UNSETTLED]])
    }
    own = told([3, 2, 1, 0], voiced=[1, -1, 1, 1, -1, 1])  # 2 of 3; 1 of 2, which is not most; unsettled
    assert metrics.voicing(own, truth, lead=0).tolist() == [1]
    assert metrics.voicing({**own, "voiced": -own["voiced"]}, truth, lead=0).tolist() == [
        0.5
    ]  # 1 of 3; 1 of 2
    early = told([3, 2, 1, 0], voiced=[1, 1, -1, -1, 1, 1])
    assert metrics.voicing(early, truth, lead=1).tolist() == [1]
    assert metrics.voicing(early, truth, lead=0).tolist() == [1] and metrics.LEAD == 2


def test_to_voice_everything_is_half_right_however_much_is_voiced() -> None:
    truth = {"label.voiced": np.array([[speech.VOICED] * 3 + [speech.VOICELESS]])}
    assert metrics.voicing(told([2] * 4, voiced=[1] * 8), truth).tolist() == [0.5]
    assert metrics.voicing(
        told([2] * 3, voiced=[1] * 6), {"label.voiced": truth["label.voiced"][:, :3]}
    ).tolist() == [1]


def test_a_phoneme_without_frames_is_not_right() -> None:
    truth = {"label.voiced": np.array([[speech.VOICED, speech.VOICELESS]])}
    cut = {**told([4, 4], frames=4, voiced=[1, 1, 1, 1]), "frames": np.array([4])}
    assert metrics.voicing(cut, truth, lead=0).tolist() == [0.5]


def test_the_teacher_voices_what_phonology_says(heard: Arrays, said: Arrays) -> None:
    assert metrics.voicing(said, heard).mean() > 0.8
    assert metrics.voicing(said, heard, lead=8).mean() < 0.6  # its sounds come 2 frames early, not 8
