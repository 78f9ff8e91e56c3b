"""The report in a real browser: it draws, it complains about nothing, it asks nobody for anything."""

import json
import re
import struct

import pytest

from perfmodel.report import write_report

pytestmark = pytest.mark.browser


@pytest.fixture
def page(tmp_path, samples):
    path = tmp_path / "report.html"
    write_report(samples.make_result(), path)
    return path


def console(run):
    """What the page's scripts and the browser's policy complained about."""
    return [line for line in run.stderr.splitlines() if "CONSOLE" in line or "Content Security Policy" in line]


def overflow(page, browse, width):
    """Pixels by which a page is wider than a window."""
    probe = page.with_name("probe.html")
    script = (
        "<script>document.title = 'overflow ' + (document.documentElement.scrollWidth - window.innerWidth)</script>"
    )
    probe.write_text(page.read_text(encoding="utf-8").replace("</body>", f"{script}</body>"), encoding="utf-8")
    run = browse(probe, "--dump-dom", f"--window-size={width},900")
    return int(re.search(r"<title>overflow (-?\d+)</title>", run.stdout).group(1))


def test_every_figure_is_drawn_and_nothing_is_complained_about(page, browse):
    run = browse(page, "--dump-dom")
    names = re.findall(r'class="plot[^"]*" data-figure="(\w+)"', run.stdout)
    assert len(names) == 8
    # Each plotly figure draws into an element of its own, with bars or points inside.
    for name in names:
        figure = run.stdout.split(f'id="figure-{name}"')[1].split("</figure>")[0]
        assert "main-svg" in figure, name
        assert figure.count("<path") > 5, name
    assert 'data-drawn="8"' in run.stdout
    assert console(run) == []


@pytest.fixture
def search_page(tmp_path):
    """The report of a search with a sweep of two numbers, devices and sensitivities."""
    import perfmodel as pm
    from perfmodel.report.search_page import write_report as write_search

    question = {
        "kind": "scenario", "name": "search", "question": "search", "model": "llama-3.1-8b",
        "cluster": {"name": "hgx-h100-ib-ndr", "devices": [32, 64]}, "software": "megatron-core",
        "workload": {"kind": "training", "sequence_length": 8192, "global_batch": 128},
        "strategy": {"tp": [2, 4], "pp": [1, 2], "sequence_parallel": True, "zero": 1},
    }  # fmt: skip
    varied = {"cluster.accelerator.memory.bandwidth": ["2 TB/s", "4 TB/s"],
              "cluster.accelerator.memory.capacity": ["60 GiB", "80 GiB"]}  # fmt: skip
    path = tmp_path / "search.html"
    write_search(pm.load(question, overrides=varied).run(), path, [("memory bandwidth", 3.0, 4.0)])
    return path


def test_the_page_of_a_search_is_drawn_as_well(search_page, browse):
    run = browse(search_page, "--dump-dom")
    names = re.findall(r'class="plot[^"]*" data-figure="(\w+)"', run.stdout)
    assert names[:5] == ["front", "choices", "scaling", "heatmap", "tornado"]
    for name in names:
        assert "main-svg" in run.stdout.split(f'id="figure-{name}"')[1].split("</figure>")[0], name
    assert console(run) == []


@pytest.mark.parametrize("width", [400, 1200])
def test_the_page_of_a_search_is_not_wider_than_the_window(search_page, browse, width):
    assert overflow(search_page, browse, width) <= 0


def test_nothing_is_requested(page, browse, tmp_path):
    log = tmp_path / "net.json"
    browse(page, "--dump-dom", f"--log-net-log={log}", "--net-log-capture-mode=Everything")
    text = log.read_text(encoding="utf-8", errors="replace")
    entries = json.loads(text if text.rstrip().endswith("}") else text.rstrip().rstrip(",") + "]}")
    # Requests of a page carry its initiator; the browser's own services have none.
    urls = {event["params"]["url"] for event in entries["events"] if "url" in event.get("params", {})
            and str(event["params"].get("initiator", "not an origin")) != "not an origin"}  # fmt: skip
    assert {url for url in urls if url.startswith(("http:", "https:", "ws:"))} == set()


def test_names_from_files_run_no_script(tmp_path, samples, browse):
    from dataclasses import replace

    evil = "</script><script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">"
    base = samples.make_result()
    path = tmp_path / "evil.html"
    write_report(
        samples.make_result(
            scenario={"name": evil, "sha256": ""}, describe=(evil,),
            operators=tuple(replace(row, name=evil) for row in base.operators),
            stages=tuple(replace(row, name=evil) for row in base.stages),
            waterfall=tuple(replace(row, name=evil) for row in base.waterfall),
        ),
        path,
    )  # fmt: skip
    run = browse(path, "--dump-dom")
    assert "<title>owned" not in run.stdout
    assert "main-svg" in run.stdout
    assert console(run) == []


@pytest.mark.parametrize("width", [400, 1200])
def test_the_page_is_not_wider_than_the_window(page, browse, width):
    assert overflow(page, browse, width) <= 0


def test_the_picture_is_not_blank(page, browse, tmp_path):
    shot = tmp_path / "shot.png"
    browse(page, f"--screenshot={shot}", "--window-size=1200,3000")
    data = shot.read_bytes()
    assert struct.unpack(">II", data[16:24]) == (1200, 3000)
    # A blank page compresses to a few kilobytes.
    assert len(data) > 100_000


def test_it_prints_to_a4(page, browse, tmp_path):
    paper = tmp_path / "report.pdf"
    browse(page, f"--print-to-pdf={paper}", "--no-pdf-header-footer")
    data = paper.read_bytes()
    assert data.startswith(b"%PDF")
    boxes = {
        tuple(round(float(one)) for one in found.split()) for found in re.findall(rb"/MediaBox ?\[([^\]]+)\]", data)
    }
    assert boxes
    assert all(abs(box[2] - 595) <= 1 and abs(box[3] - 842) <= 1 for box in boxes)
