"""Jobs over a Ray cluster of two nodes on this machine."""

import sys
from dataclasses import replace

import pytest

from vcodec.errors import VcodecError
from vcodec.evaluation.jobs import Job
from vcodec.evaluation.presets import PAPER
from vcodec.evaluation.results import without_costs
from vcodec.evaluation.runner import run_jobs
from vcodec.evaluation.standard_codecs import StandardCodec


@pytest.fixture(scope="module")
def cluster():
    pytest.importorskip("ray", reason="Ray is not installed (pip install 'vcodec[cluster]')")
    from ray.cluster_utils import Cluster

    # Its dashboard and usage report are of no use here.
    node = {"num_cpus": 1, "object_store_memory": 100 << 20, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=node)
    cluster.add_node(num_cpus=1, object_store_memory=100 << 20)
    yield cluster
    cluster.shutdown()


def test_two_nodes_give_what_one_process_gives(cluster, small_source, tmp_path):
    assert len(cluster.list_all_nodes()) == 2
    codecs = [StandardCodec("x264", ".264", PAPER), StandardCodec("x265", ".hevc", PAPER)]
    jobs = [Job(codec, small_source, quality, PAPER) for codec in codecs for quality in (24, 30)]
    serial = run_jobs(jobs, tmp_path / "serial", progress=False)
    over_ray = run_jobs(jobs, tmp_path / "ray", ray_address=cluster.address, progress=False)
    assert [without_costs(r) for r in over_ray.records] == [without_costs(r) for r in serial.records]
    assert _streams(tmp_path / "ray") == _streams(tmp_path / "serial")


def test_a_point_that_fails_on_a_node_is_named(cluster, small_source, tmp_path):
    good = StandardCodec("x264", ".264", PAPER)
    bad = StandardCodec("x265", ".hevc", replace(PAPER, speed="nosuch"))
    jobs = [Job(codec, small_source, 30, PAPER) for codec in (good, bad)]
    outcome = run_jobs(jobs, tmp_path, ray_address=cluster.address, progress=False)
    assert [record["codec"] for record in outcome.records] == ["x264"]
    assert outcome.failures[0].startswith("x265 small 30: libx265 can't encode")


def test_without_ray_the_extra_is_named(small_source, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    job = Job(StandardCodec("x264", ".264", PAPER), small_source, 30, PAPER)
    with pytest.raises(VcodecError, match=r"pip install 'vcodec\[cluster\]'"):
        run_jobs([job], tmp_path, ray_address="auto", progress=False)


def _streams(output):
    return {path.relative_to(output): path.read_bytes() for path in output.rglob("streams/*/*/*")}
