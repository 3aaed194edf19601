"""What may be compared."""

from lossbench.comparison import _protocol_defaults, protocol
from lossbench.protocol import Protocol
from tests.factories import make_record


def test_defaults_from_the_syntax_tree_are_those_of_the_model() -> None:
    assert list(_protocol_defaults().items()) == list(Protocol().model_dump(mode="json").items())


def test_a_protocol_made_before_a_field_existed_is_that_of_its_default() -> None:
    _, record, _ = make_record()
    full = protocol(record)
    record.cell["protocol"] = {key: value for key, value in full.items() if key != "compile"}
    assert protocol(record) == full
    assert full["compile"] is False
