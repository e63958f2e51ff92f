# The image of each exposure. A file that cannot be had is a record with a reason, not a failed job.


rule fetch_exposure:
    output:
        **{name: temp(path) for name, path in PASSING_IMAGE.items()},
        record=f"{OUT}/{{source}}/records/transfer/{{stem}}.json",
    log:
        f"{OUT}/{{source}}/logs/fetch/{{stem}}.log",
    threads: 0
    resources:
        downloads=1,
    params:
        image=image_path,
        source=position_facts,
        observation=observation_facts,
        request=REQUEST,
        failed_runs=failed_runs,
    message:
        "{wildcards.source}: fetching {wildcards.stem}"
    run:
        logged(
            log,
            fetch_exposure.main,
            config,
            progress_of(wildcards.source),
            output.record,
            log[0],
            **params,
        )


rule fetch_calibration:
    output:
        manifest=calibration_manifest("{release}", "{detector}"),
    log:
        f"{config['calibration']['directory']}/logs/{{release}}_D{{detector}}_{CALIBRATION_KIND}.log",
    threads: 0
    params:
        calibration=CALIBRATION,
        failed_runs=calibration_failures,
    message:
        "calibration of {wildcards.release} D{wildcards.detector}"
    run:
        logged(
            log,
            fetch_calibration.main,
            output.manifest,
            str(log),
            config,
            wildcards.release,
            wildcards.detector,
            params.failed_runs,
        )


rule summarise_downloads:
    input:
        records=record_paths("transfer"),
    output:
        downloads=f"{OUT}/{{source}}/results/downloads.json",
    log:
        f"{OUT}/{{source}}/logs/summarise_downloads.log",
    params:
        query_summary=f"{OUT}/{{source}}/results/query_summary.yaml",
    message:
        "{wildcards.source}: download summary"
    run:
        logged(
            log,
            summarise_downloads.main,
            input.records,
            output.downloads,
            params.query_summary,
        )
