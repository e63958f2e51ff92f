# What people read: tables and pictures of a source.


rule write_lightcurve:
    input:
        exposures=rules.gather_records.output.exposures,
    output:
        lightcurve=report(
            f"{OUT}/{{source}}/results/lightcurve.{{table}}",
            caption="../report/lightcurve.rst",
            category="{source}",
            labels={"product": "light curve", "format": "{table}"},
        ),
    log:
        f"{OUT}/{{source}}/logs/write_lightcurve_{{table}}.log",
    message:
        "{wildcards.source}: light curve table"
    run:
        logged(log, write_lightcurve.main, input.exposures, output.lightcurve)


rule write_irsa_lightcurve:
    input:
        exposures=rules.gather_records.output.exposures,
    output:
        lightcurve=f"{OUT}/{{source}}/results/lightcurve_irsa_columns.{{table}}",
    log:
        f"{OUT}/{{source}}/logs/write_irsa_lightcurve_{{table}}.log",
    message:
        "{wildcards.source}: light curve with the columns of IRSA's tool"
    run:
        logged(log, write_lightcurve.main, input.exposures, output.lightcurve, True)


rule combine_spectrum:
    input:
        exposures=rules.gather_records.output.exposures,
    output:
        spectrum=report(
            f"{OUT}/{{source}}/results/spectrum.{{table}}",
            caption="../report/spectrum.rst",
            category="{source}",
            labels={"product": "spectrum", "format": "{table}"},
        ),
    log:
        f"{OUT}/{{source}}/logs/combine_spectrum_{{table}}.log",
    params:
        spectrum=config["spectrum"],
    message:
        "{wildcards.source}: spectrum"
    run:
        logged(
            log,
            combine_spectrum.main,
            input.exposures,
            output.spectrum,
            params.spectrum,
        )


rule combine_spectrum_passes:
    input:
        exposures=rules.gather_records.output.exposures,
    output:
        spectrum=f"{OUT}/{{source}}/results/spectrum_passes.{{table}}",
    log:
        f"{OUT}/{{source}}/logs/combine_spectrum_passes_{{table}}.log",
    params:
        spectrum=config["spectrum"],
    message:
        "{wildcards.source}: spectrum of each survey pass"
    run:
        logged(
            log,
            combine_spectrum.main,
            input.exposures,
            output.spectrum,
            params.spectrum,
            True,
        )


rule measure_variability:
    input:
        exposures=rules.gather_records.output.exposures,
    output:
        variability=report(
            f"{OUT}/{{source}}/results/variability.json",
            caption="../report/variability.rst",
            category="{source}",
            labels={"product": "variability", "format": "json"},
        ),
        lightcurve=f"{OUT}/{{source}}/results/matched_lightcurve.csv",
    log:
        f"{OUT}/{{source}}/logs/measure_variability.log",
    params:
        variability=config["variability"],
        spectrum=config["spectrum"],
    message:
        "{wildcards.source}: variability"
    run:
        logged(
            log,
            measure_variability.main,
            input.exposures,
            *output,
            params.variability,
            params.spectrum,
        )


rule plot_combined:
    input:
        exposures=rules.gather_records.output.exposures,
    output:
        plot=report(
            f"{OUT}/{{source}}/results/combined_plot.{{picture}}",
            caption="../report/combined_plot.rst",
            category="{source}",
            labels={"product": "spectrum and light curve", "format": "{picture}"},
        ),
    log:
        f"{OUT}/{{source}}/logs/plot_combined_{{picture}}.log",
    params:
        plot=config["plot"],
    message:
        "{wildcards.source}: plot of spectrum and light curve"
    run:
        in_worker(
            log,
            plot_combined.main,
            input.exposures,
            output.plot,
            params.plot,
        )


rule draw_qa_sheet:
    input:
        exposures=rules.gather_records.output.exposures,
    output:
        sheet=report(
            f"{OUT}/{{source}}/results/qa_sheet.{{picture}}",
            caption="../report/qa_sheet.rst",
            category="{source}",
            labels={"product": "quality sheet", "format": "{picture}"},
        ),
    log:
        f"{OUT}/{{source}}/logs/draw_qa_sheet_{{picture}}.log",
    params:
        directory=source_directory,
        qa=config["qa"],
    message:
        "{wildcards.source}: quality sheet"
    run:
        in_worker(
            log,
            draw_qa_sheet.main,
            input.exposures,
            output.sheet,
            config,
            params.directory,
        )


rule write_report:
    input:
        exposures=rules.gather_records.output.exposures,
    output:
        page=report(
            f"{OUT}/{{source}}/results/report.html",
            caption="../report/report.rst",
            category="{source}",
            labels={"product": "interactive page", "format": "html"},
        ),
    log:
        f"{OUT}/{{source}}/logs/write_report.log",
    params:
        directory=source_directory,
        options=OPTIONS,
    message:
        "{wildcards.source}: interactive page"
    run:
        in_worker(
            log,
            write_report.main,
            input.exposures,
            output.page,
            config,
            params.directory,
            params.options,
        )


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
        options=OPTIONS,
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
            NEIGHBOURS(wildcards.source),
        )
