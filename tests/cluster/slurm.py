"""A real Slurm on this machine, from Debian's packages: a controller, one node, no accounting database."""

import os
import platform
import shutil
import subprocess
import time
from pathlib import Path

CONFIG = Path("/etc/slurm/slurm.conf")  # a SLURM_CONF variable alone does not reach the jobs
MARK = "# written by flea_fairseq's tests\n"
FOLDER = Path("/var/lib/flea-slurm-test")
PACKAGES = ["slurm-wlm", "munge"]


def why_not() -> str | None:
    """What keeps a Slurm from being started here, or None."""
    if platform.system() != "Linux" or os.geteuid() != 0:
        return "starting Slurm needs root on Linux"
    if CONFIG.exists() and not CONFIG.read_text().startswith(MARK):
        return f"{CONFIG} is a real cluster's"
    if shutil.which("slurmctld") is None and shutil.which("apt-get") is None:
        return "slurm-wlm is not installed, and there is no apt-get to install it"
    return None


def install() -> None:
    """Install Slurm and munge, unless they are there. Raises CalledProcessError where there is no package index."""
    if shutil.which("slurmctld") and shutil.which("munged"):
        return
    quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    command = ["apt-get", "install", "--yes", "--no-install-recommends", *PACKAGES]
    if subprocess.run(command, env=quiet, capture_output=True).returncode:
        subprocess.run(["apt-get", "update"], env=quiet, check=True, capture_output=True)
        subprocess.run(command, env=quiet, check=True, capture_output=True)


def start() -> None:
    """Start munge, the controller and the node anew, and wait until the node is idle."""
    stop()
    shutil.rmtree(FOLDER, ignore_errors=True)
    for folder in (FOLDER / "state", FOLDER / "spool", CONFIG.parent, Path("/run/munge")):
        folder.mkdir(parents=True, exist_ok=True)
    shutil.chown("/run/munge", "munge", "munge")
    CONFIG.write_text(MARK + configuration())
    subprocess.run(["runuser", "-u", "munge", "--", "/usr/sbin/munged", "--force"], check=True, capture_output=True)
    subprocess.run(["/usr/sbin/slurmctld"], check=True)
    start_node()


def start_node() -> None:
    """Start slurmd, and wait until its node takes jobs."""
    subprocess.run(["/usr/sbin/slurmd"], check=True)
    wait(lambda: node_state() in ("idle", "mixed", "allocated"), 60)


def stop_node() -> None:
    """As if the machine died: the node's daemon and the daemons of its jobs, with what they run."""
    for name in ("slurmd", "slurmstepd"):
        subprocess.run(["pkill", "-KILL", "-x", name], check=False)


def stop() -> None:
    """End everything that `start` started, and the jobs."""
    if shutil.which("scancel"):
        subprocess.run(["scancel", "--full", "--user", "root"], check=False, capture_output=True, timeout=30)
    stop_node()
    for name in ("slurmctld", "munged"):
        subprocess.run(["pkill", "-KILL", "-x", name], check=False)
    CONFIG.unlink(missing_ok=True)
    time.sleep(0.5)


def node_state() -> str:
    """Such as idle, mixed, allocated, down."""
    return subprocess.run(["sinfo", "--noheader", "--format", "%T"], capture_output=True, text=True).stdout.strip()


def running() -> dict[str, str]:
    """The running jobs: number -> comment, in which Snakemake names the step."""
    command = ["squeue", "--noheader", "--states", "RUNNING", "--format", "%i|%k"]
    shown = subprocess.run(command, capture_output=True, text=True).stdout
    return dict(line.split("|", 1) for line in shown.splitlines())


def wait(condition, seconds: float, pause: float = 0.2) -> None:
    """Wait until a condition holds. Raises TimeoutError."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{condition} does not hold after {seconds} s")
        time.sleep(pause)


def configuration() -> str:
    """One node of this machine's cores and memory, in one partition; jobs that die are seen within seconds."""
    host = platform.node().split(".")[0]
    memory = int(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**20 * 0.95)
    return f"""
ClusterName=flea
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
StateSaveLocation={FOLDER}/state
SlurmdSpoolDir={FOLDER}/spool
SlurmctldLogFile={FOLDER}/slurmctld.log
SlurmdLogFile={FOLDER}/slurmd.log
SlurmctldPidFile={FOLDER}/slurmctld.pid
SlurmdPidFile={FOLDER}/slurmd.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
MpiDefault=none
AuthInfo=cred_expire=30
ReturnToService=2
KillWait=2
SlurmdTimeout=10
SlurmctldTimeout=10
InactiveLimit=0
MinJobAge=300
SchedulerParameters=sched_min_interval=200000,batch_sched_delay=0
NodeName={host} NodeAddr=127.0.0.1 CPUs={os.cpu_count()} RealMemory={memory} State=UNKNOWN
PartitionName=cpu Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""
