import decimal

import numpy as np
import pyarrow as pa
import pytest

from vitx.data.labels import class_names, class_numbers
from vitx.errors import DataError

INT64 = pa.int64()
WHERE = "train labels (column 'label')"


def column(values, kind=None):
    # Two chunks, so that a row number that is one of a chunk is caught.
    half = len(values) // 2
    return pa.chunked_array([pa.array(values[:half], kind), pa.array(values[half:], kind)], kind)


def names(values, kind=INT64, **how):
    return class_names(
        column(values, kind), **({"names": None, "num_classes": None, "where": WHERE} | how)
    )


def numbers(values, kind=INT64, classes=("0", "1", "2")):
    return class_numbers(column(values, kind), classes=classes, where=WHERE)


INTEGERS = ["int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"]


@pytest.mark.parametrize("kind", INTEGERS)
def test_integers_of_every_width(kind):
    found = numbers([2, 0, 1, 2], getattr(pa, kind)())
    assert found.dtype == np.int64
    assert found.tolist() == [2, 0, 1, 2]


def test_classes_of_integers_reach_to_the_largest():
    assert names([0, 4, 1]) == ("0", "1", "2", "3", "4")
    assert names([0, 1, 1], num_classes=3) == ("0", "1", "2")


def test_integers_that_number_something_else_are_refused():
    with pytest.raises(DataError, match="labels up to 1700000000 in 3 rows are no class numbers"):
        names([1, 1_700_000_000, 2])
    assert len(names([0, 2000], num_classes=2001)) == 2001


def test_classes_of_text_are_sorted_by_code_point():
    assert names(["b", "a", "É", "B", "a"], pa.string()) == ("B", "a", "b", "É")


def test_text_becomes_numbers():
    classes = ("ant", "bee", "cat")
    for kind in (pa.string(), pa.large_string(), pa.dictionary(pa.int32(), pa.string())):
        assert numbers(["cat", "ant", "cat"], kind, classes).tolist() == [2, 0, 2]


def test_given_names_are_kept_in_their_order():
    assert names([1, 0], names=["zebra", "ant"]) == ("zebra", "ant")


def test_a_class_number_may_exceed_the_width_of_the_column():
    many = tuple(str(number) for number in range(300))
    assert numbers([127, 0], pa.int8(), many).tolist() == [127, 0]
    assert numbers([255, 0], pa.uint8(), many).tolist() == [255, 0]


@pytest.mark.parametrize(
    ("values", "kind", "message"),
    [
        ([0, None, 1, None], pa.int64(), "label in 2 rows, first in row 1, is missing (null)"),
        ([0, 1, 1, -1], pa.int64(), "label -1 in 1 row, first in row 3, is negative"),
        ([0, -100, 1, -100], pa.int64(), "label -100 in 2 rows, first in row 1, is negative"),
        ([0, 1, 7, 3], pa.int64(), "label 7, 3 in 2 rows, first in row 2, is out of range: 3"),
        ([0, 1, 3], pa.uint8(), "3 classes allow 0 to 2"),
        ([0, 2**63 + 5], pa.uint64(), "label 9223372036854775813 in 1 row"),
        ([0.0, 1.0], pa.float32(), "expected integers or text, got float"),
        ([True, False], pa.bool_(), "expected integers or text, got bool"),
        ([[0], [1]], pa.list_(pa.int64()), "expected integers or text, got list"),
        ([b"a", b"b"], pa.binary(), "expected integers or text, got binary"),
        ([decimal.Decimal(1)], pa.decimal128(3), "expected integers or text, got decimal128"),
        ([None, None], pa.null(), "every label is missing (null)"),
        ([], pa.int64(), "expected at least one row, got none"),
    ],
)
def test_bad_numbers_are_refused_with_rows_and_values(values, kind, message):
    with pytest.raises(DataError) as caught:
        numbers(values, kind)
    assert str(caught.value).startswith(WHERE)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_unknown_text_is_refused_with_a_hint():
    with pytest.raises(DataError) as caught:
        numbers(["ant", "bee", "antt", "dog"], pa.string(), ("ant", "bee"))
    assert "label 'antt', 'dog' in 2 rows, first in row 2, is not among the 2" in str(caught.value)
    assert "did you mean 'ant'?" in str(caught.value)
    with pytest.raises(DataError, match="first in row 1, is missing"):
        numbers(["ant", None], pa.string(), ("ant",))


def test_only_the_first_bad_values_are_listed():
    with pytest.raises(DataError, match="label 10, 11, 12, 13, 14, ... in 20 rows"):
        numbers(list(range(10, 30)))


def test_number_of_classes_in_conflict_with_names():
    with pytest.raises(DataError, match="name 2 classes, but dataset.num_classes=3"):
        names([0, 1], names=["a", "b"], num_classes=3)
    with pytest.raises(DataError, match="name 2 classes, but dataset.num_classes=1"):
        names(["a", "b"], pa.string(), num_classes=1)
    assert names([0, 1], names=["a", "b"], num_classes=2) == ("a", "b")


def test_training_labels_without_any_value():
    with pytest.raises(DataError, match="got none"):
        names([])
    with pytest.raises(DataError, match="expected integers or text, got double"):
        names([0.5], pa.float64())
