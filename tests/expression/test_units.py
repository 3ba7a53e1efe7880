"""Linear and logarithmic units."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from transcriptome_diffusion.expression.profiles import make_profiles
from transcriptome_diffusion.expression.units import detect_unit, linear_unit, log2_unit, to_linear, to_log2, undo_log


def profiles(values, unit="FPKM", generator=None):
    values = np.atleast_2d(np.asarray(values, dtype=np.float32))
    obs = pd.DataFrame(index=[f"s{i}" for i in range(len(values))])
    var = pd.DataFrame(index=[f"g{i}" for i in range(values.shape[1])])
    return make_profiles(values, obs, var, unit, generator)


def test_the_logarithm_is_that_of_x_plus_one_over_the_whole_range_of_real_values():
    values = np.array([0, 1e-6, 1, 3, 1023, 1e8, 6.7e9])
    logged = to_log2(profiles(values))
    np.testing.assert_allclose(logged.X[0], np.log2(np.float64(np.float32(values)) + 1), rtol=1e-6)
    assert logged.X.dtype == np.float32
    assert logged.uns["unit"] == "log2(FPKM + 1)"


def test_there_and_back_gives_the_values_the_unit_and_the_generator_again():
    before = profiles([[0, 0.5, 2000], [3, 1e4, 7]], "CPM", {"name": "any"})
    after = to_linear(to_log2(before))
    np.testing.assert_allclose(after.X, before.X, rtol=1e-5)
    assert after.uns == before.uns


def test_the_input_is_left_as_it_was():
    before = profiles([0, 100])
    to_log2(before)
    assert before.X.max() == 100
    assert before.uns["unit"] == "FPKM"


def test_unit_names_are_inverse_to_each_other():
    assert linear_unit(log2_unit("TPM")) == "TPM"
    assert linear_unit("TPM") is None
    assert linear_unit("log2(TPM + 0.001)") is None


def test_a_second_logarithm_is_refused():
    with pytest.raises(ValueError, match=r"already in log2\(FPKM \+ 1\)"):
        to_log2(to_log2(profiles([0, 100])))


def test_values_that_look_like_logarithms_are_refused_though_declared_linear():
    with pytest.raises(ValueError, match=r"declared linear \(TPM\).*14\.2.*log2\(TPM \+ 1\)"):
        to_log2(profiles([0, 14.2], "TPM"))


def test_negative_values_are_refused_with_their_place_and_a_hint_at_toil():
    with pytest.raises(ValueError, match="-3 in sample 's0', gene 'g1'") as caught:
        to_log2(profiles([100, -3]))
    assert "Toil" not in str(caught.value)
    with pytest.raises(ValueError, match="Toil"):
        to_log2(profiles([100, np.log2(0.001)], "TPM"))


def test_a_missing_unit_is_refused():
    undeclared = profiles([0, 100])
    del undeclared.uns["unit"]
    with pytest.raises(ValueError, match="declare no unit"):
        to_log2(undeclared)


def test_only_logarithms_are_turned_back_and_generated_values_below_zero_become_zero():
    with pytest.raises(ValueError, match="found 'FPKM'"):
        to_linear(profiles([0, 100]))
    with pytest.raises(ValueError, match="reach 100"):
        to_linear(profiles([0, 100], "log2(FPKM + 1)"))
    assert to_linear(profiles([-0.3, 2], "log2(FPKM + 1)")).X.tolist() == [[0, 3]]


@pytest.mark.parametrize(
    ("unit", "forwards"),
    [
        ("TPM", lambda x: x),
        ("log2(TPM + 1)", lambda x: np.log2(x + 1)),
        ("log2(TPM+0.001)", lambda x: np.log2(x + 0.001)),
        ("log10(TPM + 1)", lambda x: np.log10(x + 1)),
        ("ln(TPM + 1e-3)", lambda x: np.log(x + 1e-3)),
    ],
)
def test_a_declared_logarithm_is_undone(unit, forwards):
    linear = np.array([[0, 0.5, 3, 5e4]])
    values = forwards(linear).astype(np.float32)
    assert undo_log(values, unit) == "TPM"
    np.testing.assert_allclose(values, linear, rtol=1e-5, atol=1e-6)
    assert values.min() >= 0


def test_what_is_missing_stays_missing_when_a_logarithm_is_undone():
    values = np.array([[np.nan, 2]], dtype=np.float32)
    undo_log(values, "log2(TPM + 1)")
    np.testing.assert_array_equal(values, [[np.nan, 3]])
    assert to_log2(profiles_with_gap()).X[0].tolist()[1] == pytest.approx(np.log2(101))


def profiles_with_gap():
    gap = profiles([0, 100])
    gap.X[0, 0] = np.nan
    return gap


@pytest.mark.parametrize(
    ("values", "unit", "message"),
    [
        ([0, 1200], "log2(TPM + 1)", r"log2\(TPM \+ 1\), yet reach 1200: they look linear"),
        ([0, 20], "log10(TPM + 1)", "look linear"),
        ([-9.9658, 12], "log2(TPM + 1)", r"begins at 0, yet reach down to -9.9658. log2\(x \+ 0.001\) begins there"),
        ([-2, -1, 0, 1, 2], "log2(TPM + 1)", "40% of the values are below: they fit z-scores or centred logarithms"),
        ([-0.5, *range(9)], "log2(TPM + 1)", "1 of 10 values are below, as a correction of batches .*`negative: zero`"),
        ([-9.9658, 12], "log2(TPM + 0.5)", "begins at -1"),
        ([0, 12], "logTPM", r"not understood; write it as log2\(TPM \+ 1\)"),
    ],
)
def test_values_that_contradict_their_declared_unit_are_refused(values, unit, message):
    with pytest.raises(ValueError, match=message):
        undo_log(np.array([values], dtype=np.float32), unit)


def test_a_unit_is_found_out_where_the_values_tell_and_asked_for_where_they_do_not():
    assert detect_unit(np.array([[np.nan, 0, 1200]]), "TPM") == "TPM"
    assert detect_unit(np.array([[-9.9658, 12]]), "TPM") == "log2(TPM + 0.001)"
    with pytest.raises(ValueError, match=r"cannot be told from values from 0 to 14\.2.*Declare it"):
        detect_unit(np.array([[0, 14.2]]))
