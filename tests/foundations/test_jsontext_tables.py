"""What numpy, pandas and pydantic values become in JSON, and what is refused."""

from __future__ import annotations

import array

import pytest

from lionlite.jsontext import JsonError, encode, plain

np = pytest.importorskip("numpy")
pd = pytest.importorskip("pandas")

pytestmark = pytest.mark.quick


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (np.float64(0.5), 0.5),
        (np.float32(0.5), 0.5),
        (np.longdouble(0.5), 0.5),
        (np.int8(-3), -3),
        (np.uint64(2**64 - 1), 2**64 - 1),
        (np.bool_(True), True),
        (np.str_("x"), "x"),
        (np.array([[1, 2], [3, 4]]), [[1, 2], [3, 4]]),
        (np.array([0.5], np.longdouble), [0.5]),
        (np.array(3), 3),
        (np.array([]), []),
        (np.array(["a", None], object), ["a", None]),
        (np.datetime64("2024-05-06"), "2024-05-06"),
        (np.datetime64("2024-05-06T07:08", "ns"), "2024-05-06T07:08:00"),
        (np.array([["2024-05-06"]], "M8[ns]"), [["2024-05-06T00:00:00"]]),
        (np.timedelta64(1_500, "ms"), 1.5),
        (np.timedelta64(2, "D"), 172_800.0),
        (np.array([1_500_000_000], "m8[ns]"), [1.5]),
        (array.array("i", [1, 2]), [1, 2]),
    ],
    ids=lambda value: f"{type(value).__name__} {value}",
)
def test_numpy_values_become_json_types(value, expected):
    result = plain(value)

    assert result == expected
    assert type(result) is type(expected)
    assert encode(result)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (pd.Series([1, 2], index=["a", "b"]), [1, 2]),
        (pd.Series(pd.to_datetime(["2024-05-06"])), ["2024-05-06T00:00:00"]),
        (
            pd.Series(pd.to_datetime(["2024-05-06"]).tz_localize("UTC")),
            ["2024-05-06T00:00:00+00:00"],
        ),
        (pd.Index(["x"]), ["x"]),
        (pd.Categorical(["b", "a"]), ["b", "a"]),
        (pd.array([1, 2]), [1, 2]),
        (pd.Timestamp("2024-05-06"), "2024-05-06T00:00:00"),
        (pd.Timedelta("90s"), 90.0),
        (
            pd.DataFrame({"n": [1, 2], "t": ["a", "b"]}),
            [{"n": 1, "t": "a"}, {"n": 2, "t": "b"}],
        ),
        (pd.DataFrame([[1]], columns=[7]), [{"7": 1}]),
        (pd.DataFrame({"n": []}), []),
    ],
    ids=[
        "series",
        "dates",
        "zoned dates",
        "index",
        "categorical",
        "array",
        "timestamp",
        "timedelta",
        "frame",
        "numbered columns",
        "empty frame",
    ],
)
def test_pandas_values_become_json_types(value, expected):
    assert plain(value) == expected


def test_numpy_keys_become_text():
    assert plain({np.int64(3): 1, np.str_("a"): 2}) == {"3": 1, "a": 2}


@pytest.mark.parametrize(
    ("value", "path"),
    [
        (np.float32("nan"), "context"),
        (np.longdouble("inf"), "context"),
        (np.array([[1.0, 2.0], [3.0, np.nan]]), "context[1][1]"),
        (np.array(np.inf), "context"),
        (np.datetime64("NaT", "s"), "context"),
        (np.timedelta64("NaT", "s"), "context"),
        (np.array(["2024-05-06", "NaT"], "M8[ns]"), "context[1]"),
        (pd.NaT, "context"),
        (pd.Series([1.0, None]), "context[1]"),
        (pd.Series([pd.Timestamp("2024-05-06"), pd.NaT]), "context[1]"),
        (pd.DataFrame({"a": [1.0, np.nan]}), "context[1]['a']"),
    ],
    ids=[
        "float32",
        "long double",
        "matrix",
        "no dimension",
        "datetime",
        "timedelta",
        "dates",
        "NaT",
        "series",
        "date series",
        "frame",
    ],
)
def test_nan_and_nat_are_refused_with_their_path(value, path):
    with pytest.raises(JsonError, match="replace it with None or leave it out") as caught:
        plain(value, name="context")

    assert caught.value.path == path


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        (pd.Series([1, pd.NA]), r"NAType cannot be said in JSON.* at rows\[1\]"),
        (np.array([b"x"]), r"bytes are not text.* at rows\[0\]"),
        (np.array([1j]), r"complex cannot be said in JSON.* at rows\[0\]"),
        (np.complex64(1), "complex cannot be said in JSON"),
        (np.datetime64("9999999-01-01"), "beyond the years 1 to 9999: pass it as text"),
        (pd.DataFrame([[1, 2]], columns=["a", "a"]), "two columns have one name"),
        (pd.DataFrame([[1]], columns=[("a", "b")]), "the key tuple"),
    ],
    ids=["NA", "bytes", "complex array", "complex", "far date", "equal columns", "tuple column"],
)
def test_what_json_cannot_say_of_a_table_is_refused(value, problem):
    with pytest.raises(JsonError, match=problem):
        plain(value, name="rows")


def test_an_array_that_holds_itself_is_refused():
    value = np.empty(1, object)
    value[0] = value

    with pytest.raises(JsonError, match="nested deeper"):
        plain(value)


def test_a_pydantic_model_becomes_its_fields():
    pydantic = pytest.importorskip("pydantic")

    class Row(pydantic.BaseModel):
        name: str
        price: float

    assert plain(Row(name="a", price=0.5)) == {"name": "a", "price": 0.5}
