"""The figure of CLIPin: its two branches, heads and terms."""

from draw import Figure


def figures() -> dict[str, Figure]:
    """Returns name -> figure."""
    return {"clipin": clipin()}


def clipin() -> Figure:
    """Online branch on the left, target branch on the right, terms between them."""
    fig = Figure(960, 560, "CLIPin: two branches, two modalities, five losses")
    fig.group(16, 62, 500, 424, "online branch: view 1, with gradient", kind="trained")
    fig.group(736, 62, 208, 424, "target branch: view 2", kind="target")
    _online(fig, "image", "I", "x", outer=110, inner=158, contrast=212)
    _online(fig, "text", "T", "t", outer=438, inner=390, contrast=336)
    fig.box(430, 244, 76, 56, "InfoNCE", "z_{I}, z_{T}", kind="loss")
    fig.arrow((394, 212), (468, 212), (468, 242), kind="flow")
    fig.arrow((394, 336), (468, 336), (468, 302), kind="flow")
    _target(fig, "I", "x", y=134)
    _target(fig, "T", "t", y=414)
    _terms(fig)
    fig.arrow((148, 60), (148, 36), (815, 36), (815, 60), kind="average")
    fig.note(
        481, 28,
        "after each update, for f, a and n:   target ← m · target + (1 − m) · online",
        anchor="middle",
    )  # fmt: skip
    fig.note(
        24, 508,
        "f tower · a pre-projector · c contrastive head · n non-contrastive head · "
        "p, r predictors · vectors of a cosine have unit norm",
    )  # fmt: skip
    fig.legend(538, ("data", "trained", "target", "loss"))
    return fig


def _online(
    fig: Figure, name: str, m: str, letter: str,
    *, outer: float, inner: float, contrast: float,
) -> None:  # fmt: skip
    """Draws a modality of the online branch; the numbers are middles of rows."""
    sub, middle = f"_{{{m}}}", (outer + inner) / 2
    fig.box(26, middle - 20, 66, 40, f"{letter}_{{1}}", name, kind="data")
    fig.box(112, middle - 20, 72, 40, f"f{sub}", "tower")
    fig.box(206, middle - 20, 96, 40, f"a{sub}", "pre-projector")
    fig.box(324, middle - 20, 70, 40, f"n{sub}", f"u{sub}")
    fig.box(430, outer - 17, 76, 34, f"r{sub}", kind="trained")
    fig.box(430, inner - 17, 76, 34, f"p{sub}", kind="trained")
    fig.box(324, contrast - 17, 70, 34, f"c{sub}")
    fig.arrow((92, middle), (110, middle))
    fig.arrow((184, middle), (204, middle))
    fig.arrow((302, middle), (322, middle))
    side = 20 if contrast > middle else -20
    fig.arrow((254, middle + side), (254, contrast), (322, contrast))
    for y in (outer, inner):
        fig.arrow((394, middle), (412, middle), (412, y), (428, y))


def _target(fig: Figure, m: str, letter: str, y: float) -> None:
    sub = f"_{{{m}}}"
    fig.box(876, y - 20, 58, 40, f"{letter}_{{2}}", kind="data")
    fig.box(
        752,
        y - 32,
        104,
        64,
        f"y{sub}",
        f"averaged|f{sub}, a{sub}, n{sub}",
        kind="target",
    )
    fig.arrow((876, y), (858, y))


def _terms(fig: Figure) -> None:
    """Draws the four cosines: each has an online and a target vector."""
    x, w = 552, 118
    for y, title, note in (
        (110, "intra", "1 − cos(r_{I}, y_{I})"),
        (158, "inter", "1 − cos(p_{I}, y_{T})"),
        (390, "inter", "1 − cos(p_{T}, y_{I})"),
        (438, "intra", "1 − cos(r_{T}, y_{T})"),
    ):
        fig.box(x, y - 20, w, 40, title, note, kind="loss")
        fig.arrow((506, y), (x - 2, y))
    right = x + w + 2
    fig.arrow((752, 116), (right, 110), kind="detached")
    fig.arrow((752, 150), (right, 384), kind="detached")
    fig.arrow((752, 398), (right, 164), kind="detached")
    fig.arrow((752, 432), (right, 438), kind="detached")
    fig.note(611, 268, "purple arrows:", anchor="middle")
    fig.note(611, 284, "stop-gradient", anchor="middle")
