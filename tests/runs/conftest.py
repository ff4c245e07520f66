import pytest

from tests.support.saved_states import State, make_state, shapes_of


@pytest.fixture
def abstract() -> State:
    return shapes_of(make_state(0))
