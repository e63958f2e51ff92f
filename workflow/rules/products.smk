# What people read: tables and pictures of a source.


rule write_lightcurve:
    input:
        exposures=rules.gather_records.output.exposures,
    output:
        lightcurve=report(
            f"{OUT}/{{source}}/results/lightcurve.csv",
            category="{source}",
            labels={"product": "light curve table"},
        ),
    log:
        f"{OUT}/{{source}}/logs/write_lightcurve.log",
    message:
        "{wildcards.source}: light curve table"
    run:
        logged(log, write_lightcurve.main, input.exposures, output.lightcurve)


rule plot_combined:
    input:
        exposures=rules.gather_records.output.exposures,
    output:
        plot=report(
            f"{OUT}/{{source}}/results/combined_plot.png",
            category="{source}",
            labels={"product": "spectrum and light curve"},
        ),
    log:
        f"{OUT}/{{source}}/logs/plot_combined.log",
    conda:
        "../../envs/spxflow.yaml"
    params:
        plot=config["plot"],
    message:
        "{wildcards.source}: spectrum and light curve plot"
    script:
        "../../scripts/plot_combined.py"


rule write_state:
    input:
        found=rules.find_exposures.output.found,
        transfers=record_paths("transfer"),
        exposures=rules.gather_records.output.exposures,
    output:
        state=f"{OUT}/{{source}}/{{source}}.yaml",
    log:
        f"{OUT}/{{source}}/logs/write_state.log",
    params:
        source=source_facts,
        options={
            section: options
            for section, options in config.items()
            if section not in PLACES
        },
    message:
        "{wildcards.source}: what was done"
    run:
        logged(
            log,
            write_state.main,
            input.found,
            input.transfers,
            input.exposures,
            output.state,
            config,
            params.source,
        )
