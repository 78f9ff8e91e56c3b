"""Predictions of measured collectives: words of tables, what may enter a prediction, intervals, refusals."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from perfmodel.errors import UsageError
from perfmodel.specs.catalogue import Catalogue
from perfmodel.study.validation.collectives import predict_rows
from perfmodel.study.validation.kinds import validate
from perfmodel.study.validation.lines import Line, Row, Status

CATALOGUE = Catalogue()
BASE: Row = {
    "id": "x1", "system": "one node", "gpu": "H100-SXM", "n_gpus": "8", "n_nodes": "1", "op": "all_reduce",
    "bytes": "536870912", "time_us": "1950", "busbw_GBps": "482", "library": "NCCL nccl/2.27.3", "dtype": "half",
    "note": "", "source": "somewhere",
}  # fmt: skip


def predict(**changes: str) -> Line:
    (line,) = predict_rows([(7, {**BASE, **changes})], CATALOGUE)
    return line


def value(**changes: str) -> float:
    line = predict(**changes)
    assert line.prediction.status is Status.OK, line.prediction.reason
    assert line.prediction.value is not None
    return line.prediction.value


def test_a_line_says_which_row_which_unit_and_how_far_to_trust_it() -> None:
    line = predict()
    assert (line.row, line.id, line.quantity, line.unit, line.measured) == (7, "x1", "time_us", "us", 1950.0)
    assert line.prediction.basis == "calibrated"
    low, high = line.prediction.p10, line.prediction.p90
    assert low is not None
    assert high is not None
    assert low < value() < high


def test_published_bus_bandwidths_of_eight_devices_are_met() -> None:
    # Public measurements of nccl-tests: 480 GB/s with reduction in the switches of an H100 node (Azure ND H100 v5,
    # AI benchmarking guide), 235 GB/s on eight A100 (stas00/ml-engineering).
    bus = [1.75 * 8589934592 / value(bytes="8589934592", gpu=gpu) / 1e3 for gpu in ("H100-SXM", "A100-SXM-80GB")]
    assert bus == pytest.approx([480.0, 235.0], rel=0.05)


def test_what_was_measured_and_where_it_stands_do_not_enter() -> None:
    one = value()
    assert value(time_us="1", busbw_GBps="1", id="other", source="elsewhere", note="n_gpus=4") == one


def test_a_time_follows_from_a_bus_bandwidth() -> None:
    line = predict(time_us="")
    assert line.measured == pytest.approx(1.75 * 536870912 / 482e9 * 1e6)
    assert line.prediction.value == value()


def test_integers_are_not_summed_by_switches() -> None:
    assert value(dtype="int8") > 1.1 * value()
    assert value(dtype="int8", gpu="A100-SXM-80GB") == value(gpu="A100-SXM-80GB")


def test_libraries_have_numbers_of_their_own() -> None:
    small = {"bytes": "8192"}
    times = {
        name: value(**small, library=name)
        for name in ("NCCL nccl/2.27.3", "vllm/0.14.0 vllm_graph", "vllm/0.14.0 vllm_eager", "trtllm/1.3.0rc10")
    }
    nccl, graph, eager, trtllm = times.values()
    assert trtllm < graph < nccl < eager
    # Large buffers go through the library in any case.
    large = [value(library=name) for name in ("NCCL nccl/2.27.3", "vllm/0.14.0 vllm_graph")]
    assert large[0] == large[1]


def test_an_engine_without_numbers_for_a_link_takes_those_of_the_class() -> None:
    line = predict(gpu="B300-SXM", library="trtllm/1.3.0rc10", bytes="8192")
    assert line.prediction.basis == "assumed"
    assert value(gpu="B300-SXM", library="trtllm/1.3.0rc10", bytes="8192") < value(gpu="B300-SXM", bytes="8192")


def test_kernel_tables_are_read_by_their_own_columns() -> None:
    row: Row = {
        "framework": "SGLang", "version": "0.5.10", "device": "NVIDIA H100 80GB HBM3", "op_name": "all_reduce",
        "kernel_source": "SGLang_CustomAllReduce_graph", "allreduce_dtype": "bfloat16", "num_gpus": "8",
        "message_size": "4096", "latency_ms": "0.006", "backend": "sglang_graph", "bytes": "8192",
    }  # fmt: skip
    (line,) = predict_rows([(0, row)], CATALOGUE)
    assert (line.quantity, line.unit) == ("latency_ms", "ms")
    expected = value(library="sglang/0.5.10 sglang_graph", bytes="8192", dtype="bfloat16") * 1e-3
    assert line.prediction.value == pytest.approx(expected)


@pytest.mark.parametrize(
    ("changes", "status", "reason"),
    [
        ({"gpu": "Arc-B60-PCIe"}, Status.UNSUPPORTED, "Arc Pro B60"),
        ({"gpu": "H900"}, Status.UNSUPPORTED, "'H900' is not known"),
        ({"gpu": ""}, Status.INCOMPLETE, "the device is unknown"),
        ({"n_nodes": "2", "n_gpus": "16"}, Status.INCOMPLETE, "network between them is not stated"),
        ({"bytes": ""}, Status.INCOMPLETE, "bytes"),
        ({"bytes": "many"}, Status.INCOMPLETE, "not a number"),
        ({"n_gpus": ""}, Status.INCOMPLETE, "n_gpus"),
        ({"op": "broadcast"}, Status.UNSUPPORTED, "'broadcast' is not modelled"),
        ({"library": "gloo"}, Status.UNSUPPORTED, "'gloo' is not known"),
        ({"n_gpus": "1"}, Status.INFEASIBLE, "at least two ranks"),
        ({"n_gpus": "16"}, Status.INFEASIBLE, "16 per node"),
        ({"n_gpus": "9", "n_nodes": "2"}, Status.INFEASIBLE, "9 ranks do not spread evenly over 2 nodes"),
    ],
)
def test_what_cannot_be_predicted_says_why(changes: dict[str, str], status: Status, reason: str) -> None:
    prediction = predict(**changes).prediction
    assert prediction.status is status
    assert reason in prediction.reason
    assert prediction.value is None


def test_systems_of_several_nodes_are_clusters() -> None:
    perlmutter = {"gpu": "A100-SXM (Perlmutter)", "library": "nccl-tests", "dtype": ""}
    times = [
        value(**perlmutter, op="all_gather", n_nodes=str(nodes), n_gpus=str(4 * nodes), bytes="1073741824")
        for nodes in (2, 16, 64)
    ]
    assert times == sorted(times)
    # Four ports of 25 GB/s per node; a ring of n ranks sends n - 1 parts of n (NERSC: 65 to 75 GB/s of 100).
    assert times[-1] * 1e-6 > 255 / 256 * 2**30 / 100e9
    far = predict(**perlmutter, n_nodes="16", n_gpus="64")
    assert far.prediction.basis == "calibrated"
    cloud = predict(system="GCP A3 Mega 2 nodes", n_nodes="2", n_gpus="16", library="NCCL", dtype="float")
    assert cloud.prediction.basis == "transferred"


def test_a_table_with_other_names_of_columns_is_accepted_and_an_unrelated_one_is_not(tmp_path: Path) -> None:
    table = tmp_path / "own.csv"
    with table.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["gpu", "op", "n_gpus", "size_bytes", "time_oop_us"])
        writer.writerow(["a100", "allreduce", "8", "268435456", "2200"])
    (line,) = validate("collectives", table, CATALOGUE)
    assert line.ok
    assert line.prediction.assumed == ("library=the usual one of the link", "dtype=floating point")
    table.write_text("m,n,k,latency_ms\n1,2,3,4\n")
    with pytest.raises(UsageError, match="op or op_name or collective"):
        validate("collectives", table, CATALOGUE)
