"""Log energy and grams at each step, in addition to the program's own metrics.

pip install '/path/to/clone[dvclive]'
"""

from dvclive import Live

from exporter.integrations.dvclive import log, track

# Without these options, DVCLive writes dvc.yaml and an experiment to the enclosing repository.
with Live(save_dvc_exp=False, dvcyaml=None) as live, track(live, "train") as run:
    for epoch in range(3):
        loss = sum(number**0.5 for number in range(300_000)) / (epoch + 1)
        live.log_metric("loss", loss)
        log(live)
        live.next_step()

print(f"{run.run_id}: {run.energy_joules:.1f} J, in dvclive/metrics.json")
