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
