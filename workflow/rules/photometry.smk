# The flux of the source in each exposure. Bad data is a status and a reason in the record, not a failed job.


rule measure_exposure:
    input:
        transfer=rules.fetch_exposure.output.record,
    output:
        record=f"{OUT}/{{source}}/records/photometry/{{stem}}.json",
    log:
        f"{OUT}/{{source}}/logs/measure/{{stem}}.log",
    params:
        image=image_path,
        source=source_facts,
        observation=observation_facts,
        photometry=config["photometry"],
    message:
        "{wildcards.source}: measuring {wildcards.stem}"
    run:
        from scripts.measure_exposure import main

        main(input.transfer, output.record, str(log), **params)


rule tabulate_photometry:
    input:
        records=photometry_records,
    output:
        photometry=f"{OUT}/{{source}}/results/photometry.json",
    log:
        f"{OUT}/{{source}}/logs/tabulate_photometry.log",
    params:
        source=source_facts,
        photometry=config["photometry"],
        quality=config["quality"],
    message:
        "{wildcards.source}: gathering {input}"
    run:
        from scripts.tabulate_photometry import main

        main(
            input.records,
            output.photometry,
            params.source,
            params.photometry,
            params.quality,
        )
