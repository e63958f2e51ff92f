"""A SLURM cluster of one node on loopback, for a test: Debian's packages, all state in one directory."""

import contextlib
import os
import pwd
import shutil
import socket
import subprocess
import time
from pathlib import Path

import debian

PACKAGES = ("slurm-wlm", "slurmdbd", "munge", "mariadb-server")
_DAEMONS = ("munged", "mariadbd", "slurmdbd", "slurmctld", "slurmd")
PROGRAMS = (*_DAEMONS, "mariadb-install-db", "sacctmgr", "scontrol", "sinfo", "sbatch", "srun", "sacct")
ACCOUNT, PARTITION = "spxflow", "debug"
_PATIENCE_S = 40.0

_SLURM_CONF = """\
ClusterName=sandbox
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller_port}
SlurmdPort={node_port}
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
AuthType=auth/munge
AuthInfo=socket={home}/munge/munge.socket
CryptoType=crypto/munge
SlurmUser=slurm
SlurmdUser=root
StateSaveLocation={home}/state
SlurmdSpoolDir={home}/spool
SlurmctldPidFile={home}/run/slurmctld.pid
SlurmdPidFile={home}/run/slurmd.pid
SlurmctldLogFile={home}/log/slurmctld.log
SlurmdLogFile={home}/log/slurmd.log
MailProg=/bin/true
ReturnToService=2
SwitchType=switch/none
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=5
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=1,batch_sched_delay=0,defer_batch=0
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=127.0.0.1
AccountingStoragePort={accounting_port}
AccountingStoragePass={home}/munge/munge.socket
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} RealMemory=4000 State=UNKNOWN
PartitionName=debug Nodes=ALL Default=YES MaxTime=INFINITE State=UP DefMemPerCPU=500
"""

_SLURMDBD_CONF = """\
AuthType=auth/munge
AuthInfo=socket={home}/munge/munge.socket
DbdHost={host}
DbdAddr=127.0.0.1
DbdPort={accounting_port}
SlurmUser=slurm
StorageType=accounting_storage/mysql
StorageHost=localhost
StoragePort={database_port}
StorageLoc=slurm_acct_db
StorageUser=slurm
StoragePass=loopback
LogFile={home}/log/slurmdbd.log
PidFile={home}/run/slurmdbd.pid
"""


class NoClusterError(RuntimeError):
    """Why there is no cluster."""


def install():
    """Have the programs, installed by apt where that is possible."""
    try:
        debian.have(PROGRAMS, PACKAGES, _search_path())
    except debian.UnavailableError as error:
        raise NoClusterError(str(error)) from None


def _search_path():
    return os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])


def _free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


class Cluster:
    """Daemons of a cluster, each started in the foreground and ended by its own process id."""

    def __init__(self, home):
        self.home = Path(home)
        self.environment = {
            **os.environ,
            "PATH": f"{home}/bin{os.pathsep}{_search_path()}",
            "SLURM_CONF": f"{home}/slurm.conf",
        }
        self._daemons = []

    def start(self):
        """Start all daemons, and wait until the node takes jobs."""
        if os.geteuid() != 0:
            raise NoClusterError("a cluster can be started by root only")
        self._write_files()
        munge, mysql = f"{self.home}/munge", f"{self.home}/mysql"
        self._daemon(
            "munged", "--foreground", f"--key-file={munge}/munge.key", f"--socket={munge}/munge.socket",
            f"--pid-file={munge}/munged.pid", f"--log-file={munge}/munged.log", f"--seed-file={munge}/munged.seed",
            user="munge",
        )  # fmt: skip
        self._wait_for("munge", lambda: Path(munge, "munge.socket").exists())
        self._run("mariadb-install-db", "--no-defaults", "--user=mysql", f"--datadir={mysql}/data", "--skip-test-db")
        self._daemon(
            "mariadbd", "--no-defaults", "--user=mysql", f"--datadir={mysql}/data", f"--socket={mysql}/socket",
            f"--pid-file={mysql}/pid", "--bind-address=127.0.0.1", f"--port={self._ports['database_port']}",
            "--innodb-buffer-pool-size=64M", "--innodb-log-file-size=64M", "--innodb-lock-wait-timeout=900",
        )  # fmt: skip
        client = ("mariadb", "--no-defaults", f"--socket={mysql}/socket")
        self._wait_for("mariadb", lambda: self._succeeds(*client, "-e", "SELECT 1"))
        for host in ("localhost", "127.0.0.1"):
            self._run(*client, "-e", f"CREATE USER 'slurm'@'{host}' IDENTIFIED BY 'loopback'")
            self._run(*client, "-e", f"GRANT ALL ON slurm_acct_db.* TO 'slurm'@'{host}'")
        self._daemon("slurmdbd", "-D", MYSQL_UNIX_PORT=f"{mysql}/socket")
        self._wait_for("slurmdbd", lambda: self._succeeds("sacctmgr", "-n", "show", "cluster"))
        self._run("sacctmgr", "-i", "add", "cluster", "sandbox")
        self._run("sacctmgr", "-i", "add", "account", ACCOUNT, "cluster=sandbox")
        self._run("sacctmgr", "-i", "add", "user", "root", f"account={ACCOUNT}", "cluster=sandbox")
        self._daemon("slurmctld", "-D")
        self._wait_for("slurmctld", lambda: self._succeeds("scontrol", "ping"))
        self._daemon("slurmd", "-D")
        self._wait_for("node", lambda: "idle" in self._output("sinfo", "-h", "-o", "%T"))

    def stop(self):
        """End all daemons."""
        for daemon in reversed(self._daemons):
            daemon.terminate()
            try:
                daemon.wait(timeout=10)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()

    def jobs(self):
        """Names and states of all jobs so far."""
        lines = self._output("sacct", "-X", "-n", "-P", "-a", "-S", "now-1days", "-o", "JobName,State").splitlines()
        return [tuple(line.split("|")) for line in lines]

    def _write_files(self):
        self.home.chmod(0o755)
        users = {"munge": "munge", "log": "slurm", "run": "slurm", "state": "slurm", "spool": "root", "mysql": "mysql"}
        for name, user in users.items():
            directory = self.home / name
            directory.mkdir(mode=0o755)
            shutil.chown(directory, user, user)
        names = ("controller_port", "node_port", "accounting_port", "database_port")
        self._ports = {name: _free_port() for name in names}
        host = socket.gethostname().split(".")[0]
        values = {"home": self.home, "host": host, "cpus": os.cpu_count(), **self._ports}
        # the plugin starts job steps without the environment's SLURM_CONF
        step = self.home / "bin" / "srun"
        step.parent.mkdir()
        step.write_text(f'#!/bin/sh\nSLURM_CONF={self.home}/slurm.conf exec {shutil.which("srun")} "$@"\n')
        step.chmod(0o755)
        (self.home / "slurm.conf").write_text(_SLURM_CONF.format(**values), encoding="utf-8")
        for path, content, user in (
            (self.home / "slurmdbd.conf", _SLURMDBD_CONF.format(**values).encode(), "slurm"),
            (self.home / "munge" / "munge.key", os.urandom(128), "munge"),
        ):
            path.write_bytes(content)
            path.chmod(0o600)
            shutil.chown(path, user, user)

    def _daemon(self, *command, user=None, **environment):
        log = open(self.home / f"{command[0]}.out", "wb")  # noqa: SIM115
        account = pwd.getpwnam(user) if user else None
        self._daemons.append(
            subprocess.Popen(
                command,
                env={**self.environment, **environment},
                stdout=log,
                stderr=subprocess.STDOUT,
                user=account.pw_uid if account else None,
                group=account.pw_gid if account else None,
                extra_groups=[] if account else None,
            )
        )

    def _wait_for(self, what, is_there):
        deadline = time.monotonic() + _PATIENCE_S
        while not is_there():
            if time.monotonic() > deadline:
                logs = "".join(path.read_text(errors="replace")[-300:] for path in self.home.rglob("*.out"))
                raise NoClusterError(f"{what} does not start: {logs[-600:]}")
            time.sleep(0.2)

    def _run(self, *command):
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True, timeout=60, check=False)
        if done.returncode:
            raise NoClusterError(f"{' '.join(command)}: {done.stderr or done.stdout}")

    def _succeeds(self, *command):
        return not subprocess.run(
            command, env=self.environment, capture_output=True, timeout=60, check=False
        ).returncode

    def _output(self, *command):
        return subprocess.run(
            command, env=self.environment, capture_output=True, text=True, timeout=60, check=False
        ).stdout


@contextlib.contextmanager
def running(home):
    """A cluster for the length of the block, with its state in an empty directory that every user can enter.

    Raises
    ------
    NoClusterError
        Saying why, when it cannot be had here.
    """
    install()
    cluster = Cluster(home)
    try:
        try:
            cluster.start()
        except (OSError, KeyError, LookupError, subprocess.SubprocessError) as error:
            raise NoClusterError(str(error)) from error
        yield cluster
    finally:
        cluster.stop()
