# One run: what keeps it apart from others, begins and ends it, and how its jobs fail.
import errno
import resource
import signal
import traceback

LOCKS = []
LONG_CATALOGUE = 10  # sources: with more, the summary is of all together


def inputs_of(key):
    """What the products of a source are made from."""
    position = {**asdict(SOURCES[key]), "name": ""}
    return remember_inputs.Inputs(f"{OUT}/{key}", [position, OPTIONS, _neighbours(key)])


def refuse_forgotten_sources():
    """Stop where the notes by which Snakemake sees what changed are somewhere else, or caches cannot be written."""
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


if workflow.is_main_process:
    refuse_forgotten_sources()


def hold_source_locks():
    """Keep other runs away from these sources until this process ends, however it ends."""
    if not (workflow.use_threads or BATCH):
        raise WorkflowError(
            "force-use-threads: got false, takes true (as in profiles/default), or batch=true"
        )
    if not workflow.cores:
        raise WorkflowError(
            "cores: got 0, with which no job ever begins, takes at least 1"
        )
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(
        resource.RLIMIT_NOFILE, (most, most)
    )  # a catalogue has a lock file a source
    for key in SOURCES:
        try:
            LOCKS.append(files.hold_lock(f"{OUT}/{key}/.lock"))
            files.remove_partials(f"{OUT}/{key}")
            inputs_of(key).remember()
        except BlockingIOError:
            raise WorkflowError(
                f"{OUT}/{key}: another run is at work on this source; wait for it or choose another outdir or name"
            ) from None
        except OSError as error:
            raise WorkflowError(
                f"{OUT}/{key}: cannot be written ({error.strerror}); make room or choose another outdir"
            ) from None


def stop_when_told():
    """End what jobs wait for, and begin no more files, once this process is told to end."""

    def told(_, frame):
        retries.STOPPING.set()
        signal.default_int_handler(signal.SIGINT, frame)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, told)


def keep_scheduler_calm():
    """Take away a limit of jobs a second that is no limit.

    Each time that the scheduler looks for jobs to run, a limiter makes it look again one second later, and then again:
    once a second for every job that has ended so far.
    """
    limiter = workflow.scheduler.job_rate_limiter
    if limiter is not None and limiter.max_jobs >= 10_000:
        workflow.scheduler.job_rate_limiter = None


def write_catalogue_tables(table, summary):
    """Write the tables of all sources, those that failed included."""
    write_catalogue.main(
        {key: f"{OUT}/{key}/records/exposures.json" for key in SOURCES},
        {key: asdict(source) for key, source in SOURCES.items()},
        table,
        summary,
    )


def write_unfinished_catalogue():
    """Tables of what there is, when a source has failed; they are made anew when it is there."""
    if CATALOGUE and any(
        os.path.exists(f"{OUT}/{key}/records/exposures.json") for key in SOURCES
    ):
        write_catalogue_tables(*CATALOGUE)


NO_ROOM = {
    *(errno.ENOSPC, errno.EDQUOT, errno.EFBIG),
    *(errno.EROFS, errno.EACCES, errno.EPERM),
}


def logged(log, main, *arguments, **options):
    """Call the function of a script; what it did not expect goes to the job's log as well as up."""
    try:
        main(*arguments, **options)
    except retries.StoppedError:
        raise KeyboardInterrupt from None  # which Snakemake takes for the end of the run, not for a fault of the job
    except archive.ArchiveError as error:
        raise WorkflowError(str(error)) from None
    except Exception as error:
        if isinstance(error, OSError) and error.errno in NO_ROOM:
            raise WorkflowError(
                f"{error.filename or OUT}: cannot be written ({error.strerror});"
                " make room or choose another outdir, then run again: it goes on where it stopped"
            ) from None
        with open(log[0], "a", encoding="utf-8") as stream:
            stream.write(traceback.format_exc())
        raise


def drawn(log, main, exposures, product, *options):
    """Call the function of a script in a worker process, for what takes long and cannot share a process by threads."""
    pool = workers.processes(workflow.cores)
    logged(log, workers.called, pool, main, str(exposures), str(product), *options)


# What a node does: measuring a whole source. All else takes milliseconds here, or needs the internet.
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
        print_summary.catalogue(CATALOGUE[-1])
        return
    for key in SOURCES:
        print_summary.main(f"{OUT}/{key}", file_bytes_estimated())
