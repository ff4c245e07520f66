"""Builds our runs of the golden files of ALBEF and BLIP."""

import functools

import numpy as np

from tests.parity import names
from tests.parity.forward import channels_last
from tests.parity.golden_files import GoldenFile
from tests.parity.momentum_run import MomentumRun, host_config

# Negatives come from the file, so the temperature that draws them has no effect.
MATCHING = dict(weight=1.0, temperature=1.0)
BLIP_FLOOR = 1e-4  # added to the probabilities of negatives
ALBEF_NO_DECAY = (r"bias$", r"scale$")
TOKEN_TYPES = "init/params/text_encoder.bert.embeddings.token_type_embeddings.weight"


def albef_run(file: GoldenFile) -> MomentumRun:
    """Returns our run of ALBEF's pretraining."""
    c, pad = file.sizes, file.meta["special_ids"]["pad"]
    text = dict(
        name="split_bert", depth=c["fusion_layer"],
        fusion_depth=c["t_layers"] - c["fusion_layer"],
        token_types=file[TOKEN_TYPES].shape[0], pad_id=pad,
    )  # fmt: skip
    objectives = dict(
        momentum_contrastive=dict(weight=1.0), matching=dict(MATCHING),
        masked_lm=dict(weight=1.0),
    )  # fmt: skip
    losses = {
        "momentum_contrastive/loss": "itc",
        "matching/loss": "itm",
        "masked_lm/loss": "mlm",
    }

    def batch(step: int) -> dict:
        draws = file.section(f"step{step}/draws/")
        masked = {
            "masked_text": draws["mlm_input_ids"],
            "masked_labels": draws["mlm_labels"],
        }
        return {"view1": read_view(file, f"step{step}/inputs/") | masked}

    config = host_config(file.meta, text, objectives, ALBEF_NO_DECAY)
    to_tree = functools.partial(names.to_tree, names.albef_table(c))
    return MomentumRun(file, config, to_tree, batch, losses)


def blip_run(file: GoldenFile) -> MomentumRun:
    """Returns our run of BLIP's pretraining."""
    c, ids = file.sizes, file.meta["special_ids"]
    text = dict(
        name="mixture_bert", depth=c["t_layers"], decode_id=ids["dec"],
        encode_id=ids["enc"], pad_id=ids["pad"],
    )  # fmt: skip
    objectives = dict(
        momentum_contrastive=dict(weight=1.0),
        matching=MATCHING | dict(floor=BLIP_FLOOR),
        captioning=dict(weight=1.0, label_smoothing=0.1, pad_id=ids["pad"]),
    )  # fmt: skip
    losses = {
        "momentum_contrastive/loss": "itc",
        "matching/loss": "itm",
        "captioning/loss": "lm",
    }

    def batch(step: int) -> dict:
        return {"view1": read_view(file, f"step{step}/inputs/")}

    config = host_config(file.meta, text, objectives)
    to_tree = functools.partial(names.to_tree, names.BLIP)
    return MomentumRun(file, config, to_tree, batch, losses)


def read_view(file: GoldenFile, prefix: str) -> dict:
    """Returns the images and texts of a section as a view."""
    inputs = file.section_or_skip(prefix)
    return {"image": channels_last(inputs["images"]), "text": inputs["input_ids"]}


def queue_similarities(run: MomentumRun, features: dict, keys: dict) -> dict:
    """Returns products of online features and keys at step 1, by the file's names.

    Args:
      run: whose queue and temperature are read.
      features: online, of the batch.
      keys: momentum features of the batch, per modality [B, E].
    """
    temperature, ours = run.params("init")["temp"], {}
    directions = (("sim_i2t", "image", "text"), ("sim_t2i", "text", "image"))
    for name, query, key in directions:
        queue = run.file[f"init/buffers/{key}_queue"]
        columns = np.concatenate([keys[key].T, queue], axis=1)
        ours[name] = features[query]["embedding"] @ columns / temperature
    return ours
