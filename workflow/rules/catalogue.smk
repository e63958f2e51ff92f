# Tables of all sources of a catalogue together.


rule write_catalogue:
    input:
        exposures=of_all_sources("records/exposures.json"),
    output:
        table=f"{OUT}/catalogue.parquet",
        summary=report(
            f"{OUT}/catalogue.csv",
            category="catalogue",
            labels={"product": "sources"},
        ),
    log:
        f"{OUT}/logs/write_catalogue.log",
    params:
        sources=list(SOURCES),
    message:
        "tables of {OUT}"
    run:
        logged(log, write_catalogue_tables, output.table, output.summary)


rule write_index:
    input:
        summary=rules.write_catalogue.output.summary,
        pages=of_all_sources(*PAGES),
    output:
        page=report(
            f"{OUT}/index.html",
            category="catalogue",
            labels={"product": "index of sources"},
        ),
    log:
        f"{OUT}/logs/write_index.log",
    params:
        title=Path(config["sources"] or "catalogue").stem,
    message:
        "index page of {OUT}"
    run:
        logged(log, write_index.main, input.summary, output.page, params.title)
