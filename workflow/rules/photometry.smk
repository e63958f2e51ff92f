# The flux of the source in each exposure. Bad data is a status and a reason in the record, not a failed job.


rule measure_exposure:
    input:
        **PASSING_IMAGE,
        transfer=rules.fetch_exposure.output.record,
        calibration=calibration_of_exposure,
    output:
        record=f"{OUT}/{{source}}/records/photometry/{{stem}}.json",
    log:
        f"{OUT}/{{source}}/logs/measure/{{stem}}.log",
    priority: 1  # before more images are fetched, among the jobs that the scheduler looks at
    params:
        image=image_path,
        source=position_facts,
        observation=observation_facts,
        neighbours=neighbour_facts,
        method=METHOD,
    message:
        "{wildcards.source}: measuring {wildcards.stem}"
    run:
        logged(
            log,
            measure_exposure.main,
            input.transfer,
            input.calibration,
            output.record,
            log[0],
            config,
            call_of(wildcards.source),
            **params,
        )


rule gather_records:
    input:
        records=record_paths("photometry"),
    output:
        exposures=f"{OUT}/{{source}}/records/exposures.json",
    log:
        f"{OUT}/{{source}}/logs/gather_records.log",
    params:
        source=source_facts,
        method=METHOD,
        quality=config["quality"],
    message:
        "{wildcards.source}: gathering photometry records"
    run:
        logged(
            log,
            gather_records.main,
            input.records,
            output.exposures,
            params.source,
            params.method,
            params.quality,
        )


rule write_photometry:
    input:
        exposures=rules.gather_records.output.exposures,
    output:
        photometry=f"{OUT}/{{source}}/results/photometry.json",
    log:
        f"{OUT}/{{source}}/logs/write_photometry.log",
    message:
        "{wildcards.source}: photometry.json"
    run:
        logged(log, write_photometry.main, input.exposures, output.photometry)
