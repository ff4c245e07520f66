"""The figure of CLIPin: its two branches, heads and terms."""

from draw import Figure


def figures() -> dict[str, Figure]:
    """Returns name -> figure."""
    return {"clipin": clipin()}


def clipin() -> Figure:
    """Online branch on the left, target branch on the right, terms between them."""
    fig = Figure(760, 560, "CLIPin: two branches, two modalities, five losses")
    fig.group(12, 62, 382, 424, "online branch: view 1, with gradient", kind="trained")
    fig.group(570, 62, 178, 424, "target branch: view 2", kind="target")
    _online(fig, "image", "I", "x", outer=110, inner=158, contrast=212)
    _online(fig, "text", "T", "t", outer=438, inner=390, contrast=336)
    fig.box(320, 244, 66, 56, "InfoNCE", "z_{I}, z_{T}", kind="loss")
    fig.arrow((300, 212), (353, 212), (353, 242), kind="flow")
    fig.arrow((300, 336), (353, 336), (353, 302), kind="flow")
    _target(fig, "I", "x", y=134)
    _target(fig, "T", "t", y=414)
    _terms(fig)
    fig.arrow((107, 60), (107, 36), (622, 36), (622, 60), kind="average")
    fig.note(
        364, 28,
        "after each update, for f, a and n:   target ← m · target + (1 − m) · online",
        anchor="middle",
    )  # fmt: skip
    fig.note(
        16, 508,
        "f tower · a pre-projector · c contrastive head · n non-contrastive head · "
        "p, r predictors",
    )  # fmt: skip
    fig.legend(538, ("data", "trained", "target", "loss"))
    return fig


def _online(
    fig: Figure, name: str, m: str, letter: str,
    *, outer: float, inner: float, contrast: float,
) -> None:  # fmt: skip
    """Draws a modality of the online branch; the numbers are middles of rows."""
    sub, middle = f"_{{{m}}}", (outer + inner) / 2
    fig.box(20, middle - 20, 46, 40, f"{letter}_{{1}}", name, kind="data")
    fig.box(80, middle - 20, 54, 40, f"f{sub}", "tower")
    fig.box(148, middle - 20, 90, 40, f"a{sub}", "pre-projector")
    fig.box(252, middle - 20, 48, 40, f"n{sub}", f"u{sub}")
    fig.box(326, outer - 17, 54, 34, f"r{sub}", kind="trained")
    fig.box(326, inner - 17, 54, 34, f"p{sub}", kind="trained")
    fig.box(252, contrast - 17, 48, 34, f"c{sub}")
    fig.arrow((66, middle), (78, middle))
    fig.arrow((134, middle), (146, middle))
    fig.arrow((238, middle), (250, middle))
    side = 20 if contrast > middle else -20
    fig.arrow((193, middle + side), (193, contrast), (250, contrast))
    for y in (outer, inner):
        fig.arrow((300, middle), (312, middle), (312, y), (324, y))


def _target(fig: Figure, m: str, letter: str, y: float) -> None:
    sub = f"_{{{m}}}"
    fig.box(694, y - 20, 46, 40, f"{letter}_{{2}}", kind="data")
    copies = f"averaged|f{sub}, a{sub}, n{sub}"
    fig.box(580, y - 32, 86, 64, f"y{sub}", copies, kind="target")
    fig.arrow((694, y), (668, y))


def _terms(fig: Figure) -> None:
    """Draws the four cosines: each has an online and a target vector."""
    x, w = 404, 118
    for y, title, note in (
        (110, "intra", "1 − cos(r_{I}, y_{I})"),
        (158, "inter", "1 − cos(p_{I}, y_{T})"),
        (390, "inter", "1 − cos(p_{T}, y_{I})"),
        (438, "intra", "1 − cos(r_{T}, y_{T})"),
    ):
        fig.box(x, y - 20, w, 40, title, note, kind="loss")
        fig.arrow((380, y), (x - 2, y))
    right = x + w + 2
    fig.arrow((580, 116), (right, 110), kind="detached")
    fig.arrow((580, 150), (right, 384), kind="detached")
    fig.arrow((580, 398), (right, 164), kind="detached")
    fig.arrow((580, 432), (right, 438), kind="detached")
    fig.note(463, 268, "purple arrows:", anchor="middle")
    fig.note(463, 284, "stop-gradient", anchor="middle")
