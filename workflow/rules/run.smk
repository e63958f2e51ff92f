# One run: what keeps it apart from others, begins and ends it, and how its jobs fail.
import errno
import resource
import signal
import threading
import traceback

LOCKS = {}  # by source, held until this process ends
LONG_CATALOGUE = 10  # sources: with more, the summary is of all together


def inputs_of(key):
    """What the products of a source are made from."""
    position = {**asdict(SOURCES[key]), "name": ""}
    return remember_inputs.Inputs(f"{OUT}/{key}", [position, OPTIONS, _neighbours(key)])


def refuse_unfit_places():
    """Stop where a cache that this run fills cannot be written, or Snakemake's notes of a source are somewhere else."""
    try:
        if NEEDS_CALIBRATION:
            read_sources.refuse_unwritable(
                "calibration.directory", config["calibration"]["directory"]
            )
        if config["archive"]["service"] == "obscore":
            read_sources.refuse_unwritable("archive.cache", config["archive"]["cache"])
        for key in SOURCES:
            inputs_of(key).refuse_forgotten()
    except ConfigError as error:
        raise WorkflowError(str(error)) from None


def cores_here():
    """Cores that the jobs in this process share; Snakemake knows no others where jobs go to a cluster."""
    settings = workflow.resource_settings
    if settings.cores is None:
        return settings.local_cores or os.cpu_count()
    return settings.cores


def refuse_unfit_settings():
    """Stop where Snakemake would start an interpreter for each file, or nothing at all."""
    if not (workflow.use_threads or BATCH):
        raise WorkflowError(
            "force-use-threads: got false, takes true (as in profiles/default), or batch=true"
        )
    if not cores_here():
        raise WorkflowError(
            "cores: got 0, with which no job ever begins, takes at least 1"
        )


NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS}
NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP}


def what_to_do(error):
    """Why something could not be written, and what to do about it."""
    if error.errno in (errno.EMFILE, errno.ENFILE):
        return "too many open files; raise ulimit -Hn, or split the catalogue"
    if error.errno in NO_LOCKS:
        return f"cannot be locked ({error.strerror}); choose an outdir on a file system with locks"
    return (
        f"cannot be written ({error.strerror}); make room or choose another outdir, "
        "then run again: it goes on where it stopped"
    )


def hold_source_locks():
    """Keep other runs away from these sources until this process ends, however it ends."""
    # a catalogue has a lock file a source
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    for key in (key for key in SOURCES if key not in LOCKS):
        try:
            lock = files.hold_lock(f"{OUT}/{key}/.lock")
            files.remove_partials(f"{OUT}/{key}")
            inputs_of(key).remember()
            LOCKS[key] = lock
        except BlockingIOError:
            raise WorkflowError(
                f"{OUT}/{key}: another run is at work on this source; wait for it or choose another outdir or name"
            ) from None
        except OSError as error:
            raise WorkflowError(f"{OUT}/{key}: {what_to_do(error)}") from None


def stop_when_told():
    """End what jobs wait for, and begin no more files, once this process is told to end."""

    def told(_, frame):
        retries.STOPPING.set()
        signal.default_int_handler(signal.SIGINT, frame)

    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, told)


def keep_scheduler_calm():
    """Take away a limit of jobs a second that is no limit, as that of profiles/default.

    Each time that the scheduler looks for jobs to run, a limiter makes it look again one second later, and then again:
    once a second for every job that has ended so far.
    """
    limiter = workflow.scheduler.job_rate_limiter
    if limiter and limiter.max_jobs >= 10_000 and limiter.timespan <= 1:
        workflow.scheduler.job_rate_limiter = None


DRAWING = ("plot_combined", "draw_qa_sheet", "write_report")
_BEGINNING = threading.Lock()
_BEGUN = threading.Event()


def begin_run():
    """What comes before the first job."""
    with _BEGINNING:
        if _BEGUN.is_set():
            return
        retries.STOPPING.clear()
        refuse_unfit_settings()
        hold_source_locks()
        stop_when_told()
        _BEGUN.set()


def warm_up_workers():
    """Have workers ready by the time that there is something to draw."""
    # the rules of a module may have a prefix
    if any(job.rule.name.endswith(DRAWING) for job in workflow.dag.needrun_jobs()):
        workers.processes(cores_here()).warm_up()


def on_start():
    """What the hook of the start calls, in the thread that schedules."""
    begin_run()
    keep_scheduler_calm()
    warm_up_workers()


if workflow.is_main_process:
    refuse_unfit_places()

if not workflow.modifier.is_main_snakefile():
    # Snakemake calls no hook of a module; where the outer workflow puts its own in this place, the first job begins.
    _ONSTART = workflow._onstart
    workflow._onstart = lambda log: (on_start(), _ONSTART(log))


def exposures_of_all_sources():
    """Where the gathered records of each source are, there or not."""
    return {key: f"{OUT}/{key}/records/exposures.json" for key in SOURCES}


def write_catalogue_tables(table, summary):
    """Write the tables of all sources, those that failed included."""
    write_catalogue.main(
        exposures_of_all_sources(),
        {key: asdict(source) for key, source in SOURCES.items()},
        table,
        summary,
    )


def write_unfinished_catalogue():
    """Tables of what there is, when a source has failed; they are made anew when it is there."""
    if CATALOGUE and any(map(os.path.exists, exposures_of_all_sources().values())):
        write_catalogue_tables(*CATALOGUE)


def logged(log, main, *arguments, **options):
    """Call the function of a script; what it did not expect goes to the job's log as well as up."""
    if workflow.is_main_process:
        begin_run()
    try:
        main(*arguments, **options)
    except retries.StoppedError:
        raise KeyboardInterrupt from None  # which Snakemake takes for the end of the run, not for a fault of the job
    except archive.ArchiveError as error:
        raise WorkflowError(str(error)) from None
    except Exception as error:
        if isinstance(error, OSError) and error.errno in NO_ROOM:
            raise WorkflowError(
                f"{error.filename or OUT}: {what_to_do(error)}"
            ) from None
        if isinstance(error, PermissionError):
            raise WorkflowError(f"{error.filename}: {error.strerror}") from None
        with open(log[0], "a", encoding="utf-8") as stream:
            stream.write(traceback.format_exc())
        raise


def in_worker(log, main, *arguments):
    """Call the function of a script in a worker process: what takes long, or cannot share a process by threads."""
    plain = [str(value) if isinstance(value, str) else value for value in arguments]
    logged(log, workers.called, workers.processes(cores_here()), main, *plain)


# What a node does: measuring a whole source. All else takes milliseconds here, a second or two a picture, or needs the
# internet.
CLUSTER_RULES = {"measure_source"} | (
    {"fetch_source", "visit_source"}
    if config["download"]["where"] == "nodes"
    else set()
)


def keep_local(away):
    """Keep all other rules of this workflow where it was started; as a module they have other names."""
    in_use = {rule.name for rule in workflow.rules}
    here = {proxy.rule.name for name, proxy in rules._rules.items() if name not in away}
    workflow.localrules(*(here & in_use))


def print_summaries():
    """Say what came out, for each source, or for a long catalogue in all."""
    if CATALOGUE and len(SOURCES) > LONG_CATALOGUE:
        print_summary.catalogue(CATALOGUE[-1], [*exposures_of_all_sources().values()])
        return
    for key in SOURCES:
        print_summary.main(f"{OUT}/{key}", file_bytes_estimated())
