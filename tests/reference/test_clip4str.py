"""CLIP4STR agrees with the published program: features, both branches in training and in reading."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from students.decoding import decode_probabilities
from students.permuted import permutation_masks
from tests.reference.cases import Case, cases, close, near
from tests.reference.clip4str_cases import (
    TAG,
    fresh_reader,
    images_of,
    margin,
    passes_of,
    reader_of,
    stored_name,
)

SURE = 1e-3
"""Words are compared where the best two probabilities are further apart at every position."""


@pytest.mark.parametrize("case", cases("clip4str"))
def test_every_weight_has_its_place_and_size(case: Case) -> None:
    reader, clip = reader_of(case), case.numbers["clip"]
    own = {stored_name(name): list(weight.shape) for name, weight in reader.state_dict().items()}
    assert own == case.numbers["state_dict_keys"]
    sizes, visual = reader.config.clip, reader.clip_model.visual
    assert (sizes.image_width, sizes.text_width, sizes.joint_width) == (
        clip["image_width"], clip["text_width"], clip["joint_dim"],
    )  # fmt: skip
    assert (visual.grid_size, visual.patch_size) == ((clip["image_grid"],) * 2, (clip["image_patch"],) * 2)
    for tower, heads in (
        (visual.transformer, clip["image_heads"]),
        (reader.clip_model.transformer, clip["text_heads"]),
    ):
        assert {block.attn.heads for block in tower.resblocks} == {heads}


@pytest.mark.parametrize("case", cases("clip4str"))
def test_pictures_and_their_features(case: Case) -> None:
    reader, images = reader_of(case), images_of(case)
    torch.testing.assert_close(reader.normalize(images), case.tensor("images"), rtol=0, atol=1e-6)
    with torch.no_grad():
        close(reader.encode(images), case.tensor("image_features"))


@pytest.mark.parametrize("case", cases("clip4str"))
def test_labels_and_masks(case: Case) -> None:
    reader = reader_of(case)
    assert torch.equal(reader.charset.encode(case.numbers["labels"]), case.tensor("target_ids"))
    for number, permutation in enumerate(case.tensor("permutations")):
        content, query = permutation_masks(permutation)
        assert torch.equal(content, case.tensor(f"mask_content{number}").bool())
        assert torch.equal(query, case.tensor(f"mask_query{number}").bool())


@pytest.mark.parametrize("case", cases("clip4str"))
def test_captions(case: Case) -> None:
    reader = reader_of(case)
    assert case.numbers["caption_examples"]
    for example in case.numbers["caption_examples"]:
        if "argmax_ids" in example:
            ids = torch.tensor([example["argmax_ids"]])
            assert reader.captioner(ids) == [example["caption"]]
            certain = torch.nn.functional.one_hot(ids, len(reader.charset.characters) + 1)
            assert decode_probabilities(reader.charset, certain)[0].text == example["ordinary_decode"]
        assert reader.tokens([example["caption"]]).tolist() == [example["clip_token_ids"]]


def tags(case: Case) -> Iterator[str]:
    """Name the inferences that the published program could do."""
    yield from (tag for tag, stored in case.numbers["inference"].items() if isinstance(stored, dict))


@pytest.mark.parametrize(("case", "tag"), cases("clip4str", tags))
def test_reading(case: Case, tag: str) -> None:
    stored, match = case.numbers["inference"][tag], TAG.fullmatch(tag)
    assert match is not None, f"what {tag} stands for is not known"
    passes = passes_of(case, match["whole"], most_refinements(case, match["whole"]))[: int(match["count"]) + 1]
    first, last = passes[0], passes[-1]
    assert first.cross is not None
    close(last.logits, case.tensor(f"{tag}_logits"))
    assert last.logits.shape[1] == stored["steps"]
    assert first.visual.shape[1] == first.cross.shape[1] == stored["ar_steps"]
    charset, tokens = reader_of(case).charset, reader_of(case).tokens
    readings = decode_probabilities(charset, last.logits.softmax(dim=-1))
    if margin(last.logits) > SURE:
        assert [reading.text for reading in readings] == stored["strings"]
        assert [reading.confidence for reading in readings] == near(stored["confidences"], 1e-4)
        for reading, expected in zip(readings, stored["token_probs"], strict=True):
            assert list(reading.token_probs) == near(expected, 1e-4)
    if margin(first.visual) > SURE:
        assert texts(case, first.visual) == stored["visual_ar_strings"]
        assert first.captions == stored["captions_after_ar"]
        assert tokens(first.captions).tolist() == stored["text_ids_after_ar"]
    if margin(first.cross) > SURE:
        assert texts(case, first.cross) == stored["cross_ar_strings"]
    refined = zip(passes[1:], stored["captions_per_refinement"], stored["text_ids_per_refinement"], strict=True)
    for each, captions, ids in refined:
        if margin(each.visual) > SURE:
            assert each.captions == captions
            assert tokens(each.captions).tolist() == ids


@pytest.mark.parametrize("case", cases("clip4str"))
def test_both_branches_of_every_pass(case: Case) -> None:
    passes = passes_of(case, "batch", most_refinements(case, "batch"))
    first, reader = passes[0], reader_of(case)
    assert first.cross is not None
    close(first.visual, case.tensor("batch_visual_ar_logits"))
    close(first.cross, case.tensor("batch_cross_ar_logits"))
    with torch.no_grad():
        close(reader.encode_captions(reader.tokens(first.captions)), case.tensor("batch_text_features_after_ar"))
    compared = [number for number in range(1, len(passes)) if f"batch_visual_refined{number}" in case.arrays]
    for number in compared:
        cross = passes[number].cross
        assert cross is not None
        close(passes[number].visual, case.tensor(f"batch_visual_refined{number}"))
        close(cross, case.tensor(f"batch_cross_refined{number}"))
    assert len(compared) == sum(name.startswith("batch_visual_refined") for name in case.arrays)


@pytest.mark.parametrize("case", cases("clip4str"))
def test_validation_loss(case: Case) -> None:
    reader = reader_of(case)
    targets = reader.charset.encode(case.numbers["labels"])[:, 1:]
    with torch.no_grad():
        logits = reader(images_of(case), targets.shape[1] - 1)
    counted = targets != reader.charset.pad_id
    loss = torch.nn.functional.cross_entropy(logits[counted], targets[counted])
    assert float(loss) == near(case.numbers["validation_loss"])
    assert int(counted.sum()) == case.numbers["validation_loss_numel"]


def refused(case: Case) -> Iterator[str]:
    """Name what the published program could not do."""
    yield from (tag for tag, stored in case.numbers["inference"].items() if not isinstance(stored, dict))


@pytest.mark.parametrize(("case", "tag"), cases("clip4str", refused))
def test_what_the_published_program_fails_at_works(case: Case, tag: str) -> None:
    images, longest = images_of(case), reader_of(case).max_length
    if tag == "decode_ar_false":
        reader = fresh_reader(case, decode_ar=False)
        steps = longest + 1
    elif tag == "use_language_model_false":
        reader = fresh_reader(case)
        reader.cross_decoder = None
        steps = longest + 1
    else:
        match = TAG.fullmatch(tag)
        assert match is not None, f"what {tag} stands for is not known"
        last = passes_of(case, match["whole"], int(match["count"]))[-1].logits
        assert torch.isfinite(last).all()
        return
    with torch.no_grad():
        logits = reader(images, refine_iters=1)
    assert logits.shape == (len(images), steps, len(reader.charset.characters) + 1)
    assert torch.isfinite(logits).all()


def texts(case: Case, logits: torch.Tensor) -> list[str]:
    return [reading.text for reading in decode_probabilities(reader_of(case).charset, logits.softmax(dim=-1))]


def most_refinements(case: Case, whole: str) -> int:
    match = [TAG.fullmatch(tag) for tag in tags(case)]
    return max(int(tag["count"]) for tag in match if tag is not None and tag["whole"] == whole)
