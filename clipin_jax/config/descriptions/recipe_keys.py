"""The keys that recipes set and the run reads itself, each with its meaning.

`NAME` stands for a name that the config chooses.
"""

import re

RECIPE_KEYS = {
    "name": "Name of the run. Its folder is `runs/NAME` unless `--workdir` is given.",
    "seed": "Seed of initial weights, the order of the data, views and dropout.",
    "batch_size": "Pairs in a step, over all devices.",
    "micro_batches": "Pieces of a device's rows that the towers take one by one. "
    "Losses still see the whole batch.",
    "total_steps": "Number of updates.",
    "log_every_steps": "Steps between two lines of metrics.",
    "health_every_steps": "Steps between two measurements of the collapse metrics; "
    "0 for none.",
    "max_nonfinite_steps": "So many updates in a row that are skipped, as loss or "
    "gradient is not finite, end the run.",
    "init_from": "Weights to start from: a file or folder, `hf-hub:owner/name`, "
    'RUN or RUN@STEP; "" to start from scratch.',
    "init_parts": 'What is read of them: "all", "image", "text", or regular '
    "expressions of parameter paths.",
    "init_keep": "Regular expressions of parameter paths that start from scratch all "
    "the same.",
    "compiler_options": "Options of XLA for the training step, by name.",
    "target.decay": "Share of the averaged parameters that a step keeps: a number or a "
    "schedule.",
    "target.symmetric": "Whether views are swapped and the loss is the mean of both.",
    "mesh.dcn": "Number of slices that a data-centre network connects.",
    "mesh.data": "Devices of a slice that split the batch and keep whole parameters; "
    "-1 for all that are left.",
    "mesh.fsdp": "Devices of a slice that split the batch and the parameters.",
    "sharding.preset": 'How parameters, optimizer and target are kept: "replicate", '
    '"zero1", "fsdp" or "fsdp+zero1".',
    "sharding.rules": 'Pairs of a path pattern and "replicate", "fsdp" or "all"; they '
    "come before the preset.",
    "sharding.min_mib": "Arrays with less than so many MiB stay whole on each device.",
    "log.tensorboard": "Whether to write event files of TensorBoard.",
    "log.NAME.type": "The logger: a name of the table, or `package.module:Class`. "
    "Without it, NAME.",
    "model.embed_dim": "Width of the joint space of images and texts; 0 for none.",
    "model.pre_projector": "Width of a linear layer between pooled features and "
    "projections; 0 for none. CLIPin's heads read it.",
    "model.projection.image": "How pooled features of images get to the joint space: "
    '"matrix" (no bias), "linear" (with bias) or "none".',
    "model.projection.text": "The same for texts.",
    "model.projection_init": "How pre-projectors and projections start: as in the "
    'published code of that layer ("released"), as in CLIP ("clip"), or "orthogonal".',
    "model.embedding_from": "The objective whose space evaluations and embeddings use; "
    '"" for the joint space.',
    "model.dtype": 'Type of matrix products: "float32", or "bfloat16" for TPUs and '
    "recent GPUs.",
    "model.param_dtype": "Type of parameters, and of the average of them.",
    "model.scan_layers": "Whether equal layers are compiled once and run in a loop: "
    "compiles faster, starts from other random values.",
    "model.remat.image": "What the backward pass keeps of a block of the image tower: "
    '"none" computes nothing again; "dots", "dots_no_batch", "full", "offload".',
    "model.remat.text": "The same for the text tower.",
    "model.attention": 'Kernel of attention: "auto", "plain", "fused" or "cudnn".',
    "model.image_mean": "Mean of each colour, from 0 to 1, that is subtracted from "
    "pixels.",
    "model.image_std": "Standard deviation of each colour, which divides pixels.",
    "model.image.name": "The image tower: a name of the table, or "
    "`package.module:Class`.",
    "model.text.name": "The text tower: a name of the table, or "
    "`package.module:Class`.",
    "objectives.NAME.type": "The objective: a name of the table, or "
    "`package.module:Class`. Without it, NAME.",
    "optim.name": "The optimizer: a name of the table, or `package.module:function`.",
    "optim.learning_rate": "Learning rate: a number or a schedule.",
    "optim.weight_decay": "Decay of weights, times the learning rate: a number or a "
    "schedule.",
    "optim.clip_norm": "Norm to which the gradient of all parameters is clipped; 0 for "
    "none.",
    "optim.no_decay": "Regular expressions of the paths of parameters without decay.",
    "optim.bounds": "(pattern, low, high) of parameters that are kept within limits "
    "after each step.",
    "optim.groups": "(pattern, settings) of parameters, the first match counts; "
    "settings are the factors `learning_rate` and `weight_decay`, `clip_norm` and "
    "`freeze`.",
    "optim.layer_decay": "Factor on the learning rate from each layer to the one "
    "before it, towards the input.",
    "KEY.schedule": "The schedule of any number that may change: a name of the table, "
    "or `package.module:function`.",
    "data.source.name": "The source of training data: a name of the table, or "
    "`package.module:Class`.",
    "data.image_size": "Height and width of a view in pixels; follows "
    "`model.image.image_size`.",
    "data.context_length": "Ids of a text; follows `model.text.context_length`.",
    "data.resize": 'How evaluation gets the size: "shortest" scales the shorter side '
    'and crops, "squash" scales the whole image.',
    "data.tokenizer.name": "The tokenizer: a name of the table, or "
    "`package.module:Class`.",
    "data.views": "Views of a pair: 1, or 2 for CLIPin and others with a second view.",
    "data.second_text": 'Caption of the second view: the "same", or "another" of the '
    "image.",
    "data.caption_cleaning": 'What happens to captions first: nothing (""), '
    '"delete_punctuation" or "space_punctuation".',
    "data.caption_words": "Words of a caption that are kept; 0 for all.",
    "data.long_captions": "What happens to captions longer than `data.context_length`: "
    '"cut" or "error".',
    "data.caption_weights": "(kind of caption, weight) pairs; () draws all alike.",
    "data.mask_probability": "Share of ids that are masked; 0 for none.",
    "data.shuffle": "Whether each epoch has its own order.",
    "data.shuffle_block": "Neighbouring records that are read together; 0: any order.",
    "data.augment_on": 'Where views are made: "host", or "device" with '
    "`data.augment.resize_first`.",
    "data.augment.resize_first": "Side of a square to which the image is scaled before "
    "it is cropped; 0 for none.",
    "data.augment.crop_scale": "Least and greatest share of the area that is kept.",
    "data.augment.crop_ratio": "Least and greatest width over height of a crop.",
    "data.augment.flip": "Probability of mirroring left and right.",
    "data.augment.brightness": "Jitter x: a factor from 1 - x to 1 + x.",
    "data.augment.contrast": "Jitter x: a factor from 1 - x to 1 + x.",
    "data.augment.saturation": "Jitter x: a factor from 1 - x to 1 + x.",
    "data.augment.hue": "Jitter x: -x to x of a full turn, at most 0.5.",
    "data.augment.jitter_probability": "Share of views whose colours are jittered.",
    "data.augment.grayscale": "Probability of losing all colour.",
    "data.augment.blur": "Probability of a Gaussian blur.",
    "data.augment.blur_sigma": "Least and greatest standard deviation of the blur, in "
    "pixels of the view.",
    "data.augment.transforms": "Name to type and arguments of transforms, which are "
    "applied in this order after the crop.",
    "data.augment.transforms.NAME.type": "The transform: a name of the table, or "
    "`package.module:Class`. Without it, NAME.",
    "data.augment.interpolation": '"bicubic", "bilinear" or "nearest".',
    "data.threads": "Threads that read and decode, in each process.",
    "data.processes": "Processes that read and decode; 0 for threads alone.",
    "data.prefetch_batches": "Batches that are made ahead.",
    "data.max_pixels": "Pixels of an image above which its record counts as bad.",
    "data.max_bad_fraction": "Share of bad records above which a run stops.",
    "data.allow_change": "Whether a run resumes although the data has changed.",
    "evals.NAME.type": "The evaluator: a name of the table, or `package.module:Class`. "
    "Without it, NAME.",
    "evals.NAME.every_steps": "Steps between two evaluations; 0 for the end only.",
    "evals.NAME.at_start": "Whether to evaluate before the first step too.",
    "evals.NAME.source.name": "The source of the data to score.",
    "evals.NAME.train_source.name": "The source of the training data of a probe.",
    "evals.NAME.val_source.name": "The source that chooses the penalty of a probe.",
}


def describe_recipe_key(key: str) -> str:
    """Returns what a dotted key means; "" if the table lacks it."""
    for name, text in RECIPE_KEYS.items():
        pattern = re.escape(name).replace("NAME", r"[^.]+").replace("KEY", r".+")
        if re.fullmatch(pattern, key):
            return text
    return ""
