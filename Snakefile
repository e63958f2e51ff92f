# From sky positions to SPHEREx spectra. `snakemake --cores 10 --config ra=213.942708 dec=11.495389`
# Targets: query, download, photometry, all (the default). Options: config/config.yaml.
from snakemake.utils import min_version

min_version("9.17")


configfile: f"{workflow.basedir}/config/config.yaml"


include: "workflow/rules/common.smk"
include: "workflow/rules/sources.smk"
include: "workflow/rules/exposures.smk"
include: "workflow/rules/run.smk"
include: "workflow/rules/query.smk"
include: "workflow/rules/download.smk"
include: "workflow/rules/photometry.smk"
include: "workflow/rules/batch.smk"
include: "workflow/rules/products.smk"
include: "workflow/rules/catalogue.smk"


rule all:
    default_target: True
    input:
        products_of_all_sources,
        CATALOGUE,
        INDEX,


rule query:
    input:
        of_all_sources("results/query_summary.yaml"),


rule download:
    input:
        of_all_sources("results/downloads.json"),


rule photometry:
    input:
        of_all_sources("results/photometry.json"),


onstart:
    on_start()


onsuccess:
    print_summaries()


onerror:
    write_unfinished_catalogue()
    print_summaries()


keep_local(CLUSTER_RULES)
