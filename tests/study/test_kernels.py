"""Validation and calibration of kernels: rows in, predictions out; a fit finds the numbers behind made-up times."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from perfmodel.engine.kernel_forms import FORMS
from perfmodel.errors import UsageError
from perfmodel.specs.catalogue import Catalogue
from perfmodel.study.calibration.kernels import calibrate, calibrate_accelerator, left_out, unseen_errors
from perfmodel.study.calibration.search import minimise, smoothed_error
from perfmodel.study.kernel_numbers import cost, levels_of, numbered
from perfmodel.study.kernel_tables import matmul_case, names, reader_of
from perfmodel.study.validation.kernels import predict_rows
from perfmodel.study.validation.kinds import validate
from perfmodel.study.validation.lines import Line, Status

Row = dict[str, str]
H100 = "NVIDIA H100 80GB HBM3"


@pytest.fixture(scope="module")
def catalogue() -> Catalogue:
    return Catalogue(())


def gemm(m: int = 4096, n: int = 4096, k: int = 4096, **changes: str) -> Row:
    row = {
        "framework": "TRTLLM", "version": "1.3.0rc20", "device": H100, "op_name": "gemm", "gemm_dtype": "bfloat16",
        "kernel_source": "torch_flow", "m": str(m), "n": str(n), "k": str(k), "latency_ms": "1.0",
    }  # fmt: skip
    return row | changes


def attention(**changes: str) -> Row:
    row = {
        "framework": "VLLM", "version": "0.24.0", "device": H100, "op_name": "context_attention", "batch_size": "4",
        "isl": "4096", "num_heads": "32", "num_key_value_heads": "8", "head_dim": "128", "window_size": "0",
        "step": "0", "attn_dtype": "bfloat16", "kv_cache_dtype": "bfloat16", "latency_ms": "1.0",
        "kernel_source": "vllm_flash_attn_fa3",
    }  # fmt: skip
    return row | changes


def latent(**changes: str) -> Row:
    row = {
        "framework": "TRTLLM", "version": "1.3.0rc20", "device": H100, "op_name": "mla_generation", "isl": "1",
        "batch_size": "64", "num_heads": "16", "step": "4095", "mla_dtype": "bfloat16", "kv_cache_dtype": "bfloat16",
        "kernel_source": "default", "latency_ms": "1.0",
    }  # fmt: skip
    return row | changes


def moe(**changes: str) -> Row:
    row = {
        "framework": "TRTLLM", "version": "1.3.0rc20", "device": H100, "op_name": "moe", "num_tokens": "4096",
        "hidden_size": "7168", "inter_size": "2048", "topk": "8", "num_experts": "256", "moe_tp_size": "1",
        "moe_ep_size": "8", "moe_dtype": "fp8_block", "distribution": "balanced", "latency_ms": "1.0",
        "kernel_source": "moe_torch_flow_cutlass",
    }  # fmt: skip
    return row | changes


KINDS = {
    "gemm": gemm(),
    "attention": attention(),
    "decode": attention(op_name="generation_attention", isl="1", step="4095"),
    "latent prefill": latent(op_name="mla_context", isl="2048", step="0", batch_size="4"),
    "latent decode": latent(),
    "moe": moe(),
}


def line(row: Mapping[str, str], catalogue: Catalogue) -> Line:
    (found,) = predict_rows([(0, row)], catalogue)
    return found


def milliseconds(row: Mapping[str, str], catalogue: Catalogue) -> float:
    found = line(row, catalogue)
    assert found.prediction.status is Status.OK, found.prediction.reason
    assert found.prediction.value is not None
    return found.prediction.value


# -- validation ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_kernel_is_predicted_with_an_interval(kind: str, catalogue: Catalogue) -> None:
    found = line(KINDS[kind], catalogue).prediction
    assert found.basis == "calibrated"
    assert found.p10 is not None
    assert found.value is not None
    assert found.p10 < found.value * 1.05
    assert found.p10 < found.p90
    assert found.assumed == ()


@pytest.mark.parametrize("kind", KINDS)
def test_what_was_measured_and_where_it_came_from_never_enters(kind: str, catalogue: Catalogue) -> None:
    row = KINDS[kind]
    other = row | {"latency_ms": "77.0", "source_table": "somewhere/else", "id": "x", "implied_mem_frac": "3"}
    assert milliseconds(row, catalogue) == milliseconds(other, catalogue)


def test_a_large_product_runs_at_the_plateau(catalogue: Catalogue) -> None:
    entry = numbered(levels_of(catalogue, "h100-sxm5-80gb", "trtllm"), "matmul", "bf16", "bf16")
    time = milliseconds(gemm(16384, 16384, 16384), catalogue) * 1e-3
    assert 2.0 * 16384.0**3 / (entry.peak * time) == pytest.approx(entry.numbers["plateau"], rel=0.02)


def test_a_decode_step_over_a_long_cache_runs_at_the_memory_bandwidth(catalogue: Catalogue) -> None:
    row = KINDS["decode"] | {"batch_size": "64", "step": "16383"}
    entry = numbered(levels_of(catalogue, "h100-sxm5-80gb", "vllm"), "decode_attention", "bf16", "bf16")
    cache = 64 * 16384 * 8 * 128 * 2 * 2
    floor = cache / (3.35e12 * entry.numbers["bandwidth_fraction"])
    assert floor < milliseconds(row, catalogue) * 1e-3 < 1.4 * floor


def test_a_window_bounds_what_a_decode_step_reads(catalogue: Catalogue) -> None:
    near = KINDS["decode"] | {"window_size": "128", "step": "4095"}
    assert milliseconds(near, catalogue) == milliseconds(near | {"step": "65535"}, catalogue)
    assert milliseconds(near, catalogue) < milliseconds(near | {"window_size": "0"}, catalogue)


def test_experts_touch_weights_once_and_a_skew_costs(catalogue: Catalogue) -> None:
    one, many = moe(num_tokens="1"), moe(num_tokens="512")
    # One token of eight choices over eight ranks touches one expert of a rank, 512 tokens touch all 32.
    assert milliseconds(many, catalogue) > 5.0 * milliseconds(one, catalogue)
    assert milliseconds(moe(distribution="power_law_1.2"), catalogue) > milliseconds(moe(), catalogue)


@pytest.mark.parametrize(
    ("row", "status", "words"),
    [
        (gemm(gemm_dtype=""), Status.INCOMPLETE, "gemm_dtype is blank"),
        (gemm(gemm_dtype="fp3"), Status.UNSUPPORTED, "gemm_dtype 'fp3' is not modelled"),
        (gemm(m=0), Status.INFEASIBLE, "m is 0, less than 1"),
        (gemm(k="many"), Status.INCOMPLETE, "k is 'many', not a number"),  # type: ignore[arg-type]
        (gemm(device=""), Status.INCOMPLETE, "device is blank"),
        (gemm(device="abacus"), Status.UNSUPPORTED, "device 'abacus'"),
        (gemm(framework="slide rule"), Status.UNSUPPORTED, "framework 'slide rule'"),
        (gemm(gemm_dtype="nvfp4"), Status.UNSUPPORTED, "does not state compute.matrix.nvfp4.peak"),
        (gemm(latency_ms=""), Status.INCOMPLETE, "latency_ms is blank or not positive"),
        (gemm(latency_ms="fast"), Status.INCOMPLETE, "latency_ms is 'fast', not a number"),
        (gemm(op_name="fft"), Status.UNSUPPORTED, "op_name 'fft'"),
        (attention(num_key_value_heads="5"), Status.INFEASIBLE, "kv_heads = 5 does not divide heads = 32"),
        (moe(moe_ep_size="7"), Status.INFEASIBLE, "expert_ranks = 7 does not divide experts = 256"),
        (moe(topk="300"), Status.INFEASIBLE, "topk = 300 is more than num_experts = 256"),
        (moe(distribution="lunar"), Status.UNSUPPORTED, "distribution 'lunar'"),
    ],
)
def test_what_cannot_be_predicted_says_why(row: Row, status: Status, words: str, catalogue: Catalogue) -> None:
    found = line(row, catalogue).prediction
    assert found.status is status
    assert words in found.reason


def test_blank_columns_take_documented_defaults(catalogue: Catalogue) -> None:
    found = line(attention(kv_cache_dtype="", window_size="", step=""), catalogue).prediction
    assert found.assumed == ("kv_cache_dtype=bf16", "step=0", "window_size=0")
    assert found.value == milliseconds(attention(), catalogue)
    assert line(moe(distribution=""), catalogue).prediction.assumed == ("distribution=balanced",)


def test_columns_tell_the_kernel_where_op_name_is_blank() -> None:
    assert reader_of(gemm(op_name="")) is matmul_case


def test_sizes_outside_the_fit_are_said_to_be(catalogue: Catalogue) -> None:
    assert "outside the fitted range: m = 1e+09" in line(gemm(10**9), catalogue).prediction.reason


def test_power_is_a_line_of_its_own_and_never_above_the_limit(catalogue: Catalogue) -> None:
    row = gemm(16384, 16384, 16384, device="NVIDIA H200", power_w="690")
    time, power = predict_rows([(0, row)], catalogue)
    assert (time.quantity, power.quantity, power.unit) == ("latency_ms", "power_w", "W")
    assert power.prediction.value == pytest.approx(700.0, rel=0.05)
    small = predict_rows([(0, row | {"m": "1", "n": "64", "k": "64"})], catalogue)[1]
    assert small.prediction.value is not None
    assert small.prediction.value < 0.7 * 700.0


def test_a_table_of_layers_gives_a_line_per_operator(catalogue: Catalogue) -> None:
    row = {"gpu": "h100", "n_head": "64", "n_kv_head": "8", "n_embd": "8192", "n_expanded_embd": "28672",
           "use_gated_mlp": "True", "num_tokens": "4096", "num_tensor_parallel_workers": "8", "add_median_ms": "0.06",
           "mlp_up_proj_median_ms": "0.7", "attn_pre_proj_median_ms": "0.1", "mlp_act_median_ms": ""}  # fmt: skip
    found = {one.quantity: one for one in predict_rows([(3, row)], catalogue)}
    assert set(found) == {"add_median_ms", "mlp_up_proj_median_ms", "attn_pre_proj_median_ms"}
    assert {one.row for one in found.values()} == {3}
    # Up and gate together, an eighth of them.
    up = found["mlp_up_proj_median_ms"].prediction
    entry = numbered(levels_of(catalogue, "h100-sxm5-80gb", "vidur-profiles"), "matmul", "fp16", "fp16")
    flop = 2.0 * 4096 * 8192 * 2 * 28672 / 8
    assert up.value == pytest.approx(flop / (entry.peak * entry.numbers["plateau"]) * 1e3, rel=0.05)
    assert up.assumed == ("framework=vidur-profiles",)


def test_collectives_of_kernel_tables_go_to_the_predictor_of_collectives(catalogue: Catalogue) -> None:
    row = {"op_name": "all_reduce", "kernel_source": "NCCL", "nccl_dtype": "half", "num_gpus": "8", "device": H100,
           "framework": "TRTLLM", "version": "2.27.3", "bytes": "134217728", "message_size": "67108864",
           "latency_ms": "0.5"}  # fmt: skip
    product, all_reduce = predict_rows([(0, gemm()), (1, row)], catalogue)
    assert (product.row, all_reduce.row) == (0, 1)
    assert all_reduce.prediction.status is Status.OK
    # 128 MiB over 450 GB/s of eight devices: not below the time of 7/4 of the bytes at the data sheet's rate, halved
    # where the switches reduce.
    assert all_reduce.prediction.value is not None
    assert 0.5 * 7 / 4 * 134217728 / 450e9 * 1e3 < all_reduce.prediction.value < 2.0


def test_a_file_without_a_header_is_refused(tmp_path: Path, catalogue: Catalogue) -> None:
    path = tmp_path / "plain.csv"
    path.write_text("64, 12288, 12288, 0.1900ms\n128, 12288, 12288, 0.2003ms\n")
    with pytest.raises(UsageError, match="no header that names kernels"):
        validate("kernels", path, catalogue)


def test_tens_of_thousands_of_rows_take_seconds(catalogue: Catalogue) -> None:
    rows = [(i, gemm(1 + i % 512, 64 * (1 + i % 37), 128 * (1 + i % 61))) for i in range(20000)]
    found = predict_rows(rows, catalogue)
    assert [one.row for one in found] == list(range(20000))


def test_every_stack_of_the_table_of_names_is_in_the_catalogue(catalogue: Catalogue) -> None:
    table = names()
    known = catalogue.names("software")
    for framework in (*table["frameworks"].values(), table["default_framework"]):
        assert {framework["software"], *framework.get("versions", {}).values()} <= set(known)
    assert {library["software"] for library in table["libraries"]} <= set(known)
    assert set(table["devices"].values()) <= set(catalogue.names("accelerator"))


# -- calibration -----------------------------------------------------------------------------------------


def made_up(catalogue: Catalogue, numbers: Mapping[str, float], count: int, **changes: str) -> list[Row]:
    """Products timed by the form itself with other numbers."""
    random = np.random.default_rng(7)
    sizes = 2 ** random.uniform([0.0, 6.0, 7.0], [13.0, 13.0, 13.0], (count, 3))
    rows = [gemm(*(int(size) for size in one), **changes) for one in sizes]
    cases = [matmul_case(row) for row in rows]
    entry = numbered(levels_of(catalogue, "h100-sxm5-80gb", "trtllm"), "matmul", cases[0].key, cases[0].peak)
    times = FORMS["matmul"](entry.sizes(cases), entry.numbers | numbers, entry.chip).seconds
    return [row | {"latency_ms": repr(float(time) * 1e3)} for row, time in zip(rows, times, strict=True)]


def test_a_fit_finds_the_floor_and_plateau_behind_made_up_times(catalogue: Catalogue) -> None:
    rows = made_up(catalogue, {"launch_floor": 3.3e-6, "plateau": 0.6}, 120)
    (fit,) = calibrate(rows, "h100-sxm5-80gb", "trtllm", catalogue).fits
    assert (fit.family, fit.key) == ("matmul", "bf16")
    assert set(fit.numbers) == {"launch_floor", "plateau"}
    assert fit.numbers["launch_floor"] == pytest.approx(3.3e-6, rel=0.02)
    assert fit.numbers["plateau"] == pytest.approx(0.6, rel=0.01)
    assert 0.25 <= fit.left_out.size / 120 <= 0.35
    assert np.abs(fit.left_out).mean() < 0.005


def test_a_quantised_type_moves_all_its_numbers_and_few_rows_move_two(catalogue: Catalogue) -> None:
    truth = {"launch_floor": 9e-6, "plateau": 0.7, "quantise_bytes": 6.0}
    rows = made_up(catalogue, truth, 150, gemm_dtype="fp8")
    (many,) = calibrate(rows, "h100-sxm5-80gb", "trtllm", catalogue).fits
    assert set(many.numbers) >= {"launch_floor", "plateau", "tile_overhead", "loop_latency", "quantise_bytes"}
    assert np.abs(many.left_out).mean() < 0.02
    (few,) = calibrate(rows[:8], "h100-sxm5-80gb", "trtllm", catalogue).fits
    assert set(few.numbers) == {"launch_floor", "plateau"}


def test_a_fit_is_the_same_every_time_whatever_the_stack_states_already(catalogue: Catalogue) -> None:
    rows = made_up(catalogue, {"launch_floor": 4e-6, "plateau": 0.5}, 60)
    one, two = (calibrate(rows, "h100-sxm5-80gb", "trtllm", catalogue) for _ in range(2))
    assert one.efficiency() == two.efficiency()


def test_the_spec_of_a_calibration_is_read_back_and_predicts_its_rows(tmp_path: Path, catalogue: Catalogue) -> None:
    from perfmodel.specs.writer import to_yaml

    rows = made_up(catalogue, {"launch_floor": 5e-6, "plateau": 0.5}, 60)
    found = calibrate(rows, "h100-sxm5-80gb", "trtllm", catalogue)
    (tmp_path / "mine.yaml").write_text(to_yaml(found.spec()))
    mine = Catalogue((tmp_path,))
    stack = mine.load("software", found.spec()["name"])
    assert stack.efficiency["h100-sxm5-80gb"].matmul["bf16"].plateau.basis == "measured"
    cases = [matmul_case(row) for row in rows]
    entry = numbered(levels_of(mine, "h100-sxm5-80gb", stack.name), "matmul", "bf16", "bf16")
    times = np.array([float(row["latency_ms"]) for row in rows]) * 1e-3
    assert cost("matmul", cases, entry).seconds == pytest.approx(times, rel=0.02)
    assert entry.error is not None
    assert entry.error.valid["m"][1] <= 8192


def test_the_tile_loop_of_an_accelerator_is_found_over_all_stacks(catalogue: Catalogue) -> None:
    truth = {"launch_floor": 2.5e-6, "plateau": 0.7, "split_overhead": 5e-6, "loop_latency": 2e-9}
    rows = made_up(catalogue, truth, 200)
    fit = calibrate_accelerator(rows, "h100-sxm5-80gb", catalogue)
    assert np.abs(fit.left_out).mean() < 0.02
    assert fit.numbers["plateau"] == pytest.approx(0.7, rel=0.03)
    assert fit.numbers["loop_latency"] == pytest.approx(2e-9, rel=0.1)
    assert len(fit.numbers) == 8


def test_the_fit_of_an_accelerator_forgets_what_the_accelerator_states(tmp_path: Path, catalogue: Catalogue) -> None:
    """Else a second run of the tool would start where the first ended, and write other digits."""
    rows = made_up(catalogue, {"launch_floor": 2.5e-6, "plateau": 0.7}, 80)
    shipped = catalogue.load("accelerator", "h100-sxm5-80gb").origin
    assert shipped is not None
    text = Path(str(shipped)).read_text(encoding="utf-8")
    changed = re.sub(r"(bf16: {launch_floor: )[^,]*, plateau: [^,]*", r"\g<1>9 us, plateau: 0.3", text)
    changed = re.sub(r"(cache: .*bandwidth: {value: )[^,]*", r"\g<1>9 TB/s", changed)
    assert changed.count("9 us, plateau: 0.3") == changed.count("9 TB/s") == 1
    (tmp_path / "h100-sxm5-80gb.yaml").write_text(changed)
    one, two = (calibrate_accelerator(rows, "h100-sxm5-80gb", here) for here in (catalogue, Catalogue((tmp_path,))))
    assert one.entry() == two.entry()


def test_the_fit_of_an_accelerator_passes_over_kernels_at_their_power_limit(catalogue: Catalogue) -> None:
    rows = made_up(catalogue, {"plateau": 0.7}, 80)
    slow = [row | {"latency_ms": str(2.0 * float(row["latency_ms"])), "power_w": "690"} for row in rows]
    alone, beside = (calibrate_accelerator(table, "h100-sxm5-80gb", catalogue) for table in (rows, [*rows, *slow]))
    assert alone.entry() == beside.entry()


def test_a_stack_leaves_out_what_its_accelerator_leaves_out(catalogue: Catalogue) -> None:
    """A shape that the accelerator was fitted to is none that the stack has not seen."""
    ours = [gemm(m, 64 * n, 512) for n in range(1, 31) for m in (16, 256)]
    others = [gemm(m, 64 * n + 32, 512, framework="VLLM", version="0.14.0") for n in range(1, 31) for m in (16, 256)]
    shapes = left_out([matmul_case(row) for row in [*ours, *others]])
    accelerator = calibrate_accelerator([*ours, *others], "h100-sxm5-80gb", catalogue)
    stacks = [calibrate([*ours, *others], "h100-sxm5-80gb", name, catalogue).fits[0] for name in ("trtllm", "vllm")]
    assert accelerator.left_out.size == shapes.sum() == sum(fit.left_out.size for fit in stacks)
    assert [fit.left_out.size for fit in stacks] == [shapes[:60].sum(), shapes[60:].sum()]


def test_ten_turns_leave_every_shape_out_three_times(catalogue: Catalogue) -> None:
    cases = [matmul_case(gemm(m, 64 * n, 512)) for n in range(1, 21) for m in (1, 16)]
    turns = np.array([left_out(cases, turn=turn) for turn in range(10)])
    assert (turns.sum(axis=0) == 3).all()
    assert not left_out(cases[4:6], cases).any(), "a set is never left out as a whole"
    errors = unseen_errors(made_up(catalogue, {"plateau": 0.7}, 60), "h100-sxm5-80gb", catalogue)
    assert set(errors) == {"trtllm"}
    assert sum(one.size for one in errors["trtllm"]) == 3 * 60
    assert np.abs(np.concatenate(errors["trtllm"])).mean() < 0.02


def test_memory_bound_kernels_share_a_floor_and_have_a_bandwidth_each(catalogue: Catalogue) -> None:
    """Residuals and norms of layers, timed by streaming at 90 and 40 % of the bandwidth after 3 us."""
    rows: list[Row] = []
    for hidden in (2048, 4096, 5120, 6144, 7168, 8192, 12288):
        for tokens in (16, 512, 8192, 32768):
            size = tokens * hidden * 2
            add, norm = (3e-6 + moved * size / (share * 3.35e12) for moved, share in ((3, 0.9), (2, 0.4)))
            cold = size > 60e6
            rows.append({
                "gpu": "h100", "n_head": "32", "n_kv_head": "32", "n_embd": str(hidden), "n_expanded_embd": "11008",
                "use_gated_mlp": "True", "num_tokens": str(tokens), "num_tensor_parallel_workers": "1",
                "add_median_ms": repr(add * 1e3) if cold or tokens == 16 else "",
                "input_layernorm_median_ms": repr(norm * 1e3) if cold or tokens == 16 else "",
            })  # fmt: skip
    found = {fit.key: fit for fit in calibrate(rows, "h100-sxm5-80gb", "vidur-profiles", catalogue).fits}
    assert found["any"].numbers["launch_floor"] == pytest.approx(3e-6, rel=0.05)
    assert found["residual"].numbers["bandwidth_fraction"] == pytest.approx(0.9, rel=0.03)
    assert found["norm"].numbers["bandwidth_fraction"] == pytest.approx(0.4, rel=0.03)


def test_a_table_of_another_stack_calibrates_nothing(catalogue: Catalogue) -> None:
    with pytest.raises(UsageError, match="no row of the table calibrates vllm on h100-sxm5-80gb"):
        calibrate([gemm()], "h100-sxm5-80gb", "vllm", catalogue)


def test_whole_configurations_are_left_out() -> None:
    cases = [matmul_case(gemm(m, 64 * n, 512)) for n in range(1, 41) for m in (1, 16, 256)]
    out = left_out(cases)
    assert out.sum() == 3 * 12
    by_width: dict[tuple[float, ...], set[bool]] = {}
    for case, left in zip(cases, out, strict=True):
        by_width.setdefault(case.configuration, set()).add(bool(left))
    assert all(len(kinds) == 1 for kinds in by_width.values())


def test_the_search_finds_a_valley_in_logarithms_and_stays_inside() -> None:
    def loss(point: np.ndarray) -> float:
        return float(np.abs(np.log(point / np.array([3e-6, 0.5]))).sum())

    low, high = np.array([1e-7, 0.1]), np.array([1e-4, 1.0])
    assert minimise(loss, np.array([1e-5, 0.9]), low, high) == pytest.approx([3e-6, 0.5], rel=1e-3)
    assert minimise(loss, np.array([1e-5, 0.9]), low, np.array([2e-6, 1.0]))[0] == pytest.approx(2e-6)
    assert smoothed_error(np.array([1.0]), np.array([math.e])) == pytest.approx(1.0, abs=0.03)
