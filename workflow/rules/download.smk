# The image of each exposure. A file that cannot be had is a record with a reason, not a failed job.


rule fetch_exposure:
    output:
        record=f"{OUT}/{{source}}/records/transfer/{{stem}}.json",
    log:
        f"{OUT}/{{source}}/logs/fetch/{{stem}}.log",
    threads: 0
    resources:
        downloads=1,
    params:
        image=image_path,
        source=source_facts,
        cutout=config["cutout"],
        mode=config["download"]["mode"],
        failed_runs=failed_runs,
    message:
        "{wildcards.source}: fetching {wildcards.stem}"
    run:
        from scripts.fetch_exposure import main

        main(
            exposures(wildcards)[wildcards.stem],
            config,
            output.record,
            str(log),
            **dict(params.items()),
        )


rule summarise_downloads:
    input:
        records=transfer_records,
    output:
        downloads=f"{OUT}/{{source}}/results/downloads.json",
    log:
        f"{OUT}/{{source}}/logs/summarise_downloads.log",
    params:
        query_summary=f"{OUT}/{{source}}/results/query_summary.yaml",
    message:
        "{wildcards.source}: download summary"
    run:
        from scripts.summarise_downloads import main

        main(input.records, output.downloads, params.query_summary)
