"""The plans at scale: what is planned, and the page that shows them."""

import json

import pytest

from clipin_jax.config import load_config
from clipin_jax.plan.machines import find_machine


@pytest.fixture
def scale(bench):
    return bench("scale")


@pytest.fixture
def scale_page(bench):
    return bench("scale_page")


def test_every_config_loads_and_every_machine_exists(scale):
    for config in scale.CONFIGS:
        load_config(config, [*scale.SETTINGS], without_data=True)
    for topology, _ in scale.MACHINES.values():
        find_machine(topology)


def test_each_step_comes_once_and_its_pieces_divide_the_batch(scale):
    steps = list(scale.missing_steps(scale.CONFIGS, []))
    assert len({*steps}) == len(steps) == 15 * len(scale.CONFIGS)
    for step in steps:
        _, chips = scale.MACHINES[step.machine]
        assert step.batch_size % (chips * step.micro_batches) == 0
    first = dict(config="clip", machine="v5e-16", batch_size=32_768)
    assert set(steps) - set(scale.missing_steps(scale.CONFIGS, [first])) == {
        scale.Step("clip", "v5e-16", 32_768)
    }


def test_the_page_is_that_of_the_plans(scale, scale_page, repository):
    page = scale_page.page(scale.read_results(), scale.SETUP)
    assert page == (repository / "docs/scale_plans.md").read_text()


def test_the_page_tells_what_does_not_fit_and_what_was_not_planned(scale, scale_page):
    result = dict(
        config="clip", machine="v5e-16", batch_size=32_768, fits=True,
        memory_bytes=2**31, limit_bytes=2**34, collective_bytes=2**29,
        images_per_second=12_800,
    )  # fmt: skip
    too_large = result | dict(batch_size=131_072, fits=False, memory_bytes=2**35)
    page = scale_page.page([result, too_large], scale.SETUP)
    cells = "- | - | - | 12,800 | 2.0 | 0.50 | does not fit | 32.0 | -"
    assert f"| `clip` | {cells} |" in page
    # 12.8e9 pairs at 12,800 a second take 1e6 seconds of 16 chips.
    assert "| `clip` | 4,444 | - | - | - | - |" in page
    assert "siglip" not in page


def test_results_are_a_line_each(scale):
    lines = scale.RESULTS.read_text().splitlines()
    assert len(lines) == len(json.loads(scale.RESULTS.read_text())) + 2
