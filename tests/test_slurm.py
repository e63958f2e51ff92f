"""The workflow on a real SLURM: one cluster job measures all files of a source, and the products are the same."""

import importlib.util
import shutil
import tempfile

import pytest
import slurm_cluster
from conftest import REPOSITORY, Workflow
from test_batch import SOURCE, content_of_products


@pytest.fixture(scope="module")
def cluster():
    if importlib.util.find_spec("snakemake_executor_plugin_slurm") is None:
        pytest.skip("no SLURM test: snakemake-executor-plugin-slurm is not installed")
    home = tempfile.mkdtemp(prefix="slurm-")
    try:
        with slurm_cluster.running(home) as cluster:
            yield cluster
    except slurm_cluster.NoClusterError as error:
        pytest.skip(f"no SLURM test: {error}")
    finally:
        shutil.rmtree(home, ignore_errors=True)


class SlurmWorkflow(Workflow):
    """The workflow with its cluster jobs on a test's cluster."""

    def __init__(self, directory, archive_url, cluster):
        super().__init__(directory, archive_url)
        self.cluster = cluster

    def environment(self):
        return super().environment() | self.cluster.environment

    def command(self, *arguments, config=()):
        quick = (
            *("--profile", str(REPOSITORY / "profiles" / "slurm"), "--jobs", "4"),
            *("--default-resources", f"slurm_account={slurm_cluster.ACCOUNT}"),
            *(f"slurm_partition={slurm_cluster.PARTITION}", "runtime=5", "mem_mb=500"),
            *("--set-threads", "measure_source=1", "--set-resources", "measure_source:mem_mb=700"),
            *("--slurm-init-seconds-before-status-checks", "1", "--seconds-between-status-checks", "1"),
            *("--latency-wait", "20"),
        )
        command = super().command(*arguments, config=config)
        at = command.index("--cores")
        return [*command[:at], *quick, *command[at + 2 :]]


def test_products_of_a_cluster_are_those_of_one_machine(cluster, demo_archive, tmp_path):
    local = Workflow(tmp_path / "local", demo_archive.url)
    remote = SlurmWorkflow(tmp_path / "remote", demo_archive.url, cluster)
    for workflow in (local, remote):
        workflow.directory.mkdir()
        workflow.run(config=["batch=true"])
    jobs = cluster.jobs()
    assert 1 <= len(jobs) <= 5
    assert {state for _, state in jobs} == {"COMPLETED"}
    assert len(list((remote.directory / SOURCE / "data").glob("D[1-6]/*.fits"))) == 108
    products = content_of_products(remote.directory / SOURCE)
    assert products == content_of_products(local.directory / SOURCE)
    assert len(products["downloads.json"]["files"]) == 108
    assert remote.jobs_to_do(config=["batch=true"]) == {}


@pytest.mark.parametrize(("where", "jobs"), [("here", 1), ("nodes", 2)])
def test_the_nodes_fetch_when_told_to(cluster, demo_archive, tmp_path, where, jobs):
    """One more job on the cluster: that which fetches."""
    before = len(cluster.jobs())
    workflow = SlurmWorkflow(tmp_path, demo_archive.url, cluster)
    workflow.run(config=["batch=true", "bands=D1", "products=[photometry]", f"download={{where: {where}}}"])
    assert len(cluster.jobs()) == before + jobs
    assert len(list((tmp_path / SOURCE / "data" / "D1").glob("*.fits"))) == 18
