"""The figures of the frameworks: towers, joint space and objectives of each."""

from draw import Figure

KINDS = ("data", "trained", "loss", "plug")
WITH_TARGET = ("data", "trained", "target", "loss", "plug")
W = 776
# Left edge and width of each column.
DATA, TOWER, SLOT, JOINT, LOSS = (
    (16, 64), (112, 178), (308, 106), (432, 106), (568, 186),
)  # fmt: skip
# Right edges of the columns; lines between them run here.
DATA_END, TOWER_END, SLOT_END, JOINT_END, LOSS_END = 80, 290, 414, 538, 754
TEXT, PATCHES, MIDDLE, FORK, MERGE = 30, 98, 200, 361, 551


def figures() -> dict[str, Figure]:
    """Returns name -> figure."""
    makers = (clip, siglip, nclip, xclip, albef, blip, coca)
    return {maker.__name__: maker() for maker in makers}


def row(
    fig: Figure, y: float, name: str, tower: tuple[str, str], joint: tuple[str, str],
) -> None:  # fmt: skip
    """Draws a modality around the height y: input, tower, slot, joint space."""
    fig.box(DATA[0], y - 22, DATA[1], 44, name, kind="data")
    fig.box(TOWER[0], y - 30, TOWER[1], 60, *tower)
    fig.box(SLOT[0], y - 22, SLOT[1], 44, "pre-projector", "linear", kind="plug")
    fig.arrow((DATA_END, y), (TOWER[0] - 2, y))
    fig.arrow((TOWER_END, y), (SLOT[0] - 2, y))
    if joint[0]:
        fig.box(JOINT[0], y - 22, JOINT[1], 44, *joint)
        fig.arrow((SLOT_END, y), (JOINT[0] - 2, y))


def loss(fig: Figure, top: float, height: float, title: str, note: str) -> None:
    """Draws an objective in the last column."""
    fig.box(LOSS[0], top, LOSS[1], height, title, note, kind="loss")


def merge(fig: Figure, heights: dict[float, float]) -> None:
    """Draws lines from the joint space, at heights, to an objective, at others."""
    for y, end in heights.items():
        fig.arrow((JOINT_END, y), (MERGE, y), (MERGE, end), (LOSS[0] - 2, end))


def foot(fig: Figure, kinds: tuple[str, ...] = KINDS) -> Figure:
    """Draws the legend at the bottom."""
    fig.legend(fig.height - 20, kinds)
    return fig


def clip() -> Figure:
    """CLIP."""
    fig = Figure(W, 260, "CLIP: two towers, a joint space, InfoNCE")
    row(
        fig, 60, "image", ("vit", "12 blocks, class token|or resnet, attention pool"),
        ("matrix", "z_{I}, unit norm"),
    )  # fmt: skip
    row(
        fig, 160, "text", ("text_transformer", "12 causal blocks|end token"),
        ("matrix", "z_{T}, unit norm"),
    )  # fmt: skip
    note = "InfoNCE both ways|over the global batch|learned scale"
    loss(fig, 65, 90, "contrastive", note)
    merge(fig, {60: 95, 160: 125})
    return foot(fig)


def siglip() -> Figure:
    """SigLIP."""
    fig = Figure(W, 260, "SigLIP: two towers, a binary classification of every pair")
    row(
        fig, 60, "image", ("vit", "12 blocks, no class token|attention pool"),
        ("no layer", "z_{I}, unit norm"),
    )  # fmt: skip
    row(
        fig, 160, "text", ("text_transformer", "12 blocks, no mask|last token"),
        ("linear", "z_{T}, unit norm"),
    )  # fmt: skip
    note = "each pair: match or not|over the global batch|learned scale, offset"
    loss(fig, 65, 90, "sigmoid", note)
    merge(fig, {60: 95, 160: 125})
    return foot(fig)


def nclip() -> Figure:
    """The nCLIP figure."""
    fig = Figure(W, 260, "nCLIP: both sides of a pair fall into the same soft clusters")
    _clip_towers(fig, ("", ""), 60, 160)
    for y, sub in ((60, "p"), (160, "q")):
        fig.box(JOINT[0], y - 22, JOINT[1], 44, "cluster head", f"{sub}: K clusters")
        fig.arrow((SLOT_END, y), (JOINT[0] - 2, y))
    loss(
        fig,
        65,
        90,
        "cluster",
        "alignment + sharpness|− smoothness|over the global batch",
    )
    merge(fig, {60: 95, 160: 125})
    return foot(fig)


def xclip() -> Figure:
    """The xCLIP figure."""
    fig = Figure(W, 340, "xCLIP: CLIP and nCLIP on the same towers")
    _clip_towers(fig, ("matrix", "z_{I}, unit norm"), 110, 210)
    joint = JOINT[0]
    fig.box(joint, 188, JOINT[1], 44, "matrix", "z_{T}, unit norm")
    fig.arrow((SLOT_END, 210), (joint - 2, 210))
    fig.box(joint, 28, JOINT[1], 44, "cluster head", "p: K clusters")
    fig.box(joint, 248, JOINT[1], 44, "cluster head", "q: K clusters")
    fig.arrow((SLOT_END, 100), (SLOT_END + 9, 100), (SLOT_END + 9, 50), (joint - 2, 50))
    fig.arrow(
        (SLOT_END, 220), (SLOT_END + 9, 220), (SLOT_END + 9, 270), (joint - 2, 270)
    )
    loss(fig, 128, 64, "contrastive", "InfoNCE both ways|weight 1")
    merge(fig, {110: 146, 210: 174})
    loss(fig, 28, 64, "cluster", "alignment, sharpness,|smoothness; weight 1")
    fig.arrow((JOINT_END, 50), (LOSS[0] - 2, 50))
    fig.arrow(
        (JOINT_END, 270), (LOSS_END + 10, 270), (LOSS_END + 10, 60), (LOSS_END + 2, 60)
    )
    return foot(fig)


def _clip_towers(
    fig: Figure, joint: tuple[str, str], image: float, text: float
) -> None:
    row(fig, image, "image", ("vit", "12 blocks|class token"), joint)
    row(fig, text, "text", ("text_transformer", "12 causal blocks|end token"), ("", ""))


def _momentum_towers(fig: Figure, text: tuple[str, str]) -> None:
    """Draws what ALBEF and BLIP share: towers, joint space, keys."""
    vit = ("vit", "12 blocks|class token, patches")
    row(fig, 60, "image", vit, ("linear", "z_{I}, unit norm"))
    row(fig, 150, "text", text, ("linear", "z_{T}, unit norm"))
    loss(
        fig, 36, 138, "momentum_contrastive",
        "InfoNCE with soft labels|against keys k_{I}, k_{T}|of this batch|"
        "and of the queue",
    )  # fmt: skip
    fig.arrow((JOINT_END, 60), (LOSS[0] - 2, 60))
    fig.arrow((JOINT_END, 150), (LOSS[0] - 2, 150))


def _target(fig: Figure, y: float, what: str) -> None:
    """Draws the momentum copy, its inputs and its keys."""
    fig.box(
        TOWER[0],
        y,
        JOINT_END - TOWER[0],
        54,
        "target branch",
        f"averaged copy of {what}",
        kind="target",
    )
    fig.arrow((TEXT, 172), (TEXT, y + 27), (TOWER[0] - 2, y + 27))
    fig.note(16, y + 46, "image, text")
    side = LOSS_END + 10
    keys = ((JOINT_END, y + 38), (side, y + 38), (side, 105), (LOSS_END + 2, 105))
    fig.arrow(*keys, kind="detached")
    fig.note(LOSS[0], y + 52, "keys, soft labels")


def _patches(fig: Figure, *heights: float, label: str = "patches") -> None:
    """Draws the image tower's tokens on their way to cross-attention."""
    fig.arrow(
        (TOWER[0], 76),
        (PATCHES, 76),
        (PATCHES, heights[-1]),
        (TOWER[0] - 2, heights[-1]),
        over=True,
    )
    for y in heights[:-1]:
        fig.arrow((PATCHES, y), (TOWER[0] - 2, y))
    fig.note(92, heights[0] - 28, label, anchor="end")


def _head(fig: Figure, y: float, joint: tuple[str, str], *objective: str) -> None:
    """Draws a head and its objective around the height y."""
    fig.box(JOINT[0], y - 22, JOINT[1], 44, *joint)
    loss(fig, y - 32, 64, *objective)
    fig.arrow((JOINT_END, y), (LOSS[0] - 2, y))


def albef() -> Figure:
    """ALBEF."""
    fig = Figure(W, 500, "ALBEF: align, then fuse, with a momentum copy of the towers")
    _momentum_towers(fig, ("split_bert", "lower half: 6 layers|[CLS], words"))
    upper = "upper half: 6 layers|with cross-attention"
    fig.box(TOWER[0], 250, TOWER[1], 64, "split_bert", upper)
    fig.arrow((MIDDLE, 180), (MIDDLE, 248))
    fig.note(208, 218, "words")
    _head(fig, 248, ("linear", "[CLS]: match?"), "matching",
          "3 B pairs, hard negatives|from the batch")  # fmt: skip
    _head(fig, 322, ("word head", "masked words"), "masked_lm",
          "cross-entropy|with soft labels")  # fmt: skip
    fig.arrow((TOWER_END, 274), (FORK, 274), (FORK, 248), (JOINT[0] - 2, 248))
    fig.arrow((TOWER_END, 290), (FORK, 290), (FORK, 322), (JOINT[0] - 2, 322))
    _target(fig, 390, "towers, word head, projections")
    _patches(fig, 282)
    fig.arrow((JOINT_END, 406), (661, 406), (661, 356), kind="detached")
    fig.note(LOSS[0], 400, "soft labels")
    return foot(fig, WITH_TARGET)


def blip() -> Figure:
    """BLIP."""
    fig = Figure(
        W, 500, "BLIP: one BERT in three roles, with a momentum copy of the towers"
    )
    _momentum_towers(fig, ("mixture_bert: text", "12 layers|[CLS], no image"))
    for y, role, note in (
        (248, "fuse", "[ENC], same weights|with cross-attention"),
        (328, "decode", "[DEC], causal; own|self-attention"),
    ):
        fig.box(TOWER[0], y - 32, TOWER[1], 64, f"mixture_bert: {role}", note)
        fig.arrow((TOWER_END, y), (JOINT[0] - 2, y))
    _head(fig, 248, ("linear", "[ENC]: match?"), "matching",
          "3 B pairs, hard negatives|from the batch")  # fmt: skip
    _head(fig, 328, ("word head", "next words"), "captioning",
          "next word|label smoothing")  # fmt: skip
    _target(fig, 390, "towers and projections")
    for y in (262, 342):
        fig.arrow((TEXT, y), (TOWER[0] - 2, y))
    _patches(fig, 236, 316)
    fig.note(36, 256, "words")
    return foot(fig, WITH_TARGET)


def coca() -> Figure:
    """CoCa."""
    fig = Figure(W, 400, "CoCa: contrast and captions from one decoder in two halves")
    vit = ("pooled_vit", "12 blocks, then|256 learned queries")
    row(fig, 60, "image", vit, ("matrix", "z_{I}, unit norm"))
    lower = ("split_decoder", "lower half: 12 causal|blocks, class token")
    row(fig, 170, "text", lower, ("matrix", "z_{T}, unit norm"))
    fig.note(296, 32, "query 0")
    fig.note(296, 142, "class token")
    loss(fig, 76, 78, "contrastive", "InfoNCE both ways|over the global batch|weight 1")
    merge(fig, {60: 100, 170: 130})
    upper = "upper half: 12 layers|with cross-attention"
    fig.box(TOWER[0], 266, TOWER[1], 64, "split_decoder", upper)
    fig.arrow((MIDDLE, 200), (MIDDLE, 264))
    fig.note(208, 238, "words")
    _head(fig, 298, ("vocabulary", "next words"), "captioning",
          "cross-entropy of next words|weight 2")  # fmt: skip
    fig.arrow((TOWER_END, 298), (JOINT[0] - 2, 298))
    _patches(fig, 298, label="queries 1–255")
    return foot(fig)
