# Which exposures has the archive of a source?


checkpoint find_exposures:
    output:
        table=f"{OUT}/{{source}}/records/observations.csv",
        found=f"{OUT}/{{source}}/records/query.json",
    log:
        f"{OUT}/{{source}}/logs/find_exposures.log",
    threads: 0
    params:
        source=position_facts,
        search=find_exposures.search_of(config),
        supersedes=superseded_answer,
    message:
        "{wildcards.source}: asking the archive for exposures"
    run:
        logged(
            log,
            find_exposures.main,
            QUESTIONS,
            wildcards.source,
            config,
            manifests(),
            params.supersedes,
            output.table,
            output.found,
            str(log),
        )


# What a source needs is not looked up before its exposures are known when one job does them all.
rules.find_exposures.rule.is_checkpoint = not BATCH


rule summarise_query:
    input:
        table=rules.find_exposures.output.table,
        found=rules.find_exposures.output.found,
    output:
        summary=f"{OUT}/{{source}}/results/query_summary.yaml",
    log:
        f"{OUT}/{{source}}/logs/summarise_query.log",
    params:
        source=source_facts,
        file_bytes=file_bytes_estimated(),
    message:
        "{wildcards.source}: query summary"
    run:
        logged(
            log,
            summarise_query.main,
            input.table,
            input.found,
            output.summary,
            params.source,
            params.file_bytes,
        )
