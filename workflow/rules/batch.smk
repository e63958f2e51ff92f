# The same work with one job a source: it does those files that are new, changed or failed. Used for catalogues and clusters.


if KEEP:

    rule fetch_source:
        input:
            table=rules.find_exposures.output.table,
        output:
            records=f"{OUT}/{{source}}/records/transfer.json",
        log:
            f"{OUT}/{{source}}/logs/fetch.log",
        threads: int(config["download"]["where"] == "nodes")  # SLURM refuses 0
        resources:
            downloads=1,
        params:
            source=position_facts,
            request=REQUEST,
            failed_runs=failed_runs_of_source,
        message:
            "{wildcards.source}: fetching"
        run:
            logged(
                log,
                fetch_source.main,
                input.table,
                output.records,
                log[0],
                config,
                transfers(wildcards.source, params.source, resources),
                manifests(),
            )

    rule measure_source:
        input:
            table=rules.find_exposures.output.table,
            found=rules.find_exposures.output.found,  # newer calibration came with it
            transfers=rules.fetch_source.output.records,
        output:
            records=f"{OUT}/{{source}}/records/photometry.json",
        log:
            f"{OUT}/{{source}}/logs/measure.log",
        params:
            source=position_facts,
            neighbours=neighbour_facts,
            method=METHOD,
        message:
            "{wildcards.source}: measuring"
        run:
            logged(
                log,
                measure_source.main,
                input.table,
                input.transfers,
                output.records,
                log[0],
                config,
                places(wildcards.source),
                manifests(),
                processes=worker_processes(threads),
                **params,
            )

else:

    rule visit_source:
        input:
            table=rules.find_exposures.output.table,
            found=rules.find_exposures.output.found,  # newer calibration came with it
        output:
            transfers=f"{OUT}/{{source}}/records/transfer.json",
            photometry=f"{OUT}/{{source}}/records/photometry.json",
        log:
            f"{OUT}/{{source}}/logs/visit.log",
        resources:
            downloads=1,
        params:
            source=position_facts,
            request=REQUEST,
            failed_runs=failed_runs_of_source,
            neighbours=neighbour_facts,
            method=METHOD,
        message:
            "{wildcards.source}: fetching and measuring"
        run:
            logged(
                log,
                visit_source.main,
                input.table,
                output.transfers,
                output.photometry,
                log[0],
                config,
                transfers(wildcards.source, params.source, resources),
                manifests(),
                places(wildcards.source),
                source=params.source,
                neighbours=params.neighbours,
                method=params.method,
                processes=worker_processes(threads),
            )
