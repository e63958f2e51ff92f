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
        from scripts.write_lightcurve import main

        main(input.exposures, output.lightcurve)


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
