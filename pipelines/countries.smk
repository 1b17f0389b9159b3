# The workflow of many countries: one job a study, each a whole `geopov run`.
#
# `geopov run A.yaml B.yaml ... --work WORK` writes which studies there are, and what each is made from, into
# WORK/.countries and starts this file in WORK. It can also be started by hand:
#
#     snakemake -s pipelines/countries.smk --directory WORK --configfile WORK/.countries/countries.json --cores 2

import os
import sys

studies = config["studies"]
geopov = f"{sys.executable} -m geopov"
# A stage takes what it was told to, and its process some more.
memory_mb = 1000 + int(1.25 * float(os.environ.get("GEOPOV_MEMORY_MB", 12000)))


rule all:
    input:
        expand(".countries/{name}.done", name=studies),


# The record changes when the study, its entries of the catalogue or its files do. Which stages that concerns is then
# found out by the country's own run; a job that only one stage failed in goes on from there.
# A profile in the environment is meant for the jobs of this workflow, not for those in them.
rule country:
    input:
        ".countries/{name}.json",
    output:
        touch(".countries/{name}.done"),
    log:
        "{name}/run.log",
    params:
        study=lambda wildcards: studies[wildcards.name],
    threads: workflow.cores
    resources:
        mem_mb=lambda wildcards, attempt: attempt * memory_mb,
        runtime=lambda wildcards, attempt: attempt * 1440,
    shell:
        "env -u SNAKEMAKE_PROFILE {geopov} run {params.study:q} --work {wildcards.name:q} --cores {threads} > {log:q} 2>&1"
